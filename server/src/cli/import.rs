//! `gradwatch import`.

mod checkpoint;
mod delivery;
mod error;
mod existing;
mod groups;
mod layout;
mod rest;
mod series;
mod steps;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use gradwatch_client::{DEFAULT_DIM, Encoding, Uuid};
use serde_json::json;

use self::{
    delivery::Import, error::ImportError, existing::Existing, groups::GroupPattern, rest::Rest, series::Series,
};
use super::{Failure, ServerArgs, progress::Progress, runtime};

/// Reads the checkpoints of a training run that is over, or that nobody watched, and makes a run of their differences.
///
/// The checkpoints are safetensors files; the step of each is the last number of its name. Of all given files those are
/// used whose step is a multiple of --every; the difference of one and the next is one row of the windows, like an update
/// of that many optimizer steps. A missing checkpoint is a hole: it is named, and the windows start again behind it.
///
/// What was acknowledged stays, whatever happens. An import that was cut off goes on where it stopped when it is called
/// again with the same files and --run-id, and its windows go on too.
#[derive(Args)]
#[command(after_help = "Example: every 100th step of a run, attention and everything, windows of 10 and 20 rows\n\n  \
    gradwatch import --project lm --name baseline --every 100 --window 10 --window 20 --lr 1e-3 \\\n      \
    --group 'attention=*.wq.*,*.wk.*' --group 'all=*' checkpoints/*.safetensors\n\n\
    Files: float64, float32, float16 and bfloat16 tensors are read; others are left out. All files hold the same tensors.\n\
    Exit codes: 0 imported, 1 a file or the server said no, 2 wrong usage, 3 no server.")]
pub(super) struct ImportArgs {
    /// The checkpoints, in any order
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    remote: ServerArgs,
    /// The project that the run belongs to
    #[arg(long)]
    project: String,
    /// The run's name
    #[arg(long)]
    name: String,
    /// Optimizer steps between two rows: checkpoints at multiples of this are used
    #[arg(long, value_name = "STEPS", value_parser = clap::value_parser!(u32).range(1..))]
    every: u32,
    /// Window length in rows, 3 to 64; may be repeated, the first is the default of queries
    #[arg(long = "window", value_name = "ROWS", default_value = "10")]
    windows: Vec<u32>,
    /// d, the size of a sketch: a power of two from 64 to 65536
    #[arg(long, default_value_t = DEFAULT_DIM)]
    dim: usize,
    /// Tensors watched together, by patterns of their names; may be repeated. Default: all=*
    #[arg(long = "group", value_name = "NAME=GLOB[,GLOB]")]
    group_patterns: Vec<GroupPattern>,
    /// The learning rate, for the readings that need it
    #[arg(long, value_parser = learning_rate, allow_negative_numbers = true)]
    lr: Option<f64>,
    /// The steps of the files, in the order of the files, instead of the numbers in their names
    #[arg(long, value_name = "STEP,STEP", value_delimiter = ',')]
    steps: Vec<u64>,
    /// A label to find the run by; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// The sketch's seed. Sketches of one seed and size can be compared
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How sketches travel
    #[arg(long, value_enum, default_value_t = EncodingArg::F32)]
    encoding: EncodingArg,
    /// The run's id; of a run that an import was making, to go on with it
    #[arg(long, value_name = "UUID")]
    run_id: Option<Uuid>,
    /// Print the summary as JSON, and no progress
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum EncodingArg {
    F16,
    F32,
}

impl From<EncodingArg> for Encoding {
    fn from(encoding: EncodingArg) -> Self {
        match encoding {
            EncodingArg::F16 => Self::F16,
            EncodingArg::F32 => Self::F32,
        }
    }
}

/// Where `gradwatch serve` listens unless it is told otherwise.
const DEFAULT_SERVER: &str = "http://127.0.0.1:7700";

impl ImportArgs {
    fn server(&self) -> &str {
        self.remote.server.as_deref().unwrap_or(DEFAULT_SERVER)
    }

    fn groups(&self) -> Vec<GroupPattern> {
        if self.group_patterns.is_empty() { vec![GroupPattern::all()] } else { self.group_patterns.clone() }
    }
}

fn learning_rate(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "is not a number".to_owned())?;
    if value.is_finite() && value >= 0.0 { Ok(value) } else { Err("is negative or not finite".to_owned()) }
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("is not of the form KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

pub(super) fn run(args: &ImportArgs) -> Result<(), Failure> {
    let series = Series::new(steps::checkpoints(&args.files, &args.steps)?, args.every.into())?;
    let ca_certificate = args.remote.ca_certificate()?;
    let existing = runtime()?.block_on(ask_server(args, ca_certificate.as_deref()))?;
    import(args, &series, existing.as_ref(), ca_certificate.as_deref())?;
    Ok(())
}

/// Whether there is a server at all, and what it has of the run.
async fn ask_server(args: &ImportArgs, ca_certificate: Option<&str>) -> Result<Option<Existing>, ImportError> {
    let rest = Rest::connect(args, ca_certificate).await?;
    match args.run_id {
        Some(run_id) => existing::find(&rest, run_id).await,
        None => Ok(None),
    }
}

fn import(
    args: &ImportArgs,
    series: &Series,
    existing: Option<&Existing>,
    ca_certificate: Option<&str>,
) -> Result<(), ImportError> {
    let recorded = existing.map_or(&[][..], |existing| &existing.rows);
    let longest_window = args.windows.iter().max().map_or(0, |&longest| longest as usize);
    let plan = series.plan(recorded, longest_window);
    let run_id = args.run_id.unwrap_or_else(Uuid::new_v4);
    let import = Import::open(args, series, &plan, existing, run_id, ca_certificate)?;

    let new_rows = plan.rows.len() - plan.refill;
    let mut progress = Progress::new("rows", args.json);
    let holes: Vec<String> = series.holes().iter().map(ToString::to_string).collect();
    for hole in &holes {
        progress.warn(&format!("{hole}: the windows start again behind it"));
    }
    if !args.json {
        // Said first: whoever has to go on after a crash needs it.
        eprintln!("run {run_id}: {new_rows} rows, {} recorded before", recorded.len());
    }
    let delivered = import.deliver(&plan, &mut progress);
    drop(progress);
    if delivered.is_err() {
        eprintln!("What was acknowledged stays; `--run-id {run_id}` goes on behind it.");
    }
    delivered?;

    let readings: Vec<(u32, usize)> =
        args.windows.iter().map(|&window| (window, series.full_windows(recorded, &plan, window as usize))).collect();
    let link = format!("{}/api/v1/runs/{run_id}/readings/edge", args.server().trim_end_matches('/'));
    if args.json {
        let readings: Vec<_> =
            readings.iter().map(|(window, full)| json!({ "window": window, "full": full })).collect();
        let summary = json!({
            "run_id": run_id,
            "rows": recorded.len() + new_rows,
            "rows_sent": new_rows,
            "readings": readings,
            "checkpoints_left_out": series.left_out,
            "holes": holes,
            "link": link,
        });
        println!("{summary}");
        return Ok(());
    }
    println!("run       {run_id}");
    println!("rows      {} ({new_rows} sent now)", recorded.len() + new_rows);
    for (window, full) in readings {
        println!("readings  {full} of full windows of {window} rows, for each group");
    }
    if series.left_out > 0 {
        println!("left out  {} checkpoints at no multiple of {} steps", series.left_out, args.every);
    }
    println!("{link}");
    Ok(())
}
