//! `gradwatch backtest`.

mod table;

use std::path::{Path, PathBuf};

use clap::Args;
use gradwatch_rest::{RestClient, RestError};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    FAILED, Failure, ServerArgs, StopSignals, USAGE,
    out::{print, print_line},
    progress::Progress,
    runtime,
};

/// Says what rules would have said of runs that a server has recorded: which runs each fires on, how far ahead of what was to
/// be warned of, how often for nothing.
///
/// The server replays the recorded runs through the evaluator that watches live ones. Nothing is changed and nobody is told.
#[derive(Args)]
#[command(after_help = "Example: would these rules have warned before the test accuracy got there?\n\n  \
    gradwatch backtest rules.yaml --runs 'project=demo,state=finished' --truth 'scalar.test_accuracy >= 0.95' \\\n    \
    --server http://127.0.0.1:7700\n\n\
    docs/alerts.md says how to read the table. Exit codes: 0 done, 1 the server said no or could not go on, 2 wrong usage or \
    something is wrong with the rules, 3 no server.")]
pub(super) struct BacktestArgs {
    /// A YAML file of rules; without one the rules that the server has in force
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    remote: ServerArgs,
    /// Which runs, by the filters of GET /api/v1/runs: project=P,state=finished,label.KEY=VALUE (a comma in a value is %2C)
    #[arg(long, value_name = "FILTERS", default_value = "")]
    runs: String,
    /// What should have been warned of, a condition in the language of rules; without it runs are only counted
    #[arg(long, value_name = "CONDITION")]
    truth: Option<String>,
    /// Print the whole report as JSON, and no progress
    #[arg(long)]
    json: bool,
}

/// A line of the answer.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line {
    Progress { runs_done: u64, runs_total: u64 },
    Report { report: Value },
    Failed { problem: Value },
}

/// As far as the command looks at it.
#[derive(Deserialize)]
struct Refusal {
    detail: String,
    #[serde(default)]
    problems: Vec<FieldProblem>,
}

#[derive(Deserialize)]
struct FieldProblem {
    field: String,
    line: Option<u64>,
    column: Option<u64>,
    message: String,
}

pub(super) fn run(args: &BacktestArgs) -> Result<(), Failure> {
    let Some(client) = args.remote.client()? else {
        return Err(Failure::new(USAGE, "--server is missing: which server has the runs?"));
    };
    let rules = args.file.as_deref().map(read).transpose()?;
    let body = json!({ "rules": rules, "runs": args.runs, "truth": args.truth });
    let report = runtime()?.block_on(async {
        let mut signals = StopSignals::listen()?;
        tokio::select! {
            report = ask(&client, &body, args.json) => report.map_err(|error| args.failure(error)),
            // Hanging up ends it on the server too.
            () = signals.wait() => Err(Failure::new(FAILED, "interrupted")),
        }
    })?;
    if args.json {
        return print_line(report);
    }
    let report = table::Report::deserialize(&report);
    print(report.map_err(|error| Failure::new(FAILED, format!("unexpected answer: {error}")))?)
}

fn read(file: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(file);
    text.map_err(|error| Failure::new(FAILED, format!("{}: {error}", file.display())))
}

/// Why there is no report.
enum Unreported {
    /// The server cannot be asked, or says no.
    Rest(RestError),
    /// It could not go on.
    Failed(String),
}

async fn ask(client: &RestClient, body: &Value, silent: bool) -> Result<Value, Unreported> {
    let mut progress = Progress::new("runs", silent);
    let mut outcome = Err(Unreported::Failed("the server ended before it was done".to_owned()));
    let lines = client.lines(Method::POST, "/api/v1/alerts/backtest", Some(body), |line| match line {
        Line::Progress { runs_done, runs_total } => progress.show(runs_done, runs_total, None),
        Line::Report { report } => outcome = Ok(report),
        Line::Failed { problem } => {
            let detail = problem["detail"].as_str().map_or_else(|| problem.to_string(), str::to_owned);
            outcome = Err(Unreported::Failed(detail));
        }
    });
    lines.await.map_err(Unreported::Rest)?;
    outcome
}

impl BacktestArgs {
    /// What is wrong with the rules is said as compilers do, so that editors find the place.
    fn failure(&self, error: Unreported) -> Failure {
        let (status, body) = match &error {
            Unreported::Rest(RestError::Status { status, body, .. }) => (*status, body),
            Unreported::Rest(_) | Unreported::Failed(_) => return error.into(),
        };
        let Ok(refusal) = serde_json::from_str::<Refusal>(body) else { return error.into() };
        let file = self.file.as_ref().map_or_else(|| "rules".to_owned(), |file| file.display().to_string());
        for FieldProblem { field, line, column, message } in &refusal.problems {
            // The truth stands in no file.
            let place = if field == "truth" { "--truth" } else { file.as_str() };
            match (line, column) {
                (Some(line), Some(column)) => eprintln!("{place}:{line}:{column}: {field}: {message}"),
                _ => eprintln!("{place}: {field}: {message}"),
            }
        }
        match refusal.problems.len() {
            0 if status == 400 => Failure::new(USAGE, refusal.detail),
            0 => Failure::new(FAILED, refusal.detail),
            1 => Failure::new(USAGE, "1 problem; nothing was tested"),
            count => Failure::new(USAGE, format!("{count} problems; nothing was tested")),
        }
    }
}

impl From<Unreported> for Failure {
    fn from(error: Unreported) -> Self {
        match error {
            Unreported::Rest(error) => error.into(),
            Unreported::Failed(detail) => Self::new(FAILED, detail),
        }
    }
}
