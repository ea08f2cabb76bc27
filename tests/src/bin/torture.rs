//! `cargo xtask torture`: kills a server under load and looks for what was lost. Ends with a panic that says what.

use std::time::{Duration, Instant};

use clap::{CommandFactory as _, Parser, error::ErrorKind};
use gradwatch_tests::{
    Backend,
    torture::{Database, Options, torture},
};
use serde_json::json;

/// Kill a server under load again and again, and compare what is stored with what was acknowledged
#[derive(Parser)]
#[command(name = "cargo xtask torture")]
struct Arguments {
    /// SIGKILLs to the server
    #[arg(long, default_value_t = 200)]
    kills: u32,
    /// Where the server keeps its data
    #[arg(long, value_enum, default_value_t = Backend::Sqlite)]
    backend: Backend,
    /// SIGKILLs to the database, which is then a process of its own
    #[arg(long, default_value_t = 0)]
    database_kills: u32,
    /// Longest time between two kills, in milliseconds
    #[arg(long, default_value_t = 2_000)]
    pause_ms: u64,
    /// Processes whose sketches add up, of the one job that has several
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=16))]
    shards: u32,
    /// What frames and moments follow from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() {
    let Arguments { kills, backend, database_kills, pause_ms, shards, seed, json } = Arguments::parse();
    if backend == Backend::Sqlite && database_kills > 0 {
        let message = "--database-kills needs --backend postgres: SQLite is killed with the server";
        Arguments::command().error(ErrorKind::ArgumentConflict, message).exit();
    }
    let database = (backend == Backend::Postgres).then(Database::start);
    let pause = Duration::from_millis(pause_ms);
    let mut told = Instant::now();
    let report = torture(Options { kills, database_kills, pause, seed, shards, database }, |progress| {
        if told.elapsed() >= Duration::from_secs(5) {
            told = Instant::now();
            eprintln!(
                "{} of {kills} kills, {} of {database_kills} of the database, {} frames acknowledged",
                progress.kills, progress.database_kills, progress.frames_acknowledged
            );
        }
    })
    .await;
    let name = format!("{backend:?}").to_lowercase();
    if json {
        let mut summary = report.json();
        summary["backend"] = json!(name);
        summary["seed"] = json!(seed);
        println!("{summary}");
    } else {
        println!(
            "{name}, seed {seed}: {} kills ({} during a start) and {} of the database in {:.0} s; {} frames of {} \
             attempts acknowledged, each stored once; readings as of an undisturbed server; recovered in {} ms",
            report.kills,
            report.kills_during_start,
            report.database_kills,
            report.seconds,
            report.frames_acknowledged,
            report.attempts,
            report.recovery_ms,
        );
    }
}
