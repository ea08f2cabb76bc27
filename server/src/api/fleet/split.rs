//! `error_split` over a crossed design: from kept predictions to its parts.

use std::collections::{BTreeMap, BTreeSet};

use gradwatch_spectral::learning_cell::{CrossedRun, ErrorSplitError, error_split};
use gradwatch_store::{PredictionRow, Store, lineage::SegmentRange};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    computation::Progress,
    members::{LeftOutRun, Member},
    request::{CommonStep, ErrorSplitRequest},
};
use crate::{
    error::{Error, ErrorCode},
    state::AppState,
};

/// Labels that make the cross.
const DATA_SEED: &str = "data_seed";
const INIT_SEED: &str = "init_seed";
/// Predictions of all runs together, which are in memory all at once.
const MAX_VALUES: usize = 1 << 23;
/// An error names at most so many cells.
const NAMED: usize = 16;

/// Where the error of a fleet comes from: mean squared parts, in units of the squared prediction. They add up to `total`,
/// but for rounding.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct ErrorSplitResult {
    /// The step of all runs.
    step: u64,
    /// Predictions of each run.
    n: usize,
    /// Labels of the rows.
    data_seeds: Vec<String>,
    /// Labels of the columns.
    init_seeds: Vec<String>,
    /// Of the mean over all runs against the targets; null without targets.
    bias: Option<f64>,
    /// What the draw of the data does.
    statistical: f64,
    /// What width and init seed do.
    width_seed: f64,
    /// Data and seed together.
    interaction: f64,
    /// Of all runs against the targets; without targets, about the mean over all runs.
    total: f64,
    /// Runs that take part, by data seed, then init seed.
    runs: Vec<CrossedRunView>,
    /// Runs with these labels that do not.
    left_out: Vec<LeftOutRun>,
}

/// A run that takes part.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct CrossedRunView {
    /// UUID.
    run_id: String,
    name: String,
    data_seed: String,
    init_seed: String,
}

/// A place of the cross: (data seed, init seed).
type Cell = (String, String);

/// A run in its place, with the steps of its predictions on the live line.
struct Candidate {
    member: Member,
    /// Segment by step.
    steps: BTreeMap<u64, u32>,
}

/// The runs by their places; every place is taken.
struct Cross {
    cells: BTreeMap<Cell, Candidate>,
    left_out: Vec<LeftOutRun>,
}

/// Finds the cross and its common step, reads and splits.
pub(super) async fn compute(
    state: &AppState,
    request: &ErrorSplitRequest,
    members: Vec<Member>,
    progress: &Progress,
) -> Result<ErrorSplitResult, Error> {
    let store = &*state.store;
    progress.expect(members.len());
    let Cross { cells, left_out } = cross(store, request, members, progress).await?;
    let step = common_step(request, &cells)?;
    progress.expect(cells.len());
    let (mut rows, mut runs) = (Vec::new(), Vec::new());
    let mut values = 0_usize;
    for ((data_seed, init_seed), candidate) in cells {
        let row = predictions(store, &request.probe, step, &candidate).await?;
        values += row.values.len();
        if values > MAX_VALUES {
            let message =
                format!("the runs have more than {MAX_VALUES} predictions together; the limit is {MAX_VALUES}");
            return Err(conflict("labels", message));
        }
        progress.advance(1);
        let member = candidate.member;
        runs.push(CrossedRunView { run_id: member.run_id.to_string(), name: member.name, data_seed, init_seed });
        rows.push(row);
    }
    let targets = targets(&rows, &runs)?;
    let n = rows.first().map_or(0, |row| row.values.len());
    let labels: Vec<Cell> = runs.iter().map(|run| (run.data_seed.clone(), run.init_seed.clone())).collect();
    let split = state
        .pipeline
        .in_background(move || {
            let widened: Vec<Vec<f64>> = rows.into_iter().map(|row| widen(row.values)).collect();
            let crossed: Vec<CrossedRun<'_>> = labels
                .iter()
                .zip(&widened)
                .map(|((data_seed, init_seed), predictions)| CrossedRun { data_seed, init_seed, predictions })
                .collect();
            error_split(&crossed, targets.as_deref())
        })
        .await?
        .map_err(|error| conflict(field_of(&error), error.to_string()))?;
    let distinct = |of: fn(&CrossedRunView) -> &String| {
        runs.iter().map(of).collect::<BTreeSet<_>>().into_iter().cloned().collect::<Vec<_>>()
    };
    Ok(ErrorSplitResult {
        step,
        n,
        data_seeds: distinct(|run| &run.data_seed),
        init_seeds: distinct(|run| &run.init_seed),
        bias: split.bias,
        statistical: split.statistical,
        width_seed: split.width_seed,
        interaction: split.interaction,
        total: split.total,
        runs,
        left_out,
    })
}

