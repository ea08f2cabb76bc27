//! `runs/{run_id}/reanalyze` and `runs/{run_id}/analyses`: readings computed again from kept sketches.

mod progress;
mod request;

use axum::{
    Json,
    extract::{FromRequestParts, State},
    http::{StatusCode, request::Parts},
};
use gradwatch_store::{Analysis, NewAnalysis, RunId, Store};
use serde::Serialize;
use utoipa::ToSchema;

pub(crate) use self::progress::{__path_follow, follow};
use self::request::{NewAnalysisBody, ReanalyzeRequest};
use super::{
    openapi::Problems,
    params::{self, Query, RunPath},
    refusal::{Answer, Refusal},
    text,
    time::Time,
};
use crate::{
    clock,
    error::{Error, ErrorCode},
    state::AppState,
};

/// How many analyses a run may have.
const MAX_ANALYSES: usize = 64;

/// A re-analysis as it stands.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct AnalysisView {
    /// UUID.
    run_id: String,
    /// What `analysis` asks for in queries.
    name: String,
    /// `running`, `done` or `failed`.
    state: &'static str,
    /// Window lengths, rows.
    windows: Vec<usize>,
    /// `mass`, `plain` or `edge`: the rule by which k* is found.
    position: &'static str,
    /// `adaptive` or `absolute`: what regimes are told by.
    bands: &'static str,
    /// The only group that is read; null: all.
    group: Option<String>,
    /// The only kind that is read; null: all.
    kind: Option<&'static str>,
    /// First step of a reading. Rows before it fill windows and detectors.
    from_step: u64,
    /// Last step of a reading; null: the last one settled when it began.
    to_step: Option<u64>,
    /// How far each segment was settled when it began: it reads no further.
    marks: Vec<MarkView>,
    /// Rows read.
    rows_done: u64,
    /// Rows to be read.
    rows_total: u64,
    /// Readings stored.
    readings: u64,
    /// Changes of regime that its detectors have seen. They are no events of the run.
    transitions: u64,
    created_at: Time,
    /// When it last got on.
    updated_at: Time,
    /// Why it failed.
    message: Option<String>,
}

/// The end of a segment.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct MarkView {
    segment: u32,
    step: u64,
}

impl From<&Analysis> for AnalysisView {
    fn from(analysis: &Analysis) -> Self {
        let spec = &analysis.spec;
        Self {
            run_id: analysis.run_id.to_string(),
            name: analysis.name.clone(),
            state: analysis.state.as_str(),
            windows: spec.windows.clone(),
            position: spec.position.as_str(),
            bands: spec.bands.as_str(),
            group: spec.group.clone(),
            kind: spec.kind.map(gradwatch_store::Kind::as_str),
            from_step: spec.from_step,
            to_step: (spec.to_step < request::NO_STEP).then_some(spec.to_step),
            marks: analysis.marks.iter().map(|(&segment, &step)| MarkView { segment, step }).collect(),
            rows_done: analysis.rows_done,
            rows_total: analysis.rows_total,
            readings: analysis.readings,
            transitions: analysis.transitions,
            created_at: Time(analysis.created_at_us),
            updated_at: Time(analysis.updated_at_us),
            message: analysis.message.clone(),
        }
    }
}

/// All re-analyses of a run.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AnalysisList {
    items: Vec<AnalysisView>,
    /// Always null: there is one page.
    next_cursor: Option<String>,
}

/// What a deletion answers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeletingAnalysis {
    /// UUID.
    run_id: String,
    name: String,
    /// Always true: it is stopped and gone from every list; its readings follow in the background.
    deleting: bool,
}

/// Computes readings again from the sketches that are kept of a run, as an analysis with a name of its own beside the live
/// one. It goes on in the background until everything is read that was settled when it began.
#[utoipa::path(post, operation_id = "reanalyze", path = "/api/v1/runs/{run_id}/reanalyze", tag = "analyses",
    params(("run_id" = String, Path, description = "UUID")),
    request_body = ReanalyzeRequest, responses((status = 201, body = AnalysisView), Problems))]
