//! Snapshots of layers, read one at a time beside everything else that the run does.

use std::sync::Arc;

use gradwatch_store::SnapshotKey;
use tokio_util::task::AbortOnDropHandle;

use super::Actor;
use crate::pipeline::{
    owner::RunOwner,
    snapshots::{Job, Outcome},
    work::Work,
};

/// The snapshot that is being read. It outlives the owner's state: a run that is loaded again waits for it, so that a run
/// never has two on the snapshot threads.
pub(super) struct Reading {
    key: SnapshotKey,
    task: AbortOnDropHandle<Outcome>,
}

impl Actor {
    /// Begins to read the oldest snapshot that waits, when none is being read.
    pub(super) fn read_snapshot(&mut self, owner: &mut RunOwner) {
        if self.reading.is_some() || self.store_failed {
            return;
        }
        let Some(next) = owner.next_snapshot(&self.shared.config) else { return };
        self.reading = Some(self.begin(next));
    }

    fn begin(&self, job: Job) -> Reading {
        let (shared, key) = (Arc::clone(&self.shared), job.key.clone());
        Reading { key, task: AbortOnDropHandle::new(tokio::spawn(async move { job.run(&shared).await })) }
    }

    /// What a snapshot that was read leads to.
    pub(super) fn snapshot_read(&mut self, owner: &mut RunOwner, outcome: Outcome) -> Option<Work> {
        match outcome {
            Outcome::Read(read) => return Some(Work::Snapshot(read)),
            Outcome::Gone(key) => owner.forget_snapshot(&key),
            Outcome::Unavailable(key) => {
                self.store_failed = true;
                owner.put_back_snapshot(&key);
            }
        }
        None
    }
}

/// Waits for the snapshot that is being read; for ever when there is none. Can be dropped and called again.
pub(super) async fn finished(reading: &mut Option<Reading>) -> Outcome {
    let Some(Reading { key, task }) = reading else { return std::future::pending().await };
    let outcome = task.await;
    // It ends without one when it panics, outside of the instrument, or when the runtime shuts down.
    let outcome = outcome.unwrap_or_else(|_| Outcome::Unavailable(key.clone()));
    *reading = None;
    outcome
}
