//! `alerts`: what fires, by which rules, who is told of it, and what came of that.
//!
//! Invariant: a token of one project sees and changes alerts, rules and silences of that project only; receivers and what
//! they are told are of all projects, and so are those who may look at them.
//!
//! Invariant: no answer holds a secret of a receiver (see `crate::alerts::secrets`).

pub(crate) mod backtest;
mod body;
pub(crate) mod deliveries;
pub(crate) mod listing;
pub(crate) mod messages;
mod path;
pub(crate) mod receivers;
pub(crate) mod rule_check;
mod rule_view;
pub(crate) mod rules;
mod silence_body;
pub(crate) mod silences;
mod views;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    routing::{get, post},
};
use gradwatch_rules::file::MAX_FILE_BYTES;

use super::refusal::Refusal;
use crate::{
    alerts::{BookError, RuleBook},
    error::{Error, ErrorCode},
    state::AppState,
};

/// The paths under `/api/v1/alerts`.
pub(super) fn routes() -> Router<AppState> {
    let check = post(rule_check::check).layer(DefaultBodyLimit::max(MAX_FILE_BYTES));
    Router::new()
        .merge(backtest::routes())
        .route("/api/v1/alerts", get(listing::list))
        .route("/api/v1/alerts/{alert_id}", get(listing::get))
        .route("/api/v1/alerts/rules", get(rules::list).post(rules::create))
        .route("/api/v1/alerts/rules/{name}", get(rules::get).put(rules::replace).delete(rules::delete))
        .route("/api/v1/alerts/rules/check", check)
        .route("/api/v1/alerts/rules/reload", post(rules::reload))
        .route("/api/v1/alerts/receivers", get(receivers::list).post(receivers::create))
        .route("/api/v1/alerts/receivers/{name}", get(receivers::get).put(receivers::replace).delete(receivers::delete))
        .route("/api/v1/alerts/receivers/{name}/test", post(receivers::test))
        .route("/api/v1/alerts/receivers/{name}/enable", post(receivers::enable))
        .route("/api/v1/alerts/silences", get(silences::list).post(silences::create))
        .route("/api/v1/alerts/silences/{silence_id}", get(silences::get).delete(silences::end))
        .route("/api/v1/alerts/messages", get(messages::list))
        .route("/api/v1/alerts/messages/{message_id}", get(messages::get))
        .route("/api/v1/alerts/messages/{message_id}/redeliver", post(messages::redeliver))
        .route("/api/v1/alerts/deliveries", get(deliveries::list))
}

/// The rules and receivers in force.
fn book(state: &AppState) -> &RuleBook {
    &state.alerts.book
}

impl From<BookError> for Error {
    fn from(error: BookError) -> Self {
        match error {
            BookError::Problems(problems) => Self::problems(problems),
            BookError::Unknown(_) => {
                Self { field: Some("name".into()), ..Self::new(ErrorCode::NotFound, error.to_string()) }
            }
            BookError::Conflict(message) => {
                Self { field: Some("name".into()), ..Self::new(ErrorCode::Conflict, message) }
            }
            BookError::Store(error) => error.into(),
        }
    }
}

impl From<BookError> for Refusal {
    fn from(error: BookError) -> Self {
        Self(error.into())
    }
}
