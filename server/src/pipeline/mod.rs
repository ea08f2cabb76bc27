//! From frames to settlements: one owner per run, found by run id, fed through bounded queues.
//!
//! ```text
//! ingest ─► Pipeline (route by run) ─► Actor (one task a run) ─► NumericPool: RunOwner::work ─► recorder
//! ```

mod actor;
mod budget;
mod command;
mod faults;
mod followed;
mod frame;
mod group_stream;
mod held;
mod liveness;
mod load;
mod mark;
mod owner;
mod pool;
mod rollup;
mod segment;
mod snapshots;
mod work;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use gradwatch_store::{RunId, RunState, Store};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    task::JoinHandle,
};
use tokio_util::task::TaskTracker;

pub(crate) use budget::{Budget, Permit, Share};
pub(crate) use command::{StreamOpen, StreamOpened};
pub(crate) use frame::{Body, Frame, Item, LayerSnapshot, Payload, Prediction, Rejection, TermsOf};
pub(crate) use mark::{Mark, Settled};

use self::{actor::Actor, command::Command, pool::NumericPool, work::Work};
use crate::{
    config::Config,
    error::{Error, ErrorCode},
    metrics::Metrics,
    recorder::{Lost, Settlement, StoreTrouble},
};

/// What all owners share.
pub(crate) struct Shared {
    config: Arc<Config>,
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    pool: NumericPool,
    /// Reads snapshots of layers; each run has at most one job here at a time.
    snapshot_pool: NumericPool,
    /// Held by each payload that is in memory.
    snapshot_slots: Arc<Semaphore>,
    trouble: Arc<StoreTrouble>,
}

/// Finds the owner of a run, or makes one.
pub(crate) struct Pipeline {
    shared: Arc<Shared>,
    /// The routing table. The lock is held to look up or insert a sender, never while a run is worked on.
    owners: Mutex<HashMap<RunId, mpsc::Sender<Command>>>,
    /// Where owners hand over what they settle; taken at shutdown, so that the recorder's queue can end.
    recorder: Mutex<Option<mpsc::Sender<Settlement>>>,
    actors: TaskTracker,
    /// Memory for frames on their way.
    pub(crate) budget: Budget,
}

impl Pipeline {
    /// A pipeline that settles through `recorder`.
    pub(crate) fn new(
        config: Arc<Config>,
        store: Arc<dyn Store>,
        metrics: Arc<Metrics>,
        recorder: mpsc::Sender<Settlement>,
        trouble: Arc<StoreTrouble>,
    ) -> Result<Self, rayon::ThreadPoolBuildError> {
        let pool = NumericPool::new(config.numeric_threads())?;
        let snapshot_pool = NumericPool::background(config.snapshot_threads())?;
        // One that is read and one that comes out of the store meanwhile.
        let snapshot_slots = Arc::new(Semaphore::new(2 * config.snapshot_threads()));
        let budget = Budget::new(config.memory_limit_bytes, Arc::clone(&metrics));
        let shared = Arc::new(Shared { config, store, metrics, pool, snapshot_pool, snapshot_slots, trouble });
        Ok(Self {
            shared,
            owners: Mutex::default(),
            recorder: Mutex::new(Some(recorder)),
            actors: TaskTracker::new(),
            budget,
        })
    }

    /// Opens a stream of an attempt.
    pub(crate) async fn open_stream(&self, run_id: RunId, open: StreamOpen) -> Result<StreamOpened, Error> {
        let (reply, answer) = oneshot::channel();
        self.send(run_id, Command::Open { open, reply }).await?;
        answer.await.map_err(|_| unavailable())?
    }

    /// Hands over frames of a stream.
    pub(crate) async fn items(
        &self,
        run_id: RunId,
        opened: &StreamOpened,
        items: Vec<Item>,
        permit: Permit,
    ) -> Result<(), Error> {
        self.tell_owner(run_id, Work::Items { at: opened.id, items, permit: Some(permit) }).await
    }

    /// Passes on a sign of life.
    pub(crate) async fn heartbeat(&self, run_id: RunId, opened: &StreamOpened) -> Result<(), Error> {
        self.tell_owner(run_id, Work::Heartbeat { at: opened.id }).await
    }

    /// Passes on the job's own word of its end. The answer comes once that is committed, or is dropped when it cannot
    /// be and has to be said again.
    pub(crate) async fn finish(
        &self,
        run_id: RunId,
        opened: &StreamOpened,
        outcome: RunState,
        last_seq: u64,
    ) -> Result<oneshot::Receiver<()>, Error> {
        let (done, committed) = oneshot::channel();
        self.tell_owner(run_id, Work::Finish { at: opened.id, outcome, last_seq, done }).await?;
        Ok(committed)
    }

