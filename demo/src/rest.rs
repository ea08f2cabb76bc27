//! The few REST calls that the demo's table is built from.

use gradwatch_rest::{RestClient, RestError};
use serde::de::{DeserializeOwned, IgnoredAny};

/// A page of a list.
#[derive(serde::Deserialize)]
struct Page<T> {
    items: Vec<T>,
    next_cursor: Option<String>,
}

/// Reads JSON from one server.
pub(crate) struct Rest(pub(crate) RestClient);

impl Rest {
    /// All items of a list, page by page. `path` carries a query.
    pub(crate) async fn all<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, RestError> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let after = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
            let page: Page<T> = self.0.get(&format!("{path}{after}")).await?;
            items.extend(page.items);
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(items);
            }
        }
    }

    /// Succeeds when a server that is ready answers, and lets us read.
    pub(crate) async fn is_ready(&self) -> Result<(), RestError> {
        self.0.get::<IgnoredAny>("/readyz").await?;
        self.0.get::<IgnoredAny>("/api/v1/runs?limit=1").await.map(|_| ())
    }
}
