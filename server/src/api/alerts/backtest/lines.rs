//! A backtest line by line: how far it is, and then what came out.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::Body,
    http::header,
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt, stream};
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::{draining, report};
use crate::{
    access::Caller,
    alerts::{Backtest, BacktestReport},
    error::{Error, Problem},
    state::AppState,
};

/// However long a run is, something is said this often, so that whoever waits knows that we are there, and we know of him.
const SAY_SOMETHING_EVERY: Duration = Duration::from_secs(2);

/// One line.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum BacktestLine {
    /// How far it is.
    Progress {
        /// Runs that are done.
        runs_done: usize,
        /// Of so many.
        runs_total: usize,
        /// Steps evaluated.
        steps: u64,
    },
    /// What came out; the last line.
    Report {
        /// As it is answered without lines.
        report: Box<BacktestReport>,
    },
    /// Why nothing came out; the last line.
    Failed {
        /// A problem document.
        problem: Box<Problem>,
    },
}

/// What is left to say.
enum Next {
    /// How far it is now, and then what follows.
    Progress(Backtest),
    /// What follows.
    GoOn(Backtest),
    End,
}

/// Goes on as long as somebody reads: the backtest is part of the answer, and dropped with it.
pub(super) fn stream(state: AppState, caller: Caller, backtest: Backtest) -> Response {
    let ended = Box::pin(std::sync::Arc::clone(&state.access).ended(caller));
    let lines = stream::unfold(Next::Progress(backtest), move |next| {
        let state = state.clone();
        async move {
            let (line, next) = match next {
                Next::Progress(backtest) => (progress(&backtest), Next::GoOn(backtest)),
                Next::GoOn(backtest) => go_on(&state, backtest).await,
                Next::End => return None,
            };
            // All of it has a form in JSON.
            let mut text = serde_json::to_string(&line).unwrap_or_default();
            text.push('\n');
            Some((Ok::<_, Infallible>(text), next))
        }
    });
    let headers = [(header::CONTENT_TYPE.as_str(), "application/x-ndjson"), ("x-accel-buffering", "no")];
    (headers, Body::from_stream(lines.take_until(ended))).into_response()
}

async fn go_on(state: &AppState, mut backtest: Backtest) -> (BacktestLine, Next) {
    let more = tokio::select! {
        biased;
        () = state.draining.cancelled() => Err(draining()),
        more = timeout(SAY_SOMETHING_EVERY, backtest.go_on()) => more.unwrap_or(Ok(true)),
    };
    let reported = match more {
        Ok(true) => return (progress(&backtest), Next::GoOn(backtest)),
        Ok(false) => report(state, backtest).await,
        Err(error) => Err(error),
    };
    let line = match reported {
        Ok(report) => BacktestLine::Report { report: Box::new(report) },
        Err(error) => failed(&error),
    };
    (line, Next::End)
}

fn progress(backtest: &Backtest) -> BacktestLine {
    let progress = backtest.progress();
    BacktestLine::Progress { runs_done: progress.runs_done, runs_total: progress.runs_total, steps: progress.steps }
}

fn failed(error: &Error) -> BacktestLine {
    BacktestLine::Failed { problem: Box::new(Problem::from(error)) }
}