/// Puts the runs in their places. Runs without predictions take none: a run that crashed early is no second one.
async fn cross(
    store: &dyn Store,
    request: &ErrorSplitRequest,
    members: Vec<Member>,
    progress: &Progress,
) -> Result<Cross, Error> {
    let (mut cells, mut left_out) = (BTreeMap::<Cell, Candidate>::new(), Vec::new());
    for member in members {
        progress.advance(1);
        let label = |name: &str| member.labels.get(name).cloned();
        let (data_seed, init_seed) = match (label(DATA_SEED), label(INIT_SEED)) {
            (Some(data_seed), Some(init_seed)) => (data_seed, init_seed),
            (None, _) => {
                left_out.push(member.left_out("no_data_seed", format!("has no label {DATA_SEED}")));
                continue;
            }
            (_, None) => {
                left_out.push(member.left_out("no_init_seed", format!("has no label {INIT_SEED}")));
                continue;
            }
        };
        let steps = steps(store, request, &member).await?;
        if steps.is_empty() {
            let at = match request.step {
                CommonStep::Last => String::new(),
                CommonStep::At(step) => format!(" at step {step}"),
            };
            let detail = format!("no predictions on {:?}{at} on the live line", request.probe);
            left_out.push(member.left_out("no_predictions", detail));
            continue;
        }
        if let Some(other) = cells.get(&(data_seed.clone(), init_seed.clone())) {
            let (one, two) = (other.member.run_id, member.run_id);
            let message =
                format!("runs {one} and {two} both have data_seed {data_seed} and init_seed {init_seed}; narrow them");
            return Err(conflict("labels", message));
        }
        cells.insert((data_seed, init_seed), Candidate { member, steps });
    }
    if cells.is_empty() {
        let why = left_out.first().map_or_else(String::new, |run| format!("; the first: {}", run.reason));
        return Err(conflict("probe", format!("no run has both seeds and predictions on {:?}{why}", request.probe)));
    }
    refuse_holes(&cells)?;
    Ok(Cross { cells, left_out })
}

/// Every data seed must meet every init seed; what is missing is named.
fn refuse_holes(cells: &BTreeMap<Cell, Candidate>) -> Result<(), Error> {
    let data_seeds: BTreeSet<&String> = cells.keys().map(|(data_seed, _)| data_seed).collect();
    let init_seeds: BTreeSet<&String> = cells.keys().map(|(_, init_seed)| init_seed).collect();
    let mut missing = Vec::new();
    for data_seed in &data_seeds {
        for init_seed in &init_seeds {
            if !cells.contains_key(&((*data_seed).clone(), (*init_seed).clone())) {
                missing.push(format!("data_seed {data_seed} with init_seed {init_seed}"));
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let more = match missing.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    missing.truncate(NAMED);
    Err(conflict("labels", format!("no run has {}{more}", missing.join("; "))))
}

/// The steps of a run's predictions on its live line, as far as they are wanted.
async fn steps(store: &dyn Store, request: &ErrorSplitRequest, member: &Member) -> Result<BTreeMap<u64, u32>, Error> {
    let is_live = |segment: u32, step: u64| {
        let is_in =
            |range: &SegmentRange| range.segment == segment && (range.from_step..=range.to_step).contains(&step);
        member.live.iter().any(is_in)
    };
    let is_wanted = |step: u64| match request.step {
        CommonStep::Last => true,
        CommonStep::At(wanted) => step == wanted,
    };
    let kept = store.kept_predictions(member.run_id).await?.into_iter();
    Ok(kept
        .filter(|(segment, step, probe, _)| *probe == request.probe && is_wanted(*step) && is_live(*segment, *step))
        .map(|(segment, step, ..)| (step, segment))
        .collect())
}

/// The last step that all runs have.
fn common_step(request: &ErrorSplitRequest, cells: &BTreeMap<Cell, Candidate>) -> Result<u64, Error> {
    let mut candidates = cells.values();
    let first = candidates.next().map(|candidate| &candidate.steps).into_iter().flatten();
    let common = first.map(|(step, _)| *step).filter(|step| {
        let has = |candidate: &Candidate| candidate.steps.contains_key(step);
        cells.values().all(has)
    });
    common.max().ok_or_else(|| {
        conflict("step", format!("the runs have no step in common with predictions on {:?}", request.probe))
    })
}

async fn predictions(store: &dyn Store, probe: &str, step: u64, candidate: &Candidate) -> Result<PredictionRow, Error> {
    let ranges: Vec<SegmentRange> = candidate
        .steps
        .get(&step)
        .map(|&segment| SegmentRange { segment, from_step: step, to_step: step })
        .into_iter()
        .collect();
    let found = store.predictions(candidate.member.run_id, probe, &ranges).await?;
    found.into_iter().next().ok_or_else(|| {
        // They made room for newer ones, or the run was deleted, since its steps were read.
        let message = format!("the predictions of run {} at step {step} are gone", candidate.member.run_id);
        Error::new(ErrorCode::Unavailable, message).retry_after(std::time::Duration::from_secs(1))
    })
}

/// What the predictions should be, which all runs that say it must agree on.
fn targets(rows: &[PredictionRow], runs: &[CrossedRunView]) -> Result<Option<Vec<f64>>, Error> {
    let mut said = rows.iter().zip(runs).filter(|(row, _)| !row.targets.is_empty());
    let Some((first, first_run)) = said.next() else { return Ok(None) };
    if let Some((_, run)) = said.find(|(row, _)| row.targets != first.targets) {
        let message = format!(
            "runs {} and {} have different targets: they are not about one probe batch",
            first_run.run_id, run.run_id
        );
        return Err(conflict("probe", message));
    }
    Ok(Some(widen(first.targets.clone())))
}

fn widen(values: Vec<f32>) -> Vec<f64> {
    values.into_iter().map(f64::from).collect()
}

fn field_of(error: &ErrorSplitError) -> &'static str {
    match error {
        ErrorSplitError::TooFewSeeds { .. } | ErrorSplitError::Missing { .. } | ErrorSplitError::Duplicate { .. } => {
            "labels"
        }
        ErrorSplitError::NoPredictions
        | ErrorSplitError::Length { .. }
        | ErrorSplitError::TargetsLength { .. }
        | ErrorSplitError::NonFinite { .. }
        | ErrorSplitError::NonFiniteTargets => "probe",
    }
}

fn conflict(field: &str, message: impl Into<String>) -> Error {
    Error { field: Some(field.to_owned()), ..Error::new(ErrorCode::Conflict, message) }
}
