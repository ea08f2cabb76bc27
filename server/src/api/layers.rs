//! `runs/{run_id}/layers`: what a run sends snapshots of, and how each layer stands.

use axum::{Json, extract::State};
use gradwatch_store::{LayerKey, lineage};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    layer_reading_view::LayerReadingView,
    openapi::Problems,
    params::{Query, RunPath},
    refusal::Answer,
};
use crate::state::AppState;

/// A named part of the model, as one instrument reads it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LayerView {
    layer: String,
    /// `cascade`, `curvature`, `dead_directions` or `learning_cell`.
    instrument: &'static str,
    /// The newest live segment that declares it.
    segment: u32,
    /// Dead directions: width of the layer. Learning cell: length of w_i. Null for others.
    width: Option<u32>,
    /// Learning cell: the activation. Null for others.
    activation: Option<&'static str>,
    /// Snapshots, of any segment, that were acknowledged and wait to be read.
    pending: usize,
    /// Its last reading in `segment`, be its step rewound meanwhile; null before the first.
    latest: Option<LayerReadingView>,
}

/// The layers of a run.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LayerList {
    /// Those of the newest attempt in the order of declaration, then what only earlier ones declare.
    items: Vec<LayerView>,
    /// Always null.
    next_cursor: Option<String>,
}

/// Lists the layers that the live segments of a run declare, with the latest reading of each.
#[utoipa::path(get, operation_id = "listLayers", path = "/api/v1/runs/{run_id}/layers", tag = "runs",
    params(("run_id" = String, Path, description = "UUID")), responses((status = 200, body = LayerList), Problems))]
pub(crate) async fn list(
    State(state): State<AppState>,
    RunPath(run_id): RunPath,
    Query(()): Query<()>,
) -> Answer<Json<LayerList>> {
    let segments = state.store.segments(run_id).await?;
    let mut listed: Vec<LayerKey> = Vec::new();
    let mut items = Vec::new();
    for range in lineage::live(&segments, 0, u64::MAX).iter().rev() {
        let Some(segment) = segments.iter().find(|segment| segment.segment == range.segment) else { continue };
        let declared: Vec<_> = segment.spec.layers.iter().filter(|layer| !listed.contains(&layer.key())).collect();
        if declared.is_empty() {
            continue;
        }
        let mut latest = state.store.latest_layer_readings(run_id, segment.segment).await?;
        for layer in declared {
            let key = layer.key();
            let reading = latest.iter().position(|reading| reading.row.layer == key);
            items.push(LayerView {
                layer: layer.name.clone(),
                instrument: layer.instrument.as_str(),
                segment: segment.segment,
                width: layer.width,
                activation: layer.activation.map(|activation| activation.as_str()),
                pending: 0,
                latest: reading.map(|index| latest.swap_remove(index).into()),
            });
            listed.push(key);
        }
    }
    if !items.is_empty() {
        for (waiting, _) in state.store.pending_snapshots(run_id).await? {
            if let Some(index) = listed.iter().position(|key| *key == waiting.layer) {
                items[index].pending += 1;
            }
        }
    }
    Ok(Json(LayerList { items, next_cursor: None }))
}
