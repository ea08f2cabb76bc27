//! `alerts/backtest`: what rules would have said of recorded runs.

mod body;
mod lines;

use axum::{
    Extension, Json, Router,
    extract::{DefaultBodyLimit, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
    routing::post,
};
use gradwatch_rules::file::MAX_FILE_BYTES;

use self::body::BacktestBody;
use crate::{
    access::Caller,
    alerts::{Backtest, BacktestReport, Backtests},
    api::{accept, openapi::Problems, params::Query, refusal::Answer},
    error::{Error, ErrorCode},
    state::AppState,
};

pub(crate) use self::lines::BacktestLine;

/// The path. A file of rules has to fit in as a JSON text.
pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/api/v1/alerts/backtest", post(run))
        .layer(DefaultBodyLimit::max(2 * MAX_FILE_BYTES))
        .layer(Extension(Backtests::new()))
}

/// Replays rules over recorded runs through the evaluator that watches live ones, and counts what they would have said
/// against what came true. Changes nothing and tells nobody. With `Accept: application/x-ndjson` it tells how far it is,
/// a line for each run, and then the report (or, as `failed`, what went wrong).
#[utoipa::path(post, operation_id = "backtest", path = "/api/v1/alerts/backtest", tag = "alerts",
    request_body = BacktestBody,
    responses((status = 200, content(
        (BacktestReport = "application/json"),
        (BacktestLine = "application/x-ndjson"))), Problems))]
pub(crate) async fn run(
    State(state): State<AppState>,
    caller: Caller,
    Extension(backtests): Extension<Backtests>,
    Query(()): Query<()>,
    headers: HeaderMap,
    body: BacktestBody,
) -> Answer<Response> {
    let wants_lines = accept::wants_lines(&headers)?;
    let request = body.understand(&state, &caller).await?;
    let mut backtest = backtests.begin(&state, request).await?;
    if wants_lines {
        return Ok(lines::stream(state, caller, backtest));
    }
    loop {
        tokio::select! {
            biased;
            () = state.draining.cancelled() => return Err(draining().into()),
            more = backtest.go_on() => if !more? {
                break;
            }
        }
    }
    Ok(Json(report(&state, backtest).await?).into_response())
}

/// Counts, where numbers are counted.
async fn report(state: &AppState, backtest: Backtest) -> Result<BacktestReport, Error> {
    state.pipeline.in_background(move || backtest.report()).await
}

fn draining() -> Error {
    Error::new(ErrorCode::Unavailable, "the server shuts down").retry_after(std::time::Duration::from_secs(5))
}
