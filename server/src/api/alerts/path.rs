//! Named segments of paths.

use axum::{extract::FromRequestParts, http::request::Parts};
use uuid::Uuid;

use crate::{
    api::{params, refusal::Refusal},
    error::Error,
    state::AppState,
};

/// Extracts the path segment `{name}`.
pub(crate) struct NamePath(pub(super) String);

impl FromRequestParts<AppState> for NamePath {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Self::Rejection> {
        Ok(Self(params::path_segment(parts, state, "name").await?))
    }
}

macro_rules! uuid_path {
    ($($(#[$doc:meta])* $path:ident $segment:literal)*) => {$(
        $(#[$doc])*
        pub(crate) struct $path(pub(super) Uuid);

        impl FromRequestParts<AppState> for $path {
            type Rejection = Refusal;

            async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Self::Rejection> {
                let text = params::path_segment(parts, state, $segment).await?;
                let id = text.parse();
                Ok(Self(id.map_err(|error| Error::invalid($segment, format!("{text:?} is no UUID: {error}")))?))
            }
        }
    )*};
}

uuid_path! {
    /// Extracts the path segment `{alert_id}`.
    AlertPath "alert_id"
    /// Extracts the path segment `{silence_id}`.
    SilencePath "silence_id"
    /// Extracts the path segment `{message_id}`.
    MessagePath "message_id"
}
