//! The task that owns one run: it loads what needs I/O, and sends everything else to the numeric pool.

mod opening;
mod snapshots;

use std::{sync::Arc, time::Duration};

use gradwatch_store::RunId;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, Interval, MissedTickBehavior, interval, timeout_at},
};

use self::snapshots::{Reading, finished};
use super::{
    Shared,
    command::Command,
    faults::{Faults, StepId, Suspect},
    liveness::Pulse,
    load,
    owner::{OwnerParts, RunOwner},
    sketches::{BLOCK_ROWS, KeptSketches},
    snapshots::{Backlog, KeptPredictions},
    work::Work,
};
use crate::{clock, error::Error, recorder::Settlement};

/// Commands that wait for one run. Items also hold their bytes of the budget.
pub(super) const QUEUE: usize = 256;
/// Commands worked off in one go.
const BATCH: usize = 64;
/// How long to wait before a run is loaded again.
const FIRST_RELOAD: Duration = Duration::from_millis(500);
const LAST_RELOAD: Duration = Duration::from_secs(30);

/// Owns a run until it is over, taken away, or forgotten.
pub(super) struct Actor {
    run_id: RunId,
    shared: Arc<Shared>,
    commands: mpsc::Receiver<Command>,
    recorder: mpsc::Sender<Settlement>,
    /// Numbers connections. It outlives the owner's state, so that a stream of an earlier one is never taken for a
    /// present one.
    generation: u64,
    faults: Faults,
    suspect: Arc<Suspect>,
    /// The run has got an attempt that no owner knows of yet.
    segments_changed: bool,
    /// The snapshot that is being read.
    reading: Option<Reading>,
    /// The store did not answer: no snapshot is read before the next look.
    store_failed: bool,
}

/// Why the owner stops.
enum End {
    /// Nothing is going on; it may be asked for again.
    Idle,
    /// Its state is no longer what is committed; streams have to begin again.
    Reload,
    /// Likewise, and this step is the reason.
    Fault(StepId),
    /// The run is being deleted.
    Forgotten,
    /// The server shuts down.
    Closed,
}

impl Actor {
    pub(super) fn new(
        run_id: RunId,
        shared: Arc<Shared>,
        commands: mpsc::Receiver<Command>,
        recorder: mpsc::Sender<Settlement>,
    ) -> Self {
        let (faults, suspect) = (Faults::default(), Arc::default());
        Self {
            run_id,
            shared,
            commands,
            recorder,
            generation: 0,
            faults,
            suspect,
            segments_changed: false,
            reading: None,
            store_failed: false,
        }
    }

    pub(super) async fn run(mut self) {
        let mut delay = FIRST_RELOAD;
        loop {
            let error = match self.load().await {
                Ok(owner) => {
                    self.shared.metrics.runs_taken.inc();
                    let end = self.own(owner).await;
                    self.shared.metrics.runs_released.inc();
                    match end {
                        End::Reload => {}
                        End::Fault(step) => self.faults.add(step),
                        End::Idle | End::Forgotten | End::Closed => break,
                    }
                    tracing::info!(run_id = %self.run_id, "run given up; loading it again");
                    delay = FIRST_RELOAD;
                    None
                }
                Err(error) => {
                    tracing::warn!(run_id = %self.run_id, %error, "run cannot be loaded");
                    Some(error)
                }
            };
            let for_good = error.as_ref().is_some_and(|error| !error.code.retryable());
            if for_good {
                self.commands.close();
            }
            let refusal = error.unwrap_or_else(super::unavailable);
            // A job that goes on without us has to be found silent one day, so a run is not given up because it could
            // not be loaded for once.
            if !self.refuse_for(delay, &refusal).await {
                break;
            }
            delay = (delay * 2).min(LAST_RELOAD);
        }
        // From here on senders fail and ask for a new owner. What is still queued is answered by dropping it: streams
        // see their reply or outbox go and begin again.
        self.commands.close();
        while let Some(command) = self.commands.recv().await {
            self.segments_changed |= matches!(command, Command::SegmentsChanged);
        }
        if self.segments_changed
            && let Ok(owner) = self.load().await
        {
            let (done, committed) = oneshot::channel();
            if self.work(owner, vec![Work::GoOn], Some(done)).await.is_ok() {
                // Should another owner have the run by now, it has read what this would have changed, or does so anew.
                let _ = committed.await;
            }
        }
    }

