//! `runs/{run_id}/steps`: what was recorded of each step besides readings.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use gradwatch_store::{NonFinitePayload, StepQuery, StepRow};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    cursor::{Paging, StepPosition},
    openapi::Problems,
    params::{Query, RunPath},
    refusal::Answer,
    selection::{self, Stretch},
    time::Time,
};
use crate::state::AppState;

/// A recorded step.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StepView {
    step: u64,
    segment: u32,
    /// Sequence number of the frame of each shard, as text; null where a shard's part is missing.
    seqs: Vec<Option<String>>,
    /// The client's clock.
    wall_time: Time,
    /// The server's clock when the step was complete.
    received_at: Time,
    /// Learning rate.
    lr: Option<f64>,
    weight_decay: Option<f64>,
    /// The client's phase counter.
    phase: u32,
    /// All shards took part.
    complete: bool,
    /// What the job sent itself; null where it was not finite.
    scalars: BTreeMap<String, Option<f64>>,
    /// What those were: `NaN`, `Infinity` or `-Infinity`.
    nonfinite: BTreeMap<String, &'static str>,
    /// Sketches that held NaN or infinity and entered no window.
    nonfinite_payloads: Vec<NonFiniteView>,
}

/// A sketch that held NaN or infinity, counted.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NonFiniteView {
    group: String,
    kind: &'static str,
    nan: u64,
    positive_infinity: u64,
    negative_infinity: u64,
}

impl From<NonFinitePayload> for NonFiniteView {
    fn from(payload: NonFinitePayload) -> Self {
        let NonFinitePayload { group, kind, nan, positive_infinity, negative_infinity } = payload;
        Self { group, kind: kind.as_str(), nan, positive_infinity, negative_infinity }
    }
}

impl From<StepRow> for StepView {
    fn from(row: StepRow) -> Self {
        let finite = |value: f64| value.is_finite().then_some(value);
        let nonfinite = row.scalars.iter().filter_map(|(name, &value)| Some((name.clone(), nonfinite_name(value)?)));
        Self {
            step: row.step,
            segment: row.segment,
            seqs: row.seqs.iter().map(|seq| seq.map(|seq| seq.to_string())).collect(),
            wall_time: Time(row.wall_time_us),
            received_at: Time(row.received_at_us),
            lr: row.learning_rate.and_then(finite),
            weight_decay: row.weight_decay.and_then(finite),
            phase: row.phase,
            complete: row.complete,
            nonfinite: nonfinite.collect(),
            scalars: row.scalars.into_iter().map(|(name, value)| (name, finite(value))).collect(),
            nonfinite_payloads: row.nonfinite_payloads.into_iter().map(NonFiniteView::from).collect(),
        }
    }
}

fn nonfinite_name(value: f64) -> Option<&'static str> {
    if value.is_nan() {
        Some("NaN")
    } else if value == f64::INFINITY {
        Some("Infinity")
    } else if value == f64::NEG_INFINITY {
        Some("-Infinity")
    } else {
        None
    }
}

/// A page of steps.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StepList {
    items: Vec<StepView>,
    /// Where the next page starts; null at the end.
    next_cursor: Option<String>,
}

/// Lists recorded steps, by segment and step.
#[utoipa::path(get, operation_id = "listSteps", path = "/api/v1/runs/{run_id}/steps", tag = "readings",
    params(("run_id" = String, Path, description = "UUID"), Stretch, Paging),
    responses((status = 200, body = StepList), Problems))]
pub(crate) async fn list(
    State(state): State<AppState>,
    RunPath(run_id): RunPath,
    Query((stretch, paging)): Query<(Stretch, Paging)>,
) -> Answer<Json<StepList>> {
    let segments = state.store.segments(run_id).await?;
    let mut ranges = stretch.ranges(&segments)?;
    if let Some(position) = paging.position::<StepPosition>()? {
        ranges = selection::behind(&ranges, &segments, position);
    }
    if ranges.is_empty() {
        return Ok(Json(StepList { items: Vec::new(), next_cursor: None }));
    }
    let page = state.store.steps(&StepQuery { run_id, ranges, limit: paging.limit }).await?;
    let next_cursor = match page.items.last() {
        Some(last) if page.more => Some(paging.behind(StepPosition { segment: last.segment, step: last.step })?),
        _ => None,
    };
    Ok(Json(StepList { items: page.items.into_iter().map(StepView::from).collect(), next_cursor }))
}
