//! Whether the store answers as an acknowledgement promises, for whoever asks, however often.

use std::{sync::Arc, time::Duration};

use gradwatch_store::{Durability, Store};
use tokio::{sync::Mutex, time::Instant};

/// How old an answer may be.
const MAX_AGE: Duration = Duration::from_secs(1);

/// Asks the store. Invariant: however many callers there are, one question is on its way at most, and at most one a
/// second: anybody may ask, and what they ask must not keep the store from recording.
pub(crate) struct Readiness {
    store: Arc<dyn Store>,
    last: Arc<Mutex<Option<Known>>>,
}

struct Known {
    at: Instant,
    /// None: the store does not answer as promised.
    durability: Option<Durability>,
}

impl Readiness {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, last: Arc::default() }
    }

    /// How safe a commit is; none when the store does not say, or not what was promised.
    pub(crate) async fn durability(&self) -> Option<Durability> {
        let mut last = Arc::clone(&self.last).lock_owned().await;
        if let Some(known) = last.as_ref().filter(|known| known.at.elapsed() < MAX_AGE) {
            return known.durability.clone();
        }
        let store = Arc::clone(&self.store);
        // A task of its own: a caller that leaves takes no question back, which would cost the store a connection.
        let asking = tokio::spawn(async move {
            let durability = match store.durability().await {
                Ok(durability) => Some(durability),
                Err(error) => {
                    tracing::warn!(%error, "not ready");
                    None
                }
            };
            *last = Some(Known { at: Instant::now(), durability: durability.clone() });
            durability
        });
        // A panic was printed when it happened.
        asking.await.unwrap_or_default()
    }
}
