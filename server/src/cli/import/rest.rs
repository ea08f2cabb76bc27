//! The few REST calls that an import begins with, over the same kind of connection as its frames.

use std::{error::Error, future::poll_fn, time::Duration};

use http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use tonic::{
    body::Body,
    client::GrpcService,
    transport::{Channel, Endpoint},
};

use super::error::ImportError;

/// How long a server may take for an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most items of a page.
const PAGE: usize = 10_000;

#[derive(serde::Deserialize)]
struct Page<T> {
    items: Vec<T>,
    next_cursor: Option<String>,
}

/// Reads JSON from one server.
pub(super) struct Rest {
    server: String,
    channel: Channel,
}

impl Rest {
    /// Connects, and asks whether the server is ready.
    pub(super) async fn connect(server: &str) -> Result<Self, ImportError> {
        let endpoint = Endpoint::from_shared(server.to_owned())
            .map_err(|error| ImportError::Usage(format!("--server {server:?} is no URL: {error}")))?;
        let unreachable = |cause: String| ImportError::Unreachable { server: server.to_owned(), cause };
        let connecting = timeout(PATIENCE, endpoint.connect());
        let channel = connecting
            .await
            .map_err(|_| unreachable(format!("no connection within {PATIENCE:?}")))?
            .map_err(|error| unreachable(reasons(&error)))?;
        let mut rest = Self { server: server.to_owned(), channel };
        match rest.get("/readyz").await? {
            (status, _) if status.is_success() => Ok(rest),
            (status, body) => Err(unreachable(format!("/readyz says {status}: {}", text(&body)))),
        }
    }

    /// The JSON at a path, or none where the server has no such thing.
    pub(super) async fn find<T: DeserializeOwned>(&mut self, path: &str) -> Result<Option<T>, ImportError> {
        let fail = |problem: String| ImportError::Rest { what: format!("GET {path}"), problem };
        match self.get(path).await? {
            (StatusCode::NOT_FOUND, _) => Ok(None),
            (status, body) if status.is_success() => {
                serde_json::from_slice(&body).map(Some).map_err(|error| fail(format!("unexpected answer: {error}")))
            }
            (status, body) => Err(fail(format!("{status}: {}", text(&body)))),
        }
    }

    /// All items of a list, page by page; none at all where there is no such list. `path` carries a query.
    pub(super) async fn all<T: DeserializeOwned>(&mut self, path: &str) -> Result<Vec<T>, ImportError> {
        let mut items = Vec::new();
        let mut next = format!("{path}&limit={PAGE}");
        while let Some(page) = self.find::<Page<T>>(&next).await? {
            items.extend(page.items);
            let Some(cursor) = page.next_cursor else { break };
            next = format!("{path}&limit={PAGE}&cursor={cursor}");
        }
        Ok(items)
    }

    async fn get(&mut self, path: &str) -> Result<(StatusCode, Vec<u8>), ImportError> {
        let unreachable = |cause: String| ImportError::Unreachable { server: self.server.clone(), cause };
        let request = Request::get(path).body(Body::empty()).map_err(|error| unreachable(error.to_string()))?;
        let answer = async {
            poll_fn(|context| self.channel.poll_ready(context)).await.map_err(|error| reasons(&error))?;
            let response = self.channel.call(request).await.map_err(|error| reasons(&error))?;
            let status = response.status();
            let body = response.into_body().collect().await.map_err(|error| reasons(&error))?;
            Ok((status, body.to_bytes().to_vec()))
        };
        let answer: Result<_, String> =
            timeout(PATIENCE, answer).await.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")));
        answer.map_err(unreachable)
    }
}

fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).into_owned()
}

/// An error with its reasons: the transport's own words for a refused connection do not say that it was refused.
fn reasons(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
