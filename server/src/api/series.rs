//! `series` and `runs/{run_id}/series`: values of metrics over steps, for charts.

use axum::{Json, extract::State};
use gradwatch_store::{
    LIVE_ANALYSIS, RunId, Segment, SeriesMetric, SeriesQuery, Store, StreamKey, lineage::SegmentRange,
};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::{
    cursor::{Paging, SeriesPosition},
    downsample::{self, Bucket, Fold},
    layer_choice::LayerChoice,
    metric::{self, Metric, What},
    openapi::Problems,
    params::{FromParams, Params, Query, RunPath},
    refusal::Answer,
    selection::{StreamChoice, Stretch},
};
use crate::{access::Caller, error::Error, state::AppState};

const DEFAULT_POINTS: usize = 1_000;
const MAX_POINTS: usize = 10_000;
/// Runs and metrics of one request, each.
const MAX_NAMED: usize = 100;
/// Points of one answer; more series than that come on further pages.
const MAX_ANSWER_POINTS: usize = 200_000;
/// Raw rows are read in parts of at least this many steps, so that a long metric without rollups is never in memory
/// whole.
const RAW_STEPS: u64 = 65_536;
/// Into at most about this many parts: where steps are far apart, longer parts hold no more rows.
const RAW_PARTS: u64 = 64;

/// One metric of one run.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SeriesView {
    /// UUID.
    run_id: String,
    /// Full name, such as `edge.ratio` or `scalar.loss`.
    metric: String,
    /// `1` for a pure number, `u` for the unit of a parameter update; null for scalars.
    unit: Option<&'static str>,
    /// Of metrics of streams; null for others.
    group: Option<String>,
    kind: Option<&'static str>,
    window: Option<usize>,
    /// Of metrics of the layer instruments; null for others, and where the run declares no such layer.
    layer: Option<String>,
    analysis: String,
    /// Steps a bucket spans.
    bucket_steps: u64,
    /// Buckets that hold values, by segment and step.
    points: Vec<PointView>,
}

/// A bucket of steps of one segment. Spikes survive: its extremes are those of the values in it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PointView {
    segment: u32,
    /// The first step with a value; where rollups were read, known to 256 steps only.
    step: u64,
    /// The last step with a finite value, at which `last` was.
    last_step: Option<u64>,
    min: Option<f64>,
    max: Option<f64>,
    last: Option<f64>,
    /// Number of finite values.
    count: u64,
    /// Number of NaN and infinite values; null where rollups were read, which count finite values only.
    nonfinite: Option<u64>,
}

impl From<Bucket> for PointView {
    fn from(bucket: Bucket) -> Self {
        Self {
            segment: bucket.segment,
            step: bucket.step,
            last_step: bucket.finite.map(|finite| finite.last_step),
            min: bucket.finite.map(|finite| finite.min),
            max: bucket.finite.map(|finite| finite.max),
            last: bucket.finite.map(|finite| finite.last),
            count: bucket.count,
            nonfinite: bucket.nonfinite,
        }
    }
}

/// A page of series: every metric of the first run, then of the next.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SeriesList {
    items: Vec<SeriesView>,
    /// Where the next page starts; null at the end. A page may hold fewer series than `limit` although there are more.
    next_cursor: Option<String>,
}

/// What to chart.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct SeriesParams {
    /// A metric, such as `edge.ratio`, `update.norm_z`, `cascade.phi` or `scalar.loss`; repeated for more.
    #[param(rename = "metric")]
    metrics: Vec<String>,
    /// Points a series, 1 to 10,000; each segment with values keeps at least one.
    #[param(value_type = Option<u64>, default = 1000, minimum = 1, maximum = 10_000)]
    max_points: usize,
}

