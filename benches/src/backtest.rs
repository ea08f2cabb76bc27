//! How long a backtest takes: rules over everything that many runs have recorded.

use std::{sync::Arc, time::Instant};

use anyhow::{Result, ensure};
use gradwatch_tests::Rest;
use http::{Method, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    content::Content,
    database::Database,
    load::{Load, Pace},
    machine::Machine,
    process::Server,
    report::{self, median},
};

/// How often it is asked for.
const REPETITIONS: usize = 5;
/// Small sketches: what is measured here does not depend on them.
const DIM: usize = 64;
/// Much longer than it takes: the load ends by its number of frames.
const FOREVER_S: f64 = 86_400.0;
/// Seconds that 100 runs of 10,000 readings may take.
const REQUIRED_S: f64 = 10.0;

/// A comparison, windowed functions over 50 and 200 readings, and two events.
const RULES: &str = "
rules:
  - name: gap-closes
    when: edge.ratio < 1.2 and scalar.loss > 2
    for: 3
  - name: loss-jumps
    when: zscore(scalar.loss, 50) > 4
  - name: gap-trend
    when: mean(edge.ratio, 50) > 1.5 * quantile(edge.ratio, 0.5, 200) and slope(edge.update_norm, 50) > 0
  - name: forgetting
    when: transition to forgetting
  - name: gap-collapse
    when: edge.gap_collapse
";
const TRUTH: &str = "scalar.grad_norm >= 0.79";

/// How long a backtest of 5 rules over many runs takes
#[derive(Debug, Serialize, clap::Args)]
pub(crate) struct Backtest {
    /// Runs
    #[arg(long, default_value_t = 100)]
    runs: usize,
    /// Readings of each
    #[arg(long, default_value_t = 10_000)]
    readings: u64,
    /// Print JSON instead of a table
    #[arg(long)]
    #[serde(skip)]
    json: bool,
}

#[derive(Serialize)]
struct Taken {
    server: &'static str,
    rules: usize,
    steps: u64,
    median_s: f64,
    longest_s: f64,
    required_s: f64,
    steps_per_s: f64,
}

impl Backtest {
    pub(crate) async fn run(self, databases: &[Database]) -> Result<()> {
        let machine = Machine::look(&std::env::temp_dir())?;
        let mut results = Vec::new();
        for database in databases {
            results.push(self.measure(database).await?);
        }
        if !self.json {
            println!(
                "{:>9} {:>6} {:>10} {:>9} {:>9} {:>9} {:>12}",
                "server", "rules", "steps", "median s", "longest", "required", "steps/s"
            );
            for result in &results {
                let Taken { server, rules, steps, median_s, longest_s, required_s, steps_per_s } = result;
                println!(
                    "{server:>9} {rules:>6} {steps:>10} {median_s:>9.2} {longest_s:>9.2} {required_s:>9.0} {steps_per_s:>12.0}"
                );
            }
        }
        report::write("backtest", &machine, &self, &results, self.json)
    }

    async fn measure(&self, database: &Database) -> Result<Taken> {
        let data_dir = tempfile::tempdir()?;
        let server = Server::gradwatch(data_dir.path(), &database.settings()?)?;
        let load = Load {
            runs: self.runs,
            connections: 8,
            pace: Pace::InFlight(2_048),
            batch_frames: 512,
            warm_up_s: 0.0,
            seconds: FOREVER_S,
            max_frames_per_run: Some(self.readings),
        };
        let start = Instant::now();
        load.send(&server.url(), &Arc::new(Content::new(DIM)), &[]).await?;
        eprintln!("{} runs of {} readings: {:.1} s", self.runs, self.readings, start.elapsed().as_secs_f64());
        let rest = Rest::new(&server.url());
        let body = json!({ "rules": RULES, "truth": TRUTH }).to_string();
        let (mut seconds, mut report) = (Vec::new(), Value::Null);
        for _ in 0..REPETITIONS {
            let start = Instant::now();
            let (status, answer) = rest.call(Method::POST, "/api/v1/alerts/backtest", &body).await;
            seconds.push(start.elapsed().as_secs_f64());
            ensure!(status == StatusCode::OK, "{status}: {answer}");
            report = serde_json::from_str(&answer)?;
        }
        server.stop()?;
        let steps = report["steps"].as_u64().unwrap_or_default();
        ensure!(steps == self.runs as u64 * self.readings, "{steps} steps were evaluated");
        let longest_s = seconds.iter().copied().fold(0.0, f64::max);
        let median_s = median(&mut seconds);
        Ok(Taken {
            server: database.name(),
            rules: report["rules"].as_array().map_or(0, Vec::len),
            steps,
            median_s,
            longest_s,
            required_s: REQUIRED_S,
            steps_per_s: steps as f64 / median_s,
        })
    }
}
