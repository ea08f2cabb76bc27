//! Bodies that are JSON objects.

use axum::{
    body::Bytes,
    extract::{FromRequest, Request},
    http::StatusCode,
};
use serde_json::{Map, Value};

use super::params;
use crate::error::{Error, ErrorCode};

/// The members of a body that says it is JSON.
pub(super) async fn members<S: Send + Sync>(request: Request, state: &S) -> Result<Map<String, Value>, Error> {
    params::require_json(request.headers())?;
    object(&bytes(request, state).await?)
}

/// The whole body, whatever it says it is.
pub(super) async fn bytes<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Error> {
    Bytes::from_request(request, state).await.map_err(|rejection| {
        let error = Error::invalid("body", rejection.body_text());
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Error { code: ErrorCode::TooLarge, ..error },
            _ => error,
        }
    })
}

/// The members of a JSON object.
pub(super) fn object(bytes: &[u8]) -> Result<Map<String, Value>, Error> {
    let value: Value =
        serde_json::from_slice(bytes).map_err(|error| Error::invalid("body", format!("is not JSON: {error}")))?;
    match value {
        Value::Object(members) => Ok(members),
        _ => Err(Error::invalid("body", "must be a JSON object")),
    }
}