impl FromParams for SeriesParams {
    fn from_params(params: &mut Params) -> Result<Self, Error> {
        let metrics = params.many("metric")?;
        check_count("metric", metrics.len())?;
        let max_points = params.parsed("max_points")?.unwrap_or(DEFAULT_POINTS);
        if !(1..=MAX_POINTS).contains(&max_points) {
            return Err(Error::invalid("max_points", format!("{max_points} is not between 1 and {MAX_POINTS}")));
        }
        Ok(Self { metrics, max_points })
    }
}

/// Which runs to compare.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct RunsParam {
    /// A run; repeated, or separated by commas, for more.
    #[param(rename = "run", value_type = Vec<String>)]
    runs: Vec<RunId>,
}

impl FromParams for RunsParam {
    fn from_params(params: &mut Params) -> Result<Self, Error> {
        let texts = params.list("run")?;
        check_count("run", texts.len())?;
        let parse =
            |text: String| text.parse().map_err(|error| Error::invalid("run", format!("{text:?} is no UUID: {error}")));
        Ok(Self { runs: texts.into_iter().map(parse).collect::<Result<_, _>>()? })
    }
}

fn check_count(name: &'static str, count: usize) -> Result<(), Error> {
    match count {
        0 => Err(Error::invalid(name, "is missing; at least one is needed")),
        1..=MAX_NAMED => Ok(()),
        _ => Err(Error::invalid(name, format!("was given {count} times; the limit is {MAX_NAMED}"))),
    }
}

/// Charts metrics of one run.
#[utoipa::path(get, operation_id = "chartRun", path = "/api/v1/runs/{run_id}/series", tag = "readings",
    params(("run_id" = String, Path, description = "UUID"), SeriesParams, StreamChoice, LayerChoice, Stretch, Paging),
    responses((status = 200, body = SeriesList), Problems))]
pub(crate) async fn of_run(
    State(state): State<AppState>,
    RunPath(run_id): RunPath,
    Query((series, choice, layer, stretch, paging)): Query<(SeriesParams, StreamChoice, LayerChoice, Stretch, Paging)>,
) -> Answer<Json<SeriesList>> {
    let question = Question { runs: vec![run_id], series, choice, layer, stretch };
    Ok(Json(question.answer(&*state.store, &paging).await?))
}

/// Charts metrics of several runs, to compare them.
#[utoipa::path(get, operation_id = "chartRuns", path = "/api/v1/series", tag = "readings",
    params(RunsParam, SeriesParams, StreamChoice, LayerChoice, Stretch, Paging),
    responses((status = 200, body = SeriesList), Problems))]
pub(crate) async fn of_runs(
    State(state): State<AppState>,
    caller: Caller,
    Query((RunsParam { runs }, series, choice, layer, stretch, paging)): Query<(
        RunsParam,
        SeriesParams,
        StreamChoice,
        LayerChoice,
        Stretch,
        Paging,
    )>,
) -> Answer<Json<SeriesList>> {
    if caller.project().is_some() {
        for &run_id in &runs {
            let known = caller.run(&*state.store, run_id).await;
            known.map_err(|error| Error { field: Some("run".into()), ..error.into() })?;
        }
    }
    let question = Question { runs, series, choice, layer, stretch };
    let answer = question.answer(&*state.store, &paging).await.map_err(|error| match error.field.as_deref() {
        Some("run_id") => Error { field: Some("run".into()), ..error },
        _ => error,
    })?;
    Ok(Json(answer))
}

/// Metrics of runs.
struct Question {
    runs: Vec<RunId>,
    series: SeriesParams,
    choice: StreamChoice,
    layer: LayerChoice,
    stretch: Stretch,
}

