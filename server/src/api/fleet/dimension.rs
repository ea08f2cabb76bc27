//! `fleet_dimension` over time: from the readings of runs to points.

use std::collections::{BTreeMap, BTreeSet};

use gradwatch_spectral::cascade::{FleetDimension, FleetPoint, fleet_dimension};
use gradwatch_store::{LIVE_ANALYSIS, SeriesMetric, SeriesQuery, Store, lineage::SegmentRange};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    super::series,
    align,
    computation::Progress,
    members::{LeftOutRun, Member},
    request::DimensionRequest,
};
use crate::{error::Error, state::AppState};

/// Points of one answer.
const MAX_POINTS: usize = 1_000;
/// Widths of a family.
const MAX_WIDTHS: usize = 64;
/// Readings of one computation, which are in memory all at once.
const MAX_READINGS: usize = 1_000_000;
/// Points of one piece of numerical work.
const CHUNK: usize = 16;

/// Stands beside every answer.
const WARNING: &str = "fleet_dimension (over widths) is not nest_dimension (of one run): on the same modular-addition task \
    fleet_dimension falls where nest_dimension rises. They share only the baseline 1. Never label one as the other.";

/// `fleet_dimension` of a family over time.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct FleetDimensionResult {
    /// What must be said wherever this is shown.
    warning: &'static str,
    /// Half width of a point in steps, given or found.
    window: u64,
    /// Runs that take part, by width and id.
    runs: Vec<FleetRun>,
    /// Runs of the family that do not.
    left_out: Vec<LeftOutRun>,
    /// By aligned step; where no run has a reading there is none.
    points: Vec<FleetDimensionPoint>,
}

/// A run that takes part.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct FleetRun {
    /// UUID.
    run_id: String,
    name: String,
    /// N: sites of its whole gradient.
    parameters: u64,
    /// Its step that stands at zero.
    zero_step: u64,
    /// How many of its readings were used.
    readings: usize,
}

/// The dimension at one aligned step.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct FleetDimensionPoint {
    /// The middle, in steps from zero.
    at: i64,
    /// First aligned step that counts.
    from: i64,
    /// Last aligned step that counts.
    to: i64,
    /// With at least 4 widths and R² of at least 0.9.
    published: bool,
    /// Why it is not published: `too_few_widths` or `poor_fit`; else null.
    reason: Option<&'static str>,
    /// D, the slope of the mean of ln s on ln N; null where it is not published.
    dimension: Option<f64>,
    /// Lower end of the 95 % interval of a bootstrap over the runs of each width; null where a width has a single run.
    low: Option<f64>,
    /// Its upper end.
    high: Option<f64>,
    /// Share of the variance over widths that the fit explains; null with fewer than two widths.
    r2: Option<f64>,
    /// What the fit rests on.
    widths: Vec<FleetWidth>,
    /// D without one of the widths, each in turn; empty where D is null.
    leave_one_out: Vec<FleetLeaveOneOut>,
    /// Readings in it whose cascade was stopped at 20 N topplings.
    capped: u64,
}

/// The runs of one width at a point.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct FleetWidth {
    /// N.
    parameters: u64,
    /// Runs (seeds) of that width that have readings here.
    runs: usize,
    /// Mean of ln s over those runs.
    mean_ln_size: f64,
}

/// The dimension without one width.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct FleetLeaveOneOut {
    /// N of the width left out.
    parameters: u64,
    /// D over the others.
    dimension: f64,
}

/// A run with its clock set.
struct Aligned {
    member: Member,
    parameters: u64,
    zero_step: u64,
    /// By aligned step.
    readings: Vec<WholeReading>,
}

/// The cascade of a whole gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
struct WholeReading {
    aligned: i64,
    parameters: u64,
    ln_size: f64,
    is_capped: bool,
}

/// A run's readings in one point.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    sum: f64,
    count: u64,
    capped: u64,
}

/// One point, to be computed: cells by (parameters, index of the run).
type Bin = (i64, BTreeMap<(u64, usize), Cell>);

