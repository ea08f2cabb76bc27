//! `overview`: the whole cluster at a glance.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use gradwatch_rules::Severity;
use gradwatch_spectral::detectors::Regime;
use gradwatch_store::{AlertCount, AlertState, Run, RunState};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    events::{EventView, ProjectFilter},
    openapi::Problems,
    params::Query,
    refusal::Answer,
    runs::RunView,
};
use crate::state::AppState;

/// Counts and what asks for attention.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OverviewView {
    /// Runs by state; every state is named.
    by_state: BTreeMap<&'static str, u64>,
    /// Runs by regime, among those not over; every regime is named.
    by_regime: BTreeMap<&'static str, u64>,
    /// Alerts that fire by severity; every severity is named.
    alerts_firing: BTreeMap<&'static str, u64>,
    /// Newest regime transitions, newest first, at most 20.
    transitions: Vec<EventView>,
    /// Runs whose clients dropped frames, most recently heard of first, at most 20.
    lossy: Vec<RunView>,
    /// Stalled and crashed runs, likewise.
    stalled: Vec<RunView>,
    /// Runs with steps that were settled without all their shards, likewise.
    incomplete: Vec<RunView>,
}

/// Counts runs by state and regime and lists what asks for attention.
#[utoipa::path(get, operation_id = "getOverview", path = "/api/v1/overview", tag = "runs", params(ProjectFilter),
    responses((status = 200, body = OverviewView), Problems))]
pub(crate) async fn get(
    State(state): State<AppState>,
    Query(filter): Query<ProjectFilter>,
) -> Answer<Json<OverviewView>> {
    let overview = state.store.overview(filter.project.as_deref()).await?;
    let count_state = |state: RunState| (state.as_str(), overview.by_state.get(&state).copied().unwrap_or(0));
    let count_regime = |regime: Regime| {
        let found = overview.by_regime.iter().find(|(key, _)| **key == regime);
        (regime.as_str(), found.map_or(0, |(_, count)| *count))
    };
    let counts = state.store.alert_counts(filter.project.as_deref()).await?;
    let count_severity = |severity: Severity| {
        let is_counted = |count: &&AlertCount| count.state == AlertState::Firing && count.severity == severity.as_str();
        (severity.as_str(), counts.iter().filter(is_counted).map(|count| count.alerts).sum())
    };
    let views = |runs: Vec<Run>| runs.into_iter().map(RunView::from).collect();
    Ok(Json(OverviewView {
        by_state: RunState::ALL.into_iter().map(count_state).collect(),
        by_regime: Regime::ALL.into_iter().map(count_regime).collect(),
        alerts_firing: [Severity::Info, Severity::Warning, Severity::Critical]
            .into_iter()
            .map(count_severity)
            .collect(),
        transitions: overview.transitions.into_iter().map(EventView::from).collect(),
        lossy: views(overview.lossy),
        stalled: views(overview.stalled),
        incomplete: views(overview.incomplete),
    }))
}