impl Question {
    async fn answer(&self, store: &dyn Store, paging: &Paging) -> Result<SeriesList, Error> {
        let metrics = self.metrics(store).await?;
        let mut runs = Vec::new();
        for &run_id in &self.runs {
            runs.push((run_id, store.segments(run_id).await?));
        }
        self.check_layers(&metrics, &runs)?;
        let given = paging.position::<SeriesPosition>()?.map_or(0, |position| position.given);
        let total = runs.len() * metrics.len();
        let size = paging.limit.min((MAX_ANSWER_POINTS / self.series.max_points).max(1));
        let end = total.min(given.saturating_add(size));
        let mut items = Vec::new();
        for index in given..end {
            let (run_id, segments) = &runs[index / metrics.len()];
            items.push(self.one(store, *run_id, segments, &metrics[index % metrics.len()]).await?);
        }
        let next_cursor = (end < total).then(|| paging.behind(SeriesPosition { given: end })).transpose()?;
        Ok(SeriesList { items, next_cursor })
    }

    /// Looks the names up. A scalar must be known to one of the runs: they may have sent different ones.
    async fn metrics(&self, store: &dyn Store) -> Result<Vec<Metric>, Error> {
        let mut scalars = Vec::new();
        for &run_id in &self.runs {
            scalars.extend(store.scalar_names(run_id).await?);
        }
        scalars.sort_unstable();
        scalars.dedup();
        self.series.metrics.iter().map(|name| metric::find(name, &scalars)).collect()
    }

    /// As a scalar, a layer must be known to one of the runs. One that is named must be of use.
    fn check_layers(&self, metrics: &[Metric], runs: &[(RunId, Vec<Segment>)]) -> Result<(), Error> {
        let mut is_used = false;
        for metric in metrics {
            let What::Layer(instrument, _) = metric.what else { continue };
            is_used = true;
            if !runs.iter().any(|(_, segments)| self.layer.find(instrument, segments).is_some()) {
                return Err(self.layer.unknown(instrument, runs.iter().map(|(_, segments)| &**segments)));
            }
        }
        if self.layer.layer.is_some() && !is_used {
            return Err(Error::invalid("layer", "is for metrics of the layer instruments; none is asked for"));
        }
        Ok(())
    }

    async fn one(
        &self,
        store: &dyn Store,
        run_id: RunId,
        segments: &[Segment],
        metric: &Metric,
    ) -> Result<SeriesView, Error> {
        let mut view = SeriesView {
            run_id: run_id.to_string(),
            metric: metric.name.clone(),
            unit: metric.unit,
            group: None,
            kind: None,
            window: None,
            layer: None,
            // What is in no window is what it is in every analysis.
            analysis: match metric.what {
                What::Edge(_) => self.choice.analysis.clone(),
                What::Layer(..) | What::Scalar(_) => LIVE_ANALYSIS.to_owned(),
            },
            bucket_steps: 1,
            points: Vec::new(),
        };
        let ranges = recorded(self.stretch.ranges(segments)?, segments);
        let (stored, stream) = match &metric.what {
            What::Edge(short) => {
                let stream = self.choice.resolve(store, run_id, segments).await?;
                let StreamKey { group, kind, window } = stream.clone();
                (view.group, view.kind, view.window) = (Some(group), Some(kind.as_str()), Some(window));
                (SeriesMetric::Edge(short), Some(stream))
            }
            What::Layer(instrument, field) => {
                let Some(layer) = self.layer.find(*instrument, segments) else { return Ok(view) };
                view.layer = Some(layer.layer.clone());
                (SeriesMetric::Layer(layer, field), None)
            }
            What::Scalar(name) => (SeriesMetric::Scalar(name.clone()), None),
        };
        let steps = span(&ranges, segments);
        let query = SeriesQuery { run_id, analysis: view.analysis.clone(), metric: stored, stream, ranges };
        let (bucket_steps, buckets) = buckets(store, query, metric, steps, self.series.max_points).await?;
        view.bucket_steps = bucket_steps;
        view.points = buckets.into_iter().map(PointView::from).collect();
        Ok(view)
    }
}

/// Cuts ranges at the last step recorded so far: what arrives while we read stays out, so that all parts of an answer
/// speak of the same steps.
pub(super) fn recorded(ranges: Vec<SegmentRange>, segments: &[Segment]) -> Vec<SegmentRange> {
    let cut = |range: SegmentRange| {
        let segment = segments.iter().find(|segment| segment.segment == range.segment)?;
        let to_step = range.to_step.min(segment.last_step?);
        (range.from_step <= to_step).then_some(SegmentRange { to_step, ..range })
    };
    ranges.into_iter().filter_map(cut).collect()
}

