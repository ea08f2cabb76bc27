//! Readings computed again from kept sketches, with other windows, another position rule or other bands, under a name of
//! their own.
//!
//! ```text
//! POST reanalyze ─► analyses (pins blocks) ─► task: blocks ─► background threads: Replay ─► commit: readings and progress
//! ```
//!
//! > **Invariant: a re-analysis never owns a run.** It reads what was committed when it began, and writes under its own name
//! > only. Nothing of it is on the path of an acknowledgement.

mod replay;
mod task;

use std::{sync::Arc, time::Duration};

use gradwatch_store::{Analysis, NewAnalysis, RunId, Store, StoreError};
use tokio::{
    sync::{Semaphore, watch},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::task::{Stopped, Task};
use crate::{config::Config, pipeline::Pipeline};

/// How long to wait for a store that does not answer.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// The re-analyses of this server.
pub(crate) struct Reanalysis {
    config: Arc<Config>,
    store: Arc<dyn Store>,
    pipeline: Arc<Pipeline>,
    draining: CancellationToken,
    /// How many go on at once; the others wait.
    slots: Semaphore,
    tasks: TaskTracker,
    /// Counts changes of any of them, for those who follow one.
    changes: watch::Sender<u64>,
}

impl Reanalysis {
    pub(crate) fn new(
        config: Arc<Config>,
        store: Arc<dyn Store>,
        pipeline: Arc<Pipeline>,
        draining: CancellationToken,
    ) -> Self {
        let slots = Semaphore::new(config.snapshot_threads());
        Self { config, store, pipeline, draining, slots, tasks: TaskTracker::new(), changes: watch::Sender::new(0) }
    }

    /// Begins an analysis.
    ///
    /// # Errors
    /// As [`Store::create_analysis`].
    pub(crate) async fn begin(self: &Arc<Self>, new: &NewAnalysis) -> Result<Analysis, StoreError> {
        let analysis = self.store.create_analysis(new).await?;
        tracing::info!(run_id = %analysis.run_id, name = analysis.name, rows = analysis.rows_total, "re-analysis begins");
        self.go_on(analysis.run_id, analysis.name.clone());
        Ok(analysis)
    }

    /// Goes on with what was running when the last server stopped.
    pub(crate) async fn adopt(self: &Arc<Self>) -> Result<(), StoreError> {
        for (run_id, name) in self.store.running_analyses().await? {
            self.go_on(run_id, name);
        }
        Ok(())
    }

    /// Ends an analysis and has it deleted; false when there is none of this name.
    pub(crate) async fn delete(&self, run_id: RunId, name: &str) -> Result<bool, StoreError> {
        let marked = self.store.mark_analysis_deleting(run_id, name).await?;
        self.changed();
        Ok(marked)
    }

    /// Changes whenever any of them does.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Waits until none is at work: each stops behind its next commit, and goes on after the next start.
    pub(crate) async fn drain(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    fn go_on(self: &Arc<Self>, run_id: RunId, name: String) {
        let reanalysis = Arc::clone(self);
        self.tasks.spawn(async move {
            tokio::select! {
                () = reanalysis.draining.cancelled() => {}
                slot = reanalysis.slots.acquire() => {
                    // The semaphore is never closed.
                    if slot.is_ok() {
                        reanalysis.until_it_ends(run_id, &name).await;
                    }
                }
            }
            reanalysis.changed();
        });
    }

    /// Invariant: whatever happens in between, it goes on from its last commit, which is read again each time.
    async fn until_it_ends(&self, run_id: RunId, name: &str) {
        let mut delay = FIRST_RETRY;
        loop {
            let stopped = match Task::load(self, run_id, name).await {
                Ok(Some(task)) => task.run().await,
                Ok(None) => return,
                Err(error) => Stopped::Store(error),
            };
            match stopped {
                Stopped::Ended | Stopped::Draining => return,
                Stopped::Moved => delay = FIRST_RETRY,
                Stopped::Store(StoreError::UnknownRun(_)) => return,
                Stopped::Store(error) => {
                    tracing::warn!(%run_id, name, %error, "re-analysis waits for the store");
                    tokio::select! {
                        () = self.draining.cancelled() => return,
                        () = sleep(delay) => {}
                    }
                    delay = (delay * 2).min(LAST_RETRY);
                }
            }
        }
    }
}
