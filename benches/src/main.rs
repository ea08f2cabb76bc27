//! Benchmarks of the whole service, beside what bounds them. `cargo xtask bench` builds and starts them.

mod bare;
mod charts;
mod content;
mod database;
mod ingest;
mod load;
mod machine;
mod memory;
mod process;
mod report;
mod usage;
mod verify;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::database::Database;

/// Benchmarks of the whole service: results go to target/bench/<name>.json
#[derive(Parser)]
#[command(name = "cargo xtask bench")]
struct Arguments {
    #[command(subcommand)]
    bench: Bench,
    #[command(flatten)]
    postgres: PostgresArguments,
}

#[derive(Args)]
struct PostgresArguments {
    /// Also measure on this PostgreSQL
    #[arg(long, global = true, env = "DATABASE_URL", value_name = "URL")]
    database_url: Option<String>,
    /// Process id of that PostgreSQL, to measure its CPU
    #[arg(long, global = true, value_name = "PID")]
    database_pid: Option<u32>,
}

#[derive(Subcommand)]
enum Bench {
    Ingest(ingest::Ingest),
    Charts(charts::Charts),
    Memory(memory::Memory),
    /// The server that only decodes; started by the others
    #[command(hide = true)]
    BareServer,
}

#[tokio::main]
async fn main() -> Result<()> {
    let Arguments { bench, postgres } = Arguments::parse();
    let mut databases = vec![Database::Sqlite];
    databases.extend(postgres.database_url.map(|url| Database::Postgres { url, pid: postgres.database_pid }));
    match bench {
        Bench::Ingest(ingest) => ingest.run(&databases).await,
        Bench::Charts(charts) => charts.run(&databases).await,
        Bench::Memory(memory) => memory.run().await,
        Bench::BareServer => bare::serve().await,
    }
}
