//! Memory for frames on their way from arrival to commit.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{
    error::{Error, ErrorCode},
    metrics::Metrics,
};

/// How long a stream waits for memory before it is refused.
const PATIENCE: Duration = Duration::from_secs(5);
/// What a refused client is told to wait.
const RETRY_DELAY: Duration = Duration::from_secs(2);

/// Invariant (promise 7): the frames between arrival and commit never take more than the limit, because each carries a
/// [`Permit`] for its bytes from before it is queued until its transaction is committed.
#[derive(Debug)]
pub(crate) struct Budget {
    all: Arc<Semaphore>,
    metrics: Arc<Metrics>,
    limit_bytes: usize,
}

/// Bytes taken from the budget, and from the share of one stream; given back on drop.
#[derive(Debug)]
pub(crate) struct Permit {
    _all: OwnedSemaphorePermit,
    _share: OwnedSemaphorePermit,
    bytes: usize,
    metrics: Arc<Metrics>,
}

/// What one stream may hold at once, so that a single fast run cannot take the memory of all.
#[derive(Debug)]
pub(crate) struct Share {
    semaphore: Arc<Semaphore>,
    bytes: usize,
}

impl Share {
    /// The most that the stream may hold at once.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Budget {
    pub(crate) fn new(limit_bytes: usize, metrics: Arc<Metrics>) -> Self {
        Self { all: Arc::new(Semaphore::new(limit_bytes)), metrics, limit_bytes }
    }

    /// The share of one stream.
    pub(crate) fn share(&self) -> Share {
        let bytes = self.limit_bytes / 4;
        Share { semaphore: Arc::new(Semaphore::new(bytes)), bytes }
    }

    /// Waits for `bytes`. What is larger than a share waits for the whole share.
    ///
    /// # Errors
    /// `ResourceExhausted` with a retry delay when the memory stays used up.
    pub(crate) async fn reserve(&self, share: &Share, bytes: usize) -> Result<Permit, Error> {
        let bytes = bytes.min(share.bytes);
        let count = u32::try_from(bytes).unwrap_or(u32::MAX);
        let reserve = async {
            let share = Arc::clone(&share.semaphore).acquire_many_owned(count).await.ok()?;
            let all = Arc::clone(&self.all).acquire_many_owned(count).await.ok()?;
            Some((share, all))
        };
        let Ok(Some((share, all))) = timeout(PATIENCE, reserve).await else {
            let message = format!("frames on their way use up memory_limit_bytes ({})", self.limit_bytes);
            return Err(Error::new(ErrorCode::ResourceExhausted, message).retry_after(RETRY_DELAY));
        };
        self.metrics.in_flight_bytes.inc_by(i64::try_from(bytes).unwrap_or(i64::MAX));
        Ok(Permit { _all: all, _share: share, bytes, metrics: Arc::clone(&self.metrics) })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.metrics.in_flight_bytes.dec_by(i64::try_from(self.bytes).unwrap_or(i64::MAX));
    }
}
