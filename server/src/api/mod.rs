//! REST, live streams and the pages about them. Handlers read what was committed; the only things they change are
//! labels, whether a run exists, its re-analyses, tokens, and who is told of what (`alerts`). What only several runs tell
//! together is computed on request (`fleet`).

mod accept;
mod alerts;
mod analyses;
mod cursor;
mod docs;
mod downsample;
mod events;
mod fleet;
mod groups;
mod health;
mod json_body;
mod labels;
mod layer_choice;
mod layer_message;
mod layer_reading_view;
mod layer_schema;
mod layers;
mod message;
mod metric;
mod openapi;
mod overview;
mod params;
mod reading_view;
mod readings;
mod refusal;
mod runs;
mod segments;
mod selection;
mod series;
mod steps;
mod stream;
mod table;
mod text;
mod time;
mod tokens;

use std::sync::Arc;

use axum::{
    Extension, Router,
    extract::DefaultBodyLimit,
    http::{HeaderName, HeaderValue, Method, header},
    middleware,
    routing::{delete, get, post},
};
use tokio::sync::Semaphore;
use tower_http::cors::CorsLayer;

pub use openapi::openapi_json;
pub(crate) use time::Time;
pub use tokens::token_json;

use crate::state::AppState;

/// The longest body is that of labels: this holds any that the default limits allow, escaped. A file of rules that is to be
/// checked has a limit of its own.
const MAX_BODY_BYTES: usize = 256 * 1024;

/// Every path that is not gRPC, without the guard in front of it (see `access`).
pub(crate) fn router(state: AppState) -> Router {
    let slots = stream::Slots(Arc::new(Semaphore::new(state.config.api.max_streams.min(Semaphore::MAX_PERMITS))));
    Router::new()
        .route("/api/v1/overview", get(overview::get))
        .route("/api/v1/runs", get(runs::list))
        .route("/api/v1/runs/{run_id}", get(runs::get).patch(runs::patch).delete(runs::delete))
        .route("/api/v1/runs/{run_id}/groups", get(groups::list))
        .route("/api/v1/runs/{run_id}/layers", get(layers::list))
        .route("/api/v1/runs/{run_id}/segments", get(segments::list))
        .route("/api/v1/runs/{run_id}/readings/{instrument}", get(readings::list))
        .route("/api/v1/runs/{run_id}/series", get(series::of_run))
        .route("/api/v1/runs/{run_id}/steps", get(steps::list))
        .route("/api/v1/runs/{run_id}/events", get(events::of_run))
        .route("/api/v1/runs/{run_id}/reanalyze", post(analyses::create))
        .route("/api/v1/runs/{run_id}/analyses", get(analyses::list))
        .route("/api/v1/runs/{run_id}/analyses/{name}", get(analyses::get).delete(analyses::delete))
        .route("/api/v1/runs/{run_id}/analyses/{name}/progress", get(analyses::follow))
        .route("/api/v1/series", get(series::of_runs))
        .route("/api/v1/events", get(events::of_all))
        .route("/api/v1/stream", get(stream::listen))
        .route("/api/v1/fleet/dimension", post(fleet::dimension))
        .route("/api/v1/fleet/error_split", post(fleet::error_split))
        .route("/api/v1/fleet/families", get(fleet::families::list))
        .route("/api/v1/fleet/{computation_id}", get(fleet::get))
        .merge(alerts::routes())
        .route("/api/v1/tokens", get(tokens::list).post(tokens::create))
        .route("/api/v1/tokens/{token_id}", delete(tokens::revoke))
        .route("/openapi.json", get(openapi::serve))
        .route("/docs", get(docs::serve))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(Extension(slots))
        .layer(Extension(fleet::Fleet::new()))
        .layer(middleware::from_fn_with_state(state.clone(), refusal::count))
        .with_state(state)
}

/// Lets pages of the configured origins call from a browser; without origins no such header is ever sent. Stands before
/// the guard: a browser asks whether it may send a token before it sends one.
pub(crate) fn with_cors(router: Router, origins: &[String]) -> Router {
    // Origins were validated with the configuration; what still is no header value matches no browser's origin.
    let origins: Vec<HeaderValue> = origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect();
    if origins.is_empty() {
        return router;
    }
    let last_event_id = HeaderName::from_static("last-event-id");
    let cors = CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([header::ACCEPT, header::AUTHORIZATION, header::CONTENT_TYPE, last_event_id]);
    router.layer(cors)
}

#[cfg(test)]
mod tests;
