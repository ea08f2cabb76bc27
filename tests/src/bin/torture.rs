//! `cargo xtask torture`: kills a server, or jobs, under load and looks for what was lost. Ends with a panic that says what.

use std::time::{Duration, Instant};

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum as _, error::ErrorKind};
use gradwatch_tests::{
    Backend,
    killed_jobs::{self, KilledJob, Mode, kill_jobs},
    torture::{Database, Options, torture},
};
use serde_json::json;

/// Kill a server under load again and again, and compare what is stored with what was acknowledged
#[derive(Parser)]
#[command(name = "cargo xtask torture", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    of_server: OfServer,
}

#[derive(Subcommand)]
enum What {
    /// Kill jobs again and again, with a server that comes and goes, and compare what is stored in the end with what was
    /// acknowledged and what lay in their spools
    Clients(OfClients),
    /// A job to be killed
    #[command(hide = true)]
    Job(KilledJob),
}

#[derive(Args)]
struct OfClients {
    /// SIGKILLs to jobs, over all modes
    #[arg(long, default_value_t = 450)]
    kills: u32,
    /// How jobs and server get along; may be repeated. Default: all
    #[arg(long = "mode", value_enum)]
    modes: Vec<Mode>,
    /// The longest that a job lives, in milliseconds
    #[arg(long, default_value_t = 400)]
    lifetime_ms: u64,
    /// What moments and numbers follow from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the summaries as JSON, one a line
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct OfServer {
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
    let Arguments { what, of_server } = Arguments::parse();
    match what {
        None => kill_server(of_server).await,
        Some(What::Clients(of_clients)) => kill_clients(of_clients).await,
        Some(What::Job(job)) => job.run(),
    }
}

async fn kill_clients(OfClients { kills, mut modes, lifetime_ms, seed, json }: OfClients) {
    if modes.is_empty() {
        modes = Mode::value_variants().to_vec();
    }
    let count = modes.len() as u32;
    for (index, mode) in (0..).zip(modes) {
        // The first ones take what does not divide.
        let kills = kills / count + u32::from(index < kills % count);
        let options = killed_jobs::Options { kills, mode, lifetime: Duration::from_millis(lifetime_ms), seed };
        let mut told = Instant::now();
        let report = kill_jobs(options, |killed| {
            if told.elapsed() >= Duration::from_secs(5) {
                told = Instant::now();
                eprintln!("{mode:?}: {killed} of {kills} kills");
            }
        })
        .await;
        if json {
            println!("{}", report.json());
        } else {
            println!("{report}");
        }
    }
}

async fn kill_server(of_server: OfServer) {
    let OfServer { kills, backend, database_kills, pause_ms, shards, seed, json } = of_server;
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
