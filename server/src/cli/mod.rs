//! The command line. Exit codes: 0 ok, 1 failed, 2 usage, 3 unreachable.

mod backtest;
mod config;
mod demo;
mod import;
mod out;
mod progress;
mod reanalyze;
mod remote;
mod rules;
mod serve;
mod sync;
mod table;
mod token;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use gradwatch_server::config::{Config, ConfigError, Flags};

use remote::ServerArgs;
use tokio::signal::unix::{Signal, SignalKind, signal};

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const UNREACHABLE: u8 = 3;

/// Watches training jobs from the inside.
///
/// Jobs stream small sketches of their parameter updates over gRPC; the server keeps a rolling window per run, reads
/// the edge instrument off it, stores every reading and serves it over REST.
#[derive(Parser)]
#[command(name = "gradwatch", version, after_help = "Start with `gradwatch demo`: it needs nothing but this binary.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server: REST and gRPC on one port, SQLite in ./gradwatch-data
    Serve(ConfigArgs),
    /// Train two small networks, one of which groks, and watch them
    Demo(demo::DemoArgs),
    /// Make a run of checkpoint files
    Import(import::ImportArgs),
    Sync(sync::SyncArgs),
    /// Compute readings of a run again, with other windows
    Reanalyze(reanalyze::ReanalyzeArgs),
    /// Ask what rules would have said of recorded runs
    Backtest(backtest::BacktestArgs),
    /// Begin, check and list rules, which say what is an alert
    #[command(subcommand)]
    Rules(rules::RulesCommand),
    Alerts(rules::AlertsArgs),
    /// Make, list and revoke tokens, in the data directory or through a running server
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Look at the configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
}

/// Where settings come from: the defaults, then a file, then GRADWATCH_* variables, then these flags.
#[derive(Args, Clone, Debug)]
struct ConfigArgs {
    /// A TOML file of settings; `gradwatch config default` prints all of them with their documentation
    #[arg(long, value_name = "FILE", env = "GRADWATCH_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

impl ConfigArgs {
    fn load(&self) -> Result<Config, ConfigError> {
        Config::load(self.config.as_deref(), &self.flags)
    }
}

/// What a command ends with when it does not end well.
struct Failure {
    exit_code: u8,
    message: String,
}

impl Failure {
    fn new(exit_code: u8, message: impl ToString) -> Self {
        Self { exit_code, message: message.to_string() }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(USAGE, error)
    }
}

pub(crate) fn main() -> ExitCode {
    // clap ends the process itself with 2 on wrong usage, and with 0 after --help.
    let result = match Cli::parse().command {
        Command::Serve(args) => serve::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Sync(args) => sync::run(&args),
        Command::Reanalyze(args) => reanalyze::run(&args),
        Command::Backtest(args) => backtest::run(&args),
        Command::Rules(command) => rules::run(&command),
        Command::Alerts(args) => rules::alerts(&args),
        Command::Token(command) => token::run(&command),
        Command::Config(command) => config::run(&command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("gradwatch: {}", failure.message);
            ExitCode::from(failure.exit_code)
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(FAILED, format!("cannot start the runtime: {error}")))
}

/// Ctrl-C and SIGTERM.
struct StopSignals {
    interrupted: Signal,
    terminated: Signal,
}

impl StopSignals {
    /// Listens from now on: a signal that comes while the server still starts is not missed, and does not kill it.
    fn listen() -> Result<Self, Failure> {
        let listen =
            |kind| signal(kind).map_err(|error| Failure::new(FAILED, format!("cannot listen to signals: {error}")));
        Ok(Self { interrupted: listen(SignalKind::interrupt())?, terminated: listen(SignalKind::terminate())? })
    }

    /// Ends when the process is asked to stop.
    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupted.recv() => {}
            _ = self.terminated.recv() => {}
        }
    }
}
