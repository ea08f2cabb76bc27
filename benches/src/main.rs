//! Benchmarks of the whole service, beside what bounds them. `cargo xtask bench` builds and starts them.

mod alerts;
mod backtest;
mod bare;
mod charts;
mod content;
mod database;
mod default_rules;
mod ingest;
mod load;
mod machine;
mod memory;
mod process;
mod report;
mod snapshots;
mod usage;
mod verify;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::database::Database;

/// Benchmarks of the whole service: results go to target/bench/NAME.json
#[derive(Parser)]
#[command(name = "cargo xtask bench")]
struct Arguments {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    Alerts(alerts::Alerts),
    Ingest(ingest::Ingest),
    Charts(charts::Charts),
    Memory(memory::Memory),
    Snapshots(snapshots::Snapshots),
    Backtest(backtest::Backtest),
    #[command(name = "default_rules")]
    DefaultRules(default_rules::DefaultRules),
    /// The server that only decodes; started by the others
    #[command(hide = true)]
    BareServer,
}

#[tokio::main]
async fn main() -> Result<()> {
    match Arguments::parse().bench {
        Bench::Alerts(alerts) => alerts.run(&Database::all()?).await,
        Bench::Ingest(ingest) => ingest.run(&Database::all()?).await,
        Bench::Charts(charts) => charts.run(&Database::all()?).await,
        Bench::Memory(memory) => memory.run().await,
        Bench::Snapshots(snapshots) => snapshots.run(&Database::all()?).await,
        Bench::Backtest(backtest) => backtest.run(&Database::all()?).await,
        Bench::DefaultRules(default_rules) => default_rules.run().await,
        Bench::BareServer => bare::serve().await,
    }
}