/// Reads, aligns and fits.
pub(super) async fn compute(
    state: &AppState,
    request: &DimensionRequest,
    members: Vec<Member>,
    progress: &Progress,
) -> Result<FleetDimensionResult, Error> {
    progress.expect(members.len());
    let (mut runs, mut left_out, mut room) = (Vec::new(), Vec::new(), MAX_READINGS);
    for member in members {
        match aligned(&*state.store, request, member, &mut room).await? {
            Ok(run) => runs.push(run),
            Err(run) => left_out.push(run),
        }
        progress.advance(1);
    }
    runs.sort_by_key(|run| (run.parameters, run.member.run_id));
    let mut widths: Vec<u64> = runs.iter().map(|run| run.parameters).collect();
    widths.dedup();
    if widths.len() > MAX_WIDTHS {
        let message = format!("has {} widths; the limit is {MAX_WIDTHS}", widths.len());
        return Err(Error::invalid("family", message));
    }
    let window = window(request, &runs)?;
    let bins = bins(&runs, window);
    progress.expect(bins.len());
    let mut points = Vec::with_capacity(bins.len());
    let mut bins = bins.into_iter().peekable();
    while bins.peek().is_some() {
        let chunk: Vec<Bin> = bins.by_ref().take(CHUNK).collect();
        let done = chunk.len();
        let work = move || chunk.into_iter().map(|bin| point(bin, window)).collect::<Vec<_>>();
        points.extend(state.pipeline.in_background(work).await?);
        progress.advance(done);
    }
    let used = |run: Aligned| FleetRun {
        run_id: run.member.run_id.to_string(),
        name: run.member.name,
        parameters: run.parameters,
        zero_step: run.zero_step,
        readings: run.readings.len(),
    };
    Ok(FleetDimensionResult { warning: WARNING, window, runs: runs.into_iter().map(used).collect(), left_out, points })
}

/// Reads a run's cascades and sets its clock, or says why it is left out.
async fn aligned(
    store: &dyn Store,
    request: &DimensionRequest,
    member: Member,
    room: &mut usize,
) -> Result<Result<Aligned, LeftOutRun>, Error> {
    if member.layer.is_none() {
        return Ok(Err(member.left_out("no_layer", "declares no such layer for cascade")));
    }
    let zero_step = match align::zero(store, &request.align, &member).await? {
        Ok(zero_step) => zero_step,
        Err(left_out) => return Ok(Err(left_out)),
    };
    let readings = readings(store, request, &member, zero_step, room).await?;
    let Some(first) = readings.first() else {
        return Ok(Err(member.left_out("no_readings", "no cascade of a whole gradient in these steps")));
    };
    let parameters = first.parameters;
    if let Some(other) = readings.iter().find(|reading| reading.parameters != parameters) {
        let detail = format!("its width changes: N = {parameters} and N = {}", other.parameters);
        return Ok(Err(member.left_out("width_changes", detail)));
    }
    Ok(Ok(Aligned { member, parameters, zero_step, readings }))
}

async fn readings(
    store: &dyn Store,
    request: &DimensionRequest,
    member: &Member,
    zero_step: u64,
    room: &mut usize,
) -> Result<Vec<WholeReading>, Error> {
    let Some(layer) = &member.layer else { return Ok(Vec::new()) };
    let mut readings = Vec::new();
    for ranges in series::parts(&wanted(request, member, zero_step)) {
        let read = async |field| {
            let query = SeriesQuery {
                run_id: member.run_id,
                analysis: LIVE_ANALYSIS.to_owned(),
                metric: SeriesMetric::Layer(layer.clone(), field),
                stream: None,
                ranges: ranges.clone(),
            };
            store.series(&query).await
        };
        let keyed = |points: Vec<gradwatch_store::SeriesPoint>| -> BTreeMap<(u32, u64), f64> {
            points.into_iter().map(|point| ((point.segment, point.step), point.value)).collect()
        };
        let sizes = read("whole_ln_size").await?;
        if sizes.is_empty() {
            continue;
        }
        *room = room.checked_sub(sizes.len()).ok_or_else(|| {
            let message = format!("more than {MAX_READINGS} readings; narrow them with from and to");
            Error::invalid("from", message)
        })?;
        let sites = keyed(read("whole_sites").await?);
        let capped = keyed(read("whole_capped").await?);
        for point in sizes {
            let key = (point.segment, point.step);
            // Of a size the sites are known as well; below 2^53, both are exact.
            let Some(sites) = sites.get(&key) else { continue };
            readings.push(WholeReading {
                aligned: point.step as i64 - zero_step as i64,
                parameters: *sites as u64,
                ln_size: point.value,
                is_capped: capped.get(&key).is_some_and(|capped| *capped > 0.0),
            });
        }
    }
    Ok(readings)
}

