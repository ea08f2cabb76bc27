//! Rules over what was committed.

mod queue;

use std::sync::Arc;

use gradwatch_store::Store;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(super) use self::queue::Queue;
use super::RuleBook;
use crate::{
    metrics::Metrics,
    pipeline::Pipeline,
    recorder::{Hub, StoreTrouble},
};

/// What evaluation works with.
#[expect(dead_code, reason = "the loop that reads it comes next")]
pub(super) struct Parts {
    pub(super) public_url: Option<String>,
    pub(super) store: Arc<dyn Store>,
    pub(super) hub: Arc<Hub>,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) trouble: Arc<StoreTrouble>,
    pub(super) draining: CancellationToken,
    pub(super) book: Arc<RuleBook>,
    pub(super) queue: Arc<Queue>,
    pub(super) recorded: Arc<watch::Sender<u64>>,
}

/// Evaluates rules until the server drains.
pub(super) struct Evaluation {
    parts: Parts,
}

impl Evaluation {
    pub(super) fn new(parts: Parts) -> Self {
        Self { parts }
    }

    pub(super) async fn run(self) {
        self.parts.draining.cancelled().await;
    }
}
