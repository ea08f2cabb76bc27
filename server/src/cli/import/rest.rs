//! The few REST calls that an import begins with.

use gradwatch_rest::{RestClient, RestError};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{ImportArgs, error::ImportError};

/// The most items of a page.
const PAGE: usize = 10_000;

#[derive(serde::Deserialize)]
struct Page<T> {
    items: Vec<T>,
    next_cursor: Option<String>,
}

/// Reads from one server.
pub(super) struct Rest {
    server: String,
    client: RestClient,
}

impl Rest {
    /// Asks whether the server is there, ready, and knows the token.
    pub(super) async fn connect(args: &ImportArgs, ca_certificate: Option<&str>) -> Result<Self, ImportError> {
        let server = args.server().to_owned();
        let client = RestClient::new(&server, args.remote.token.as_deref(), ca_certificate)
            .map_err(|error| ImportError::Usage(error.to_string()))?;
        let rest = Self { server, client };
        match rest.client.get::<Value>("/readyz").await {
            Ok(_) => {}
            Err(error @ RestError::Status { .. }) => return Err(rest.unreachable(&error)),
            Err(error) => return Err(rest.error(error)),
        }
        // A job keeps trying with a token that is unknown, because it may become known; an import says so at once. One
        // that is known and may not read may still send.
        match rest.client.get::<Value>("/api/v1/runs?limit=1").await {
            Ok(_) | Err(RestError::Status { status: 403, .. }) => Ok(rest),
            Err(error) => Err(rest.error(error)),
        }
    }

    /// The JSON at a path, or none where the server has no such thing.
    pub(super) async fn find<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, ImportError> {
        match self.client.get(path).await {
            Ok(found) => Ok(Some(found)),
            Err(RestError::Status { status: 404, .. }) => Ok(None),
            Err(error) => Err(self.error(error)),
        }
    }

    /// All items of a list, page by page; none at all where there is no such list. `path` carries a query.
    pub(super) async fn all<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, ImportError> {
        let mut items = Vec::new();
        let mut next = format!("{path}&limit={PAGE}");
        while let Some(page) = self.find::<Page<T>>(&next).await? {
            items.extend(page.items);
            let Some(cursor) = page.next_cursor else { break };
            next = format!("{path}&limit={PAGE}&cursor={cursor}");
        }
        Ok(items)
    }

    fn unreachable(&self, error: &RestError) -> ImportError {
        ImportError::Unreachable { server: self.server.clone(), cause: error.to_string() }
    }

    fn error(&self, error: RestError) -> ImportError {
        match error {
            RestError::Argument { .. } => ImportError::Usage(error.to_string()),
            RestError::Unreachable { .. } => self.unreachable(&error),
            RestError::Status { .. } | RestError::Answer { .. } => ImportError::Rest(error.to_string()),
        }
    }
}
