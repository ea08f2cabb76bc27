//! `runs` and `runs/{run_id}`.

use std::collections::BTreeMap;

use axum::{Json, extract::State, http::StatusCode};
use gradwatch_spectral::detectors::Regime;
use gradwatch_store::{Run, RunCounters, RunId, RunQuery, RunSort, RunState};
use serde::Serialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::{
    cursor::{Paging, RunPosition},
    labels::{self, LabelPatch},
    openapi::Problems,
    params::{FromParams, Params, Query, RunPath},
    refusal::Answer,
    time::Time,
};
use crate::{error::Error, state::AppState};

/// A run as it stands.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RunView {
    /// UUID.
    run_id: String,
    project: String,
    /// A display name; need not be unique.
    name: String,
    labels: BTreeMap<String, String>,
    /// Hyperparameters and the like, as the client sent them.
    #[schema(value_type = Object)]
    config: Value,
    /// `running`, `stalled`, `crashed`, `finished`, `failed` or `preempted`.
    state: &'static str,
    /// The most severe regime of its live streams: `warming`, `plateau`, `transition` or `forgetting`.
    regime: &'static str,
    /// When the server first heard of it.
    created_at: Time,
    /// When the server last heard of it.
    last_seen_at: Time,
    /// The last step recorded in its newest segment.
    last_step: Option<u64>,
    counters: CountersView,
}

/// What a run has been through, counted.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CountersView {
    /// Steps recorded, over all segments.
    steps: u64,
    /// Frames refused as invalid.
    rejected: u64,
    /// Frames that clients gave up because their buffer was full: the run is lossy.
    dropped: u64,
    /// Steps settled without all their shards.
    incomplete: u64,
    /// Payloads and scalars that held NaN or infinity.
    nonfinite: u64,
    /// Snapshots that were not read because too many waited.
    skipped: u64,
}

impl From<&RunCounters> for CountersView {
    fn from(counters: &RunCounters) -> Self {
        let RunCounters { steps, rejected, dropped, incomplete, nonfinite, skipped } = *counters;
        Self { steps, rejected, dropped, incomplete, nonfinite, skipped }
    }
}

impl From<Run> for RunView {
    fn from(run: Run) -> Self {
        Self {
            run_id: run.run_id.to_string(),
            project: run.project,
            name: run.name,
            labels: run.labels,
            config: run.config,
            state: run.state.as_str(),
            regime: run.regime.as_str(),
            created_at: Time(run.created_at_us),
            last_seen_at: Time(run.last_seen_us),
            last_step: run.last_step,
            counters: (&run.counters).into(),
        }
    }
}

/// A run with what it sends.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RunDetail {
    #[serde(flatten)]
    run: RunView,
    /// Names of the scalars that it has sent; `scalar.<name>` is the metric.
    scalars: Vec<String>,
}

/// A page of runs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RunList {
    items: Vec<RunView>,
    /// Where the next page starts; null at the end.
    next_cursor: Option<String>,
}

/// Which runs.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct RunFilter {
    /// Only of this project.
    #[param(value_type = Option<String>)]
    project: Option<String>,
    /// Only in this state.
    #[param(value_type = Option<String>)]
    state: Option<RunState>,
    /// Only in this regime.
    #[param(value_type = Option<String>)]
    regime: Option<Regime>,
    /// Only with exactly this name.
    #[param(value_type = Option<String>)]
    name: Option<String>,
    #[param(ignore)]
    labels: BTreeMap<String, String>,
}

impl FromParams for RunFilter {
    fn from_params(params: &mut Params) -> Result<Self, Error> {
        Ok(Self {
            project: params.project()?,
            state: params.parsed("state")?,
            regime: params.parsed("regime")?,
            name: params.one("name")?,
            labels: params.prefixed("label.")?,
        })
    }
}

impl RunFilter {
    /// A page of those that it lets through.
    pub(crate) fn query(self, sort: RunSort, after: Option<(i64, RunId)>, limit: usize) -> RunQuery {
        let Self { project, state, regime, name, labels } = self;
        RunQuery { project, state, regime, name, labels, sort, after, limit }
    }
}

/// In which order.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct RunOrder {
    /// `-last_seen`, `last_seen`, `-created` or `created`; a minus sorts the latest first.
    #[param(value_type = Option<String>, default = "-last_seen")]
    sort: RunSort,
}

