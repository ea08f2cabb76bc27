//! `cargo xtask torture`: kills a server under load and looks for what was lost. Ends with a panic that says what.

use std::time::{Duration, Instant};

use clap::Parser;
use gradwatch_tests::torture::{Options, torture};

/// Kill a server under load again and again, and compare what is stored with what was acknowledged
#[derive(Parser)]
#[command(name = "cargo xtask torture")]
struct Arguments {
    /// SIGKILLs to the server
    #[arg(long, default_value_t = 200)]
    kills: u32,
    /// Longest time between two kills, in milliseconds
    #[arg(long, default_value_t = 2_000)]
    pause_ms: u64,
    /// What frames and moments follow from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() {
    let Arguments { kills, pause_ms, seed, json } = Arguments::parse();
    let options =
        Options { kills, database_kills: 0, pause: Duration::from_millis(pause_ms), seed, shards: 1, database: None };
    let mut told = Instant::now();
    let report = torture(options, |progress| {
        if told.elapsed() >= Duration::from_secs(5) {
            told = Instant::now();
            eprintln!("{} of {kills} kills, {} frames acknowledged", progress.kills, progress.frames_acknowledged);
        }
    })
    .await;
    if json {
        println!("{}", report.json());
    } else {
        println!(
            "seed {seed}: {} kills ({} during a start) in {:.0} s; {} frames of {} attempts acknowledged, each stored \
             once; readings as of an undisturbed server; recovered in {} ms",
            report.kills,
            report.kills_during_start,
            report.seconds,
            report.frames_acknowledged,
            report.attempts,
            report.recovery_ms,
        );
    }
}
