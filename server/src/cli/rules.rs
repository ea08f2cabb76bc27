//! `gradwatch rules` and `gradwatch alerts`.

mod check;
mod init;
mod list;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Failure, ServerArgs};

pub(super) use list::{AlertsArgs, alerts};

#[derive(Subcommand)]
pub(super) enum RulesCommand {
    Init(InitArgs),
    Check(CheckArgs),
    List(ListArgs),
}

/// Write a file of rules to begin with
///
/// Each rule stands with its reason and with how often it is wrong. Look through it, name your receivers in it, and give it to
/// the server as `alerts.rules_file`.
#[derive(Args)]
#[command(after_help = "Example:\n\n  \
    gradwatch rules init rules.yaml\n  \
    gradwatch rules check rules.yaml\n  \
    GRADWATCH_ALERTS__RULES_FILE=rules.yaml gradwatch serve\n\n\
    Exit codes: 0 written, 1 the file is there already or cannot be written.")]
pub(super) struct InitArgs {
    /// Where to write it; `-` prints it
    #[arg(value_name = "FILE", default_value = "rules.yaml")]
    file: PathBuf,
    /// Overwrite a file that is there
    #[arg(long)]
    force: bool,
}

/// Say whether a file of rules is right, without a server
///
/// Prints one line `FILE:LINE:COLUMN: FIELD: MESSAGE` for each problem; else a table of what the rules are. The server
/// itself reads a file as a whole or not at all, so that what is wrong here changes nothing there.
#[derive(Args)]
#[command(after_help = "Example:\n\n  gradwatch rules check rules.yaml --receiver oncall\n\n\
    Exit codes: 0 right, 1 the file cannot be read, 2 something is wrong with it.")]
pub(super) struct CheckArgs {
    /// A YAML file of rules and receivers; docs/alerts.md has the language
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// A receiver that was made over REST, which rules of the file may name; repeated for more
    #[arg(long = "receiver", value_name = "NAME")]
    receivers: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// List the rules of a server, with their alerts that are open
#[derive(Args)]
#[command(after_help = "Example:\n\n  gradwatch rules list --server http://127.0.0.1:7700\n\n\
    Exit codes: 0 ok, 1 the server said no, 2 wrong usage, 3 no server.")]
pub(super) struct ListArgs {
    /// Only rules that select this project by name
    #[arg(long)]
    project: Option<String>,
    #[command(flatten)]
    remote: ServerArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: &RulesCommand) -> Result<(), Failure> {
    match command {
        RulesCommand::Init(args) => init::run(args),
        RulesCommand::Check(args) => check::run(args),
        RulesCommand::List(args) => list::rules(args),
    }
}
