//! Memory for frames on their way from arrival to commit.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

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
    /// The part of it that frames may take while they wait for other shards. The rest is for frames on their way, so
    /// that those waited for can get in.
    waiting: Arc<Semaphore>,
    metrics: Arc<Metrics>,
    limit_bytes: usize,
}

/// Bytes taken from the budget, and from the share of one stream; given back when the last clone is dropped: what shares a
/// permit are parts of one message, which stays as long as any of them does.
#[derive(Clone, Debug)]
pub(crate) struct Permit(Arc<Reserved>);

#[derive(Debug)]
struct Reserved {
    _all: OwnedSemaphorePermit,
    _share: OwnedSemaphorePermit,
    waiting: Waiting,
    bytes: usize,
    metrics: Arc<Metrics>,
}

/// Whether frames may stay longer than it takes to commit them.
#[derive(Debug)]
struct Waiting {
    all: Arc<Semaphore>,
    share: Arc<Semaphore>,
    granted: OnceLock<[OwnedSemaphorePermit; 2]>,
}

/// What one stream may hold at once, so that a single fast run cannot take the memory of all.
#[derive(Debug)]
pub(crate) struct Share {
    semaphore: Arc<Semaphore>,
    /// The part of it for frames that wait for other shards: there is always some left for those that do not.
    waiting: Arc<Semaphore>,
    bytes: usize,
}

impl Share {
    /// The most that is handed over at once. With what the stream brought first and what waits behind that (half the
    /// share), there is always room for another part.
    pub(crate) fn part_bytes(&self) -> usize {
        self.bytes / 4
    }
}

impl Budget {
    pub(crate) fn new(limit_bytes: usize, metrics: Arc<Metrics>) -> Self {
        let (all, waiting) = (Arc::new(Semaphore::new(limit_bytes)), Arc::new(Semaphore::new(limit_bytes / 2)));
        Self { all, waiting, metrics, limit_bytes }
    }

    /// The share of one stream.
    pub(crate) fn share(&self) -> Share {
        let bytes = self.limit_bytes / 4;
        Share { semaphore: Arc::new(Semaphore::new(bytes)), waiting: Arc::new(Semaphore::new(bytes / 2)), bytes }
    }

    /// Waits for `bytes`. What is larger than a share waits for the whole share.
    ///
    /// # Errors
    /// `ResourceExhausted` with a retry delay when the memory stays used up.
    pub(crate) async fn reserve(&self, share: &Share, bytes: usize) -> Result<Permit, Error> {
        let bytes = bytes.min(share.bytes);
        let count = u32::try_from(bytes).unwrap_or(u32::MAX);
        let waiting =
            Waiting { all: Arc::clone(&self.waiting), share: Arc::clone(&share.waiting), granted: OnceLock::new() };
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
        let metrics = Arc::clone(&self.metrics);
        Ok(Permit(Arc::new(Reserved { _all: all, _share: share, waiting, bytes, metrics })))
    }
}

impl Permit {
    /// Whether there is room for these bytes to wait for other shards.
    pub(crate) fn may_wait(&self) -> bool {
        let Waiting { all, share, granted } = &self.0.waiting;
        if granted.get().is_some() {
            return true;
        }
        let count = u32::try_from(self.0.bytes).unwrap_or(u32::MAX);
        let share = Arc::clone(share).try_acquire_many_owned(count);
        let all = Arc::clone(all).try_acquire_many_owned(count);
        let (Ok(share), Ok(all)) = (share, all) else { return false };
        // Granted by another clone meanwhile, these are simply given back.
        let _ = granted.set([share, all]);
        true
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.metrics.in_flight_bytes.dec_by(i64::try_from(self.bytes).unwrap_or(i64::MAX));
    }
}