pub(crate) async fn create(
    State(state): State<AppState>,
    RunPath(run_id): RunPath,
    Query(()): Query<()>,
    NewAnalysisBody { name, spec }: NewAnalysisBody,
) -> Answer<(StatusCode, Json<AnalysisView>)> {
    let segments = state.store.segments(run_id).await?;
    request::check(&spec, &segments)?;
    let new = NewAnalysis { run_id, name, spec, now_us: clock::now_us(), max_analyses: MAX_ANALYSES };
    let analysis = state.reanalysis.begin(&new).await?;
    Ok((StatusCode::CREATED, Json(AnalysisView::from(&analysis))))
}

/// Lists the re-analyses of a run, by name.
#[utoipa::path(get, operation_id = "listAnalyses", path = "/api/v1/runs/{run_id}/analyses", tag = "analyses",
    params(("run_id" = String, Path, description = "UUID")),
    responses((status = 200, body = AnalysisList), Problems))]
pub(crate) async fn list(
    State(state): State<AppState>,
    RunPath(run_id): RunPath,
    Query(()): Query<()>,
) -> Answer<Json<AnalysisList>> {
    state.store.run(run_id).await?;
    let analyses = state.store.analyses(run_id).await?;
    Ok(Json(AnalysisList { items: analyses.iter().map(AnalysisView::from).collect(), next_cursor: None }))
}

/// One re-analysis as it stands.
#[utoipa::path(get, operation_id = "getAnalysis", path = "/api/v1/runs/{run_id}/analyses/{name}", tag = "analyses",
    params(("run_id" = String, Path, description = "UUID"), ("name" = String, Path, description = "As it was given")),
    responses((status = 200, body = AnalysisView), Problems))]
pub(crate) async fn get(
    State(state): State<AppState>,
    RunPath(run_id): RunPath,
    NamePath(name): NamePath,
    Query(()): Query<()>,
) -> Answer<Json<AnalysisView>> {
    Ok(Json(AnalysisView::from(&known(&*state.store, run_id, &name).await?)))
}

/// Stops a re-analysis if it is running, and deletes it with its readings. Its name is free again once they are gone.
#[utoipa::path(delete, operation_id = "deleteAnalysis", path = "/api/v1/runs/{run_id}/analyses/{name}", tag = "analyses",
    params(("run_id" = String, Path, description = "UUID"), ("name" = String, Path, description = "As it was given")),
    responses((status = 202, body = DeletingAnalysis), Problems))]
pub(crate) async fn delete(
    State(state): State<AppState>,
    RunPath(run_id): RunPath,
    NamePath(name): NamePath,
    Query(()): Query<()>,
) -> Answer<(StatusCode, Json<DeletingAnalysis>)> {
    known(&*state.store, run_id, &name).await?;
    state.reanalysis.delete(run_id, &name).await?;
    tracing::info!(%run_id, name, "re-analysis is being deleted");
    Ok((StatusCode::ACCEPTED, Json(DeletingAnalysis { run_id: run_id.to_string(), name, deleting: true })))
}

/// An analysis that is there.
async fn known(store: &dyn Store, run_id: RunId, name: &str) -> Result<Analysis, Error> {
    if let Some(analysis) = store.analysis(run_id, name).await? {
        return Ok(analysis);
    }
    store.run(run_id).await?;
    let analyses = store.analyses(run_id).await?;
    let names: Vec<&str> = analyses.iter().map(|analysis| analysis.name.as_str()).collect();
    let message = format!("the run has no analysis {name:?}{}", text::did_you_mean(name, &names));
    Err(Error { field: Some("name".into()), ..Error::new(ErrorCode::NotFound, message) })
}

/// Extracts the path segment `{name}`.
pub(crate) struct NamePath(String);

impl<S: Send + Sync> FromRequestParts<S> for NamePath {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let name = params::path_segment(parts, state, "name").await?;
        // Nothing recorded holds one, and a database may fail on it.
        if name.contains('\0') {
            return Err(Error::invalid("name", "must not hold a NUL character").into());
        }
        Ok(Self(name))
    }
}
