//! `/healthz`, `/readyz` and `/metrics`.

use std::collections::BTreeMap;

use axum::{Json, extract::State, http::header, response::IntoResponse};
use serde::Serialize;
use utoipa::ToSchema;

use super::{params::Query, refusal::Answer};
use crate::{
    error::{Error, ErrorCode, Problem},
    state::AppState,
};

/// The process lives.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Alive {
    /// Always `alive`.
    status: &'static str,
}

/// The server takes frames and answers questions.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Ready {
    /// Always `ready`.
    status: &'static str,
    /// `sqlite` or `postgres`.
    backend: &'static str,
    /// The settings that an acknowledgement rests on, as read back from the database.
    durability: BTreeMap<String, String>,
}

/// Answers while the process lives.
#[utoipa::path(get, operation_id = "isAlive", path = "/healthz", tag = "server", security(()), responses((status = 200, body = Alive)))]
pub(crate) async fn alive(Query(()): Query<()>) -> Json<Alive> {
    Json(Alive { status: "alive" })
}

/// Answers whether the server can take frames: the database answers with the durability an acknowledgement promises,
/// and no shutdown is under way.
#[utoipa::path(get, operation_id = "isReady", path = "/readyz", tag = "server", security(()), responses((status = 200, body = Ready),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "Not now")))]
pub(crate) async fn ready(State(state): State<AppState>, Query(()): Query<()>) -> Answer<Json<Ready>> {
    if state.draining.is_cancelled() {
        return Err(Error::new(ErrorCode::Unavailable, "the server is shutting down").into());
    }
    match state.readiness.durability().await {
        Some(durability) => {
            Ok(Json(Ready { status: "ready", backend: durability.backend, durability: durability.settings }))
        }
        None => Err(Error::new(ErrorCode::Unavailable, "the store does not answer as promised").into()),
    }
}

/// The server's own counters, for Prometheus. Needs a token for all projects.
#[utoipa::path(get, operation_id = "scrapeMetrics", path = "/metrics", tag = "server",
    responses((status = 200, body = String, content_type = "application/openmetrics-text")))]
pub(crate) async fn metrics(State(state): State<AppState>, Query(()): Query<()>) -> impl IntoResponse {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], state.metrics.render())
}
