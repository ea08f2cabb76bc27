//! Settles what the owners of runs hand over: gathers it into group commits, then moves the marks (which acknowledges),
//! then publishes.

mod batch;
mod publish;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use gradwatch_store::{Reading, ReadingRow, RunCommit, RunId, StepRow, Store, StoreError};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, sleep_until},
};

use self::batch::Batch;
pub(crate) use self::publish::{Hub, Publication, PublishedRun, Resume};

use crate::{
    clock,
    metrics::Metrics,
    pipeline::{Mark, Permit, Settled},
};

/// Commits that follow each other begin at least this far apart. Each run's newest pages are written by every commit that
/// has a row of it, so that commits of a few rows each would cost many times the CPU and disk of one commit of all of
/// them; for an acknowledgement it is little, and one that comes alone does not wait at all.
const COMMIT_INTERVAL: Duration = Duration::from_millis(10);
/// Settlements waiting for the recorder; each also holds its bytes of the budget.
pub(crate) const QUEUE: usize = 1_024;
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(5);
/// Failures in a row of a store that says that it is unavailable, before each run is tried alone.
const FAILURES_BEFORE_ALONE: u32 = 3;

/// What an owner wants settled, and who is to be told.
#[derive(Debug)]
pub(crate) struct Settlement {
    pub(crate) commit: RunCommit,
    pub(crate) advances: Vec<MarkAdvance>,
    /// Of the steps of the commit's readings of layers, in their order, where they are known.
    pub(crate) layer_wall_times: Vec<Option<i64>>,
    pub(crate) project: Arc<str>,
    pub(crate) live_to_step: Arc<BTreeMap<u32, u64>>,
    /// The bytes that were held for this since it arrived.
    pub(crate) permits: Vec<Permit>,
    /// Shows its owner that it is on its way.
    pub(crate) in_flight: InFlight,
    /// Told once it is committed.
    pub(crate) done: Vec<oneshot::Sender<()>>,
}

/// Held by an owner and by each of its settlements until that is committed or given up. Says which of them are.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<watch::Sender<u64>>);

impl Default for InFlight {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }
}

impl InFlight {
    /// One more settlement is on its way.
    pub(crate) fn begin(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    /// Nothing is on its way.
    pub(crate) fn is_none(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// The number of the owner's last commit that is in the store; 0 before the first.
    pub(crate) fn landed(&self) -> u64 {
        *self.0.borrow()
    }

    /// Follows that number.
    pub(crate) fn landings(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }

    fn land(&self, commit_number: u64) {
        self.0.send_replace(commit_number);
    }
}

/// A mark to be moved once the transaction is committed.
#[derive(Debug)]
pub(crate) struct MarkAdvance {
    pub(crate) mark: Arc<Mark>,
    pub(crate) committed_seq: u64,
    pub(crate) keep_from_seq: u64,
}

/// A run whose commits fail for good: its owner has to begin again from what is committed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lost {
    pub(crate) run_id: RunId,
    pub(crate) owner_epoch: u64,
    /// The last step in a commit that the database refuses as data, segment and step.
    pub(crate) refused: Option<(u32, u64)>,
}

/// Commits until all owners are gone.
pub(crate) struct Recorder {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) lost: mpsc::UnboundedSender<Lost>,
    pub(crate) trouble: Arc<StoreTrouble>,
}

/// When the store last could not take a commit. Jobs cannot be heard while it cannot, so their silence counts from then.
#[derive(Debug, Default)]
pub(crate) struct StoreTrouble(AtomicI64);

