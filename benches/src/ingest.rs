//! Frames a second through the whole server, settled, beside a server that only decodes.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::Result;
use gradwatch_tests::Rest;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    content::Content,
    database::Database,
    load::{Load, Pace, Sent},
    machine::Machine,
    process::Server,
    report::{self, median},
    verify,
};

/// What is required of every backend on two cores, the load included.
const REQUIRED_FRAMES_PER_S: f64 = 8_000.0;
const REQUIRED_P99_MS: f64 = 100.0;

/// Frames acknowledged a second and how long that takes
#[derive(Debug, Serialize, clap::Args)]
pub(crate) struct Ingest {
    /// Measured seconds of each part
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// Repetitions; the contestants take turns, and the medians are printed
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Runs at the same time
    #[arg(long, default_value_t = 64)]
    runs: usize,
    /// Connections they share
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// d
    #[arg(long, default_value_t = 4_096)]
    dim: usize,
    /// `keep_sketches` of the servers: sketches that are kept of each group; 0: none
    #[arg(long, default_value_t = 512)]
    keep_sketches: usize,
    /// Leave out those that are not named, such as `sqlite`
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Print JSON instead of a table
    #[arg(long)]
    #[serde(skip)]
    json: bool,
}

/// One way of sending.
struct Part {
    name: &'static str,
    pace: Pace,
    batch_frames: usize,
}

const PARTS: [Part; 3] = [
    // A client that has a backlog sends as many frames in a message.
    Part { name: "as fast as it goes", pace: Pace::InFlight(64), batch_frames: 16 },
    Part { name: "required load", pace: Pace::FramesPerSecond(REQUIRED_FRAMES_PER_S), batch_frames: 16 },
    Part { name: "half of it", pace: Pace::FramesPerSecond(REQUIRED_FRAMES_PER_S / 2.0), batch_frames: 16 },
];

/// Figures of one contestant and part; every list has one entry a round.
#[derive(Default)]
struct Figures {
    frames_per_s: Vec<f64>,
    p50_ms: Vec<f64>,
    p99_ms: Vec<f64>,
    cores: BTreeMap<String, Vec<f64>>,
    durability: Value,
}

impl Figures {
    fn add(&mut self, sent: Sent, durability: Value) {
        self.frames_per_s.push(sent.frames_per_s);
        self.p50_ms.push(sent.latency_us.value_at_quantile(0.5) as f64 / 1e3);
        self.p99_ms.push(sent.latency_us.value_at_quantile(0.99) as f64 / 1e3);
        for (name, cores) in sent.cores {
            self.cores.entry(name).or_default().push(cores);
        }
        self.durability = durability;
    }
}

impl Ingest {
    pub(crate) async fn run(self, databases: &[Database]) -> Result<()> {
        let machine = Machine::look(&std::env::temp_dir())?;
        let content = Arc::new(Content::new(self.dim));
        let mut figures: BTreeMap<(usize, usize), Figures> = BTreeMap::new();
        let contestants: Vec<&str> =
            std::iter::once("decode only").chain(databases.iter().map(Database::name)).collect();
        for round in 0..self.rounds {
            for (number, name) in contestants.iter().enumerate() {
                if !self.only.is_empty() && !self.only.iter().any(|only| only == name) {
                    continue;
                }
                eprintln!("round {}, {name}", round + 1);
                let database = number.checked_sub(1).map(|index| &databases[index]);
                for (part, sent, durability) in self.measure(database, &content).await? {
                    figures.entry((part, number)).or_default().add(sent, durability);
                }
            }
        }
        let results = results(figures, &contestants);
        if !self.json {
            print(&results);
        }
        report::write("ingest", &machine, &self, &results, self.json)
    }

    /// All parts on one server.
    async fn measure(&self, database: Option<&Database>, content: &Arc<Content>) -> Result<Vec<(usize, Sent, Value)>> {
        let data_dir = tempfile::tempdir()?;
        let server = match database {
            Some(database) => {
                let mut settings = database.settings()?;
                settings.insert("GRADWATCH_KEEP_SKETCHES", self.keep_sketches.to_string());
                Server::gradwatch(data_dir.path(), &settings)?
            }
            None => Server::bare()?,
        };
        let mut watched = vec![("server", server.pid())];
        watched.extend(database.and_then(Database::pid).map(|pid| ("database", pid)));
        let mut measured = Vec::new();
        for (index, part) in PARTS.iter().enumerate() {
            let load = Load {
                runs: self.runs,
                connections: self.connections,
                pace: part.pace,
                batch_frames: part.batch_frames,
                warm_up_s: 2.0,
                seconds: self.seconds,
                max_frames_per_run: None,
            };
            let sent = load.send(&server.url(), content, &watched).await?;
            let mut durability = Value::Null;
            if database.is_some() {
                verify::check(&server.url(), content, &sent.runs).await?;
                durability = Rest::new(&server.url()).get("/readyz").await;
            }
            eprintln!(
                "  {}: {:.0} frames/s, p99 {:.1} ms",
                part.name,
                sent.frames_per_s,
                sent.latency_us.value_at_quantile(0.99) as f64 / 1e3
            );
            measured.push((index, sent, durability["durability"].take()));
        }
        server.stop()?;
        Ok(measured)
    }
}

fn results(figures: BTreeMap<(usize, usize), Figures>, contestants: &[&str]) -> Vec<Value> {
    let result = |((part, contestant), mut figures): ((usize, usize), Figures)| {
        let cores: BTreeMap<String, f64> =
            figures.cores.into_iter().map(|(name, mut cores)| (name, median(&mut cores))).collect();
        json!({
            "part": PARTS[part].name,
            "server": contestants[contestant],
            "frames_per_s": median(&mut figures.frames_per_s),
            "ack_p50_ms": median(&mut figures.p50_ms),
            "ack_p99_ms": median(&mut figures.p99_ms),
            "cores": cores,
            "durability": figures.durability,
        })
    };
    figures.into_iter().map(result).collect()
}

fn print(results: &[Value]) {
    println!(
        "required of each backend: {REQUIRED_FRAMES_PER_S} frames/s, and p99 <= {REQUIRED_P99_MS} ms at half of that"
    );
    println!("{:>20} {:>12} {:>10} {:>9} {:>9}  cores used", "part", "server", "frames/s", "p50 ms", "p99 ms");
    for result in results {
        let number = |name: &str| result[name].as_f64().unwrap_or(f64::NAN);
        let cores: Vec<String> = result["cores"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, cores)| format!("{name} {:.2}", cores.as_f64().unwrap_or(f64::NAN)))
            .collect();
        println!(
            "{:>20} {:>12} {:>10.0} {:>9.2} {:>9.2}  {}",
            result["part"].as_str().unwrap_or_default(),
            result["server"].as_str().unwrap_or_default(),
            number("frames_per_s"),
            number("ack_p50_ms"),
            number("ack_p99_ms"),
            cores.join(", ")
        );
    }
    for result in results.iter().filter(|result| !result["durability"].is_null()) {
        println!("{}: {}", result["server"].as_str().unwrap_or_default(), result["durability"]);
    }
}
