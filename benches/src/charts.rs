//! What a page waits for: charts of a long run, and lists of many runs, over REST.

use std::{sync::Arc, time::Instant};

use anyhow::{Result, ensure};
use gradwatch_tests::Rest;
use http::{Method, StatusCode};
use serde::Serialize;

use crate::{
    content::Content,
    database::Database,
    load::{Load, Pace},
    machine::Machine,
    process::Server,
    report::{self, median},
};

/// How often each question is asked.
const REPETITIONS: usize = 15;
/// Small sketches: what is measured here does not depend on them.
const DIM: usize = 64;
/// Much longer than it takes: these loads end by their number of frames.
const FOREVER_S: f64 = 86_400.0;

/// How long charts of a long run and lists of many runs take
#[derive(Debug, Serialize, clap::Args)]
pub(crate) struct Charts {
    /// Readings of the long run
    #[arg(long, default_value_t = 1_000_000)]
    readings: u64,
    /// Runs in the lists
    #[arg(long, default_value_t = 2_000)]
    runs: usize,
    /// Readings of each of these
    #[arg(long, default_value_t = 64)]
    readings_each: u64,
    /// Print JSON instead of a table
    #[arg(long)]
    #[serde(skip)]
    json: bool,
}

#[derive(Serialize)]
struct Answered {
    server: &'static str,
    question: String,
    median_ms: f64,
    longest_ms: f64,
    required_ms: f64,
    answer_bytes: usize,
}

impl Charts {
    pub(crate) async fn run(self, databases: &[Database]) -> Result<()> {
        let machine = Machine::look(&std::env::temp_dir())?;
        let mut results = Vec::new();
        for database in databases {
            results.extend(self.measure(database).await?);
        }
        if !self.json {
            println!(
                "{:>9} {:>10} {:>10} {:>10} {:>10}  question",
                "server", "median ms", "longest", "required", "bytes"
            );
            for result in &results {
                let Answered { server, question, median_ms, longest_ms, required_ms, answer_bytes } = result;
                println!(
                    "{server:>9} {median_ms:>10.1} {longest_ms:>10.1} {required_ms:>10.0} {answer_bytes:>10}  {question}"
                );
            }
        }
        report::write("charts", &machine, &self, &results, self.json)
    }

    async fn measure(&self, database: &Database) -> Result<Vec<Answered>> {
        let data_dir = tempfile::tempdir()?;
        let server = Server::gradwatch(data_dir.path(), &database.settings()?)?;
        let long = self.fill(&server.url()).await?;
        let rest = Rest::new(&server.url());
        let mut results = Vec::new();
        for (required_ms, question) in questions(&long) {
            let (mut millis, mut answer_bytes) = (Vec::new(), 0);
            for _ in 0..REPETITIONS {
                let start = Instant::now();
                let (status, answer) = rest.call(Method::GET, &question, "").await;
                millis.push(start.elapsed().as_secs_f64() * 1e3);
                ensure!(status == StatusCode::OK, "GET {question}: {status}: {answer}");
                answer_bytes = answer.len();
            }
            let longest_ms = millis.iter().copied().fold(0.0, f64::max);
            let question = question.replace(&long, "RUN");
            let median_ms = median(&mut millis);
            results.push(Answered {
                server: database.name(),
                question,
                median_ms,
                longest_ms,
                required_ms,
                answer_bytes,
            });
        }
        server.stop()?;
        Ok(results)
    }

    /// Fills a server; answers the id of the long run.
    async fn fill(&self, url: &str) -> Result<String> {
        let content = Arc::new(Content::new(DIM));
        let long = Load {
            runs: 1,
            connections: 1,
            pace: Pace::InFlight(8_192),
            batch_frames: 512,
            warm_up_s: 0.0,
            seconds: FOREVER_S,
            max_frames_per_run: Some(self.readings),
        };
        let sent = long.send(url, &content, &[]).await?;
        eprintln!("{} readings of one run: {:.0} frames/s", self.readings, sent.frames_per_s);
        let each = self.readings_each;
        let many = Load {
            runs: self.runs,
            connections: 8,
            pace: Pace::InFlight(each),
            batch_frames: 64,
            max_frames_per_run: Some(each),
            ..long
        };
        let start = Instant::now();
        many.send(url, &content, &[]).await?;
        eprintln!("{} runs of {each} readings: {:.1} s", self.runs, start.elapsed().as_secs_f64());
        Ok(sent.runs[0].0.run_id.clone())
    }
}

/// Questions, and how many milliseconds an answer may take.
fn questions(long: &str) -> Vec<(f64, String)> {
    let series = |metric: &str| format!("/api/v1/series?run={long}&metric={metric}&max_points=1000");
    let runs = |filter: &str| format!("/api/v1/runs?limit=100&{filter}");
    vec![
        (100.0, series("edge.ratio")),
        (100.0, series("edge.update_norm")),
        (100.0, series("scalar.loss")),
        (2_000.0, series("edge.k95")),
        (2_000.0, series("edge.sigma_2")),
        (100.0, "/api/v1/overview".to_owned()),
        (100.0, "/api/v1/overview?project=project-1".to_owned()),
        (100.0, runs("sort=-last_seen")),
        (100.0, runs("sort=created")),
        (100.0, runs("project=project-1")),
        (100.0, runs("state=failed")),
        (100.0, runs("label.team=team-3")),
        (100.0, runs("label.seed=1999")),
        (100.0, runs("regime=plateau&project=project-2&state=finished&label.team=team-2&sort=-created")),
    ]
}