    /// Ends a stream; answers the last seq that is settled or on its way there, behind everything handed over before.
    pub(crate) async fn disconnect(&self, run_id: RunId, opened: &StreamOpened) -> Option<u64> {
        let (reply, answer) = oneshot::channel();
        let sender = self.existing(run_id)?;
        sender.send(Command::Disconnect { at: opened.id, reply }).await.ok()?;
        answer.await.ok()
    }

    /// Ends a run from outside its streams.
    pub(crate) async fn close_run(&self, run_id: RunId, outcome: RunState) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        self.send(run_id, Command::CloseRun { outcome, reply }).await?;
        answer.await.map_err(|_| unavailable())
    }

    /// Says that a run has a new attempt. The run gets an owner by this, so that the silence of a job that dies before
    /// its first frame is noticed.
    pub(crate) async fn segments_changed(&self, run_id: RunId) {
        if let Err(error) = self.send(run_id, Command::SegmentsChanged).await {
            tracing::debug!(%run_id, %error, "no owner was told of a new attempt");
        }
    }

    /// Lets go of a run that is being deleted.
    pub(crate) async fn forget(&self, run_id: RunId) {
        if let Some(sender) = self.existing(run_id) {
            let _ = sender.send(Command::Forget).await;
        }
    }

    /// Takes up a run that was going on when the last server stopped, so that its silence is noticed and its snapshots are
    /// read.
    pub(crate) fn adopt(&self, run_id: RunId) {
        if let Err(error) = self.owner(run_id) {
            tracing::debug!(%run_id, %error, "run not adopted");
        }
    }

    /// Does numerical work that nothing waits for but who asked, behind all other work.
    pub(crate) async fn in_background<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        self.shared.snapshot_pool.run(job).await.map_err(|panicked| Error::internal(panicked.0))
    }

    /// Tells owners of commits that failed for good, until the recorder is gone.
    pub(crate) fn watch_lost(self: &Arc<Self>, mut lost: mpsc::UnboundedReceiver<Lost>) -> JoinHandle<()> {
        let pipeline = Arc::clone(self);
        tokio::spawn(async move {
            while let Some(Lost { run_id, owner_epoch, refused }) = lost.recv().await {
                if let Some(sender) = pipeline.existing(run_id) {
                    let _ = sender.send(Command::Lost { owner_epoch, refused }).await;
                }
            }
        })
    }

    /// Takes no more work and waits until all owners have handed over what they had.
    pub(crate) async fn drain(&self) {
        self.actors.close();
        *lock(&self.recorder) = None;
        lock(&self.owners).clear();
        self.actors.wait().await;
    }

    /// Work for a run that has an owner: without one there is no stream it could belong to.
    async fn tell_owner(&self, run_id: RunId, work: Work) -> Result<(), Error> {
        let sender = self.existing(run_id).ok_or_else(unavailable)?;
        sender.send(Command::Work(work)).await.map_err(|_| unavailable())
    }

    async fn send(&self, run_id: RunId, mut command: Command) -> Result<(), Error> {
        // An owner may leave between being found and being told. A new one does not leave at once.
        for _ in 0..3 {
            match self.owner(run_id)?.send(command).await {
                Ok(()) => return Ok(()),
                Err(mpsc::error::SendError(returned)) => command = returned,
            }
        }
        Err(unavailable())
    }

    fn existing(&self, run_id: RunId) -> Option<mpsc::Sender<Command>> {
        lock(&self.owners).get(&run_id).filter(|sender| !sender.is_closed()).cloned()
    }

    fn owner(&self, run_id: RunId) -> Result<mpsc::Sender<Command>, Error> {
        let mut owners = lock(&self.owners);
        if let Some(sender) = owners.get(&run_id)
            && !sender.is_closed()
        {
            return Ok(sender.clone());
        }
        let recorder = lock(&self.recorder).clone().ok_or_else(unavailable)?;
        // Owners that left are forgotten when there are many of them, so that the table stays as small as the work.
        if owners.len() > 64 {
            owners.retain(|_, sender| !sender.is_closed());
        }
        let (sender, commands) = mpsc::channel(actor::QUEUE);
        owners.insert(run_id, sender.clone());
        self.actors.spawn(Actor::new(run_id, Arc::clone(&self.shared), commands, recorder).run());
        Ok(sender)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing that can panic is done under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unavailable() -> Error {
    Error::new(ErrorCode::Unavailable, "the run changed hands or the server is shutting down; reconnect")
        .retry_after(std::time::Duration::from_secs(1))
}