/// The number of steps that the ranges can hold. An attempt starts behind the step it resumes.
fn span(ranges: &[SegmentRange], segments: &[Segment]) -> u64 {
    let steps = |range: &SegmentRange| {
        let segment = segments.iter().find(|segment| segment.segment == range.segment);
        let resumed = segment.and_then(|segment| segment.resumes).map_or(0, |resumes| resumes.step);
        (range.to_step + 1).saturating_sub(range.from_step.max(resumed))
    };
    ranges.iter().map(steps).sum()
}

/// Reads a series as buckets: rollups from coarse to fine as far as they go, raw rows for the rest.
async fn buckets(
    store: &dyn Store,
    mut query: SeriesQuery,
    metric: &Metric,
    steps: u64,
    max_points: usize,
) -> Result<(u64, Vec<Bucket>), Error> {
    let width = downsample::width(steps, max_points, metric.has_rollups);
    let mut fold = Fold::new(width, &query.ranges);
    for bucket_steps in downsample::levels(width, metric.has_rollups) {
        if query.ranges.is_empty() {
            break;
        }
        let found = store.rollups(&query, bucket_steps).await?;
        query.ranges = downsample::uncovered(&query.ranges, &found, bucket_steps);
        found.into_iter().for_each(|point| fold.rollup(point, bucket_steps));
    }
    if let SeriesMetric::Scalar(_) = query.metric {
        fold.sees_nonfinite_only_in(&query.ranges);
    }
    for ranges in parts(&query.ranges) {
        query.ranges = ranges;
        store.series(&query).await?.into_iter().for_each(|point| fold.value(point));
    }
    Ok(fold.finish(max_points))
}

/// Cuts ranges into parts of bounded length, of which each is read at once.
pub(super) fn parts(ranges: &[SegmentRange]) -> Vec<Vec<SegmentRange>> {
    let total: u64 = ranges.iter().map(|range| range.to_step - range.from_step + 1).sum();
    let most = RAW_STEPS.max(total / RAW_PARTS);
    let mut parts = Vec::new();
    let mut part = Vec::new();
    let mut room = most;
    for &range in ranges {
        let mut from_step = range.from_step;
        while from_step <= range.to_step {
            let to_step = range.to_step.min(from_step + room - 1);
            part.push(SegmentRange { from_step, to_step, ..range });
            room -= to_step - from_step + 1;
            from_step = to_step + 1;
            if room == 0 {
                parts.push(std::mem::take(&mut part));
                room = most;
            }
        }
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_ranges_once_and_are_bounded() {
        let ranges = [
            SegmentRange { segment: 1, from_step: 5, to_step: 4 + 3 * RAW_STEPS },
            SegmentRange { segment: 2, from_step: 0, to_step: 0 },
            SegmentRange { segment: 3, from_step: 7, to_step: 7 + RAW_STEPS },
        ];
        let parts = parts(&ranges);
        let length = |range: &SegmentRange| range.to_step - range.from_step + 1;
        for part in &parts {
            assert!(part.iter().map(length).sum::<u64>() <= RAW_STEPS);
        }
        let mut joined: Vec<SegmentRange> = Vec::new();
        for range in parts.into_iter().flatten() {
            match joined.last_mut() {
                Some(last) if last.segment == range.segment => {
                    assert_eq!(last.to_step + 1, range.from_step);
                    last.to_step = range.to_step;
                }
                _ => joined.push(range),
            }
        }
        assert_eq!(joined, ranges);
        let long = [SegmentRange { segment: 1, from_step: 0, to_step: (1 << 53) - 1 }];
        assert!(super::parts(&long).len() as u64 <= RAW_PARTS + 1);
    }
}
