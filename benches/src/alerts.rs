//! Whether rules keep up with what many runs record, and what they cost the server.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use gradwatch_tests::Rest;
use http::Method;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    content::Content,
    database::Database,
    load::{Load, Pace},
    machine::Machine,
    process::Server,
    report::{self, median},
};

/// How long rules may take to come to the end of what was recorded, before a measurement counts as failed.
const PATIENCE: Duration = Duration::from_secs(300);
const SAMPLE: Duration = Duration::from_millis(250);

/// Many rules on many runs: how far they stay behind, and what share of the server they take
#[derive(Debug, Serialize, clap::Args)]
pub(crate) struct Alerts {
    /// Measured seconds of each part
    #[arg(long, default_value_t = 30.0)]
    seconds: f64,
    /// Runs at the same time
    #[arg(long, default_value_t = 1_000)]
    runs: usize,
    /// Rules, half of them with functions of the last 50 values; all select all runs
    #[arg(long, default_value_t = 500)]
    rules: usize,
    /// Readings a second over all runs
    #[arg(long, default_value_t = 3_000.0)]
    readings_per_s: f64,
    /// Connections they share
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// d
    #[arg(long, default_value_t = 256)]
    dim: usize,
    /// Leave out those that are not named, such as `sqlite`
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Print JSON instead of a table
    #[arg(long)]
    #[serde(skip)]
    json: bool,
}

impl Alerts {
    pub(crate) async fn run(self, databases: &[Database]) -> Result<()> {
        let machine = Machine::look(&std::env::temp_dir())?;
        let content = Arc::new(Content::new(self.dim));
        let mut results = Vec::new();
        for database in databases {
            if !self.only.is_empty() && !self.only.iter().any(|only| only == database.name()) {
                continue;
            }
            for rules in [0, self.rules] {
                let result = self.measure(database, &content, rules).await?;
                eprintln!("{result}");
                results.push(result);
            }
        }
        if !self.json {
            print(&results);
        }
        report::write("alerts", &machine, &self, &results, self.json)
    }

    async fn measure(&self, database: &Database, content: &Arc<Content>, rules: usize) -> Result<Value> {
        let data_dir = tempfile::tempdir()?;
        let mut settings = database.settings()?;
        // Sketches that are kept have nothing to do with rules.
        settings.insert("GRADWATCH_KEEP_SKETCHES", "0".to_owned());
        settings.insert("GRADWATCH_ALERTS__RULES_FILE", write_rules(data_dir.path(), rules)?);
        let server = Server::gradwatch(data_dir.path(), &settings)?;
        let mut watched = vec![("server", server.pid())];
        watched.extend(database.pid().map(|pid| ("database", pid)));
        let load = Load {
            runs: self.runs,
            connections: self.connections,
            pace: Pace::FramesPerSecond(self.readings_per_s),
            batch_frames: 16,
            warm_up_s: 5.0,
            seconds: self.seconds,
            max_frames_per_run: None,
        };
        let rest = Rest::new(&server.url());
        let mut lags = Vec::new();
        let sampling = async {
            loop {
                sleep(SAMPLE).await;
                lags.extend(metric(&rest, "gradwatch_alert_evaluation_lag_seconds").await);
            }
        };
        let url = server.url();
        let sent = tokio::select! {
            sent = load.send(&url, content, &watched) => sent?,
            never = sampling => never,
        };
        let frames: u64 = sent.runs.iter().map(|(_, frames)| frames).sum();
        let ended = Instant::now();
        if rules > 0 {
            while metric(&rest, "gradwatch_alert_steps_evaluated_total").await.unwrap_or(0.0) < frames as f64 {
                ensure!(ended.elapsed() < PATIENCE, "rules do not come to the end of what was recorded");
                sleep(Duration::from_millis(50)).await;
            }
        }
        let behind_s = ended.elapsed().as_secs_f64();
        let fired = metric(&rest, "gradwatch_alerts_fired_total").await.context("a counter of alerts")?;
        let failures = metric(&rest, "gradwatch_alert_evaluation_failures_total").await;
        server.stop()?;
        let cores: BTreeMap<String, f64> = sent.cores.into_iter().collect();
        Ok(json!({
            "server": database.name(),
            "rules": rules,
            "frames": frames,
            "frames_per_s": sent.frames_per_s,
            "ack_p50_ms": sent.latency_us.value_at_quantile(0.5) as f64 / 1e3,
            "ack_p99_ms": sent.latency_us.value_at_quantile(0.99) as f64 / 1e3,
            "lag_p50_s": if lags.is_empty() { 0.0 } else { median(&mut lags) },
            "lag_max_s": lags.iter().copied().fold(0.0, f64::max),
            "behind_at_the_end_s": behind_s,
            "alerts_fired": fired,
            "evaluation_failures": failures,
            "cores": cores,
        }))
    }
}

/// The value of a counter or gauge, summed over its labels.
async fn metric(rest: &Rest, name: &str) -> Option<f64> {
    let (_, text) = rest.call(Method::GET, "/metrics", "").await;
    let of_metric = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
    text.lines().filter(of_metric).map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Half of them windowed over 50 values; one in fifty fires once on each run, the others never.
fn write_rules(dir: &Path, rules: usize) -> Result<String> {
    const TERMS: [&str; 5] = ["edge.ratio", "edge.gap", "edge.update_norm", "scalar.loss", "scalar.grad_norm"];
    const WINDOWED: [&str; 7] = ["mean", "min", "max", "stddev", "slope", "zscore", "quantile"];
    let mut text = "rules:\n".to_owned();
    for index in 0..rules {
        let term = TERMS[index / 2 % TERMS.len()];
        let when = match (index % 50, index % 2) {
            (0, _) => format!("scalar.loss < {}", 2.0 + 1.0 / (10 + index / 50) as f64),
            (_, 0) => format!("{term} > {}", 1_000_000 + index),
            _ => match WINDOWED[index / 2 % WINDOWED.len()] {
                "quantile" => format!("quantile({term}, 0.9, 50) > {}", 1_000_000 + index),
                function => format!("{function}({term}, 50) > {}", 1_000_000 + index),
            },
        };
        text += &format!("  - {{name: rule-{index}, when: '{when}'}}\n");
    }
    if rules == 0 {
        text = "rules: []\n".to_owned();
    }
    let path = dir.join("rules.yaml");
    std::fs::write(&path, text)?;
    Ok(path.display().to_string())
}

fn print(results: &[Value]) {
    println!(
        "{:>10} {:>6} {:>9} {:>9} {:>9} {:>9} {:>9} {:>10}  cores used",
        "server", "rules", "frames/s", "p50 ms", "p99 ms", "lag p50 s", "lag max s", "at end s"
    );
    for result in results {
        let number = |name: &str| result[name].as_f64().unwrap_or(f64::NAN);
        let cores = result["cores"].as_object().into_iter().flatten();
        let cores: Vec<String> =
            cores.map(|(name, cores)| format!("{name} {:.2}", cores.as_f64().unwrap_or(f64::NAN))).collect();
        println!(
            "{:>10} {:>6} {:>9.0} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>10.2}  {}",
            result["server"].as_str().unwrap_or_default(),
            number("rules"),
            number("frames_per_s"),
            number("ack_p50_ms"),
            number("ack_p99_ms"),
            number("lag_p50_s"),
            number("lag_max_s"),
            number("behind_at_the_end_s"),
            cores.join(", ")
        );
    }
}