    /// Answers everything with a refusal for a while; false when nothing more can come.
    async fn refuse_for(&mut self, delay: Duration, error: &Error) -> bool {
        let deadline = Instant::now() + delay;
        loop {
            match timeout_at(deadline, self.commands.recv()).await {
                Ok(Some(Command::Open { reply, .. })) => {
                    // The stream may have given up waiting.
                    let _ = reply.send(Err(error.clone()));
                }
                Ok(Some(Command::SegmentsChanged)) => self.segments_changed = true,
                // Dropping the others is an answer: whoever waits for one sees it go.
                Ok(Some(_)) => {}
                Ok(None) => return false,
                Err(_) => return true,
            }
        }
    }

    async fn load(&self) -> Result<RunOwner, Error> {
        let store = &self.shared.store;
        let owned = store.take_ownership(self.run_id).await?;
        let scalar_names = store.scalar_names(self.run_id).await?;
        let segments = owned.segments;
        let rhythm = load::rhythm(store.as_ref(), self.run_id, &segments).await?;
        let snapshots = store.pending_snapshots(self.run_id).await?;
        let predictions = store.kept_predictions(self.run_id).await?;
        let sketches = store.sketch_extents(self.run_id, BLOCK_ROWS.into()).await?;
        let config = &self.shared.config;
        let limits = &config.limits;
        let metrics = &self.shared.metrics;
        let began_us = clock::now_us();
        Ok(RunOwner::new(OwnerParts {
            owner_epoch: owned.owner_epoch,
            began_us,
            run: owned.run,
            segments,
            scalar_names,
            pulse: Pulse::new(began_us, &rhythm),
            backlog: Backlog::new(snapshots, limits.max_backlog_bytes, Arc::clone(metrics)),
            predictions: KeptPredictions::new(predictions, limits.max_prediction_bytes),
            sketches: KeptSketches::new(sketches, config.keep_sketches, limits.max_sketch_bytes),
            metrics: Arc::clone(metrics),
            liveness: self.shared.config.liveness.clone(),
        }))
    }

    async fn own(&mut self, mut owner: RunOwner) -> End {
        if std::mem::take(&mut self.segments_changed) {
            owner = match self.work(owner, vec![Work::GoOn], None).await {
                Ok(owner) => owner,
                Err(end) => return end,
            };
        }
        let mut tick = self.tick();
        let mut landings = owner.landings();
        let mut commands = Vec::with_capacity(BATCH);
        loop {
            let mut work = Vec::new();
            self.read_snapshot(&mut owner);
            tokio::select! {
                // Signs of life that wait in the queue are read before silence is judged.
                biased;
                // At most one between two looks at the queue.
                outcome = finished(&mut self.reading) => {
                    work.extend(self.snapshot_read(&mut owner, outcome));
                }
                received = self.commands.recv_many(&mut commands, BATCH) => {
                    if received == 0 {
                        return End::Closed;
                    }
                }
                _ = tick.tick() => {
                    self.store_failed = false;
                    if owner.is_idle() && self.commands.is_empty() {
                        return End::Idle;
                    }
                    work.push(Work::Look { store_trouble_us: self.shared.trouble.last_us() });
                }
                // A snapshot that can be read now may be in the store.
                _ = landings.changed() => {}
            }
            for command in commands.drain(..) {
                // What came before a command that needs I/O or an answer has to be done before it.
                if let Command::Work(next) = command {
                    work.push(next);
                    continue;
                }
                owner = match self.work(owner, std::mem::take(&mut work), None).await {
                    Ok(owner) => owner,
                    Err(end) => return end,
                };
                match command {
                    Command::Work(_) => unreachable!("handled above"),
                    Command::Open { open, reply } => {
                        if !owner.knows(open.attempt_id) {
                            owner = match self.refresh(owner).await {
                                Ok(owner) => owner,
                                Err(end) => return end,
                            };
                        }
                        let opened = self.open(&mut owner, &open).await;
                        // The stream may have given up waiting; its outbox is then closed and ends by itself.
                        let _ = reply.send(opened);
                    }
                    Command::Disconnect { at, reply } => {
                        let _ = reply.send(owner.disconnect(at));
                    }
                    Command::CloseRun { outcome, reply } => {
                        owner = match self.work(owner, vec![Work::Close { outcome }], Some(reply)).await {
                            Ok(owner) => owner,
                            Err(end) => return end,
                        };
                    }
                    Command::SegmentsChanged => {
                        owner = match self.refresh(owner).await {
                            Ok(owner) => owner,
                            Err(end) => return end,
                        };
                    }
                    Command::Lost { owner_epoch, refused } if owner_epoch == owner.owner_epoch() => {
                        return refused.map_or(End::Reload, End::Fault);
                    }
                    Command::Lost { .. } => {}
                    Command::Forget => return End::Forgotten,
                }
            }
            owner = match self.work(owner, work, None).await {
                Ok(owner) => owner,
                Err(end) => return end,
            };
        }
    }

