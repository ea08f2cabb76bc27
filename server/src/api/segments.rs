//! `runs/{run_id}/segments`: the attempts of a run and how they hang together.

use axum::{Json, extract::State};
use gradwatch_store::{Encoding, Segment, StreamSpec, lineage};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    openapi::Problems,
    params::{Query, RunPath},
    refusal::Answer,
    time::Time,
};
use crate::state::AppState;

/// An attempt, under the number the server gave it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SegmentView {
    segment: u32,
    /// UUID.
    attempt_id: String,
    /// By the client's clock.
    started_at: Time,
    /// When the server first heard of it.
    opened_at: Time,
    /// What it continues; null for a start from nothing.
    resumes: Option<ResumesView>,
    /// Whether any of its steps can be on the live line.
    live: bool,
    /// Its last step that still stands; null when nothing behind it was rewound (or when it is not live at all).
    live_to_step: Option<u64>,
    /// Its last recorded step.
    last_step: Option<u64>,
    shard_count: u32,
    /// Binary version and CPU features of the server: the same environment gives the same bits.
    environment: String,
    spec: SpecView,
}

/// What an attempt continues.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ResumesView {
    /// UUID.
    attempt_id: String,
    /// The segment of that attempt; null when the server never heard of it.
    segment: Option<u32>,
    /// Its last step that still stands.
    step: u64,
}

/// What an attempt streams; immutable.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SpecView {
    /// d, the length of a sketch.
    sketch_dim: usize,
    /// A 64-bit number, as text.
    sketch_seed: String,
    /// `f32` or `f16`.
    encoding: &'static str,
    /// W, in rows; the first is the default of queries.
    window_lengths: Vec<usize>,
    groups: Vec<GroupSpecView>,
    /// `update`, `gradient`.
    kinds: Vec<&'static str>,
    /// Optimizer steps between two rows.
    update_interval: u32,
    /// What snapshots are sent of.
    layers: Vec<LayerSpecView>,
}

/// A named part of the model, for one of the layer instruments.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LayerSpecView {
    name: String,
    /// `cascade`, `curvature`, `dead_directions` or `learning_cell`.
    instrument: &'static str,
    /// Dead directions: width of the layer. Learning cell: length of w_i. Null for others.
    width: Option<u32>,
    /// Learning cell: the activation. Null for others.
    activation: Option<&'static str>,
}

/// A set of parameters watched together.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GroupSpecView {
    name: String,
    /// p.
    parameter_count: u64,
    tensors: Vec<TensorView>,
}

/// A tensor of a group.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TensorView {
    pub(crate) name: String,
    /// Elements over all shards.
    pub(crate) elements: u64,
}

impl From<&StreamSpec> for SpecView {
    fn from(spec: &StreamSpec) -> Self {
        let groups = spec.groups.iter().map(|group| GroupSpecView {
            name: group.name.clone(),
            parameter_count: group.parameter_count(),
            tensors: group
                .tensors
                .iter()
                .map(|tensor| TensorView { name: tensor.name.clone(), elements: tensor.elements })
                .collect(),
        });
        let layers = spec.layers.iter().map(|layer| LayerSpecView {
            name: layer.name.clone(),
            instrument: layer.instrument.as_str(),
            width: layer.width,
            activation: layer.activation.map(|activation| activation.as_str()),
        });
        Self {
            sketch_dim: spec.sketch_dim,
            sketch_seed: spec.sketch_seed.to_string(),
            encoding: match spec.encoding {
                Encoding::F32 => "f32",
                Encoding::F16 => "f16",
            },
            window_lengths: spec.window_lengths.clone(),
            groups: groups.collect(),
            kinds: spec.kinds.iter().map(|kind| kind.as_str()).collect(),
            update_interval: spec.update_interval,
            layers: layers.collect(),
        }
    }
}

/// The attempts of a run.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SegmentList {
    /// In the order of attempts: each stands behind what it resumes.
    items: Vec<SegmentView>,
    /// Always null: a run has few attempts.
    next_cursor: Option<String>,
}

/// Lists the attempts of a run in their order, with what each resumes and how far it is live.
#[utoipa::path(get, operation_id = "listSegments", path = "/api/v1/runs/{run_id}/segments", tag = "runs",
    params(("run_id" = String, Path, description = "UUID")), responses((status = 200, body = SegmentList), Problems))]
pub(crate) async fn list(
    State(state): State<AppState>,
    RunPath(run_id): RunPath,
    Query(()): Query<()>,
) -> Answer<Json<SegmentList>> {
    let segments = state.store.segments(run_id).await?;
    Ok(Json(SegmentList { items: views(&segments), next_cursor: None }))
}

fn views(segments: &[Segment]) -> Vec<SegmentView> {
    let live = lineage::live(segments, 0, u64::MAX);
    let number_of =
        |attempt_id| segments.iter().find(|other| other.attempt_id == attempt_id).map(|other| other.segment);
    let view = |segment: &Segment| {
        let range = live.iter().find(|range| range.segment == segment.segment);
        SegmentView {
            segment: segment.segment,
            attempt_id: segment.attempt_id.to_string(),
            started_at: Time(segment.started_at_us),
            opened_at: Time(segment.opened_at_us),
            resumes: segment.resumes.map(|resumes| ResumesView {
                attempt_id: resumes.attempt_id.to_string(),
                segment: number_of(resumes.attempt_id),
                step: resumes.step,
            }),
            live: range.is_some(),
            live_to_step: range.map(|range| range.to_step).filter(|&step| step != u64::MAX),
            last_step: segment.last_step,
            shard_count: segment.shard_count,
            environment: segment.environment.clone(),
            spec: (&segment.spec).into(),
        }
    };
    let order = lineage::order(segments);
    order.iter().filter_map(|number| segments.iter().find(|segment| segment.segment == *number)).map(view).collect()
}
