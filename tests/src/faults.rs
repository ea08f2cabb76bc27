//! Faults of a store's calls, as tests plan them.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::Poll,
};

use gradwatch_store::StoreError;
use tokio::sync::Semaphore;

/// What happens to one call of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails and did nothing.
    Before,
    /// It did everything and says that it failed.
    Behind,
    /// The connection is cut so many turns of the transaction's own making into it: nobody knows what it did.
    Cut(u8),
    /// A commit landed, and a repetition that the caller does not know of found it landed.
    LandedThenLost,
    /// A commit is refused for its data, this once.
    Refused,
}

/// A fault and how many calls are left in peace before it.
#[derive(Clone, Copy, Debug)]
pub struct Planned {
    /// Calls that go well.
    pub after: u8,
    /// What happens then.
    pub fault: Fault,
}

/// A call by which alerts are settled or told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlertCall {
    /// `commit_alerts`.
    Commit,
    /// `seal_message`.
    Seal,
    /// `record_delivery`.
    Record,
}

/// Faults of one kind of call, and how many may be made.
pub(crate) struct Gate {
    /// What is planned.
    pub(crate) plan: Mutex<VecDeque<Planned>>,
    /// Has a permit for each that may be made.
    pub(crate) open: Semaphore,
}

impl Gate {
    /// Open, with nothing planned.
    pub(crate) fn new() -> Self {
        Self { plan: Mutex::default(), open: Semaphore::new(Semaphore::MAX_PERMITS) }
    }
}

/// Does what a fault leaves of a call.
pub(crate) async fn broken<T>(
    fault: Fault,
    call: impl Future<Output = Result<T, StoreError>> + Send,
) -> Result<T, StoreError> {
    let unavailable = |what: &str| Err(StoreError::Unavailable(format!("planned fault: {what}")));
    match fault {
        Fault::Before | Fault::Refused => unavailable("before the call"),
        Fault::Behind | Fault::LandedThenLost => {
            call.await?;
            unavailable("behind the call")
        }
        Fault::Cut(turns) => {
            let mut call = pin!(call);
            let mut left = turns;
            let ended = poll_fn(|context| match call.as_mut().poll(context) {
                Poll::Ready(result) => Poll::Ready(Some(result)),
                Poll::Pending if left == 0 => Poll::Ready(None),
                Poll::Pending => {
                    left -= 1;
                    Poll::Pending
                }
            });
            match ended.await {
                Some(result) => {
                    result?;
                    unavailable("behind the call")
                }
                None => unavailable("in the middle of the call"),
            }
        }
    }
}

/// Whatever a test that failed left.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
