//! The few REST calls that the demo's table is built from.

use std::{error::Error, time::Duration};

use bytes::Bytes;
use http::Uri;
use http_body_util::{BodyExt, Empty};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::time::timeout;

/// A call that got no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum RestError {
    /// Nobody answers there.
    #[error("GET {uri}: {cause}")]
    Unreachable {
        /// What was asked for.
        uri: String,
        /// What went wrong.
        cause: String,
    },
    /// The server refused.
    #[error("GET {uri}: {status}: {body}")]
    Status {
        /// What was asked for.
        uri: String,
        /// The HTTP status.
        status: u16,
        /// The problem document.
        body: String,
    },
    /// The answer is not what the API documents.
    #[error("GET {uri}: unexpected answer: {cause}")]
    Answer {
        /// What was asked for.
        uri: String,
        /// What does not fit.
        cause: serde_json::Error,
    },
}

/// How long a server may take for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A page of a list.
#[derive(serde::Deserialize)]
struct Page<T> {
    items: Vec<T>,
    next_cursor: Option<String>,
}

/// Reads JSON from one server.
pub(crate) struct Rest {
    client: Client<HttpConnector, Empty<Bytes>>,
    server: String,
}

impl Rest {
    pub(crate) fn new(server: &str) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { client, server: server.trim_end_matches('/').to_owned() }
    }

    /// All items of a list, page by page. `path` carries a query.
    pub(crate) async fn all<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, RestError> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let after = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
            let page: Page<T> = self.get(&format!("{path}{after}")).await?;
            items.extend(page.items);
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(items);
            }
        }
    }

    /// Succeeds when a server that is ready answers.
    pub(crate) async fn is_ready(&self) -> Result<(), RestError> {
        self.get::<IgnoredAny>("/readyz").await.map(|_| ())
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, RestError> {
        let uri = format!("{}{path}", self.server);
        let unreachable = |cause: String| RestError::Unreachable { uri: uri.clone(), cause };
        let parsed: Uri = uri.parse().map_err(|error: http::uri::InvalidUri| unreachable(error.to_string()))?;
        let answer = async {
            let response = self.client.get(parsed).await.map_err(|error| unreachable(cause(&error)))?;
            let status = response.status();
            let body = response.into_body().collect().await.map_err(|error| unreachable(cause(&error)))?.to_bytes();
            Ok((status, body))
        };
        let (status, body) =
            timeout(PATIENCE, answer).await.map_err(|_| unreachable(format!("no answer within {PATIENCE:?}")))??;
        if !status.is_success() {
            let body = String::from_utf8_lossy(&body).into_owned();
            return Err(RestError::Status { uri, status: status.as_u16(), body });
        }
        serde_json::from_slice(&body).map_err(|cause| RestError::Answer { uri, cause })
    }
}

/// An error with its reasons: hyper's own words for a refused connection do not say that it was refused.
fn cause(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
