//! `runs/{run_id}/groups`: what a run watches, and how each stream stands.

use axum::{Json, extract::State};
use gradwatch_store::{Reading, StreamKey};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    openapi::Problems,
    params::{Query, RunPath},
    reading_view::ReadingView,
    refusal::Answer,
    segments::TensorView,
    selection,
};
use crate::state::AppState;

/// A set of parameters watched together.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GroupView {
    group: String,
    /// p.
    parameter_count: u64,
    tensors: Vec<TensorView>,
    /// `update`, `gradient`.
    kinds: Vec<&'static str>,
    /// W, in rows; the first is the default of queries.
    windows: Vec<usize>,
    /// Each kind with each window.
    streams: Vec<StreamView>,
}

/// One (kind, window) of a group.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StreamView {
    kind: &'static str,
    window: usize,
    /// Its last reading in the newest attempt; null before the first.
    latest: Option<ReadingView>,
}

/// The groups of a run's newest attempt.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GroupList {
    /// The newest attempt's segment; null when there is none.
    segment: Option<u32>,
    /// In the order of declaration.
    items: Vec<GroupView>,
    /// Always null.
    next_cursor: Option<String>,
}

/// Lists the groups that the newest attempt of a run declares, with the latest reading of each stream.
#[utoipa::path(get, operation_id = "listGroups", path = "/api/v1/runs/{run_id}/groups", tag = "runs",
    params(("run_id" = String, Path, description = "UUID")), responses((status = 200, body = GroupList), Problems))]
pub(crate) async fn list(
    State(state): State<AppState>,
    RunPath(run_id): RunPath,
    Query(()): Query<()>,
) -> Answer<Json<GroupList>> {
    let segments = state.store.segments(run_id).await?;
    let Some(newest) = selection::newest(&segments) else {
        return Ok(Json(GroupList { segment: None, items: Vec::new(), next_cursor: None }));
    };
    let latest = state.store.latest_readings(run_id, newest.segment).await?;
    let spec = &newest.spec;
    let items = spec.groups.iter().map(|group| {
        let streams = spec.kinds.iter().flat_map(|&kind| {
            let stream = move |&window: &usize| StreamKey { group: group.name.clone(), kind, window };
            spec.window_lengths.iter().map(stream)
        });
        GroupView {
            group: group.name.clone(),
            parameter_count: group.parameter_count(),
            tensors: group
                .tensors
                .iter()
                .map(|tensor| TensorView { name: tensor.name.clone(), elements: tensor.elements })
                .collect(),
            kinds: spec.kinds.iter().map(|kind| kind.as_str()).collect(),
            windows: spec.window_lengths.clone(),
            streams: streams.map(|stream| stream_view(&stream, &latest)).collect(),
        }
    });
    Ok(Json(GroupList { segment: Some(newest.segment), items: items.collect(), next_cursor: None }))
}

fn stream_view(stream: &StreamKey, latest: &[Reading]) -> StreamView {
    let reading = latest.iter().find(|reading| reading.row.stream == *stream);
    StreamView {
        kind: stream.kind.as_str(),
        window: stream.window,
        latest: reading.map(|reading| ReadingView::new(&reading.row, reading.wall_time_us)),
    }
}