    fn tick(&self) -> Interval {
        let mut tick = interval(Duration::from_millis(self.shared.config.liveness.check_every_ms));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick
    }

    /// Does work, in one go or, after a fault, item by item.
    ///
    /// Invariant (promise 11): then a commit holds one step at most, so that a commit that is refused accuses the step that
    /// it is refused for. One item may complete many steps that waited for it.
    async fn work(
        &mut self,
        mut owner: RunOwner,
        work: Vec<Work>,
        done: Option<oneshot::Sender<()>>,
    ) -> Result<RunOwner, End> {
        if work.is_empty() {
            return Ok(owner);
        }
        if !self.faults.is_careful() {
            return self.settle(owner, work, false, done).await;
        }
        let mut alone = work.into_iter().flat_map(Work::items_alone).peekable();
        let mut done = done;
        while let Some(next) = alone.next() {
            let told = if alone.peek().is_none() { done.take() } else { None };
            let mut next = next;
            loop {
                let (committed, wait) = oneshot::channel();
                owner = self.settle(owner, vec![next], true, Some(committed)).await?;
                if wait.await.is_err() {
                    return Err(self.fault(&owner).await);
                }
                if !owner.is_held_back() {
                    break;
                }
                next = Work::Look { store_trouble_us: self.shared.trouble.last_us() };
            }
            // Whoever waits for it may have left.
            told.map(|told| told.send(()));
            self.faults.passed_item();
        }
        Ok(owner)
    }

    /// Why a settlement was given up, which comes behind it.
    async fn fault(&mut self, owner: &RunOwner) -> End {
        loop {
            match self.commands.recv().await {
                Some(Command::Lost { owner_epoch, refused }) if owner_epoch == owner.owner_epoch() => {
                    return refused.map_or(End::Reload, End::Fault);
                }
                Some(Command::Forget) => return End::Forgotten,
                Some(Command::SegmentsChanged) => self.segments_changed = true,
                // Dropped as by an owner that is being loaded.
                Some(_) => {}
                None => return End::Closed,
            }
        }
    }

    /// Does work on the pool and hands what it settles to the recorder. Waiting for the recorder's queue is what slows
    /// a run down when the store cannot follow.
    async fn settle(
        &self,
        owner: RunOwner,
        work: Vec<Work>,
        one_step: bool,
        done: Option<oneshot::Sender<()>>,
    ) -> Result<RunOwner, End> {
        let now_us = clock::now_us();
        self.suspect.take();
        let job = move || {
            let mut owner = owner;
            let settlement = owner.work(work, one_step, now_us);
            (owner, settlement)
        };
        let (owner, settlement) = match self.shared.pool.run(job).await {
            Ok(result) => result,
            Err(panicked) => {
                // Invariant (promise 11): the fault stays with this run. Its owner is gone with everything it held; what
                // it had not settled, its clients send again to the next one.
                self.shared.metrics.run_panics.inc();
                tracing::error!(run_id = %self.run_id, cause = panicked.0, "panic while working on a run");
                return Err(self.suspect.take().map_or(End::Reload, End::Fault));
            }
        };
        match settlement {
            Some(mut settlement) => {
                settlement.done.extend(done);
                self.recorder.send(settlement).await.map_err(|_| End::Closed)?;
            }
            None => {
                if let Some(done) = done {
                    // Nothing had to change, which is an answer too.
                    let _ = done.send(());
                }
            }
        }
        Ok(owner)
    }

    /// Reads the run's segments again. A new attempt means that the run goes on, whatever an earlier one said of its
    /// end; that is told through a commit, so that it lands behind what is on its way there.
    async fn refresh(&mut self, mut owner: RunOwner) -> Result<RunOwner, End> {
        match self.shared.store.segments(self.run_id).await {
            Ok(segments) => {
                let goes_on = owner.set_segments(segments);
                self.work(owner, if goes_on { vec![Work::GoOn] } else { Vec::new() }, None).await
            }
            Err(error) => {
                tracing::warn!(run_id = %self.run_id, %error, "segments cannot be read");
                Err(End::Reload)
            }
        }
    }
}
