//! `gradwatch reanalyze`.

use std::time::Duration;

use clap::{Args, ValueEnum};
use gradwatch_rest::{RestClient, RestError};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{FAILED, Failure, ServerArgs, StopSignals, UNREACHABLE, USAGE, progress::Progress, runtime};

/// How often the server is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often it may not answer in a row: it goes on after a restart of the server.
const MAX_FAILURES: u32 = 150;

/// Computes readings of a run again from the sketches that the server keeps of it, with other windows, another position rule
/// or other bands, as an analysis with a name of its own beside the live one.
///
/// The server computes in the background: when this command is interrupted, or the server restarts, it goes on. Its
/// readings are asked for with `analysis=NAME`. Deleting it: DELETE /api/v1/runs/RUN/analyses/NAME.
#[derive(Args)]
#[command(after_help = "Example: what would a window of 32 rows have shown?\n\n  \
    gradwatch reanalyze 0d9f7c1e-6a55-4f0e-9a37-0f6f2a4f8f11 --name wide --window 32 --server http://127.0.0.1:7700\n\n\
    Exit codes: 0 done, 1 the server said no or could not go on, 2 wrong usage, 3 no server.")]
pub(super) struct ReanalyzeArgs {
    /// The run's id
    #[arg(value_name = "RUN")]
    run_id: gradwatch_client::Uuid,
    #[command(flatten)]
    remote: ServerArgs,
    /// What the analysis is to be called: a to z, 0 to 9, `_`, `.` and `-`
    #[arg(long)]
    name: String,
    /// Window length in rows, 3 to 64; may be repeated, the first is the default of queries
    #[arg(long = "window", required = true, value_name = "ROWS")]
    windows: Vec<u32>,
    /// How the position of the gap is found
    #[arg(long, value_enum, default_value_t = PositionArg::Mass)]
    position: PositionArg,
    /// What regimes are told by: the run's own past, or fixed bands
    #[arg(long, value_enum, default_value_t = BandsArg::Adaptive)]
    bands: BandsArg,
    /// Only this group
    #[arg(long)]
    group: Option<String>,
    /// Only this kind: update or gradient
    #[arg(long)]
    kind: Option<String>,
    /// First step of a reading
    #[arg(long, value_name = "STEP")]
    from_step: Option<u64>,
    /// Last step of a reading
    #[arg(long, value_name = "STEP")]
    to_step: Option<u64>,
    /// Print the analysis as JSON when it is done, and no progress
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PositionArg {
    Mass,
    Plain,
    Edge,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum BandsArg {
    Adaptive,
    Absolute,
}

/// As far as the command looks at it.
#[derive(Deserialize)]
struct Analysis {
    state: String,
    rows_done: u64,
    rows_total: u64,
    readings: u64,
    transitions: u64,
    message: Option<String>,
}

pub(super) fn run(args: &ReanalyzeArgs) -> Result<(), Failure> {
    let Some(client) = args.remote.client()? else {
        return Err(Failure::new(USAGE, "--server is missing: which server has the run?"));
    };
    runtime()?.block_on(async {
        let mut signals = StopSignals::listen()?;
        let path = format!("/api/v1/runs/{}/reanalyze", args.run_id);
        let begun = client.call::<Value>(Method::POST, &path, Some(&args.body())).await?;
        tokio::select! {
            ended = args.follow(&client, begun) => args.tell(&ended?),
            () = signals.wait() => {
                eprintln!("gradwatch: the server goes on with analysis {}; it can be read with analysis={0}", args.name);
                Err(Failure::new(FAILED, "interrupted"))
            }
        }
    })
}

impl ReanalyzeArgs {
    fn body(&self) -> Value {
        let word = |value: Option<clap::builder::PossibleValue>| value.map(|value| value.get_name().to_owned());
        json!({
            "name": self.name,
            "windows": self.windows,
            "position": word(self.position.to_possible_value()),
            "bands": word(self.bands.to_possible_value()),
            "group": self.group,
            "kind": self.kind,
            "from_step": self.from_step,
            "to_step": self.to_step,
        })
    }

    /// Follows the analysis to its end; answers it as it stands then.
    async fn follow(&self, client: &RestClient, begun: Value) -> Result<Value, Failure> {
        let path = format!("/api/v1/runs/{}/analyses/{}", self.run_id, self.name);
        let mut stands = begun;
        let mut progress = Progress::new("rows", self.json);
        let mut failures = 0;
        loop {
            let analysis = read(&stands)?;
            progress.show(analysis.rows_done, analysis.rows_total, None);
            if analysis.state != "running" {
                return Ok(stands);
            }
            sleep(LOOK_EVERY).await;
            match client.get::<Value>(&path).await {
                Ok(now) => (stands, failures) = (now, 0),
                Err(error @ (RestError::Unreachable { .. } | RestError::Status { status: 503, .. })) => {
                    failures += 1;
                    if failures > MAX_FAILURES {
                        return Err(Failure::new(UNREACHABLE, error));
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn tell(&self, ended: &Value) -> Result<(), Failure> {
        let analysis = read(ended)?;
        if analysis.state != "done" {
            let message = analysis.message.unwrap_or_default();
            return Err(Failure::new(FAILED, format!("analysis {}: {}: {message}", self.name, analysis.state)));
        }
        if self.json {
            println!("{ended}");
        } else {
            let Analysis { rows_done, readings, transitions, .. } = analysis;
            println!("analysis {}: {readings} readings of {rows_done} rows, {transitions} regime changes", self.name);
        }
        Ok(())
    }
}

fn read(analysis: &Value) -> Result<Analysis, Failure> {
    Analysis::deserialize(analysis).map_err(|error| Failure::new(FAILED, format!("unexpected answer: {error}")))
}
