//! The few REST calls that the demo's table is built from.

use std::time::{Duration, Instant};

use gradwatch_rest::{RestClient, RestError};
use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::time::sleep;
use uuid::Uuid;

use crate::DemoError;

/// How long the server may take to read one snapshot that waits.
const READ_PATIENCE: Duration = Duration::from_secs(60);
const READ_INTERVAL: Duration = Duration::from_millis(50);

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

    /// Waits until the server has read all snapshots that it has acknowledged of a run; `waiting` is told how many are left.
    pub(crate) async fn until_read(&self, run_id: Uuid, waiting: impl Fn(u64)) -> Result<(), DemoError> {
        #[derive(serde::Deserialize)]
        struct LayerView {
            pending: u64,
        }
        let (mut least, mut since) = (u64::MAX, Instant::now());
        loop {
            let layers: Page<LayerView> = self.0.get(&format!("/api/v1/runs/{run_id}/layers")).await?;
            let pending = layers.items.iter().map(|layer| layer.pending).sum();
            waiting(pending);
            if pending == 0 {
                return Ok(());
            }
            if pending < least {
                (least, since) = (pending, Instant::now());
            } else if since.elapsed() >= READ_PATIENCE {
                return Err(DemoError::Unread { run_id, pending });
            }
            sleep(READ_INTERVAL).await;
        }
    }

    /// Succeeds when a server that is ready answers, and lets us read.
    pub(crate) async fn is_ready(&self) -> Result<(), RestError> {
        self.0.get::<IgnoredAny>("/readyz").await?;
        self.0.get::<IgnoredAny>("/api/v1/runs?limit=1").await.map(|_| ())
    }
}