impl FromParams for RunOrder {
    fn from_params(params: &mut Params) -> Result<Self, Error> {
        let sort = match params.one("sort")?.as_deref() {
            None | Some("-last_seen") => RunSort::LastSeenDescending,
            Some("last_seen") => RunSort::LastSeenAscending,
            Some("-created") => RunSort::CreatedDescending,
            Some("created") => RunSort::CreatedAscending,
            Some(_) => return Err(Error::invalid("sort", "must be -last_seen, last_seen, -created or created")),
        };
        Ok(Self { sort })
    }
}

/// Lists runs. `label.<key>=<value>` asks for runs with that label; it may be repeated with other keys.
#[utoipa::path(get, operation_id = "listRuns", path = "/api/v1/runs", tag = "runs", params(RunFilter, RunOrder, Paging),
    responses((status = 200, body = RunList), Problems))]
pub(crate) async fn list(
    State(state): State<AppState>,
    Query((filter, order, paging)): Query<(RunFilter, RunOrder, Paging)>,
) -> Answer<Json<RunList>> {
    let after = paging.position::<RunPosition>()?.map(|position| (position.at_us, position.run_id));
    let sort = order.sort;
    let page = state.store.runs(&filter.query(sort, after, paging.limit)).await?;
    let next_cursor = match page.items.last() {
        Some(last) if page.more => {
            Some(paging.behind(RunPosition { at_us: sort_time(last, sort), run_id: last.run_id })?)
        }
        _ => None,
    };
    Ok(Json(RunList { items: page.items.into_iter().map(RunView::from).collect(), next_cursor }))
}

fn sort_time(run: &Run, sort: RunSort) -> i64 {
    match sort {
        RunSort::LastSeenDescending | RunSort::LastSeenAscending => run.last_seen_us,
        RunSort::CreatedDescending | RunSort::CreatedAscending => run.created_at_us,
    }
}

/// One run, with the names of its scalars.
#[utoipa::path(get, operation_id = "getRun", path = "/api/v1/runs/{run_id}", tag = "runs", params(("run_id" = String, Path, description = "UUID")),
    responses((status = 200, body = RunDetail), Problems))]
pub(crate) async fn get(
    State(state): State<AppState>,
    RunPath(run_id): RunPath,
    Query(()): Query<()>,
) -> Answer<Json<RunDetail>> {
    let run = state.store.run(run_id).await?;
    let scalars = state.store.scalar_names(run_id).await?;
    Ok(Json(RunDetail { run: run.into(), scalars }))
}

/// Sets labels; null removes one. Labels not named stay.
#[utoipa::path(patch, operation_id = "patchRun", path = "/api/v1/runs/{run_id}", tag = "runs", params(("run_id" = String, Path, description = "UUID")),
    request_body = LabelPatch, responses((status = 200, body = RunView), Problems))]
pub(crate) async fn patch(
    State(state): State<AppState>,
    RunPath(run_id): RunPath,
    Query(()): Query<()>,
    patch: LabelPatch,
) -> Answer<Json<RunView>> {
    let run = state.store.run(run_id).await?;
    labels::check(&patch.labels, &run.labels, &state.config.limits)?;
    let run = state.store.patch_labels(run_id, &patch.labels).await?;
    state.alerts.run_changed(run_id);
    Ok(Json(run.into()))
}

/// What a deletion answers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Deleting {
    /// UUID.
    run_id: String,
    /// Always true: the run is gone from every list; its rows follow in the background.
    deleting: bool,
}

/// Deletes a run. It vanishes at once; its rows are deleted in the background.
#[utoipa::path(delete, operation_id = "deleteRun", path = "/api/v1/runs/{run_id}", tag = "runs", params(("run_id" = String, Path, description = "UUID")),
    responses((status = 202, body = Deleting), Problems))]
pub(crate) async fn delete(
    State(state): State<AppState>,
    RunPath(run_id): RunPath,
    Query(()): Query<()>,
) -> Answer<(StatusCode, Json<Deleting>)> {
    state.store.mark_deleting(run_id).await?;
    state.pipeline.forget(run_id).await;
    Ok((StatusCode::ACCEPTED, Json(Deleting { run_id: run_id.to_string(), deleting: true })))
}