/// The steps of a run that the request asks for.
fn wanted(request: &DimensionRequest, member: &Member, zero_step: u64) -> Vec<SegmentRange> {
    let zero_step = zero_step as i64;
    let from_step = request.from.map_or(0, |from| u64::try_from(zero_step + from).unwrap_or(0));
    let Ok(to_step) = request.to.map_or(Ok(u64::MAX), |to| u64::try_from(zero_step + to)) else { return Vec::new() };
    let cut = |range: &SegmentRange| SegmentRange {
        segment: range.segment,
        from_step: range.from_step.max(from_step),
        to_step: range.to_step.min(to_step),
    };
    member.live.iter().map(cut).filter(|range| range.from_step <= range.to_step).collect()
}

/// Half width of a point: the one asked for; or else the spacing of the snapshots, so that no point lacks a run that has
/// some before and behind, and as many times that as the limit of points asks for.
fn window(request: &DimensionRequest, runs: &[Aligned]) -> Result<u64, Error> {
    if let Some(window) = request.window {
        if count_points(runs, window) > MAX_POINTS {
            let message = format!("{window} gives more than {MAX_POINTS} points; the limit is {MAX_POINTS}");
            return Err(Error::invalid("window", message));
        }
        return Ok(window);
    }
    let spacing = runs.iter().filter_map(|run| spacing(&run.readings)).max().unwrap_or(1);
    if count_points(runs, spacing) <= MAX_POINTS {
        return Ok(spacing);
    }
    let aligned = || runs.iter().flat_map(|run| &run.readings).map(|reading| reading.aligned);
    let span = aligned().max().zip(aligned().min()).map_or(0, |(last, first)| last.abs_diff(first));
    // As many points touch the span as fit into it, and two more at most.
    Ok(spacing * (span / (2 * spacing)).div_ceil(MAX_POINTS as u64 - 2))
}

/// How many points there would be; more than the limit are not counted.
fn count_points(runs: &[Aligned], window: u64) -> usize {
    let mut points = BTreeSet::new();
    for reading in runs.iter().flat_map(|run| &run.readings) {
        points.insert(middle(reading.aligned, window));
        if points.len() > MAX_POINTS {
            break;
        }
    }
    points.len()
}

/// The point that an aligned step belongs to: points lie at the multiples of twice the window, so that each step is in
/// exactly one.
fn middle(aligned: i64, window: u64) -> i64 {
    // A step is below 2^53, and so is a window.
    let window = window as i64;
    (aligned + window).div_euclid(2 * window) * 2 * window
}

/// Median distance of readings that follow each other; none of a single one.
fn spacing(readings: &[WholeReading]) -> Option<u64> {
    let mut distances: Vec<u64> = readings.windows(2).map(|pair| pair[1].aligned.abs_diff(pair[0].aligned)).collect();
    distances.sort_unstable();
    distances.get(distances.len() / 2).copied().map(|distance| distance.max(1))
}

/// Readings by point.
fn bins(runs: &[Aligned], window: u64) -> BTreeMap<i64, BTreeMap<(u64, usize), Cell>> {
    let mut bins: BTreeMap<i64, BTreeMap<(u64, usize), Cell>> = BTreeMap::new();
    for (index, run) in runs.iter().enumerate() {
        for reading in &run.readings {
            let cells = bins.entry(middle(reading.aligned, window)).or_default();
            let cell = cells.entry((run.parameters, index)).or_default();
            cell.sum += reading.ln_size;
            cell.count += 1;
            cell.capped += u64::from(reading.is_capped);
        }
    }
    bins
}

fn point((at, cells): Bin, window: u64) -> FleetDimensionPoint {
    let runs: Vec<FleetPoint> = cells
        .iter()
        .map(|(&(parameters, run), cell)| FleetPoint {
            parameters,
            run: run as u64,
            ln_size: cell.sum / cell.count as f64,
        })
        .collect();
    let of_width = |runs: &[FleetPoint]| FleetWidth {
        parameters: runs[0].parameters,
        runs: runs.len(),
        mean_ln_size: runs.iter().map(|run| run.ln_size).sum::<f64>() / runs.len() as f64,
    };
    let FleetDimension { reason, r2, dimension, low, high, leave_one_out, .. } = fleet_dimension(&runs);
    FleetDimensionPoint {
        at,
        from: at - window as i64,
        to: at + window as i64 - 1,
        published: dimension.is_some(),
        reason: reason.map(|reason| reason.as_str()),
        dimension,
        low,
        high,
        r2,
        // The cells are in the order of widths.
        widths: runs.chunk_by(|a, b| a.parameters == b.parameters).map(of_width).collect(),
        leave_one_out: leave_one_out
            .into_iter()
            .map(|it| FleetLeaveOneOut { parameters: it.parameters, dimension: it.dimension })
            .collect(),
        capped: cells.values().map(|cell| cell.capped).sum(),
    }
}
