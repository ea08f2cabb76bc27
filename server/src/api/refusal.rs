//! How handlers answer with an error.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use gradwatch_store::StoreError;

use crate::{
    error::{Error, ErrorCode},
    metrics::Metrics,
    state::AppState,
};

/// What every handler answers.
pub(crate) type Answer<T> = Result<T, Refusal>;

/// An error on its way out: the problem document, and its code for the counters.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) Error);

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let code = self.0.code;
        let mut response = self.0.into_response();
        response.extensions_mut().insert(code);
        response
    }
}

/// Counts refused requests by error code.
pub(crate) async fn count(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    if let Some(code) = response.extensions().get::<ErrorCode>() {
        Metrics::count(&state.metrics.errors, code.label());
    }
    response
}