impl StoreTrouble {
    /// Microseconds since the Unix epoch; 0 when there was none.
    pub(crate) fn last_us(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Recorder {
    /// Runs until the queue is closed and empty.
    pub(crate) async fn run(self, mut queue: mpsc::Receiver<Settlement>) {
        let mut next_commit = Instant::now();
        while let Some(first) = queue.recv().await {
            sleep_until(next_commit).await;
            next_commit = Instant::now() + COMMIT_INTERVAL;
            let (mut batch, mut by_run) = (Batch::default(), HashMap::new());
            batch.add(first, &mut by_run);
            batch.fill(&mut queue, &mut by_run);
            self.settle(batch, &mut queue).await;
        }
    }

    /// Commits a batch. A run whose part cannot be committed is left out and given up; the others do not suffer from it.
    async fn settle(&self, mut batch: Batch, queue: &mut mpsc::Receiver<Settlement>) {
        let mut retry = FIRST_RETRY;
        let mut failures = 0;
        while !batch.commits.is_empty() {
            let started = Instant::now();
            let error = match self.store.commit(&batch.commits).await {
                Ok((commit_seq, event_ids)) => {
                    self.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
                    self.committed(batch, commit_seq, event_ids);
                    return;
                }
                Err(error) => error,
            };
            self.count_failure(&error);
            match error {
                // An earlier commit of ours landed after all, or another owner took the run: never retried blindly.
                StoreError::OwnershipLost(run_id)
                | StoreError::UnknownRun(run_id)
                | StoreError::RunDeleting(run_id) => {
                    batch.remove(run_id, &self.lost, false);
                }
                StoreError::Unavailable(cause) => {
                    self.trouble.0.store(clock::now_us(), Ordering::Relaxed);
                    tracing::warn!(cause, delay_ms = retry.as_millis() as u64, "commit failed; trying again");
                    sleep(retry).await;
                    retry = (retry * 2).min(LAST_RETRY);
                    failures += 1;
                    if failures % FAILURES_BEFORE_ALONE == 0 {
                        batch = self.suspect(batch, queue).await;
                    }
                }
                cause if batch.commits.len() > 1 => {
                    tracing::error!(%cause, runs = batch.commits.len(), "commit refused; trying each run alone");
                    for alone in batch.split() {
                        Box::pin(self.settle(alone, queue)).await;
                    }
                    return;
                }
                cause => {
                    let run_id = batch.commits[0].run_id;
                    tracing::error!(%cause, %run_id, "commit refused; the run's owner begins again");
                    let as_data = matches!(cause, StoreError::Data(_) | StoreError::UniqueViolation(_));
                    batch.remove(run_id, &self.lost, as_data);
                }
            }
        }
    }

    /// Finds out whether it is about the store or about some runs, such as one whose row somebody has locked, that the
    /// store is unavailable; answers what is still to be committed.
    ///
    /// Invariant (promise 11): a run that cannot be committed while others can is given up, so that they go on. Its owner
    /// begins again from what is committed and its clients send the rest again. While no run can be committed, as on a
    /// full disk, it is about none of them: all stay in memory.
    async fn suspect(&self, mut batch: Batch, queue: &mut mpsc::Receiver<Settlement>) -> Batch {
        if batch.commits.len() == 1 {
            // Those that wait behind the one run show whether it is about it.
            let mut by_run = batch.by_run();
            batch.fill(queue, &mut by_run);
        }
        if batch.commits.len() < 2 || self.store.last_commit_seq().await.is_err() {
            return batch;
        }
        tracing::warn!(runs = batch.commits.len(), "the store takes no commit but answers; trying each run alone");
        let (left, committed) = self.each_alone(batch).await;
        if !committed {
            return left;
        }
        // Once more: the trouble may have been everybody's, and have ended in the middle.
        let (mut left, _) = self.each_alone(left).await;
        while let Some(run_id) = left.commits.first().map(|commit| commit.run_id) {
            tracing::error!(%run_id, "the store takes other runs but not this one; its owner begins again");
            left.remove(run_id, &self.lost, false);
        }
        left
    }

    /// Tries each run once; answers those for which the store was unavailable, and whether one was committed.
    async fn each_alone(&self, batch: Batch) -> (Batch, bool) {
        let (mut left, mut committed) = (Batch::default(), false);
        for mut alone in batch.split() {
            let run_id = alone.commits[0].run_id;
            let error = match self.store.commit(&alone.commits).await {
                Ok((commit_seq, event_ids)) => {
                    self.committed(alone, commit_seq, event_ids);
                    committed = true;
                    continue;
                }
                Err(error) => error,
            };
            self.count_failure(&error);
            match error {
                StoreError::Unavailable(cause) => {
                    tracing::warn!(cause, %run_id, "commit of one run failed");
                    left.append(alone);
                }
                // The commit in doubt had landed, another owner took the run, or its data is refused.
                cause => {
                    tracing::error!(%cause, %run_id, "commit refused; the run's owner begins again");
                    let as_data = matches!(cause, StoreError::Data(_) | StoreError::UniqueViolation(_));
                    alone.remove(run_id, &self.lost, as_data);
                }
            }
        }
        (left, committed)
    }

    /// Invariant (promise 1): marks move, and thereby acknowledgements go out, only here, behind a committed
    /// transaction; and nobody hears of a reading that is not committed.
    fn committed(&self, batch: Batch, commit_seq: u64, event_ids: Vec<Vec<u64>>) {
        self.metrics.commits.inc();
        let mut runs = Vec::with_capacity(batch.commits.len());
        for ((commit, follow_up), event_ids) in batch.commits.into_iter().zip(batch.follow_ups).zip(event_ids) {
            self.metrics.readings.inc_by(commit.readings.len() as u64);
            self.metrics.frames_dropped_by_clients.inc_by(commit.patch.counters.dropped);
            for mark in &commit.marks {
                self.metrics.frames_settled.inc_by(mark.to_seq - mark.from_seq);
            }
            for event in &commit.events {
                self.metrics.count_event(&event.event_type);
            }
            for row in &commit.layer_readings {
                self.metrics.count_snapshot(&row.reading);
            }
            for MarkAdvance { mark, committed_seq, keep_from_seq } in follow_up.advances {
                mark.advance(Settled { committed_seq, keep_from_seq });
            }
            for done in follow_up.done {
                // Whoever asked may have left.
                let _ = done.send(());
            }
            if let Some(in_flight) = follow_up.in_flight.last() {
                in_flight.land(commit.commit_number);
            }
            drop((follow_up.permits, follow_up.in_flight));
            runs.push(PublishedRun {
                run_id: commit.run_id,
                project: follow_up.project,
                live_to_step: follow_up.live_to_step,
                readings: with_wall_times(commit.readings, &commit.steps),
                layer_readings: commit.layer_readings.into_iter().zip(follow_up.layer_wall_times).collect(),
                events: event_ids.into_iter().zip(commit.events).collect(),
                patch: commit.patch,
            });
        }
        self.hub.publish(Publication { commit_seq, runs });
    }

    fn count_failure(&self, error: &StoreError) {
        let cause = match error {
            StoreError::OwnershipLost(_) => "ownership_lost",
            StoreError::UniqueViolation(_) => {
                self.metrics.unique_violations.inc();
                "unique_violation"
            }
            StoreError::Unavailable(_) => "unavailable",
            StoreError::Data(_) => "data",
            StoreError::UnknownRun(_) | StoreError::RunDeleting(_) => "run_deleted",
            _ => "other",
        };
        Metrics::count(&self.metrics.commit_failures, cause);
    }
}

/// Readings as they are read back, with the wall time of their step, which is in the same commit.
fn with_wall_times(readings: Vec<ReadingRow>, steps: &[StepRow]) -> Vec<Reading> {
    let wall_times: HashMap<_, _> = steps.iter().map(|step| ((step.segment, step.step), step.wall_time_us)).collect();
    let reading =
        |row: ReadingRow| wall_times.get(&(row.segment, row.step)).map(|&wall_time_us| Reading { row, wall_time_us });
    readings.into_iter().filter_map(reading).collect()
}
