//! Settles what the owners of runs hand over: gathers it into group commits, then moves the marks (which acknowledges),
//! then publishes.

mod publish;

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
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

pub(crate) use publish::{Hub, Publication, PublishedRun, Resume};

use crate::{
    clock,
    metrics::Metrics,
    pipeline::{Mark, Permit, Settled},
};

/// Rows in one transaction: enough to make its cost per row small, few enough that an ack does not wait for long.
const MAX_ROWS: usize = 8_192;
/// Bytes of snapshots and sketches that take about as long to write as a row.
const PAYLOAD_BYTES_A_ROW: usize = 4_096;
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

/// Everything for one transaction, one entry a run in both lists.
#[derive(Default)]
struct Batch {
    commits: Vec<RunCommit>,
    follow_ups: Vec<FollowUp>,
    rows: usize,
}

/// What a commit leads to.
struct FollowUp {
    advances: Vec<MarkAdvance>,
    layer_wall_times: Vec<Option<i64>>,
    project: Arc<str>,
    live_to_step: Arc<BTreeMap<u32, u64>>,
    permits: Vec<Permit>,
    in_flight: Vec<InFlight>,
    done: Vec<oneshot::Sender<()>>,
}

impl Batch {
    fn add(&mut self, settlement: Settlement, by_run: &mut HashMap<(RunId, u64), usize>) {
        let Settlement { commit, advances, layer_wall_times, project, live_to_step, permits, in_flight, done } =
            settlement;
        self.rows += row_count(&commit);
        match by_run.entry((commit.run_id, commit.owner_epoch)) {
            Entry::Occupied(index) => {
                merge(&mut self.commits[*index.get()], commit);
                let follow_up = &mut self.follow_ups[*index.get()];
                follow_up.advances.extend(advances);
                follow_up.layer_wall_times.extend(layer_wall_times);
                follow_up.live_to_step = live_to_step;
                follow_up.permits.extend(permits);
                follow_up.in_flight.push(in_flight);
                follow_up.done.extend(done);
            }
            Entry::Vacant(entry) => {
                entry.insert(self.commits.len());
                self.commits.push(commit);
                let in_flight = vec![in_flight];
                self.follow_ups.push(FollowUp {
                    advances,
                    layer_wall_times,
                    project,
                    live_to_step,
                    permits,
                    in_flight,
                    done,
                });
            }
        }
    }

    /// Takes in what waits, as far as there is room.
    fn fill(&mut self, queue: &mut mpsc::Receiver<Settlement>, by_run: &mut HashMap<(RunId, u64), usize>) {
        while self.rows < MAX_ROWS
            && let Ok(next) = queue.try_recv()
        {
            self.add(next, by_run);
        }
    }

    /// Where each owner's part is.
    fn by_run(&self) -> HashMap<(RunId, u64), usize> {
        let owners = self.commits.iter().map(|commit| (commit.run_id, commit.owner_epoch));
        owners.zip(0..).collect()
    }

    /// Takes in parts of other owners.
    fn append(&mut self, other: Self) {
        self.rows += other.rows;
        self.commits.extend(other.commits);
        self.follow_ups.extend(other.follow_ups);
    }

    /// Leaves a run out and says so: its owner has to begin again from what is committed.
    fn remove(&mut self, run_id: RunId, lost: &mpsc::UnboundedSender<Lost>, as_data: bool) {
        while let Some(index) = self.commits.iter().position(|commit| commit.run_id == run_id) {
            let RunCommit { owner_epoch, steps, .. } = self.commits.remove(index);
            let refused = steps.last().filter(|_| as_data).map(|step| (step.segment, step.step));
            // Nobody listens any more when the pipeline is gone, and then nobody needs to.
            let _ = lost.send(Lost { run_id, owner_epoch, refused });
            // Behind it: whoever sees its settlement go has been told why.
            self.follow_ups.remove(index);
        }
    }

    fn split(self) -> impl Iterator<Item = Self> {
        self.commits.into_iter().zip(self.follow_ups).map(|(commit, follow_up)| Self {
            rows: row_count(&commit),
            commits: vec![commit],
            follow_ups: vec![follow_up],
        })
    }
}

fn row_count(commit: &RunCommit) -> usize {
    let payload_bytes: usize = commit.snapshots.iter().map(|snapshot| snapshot.payload.len()).sum::<usize>()
        + commit.sketches.iter().map(|block| block.payload.len()).sum::<usize>();
    let layers = commit.snapshots.len() + commit.layer_readings.len() + commit.predictions.len();
    let rows = commit.steps.len() + commit.readings.len() + commit.events.len() + layers + 1;
    rows + payload_bytes / PAYLOAD_BYTES_A_ROW
}

/// Readings as they are read back, with the wall time of their step, which is in the same commit.
fn with_wall_times(readings: Vec<ReadingRow>, steps: &[StepRow]) -> Vec<Reading> {
    let wall_times: HashMap<_, _> = steps.iter().map(|step| ((step.segment, step.step), step.wall_time_us)).collect();
    let reading =
        |row: ReadingRow| wall_times.get(&(row.segment, row.step)).map(|&wall_time_us| Reading { row, wall_time_us });
    readings.into_iter().filter_map(reading).collect()
}

/// Appends a later commit of the same owner.
fn merge(commit: &mut RunCommit, later: RunCommit) {
    debug_assert_eq!(commit.commit_number, later.after_commit, "an owner's commits follow each other");
    // Taken apart so that a new field cannot be forgotten here.
    let RunCommit {
        run_id: _,
        owner_epoch: _,
        after_commit: _,
        commit_number,
        marks,
        steps,
        readings,
        rollups,
        events,
        followers,
        scalar_names,
        snapshots,
        layer_readings,
        predictions,
        dropped_predictions,
        sketches,
        dropped_sketches,
        patch,
    } = later;
    commit.commit_number = commit_number;
    for mark in marks {
        let same = |it: &&mut gradwatch_store::MarkMove| it.segment == mark.segment && it.shard == mark.shard;
        match commit.marks.iter_mut().find(same) {
            Some(earlier) => {
                debug_assert_eq!(earlier.to_seq, mark.from_seq, "an owner's commits follow each other");
                earlier.to_seq = mark.to_seq;
                earlier.keep_from_seq = mark.keep_from_seq;
            }
            None => commit.marks.push(mark),
        }
    }
    for snapshot in followers {
        commit.followers.retain(|it| (it.segment, &it.key) != (snapshot.segment, &snapshot.key));
        commit.followers.push(snapshot);
    }
    commit.steps.extend(steps);
    commit.readings.extend(readings);
    commit.rollups.extend(rollups);
    commit.events.extend(events);
    commit.scalar_names.extend(scalar_names);
    commit.snapshots.extend(snapshots);
    commit.layer_readings.extend(layer_readings);
    commit.predictions.extend(predictions);
    commit.dropped_predictions.extend(dropped_predictions);
    commit.sketches.extend(sketches);
    commit.dropped_sketches.extend(dropped_sketches);
    commit.patch.state = patch.state.or(commit.patch.state);
    commit.patch.regime = patch.regime.or(commit.patch.regime);
    commit.patch.last_step = patch.last_step.or(commit.patch.last_step);
    commit.patch.last_seen_us = patch.last_seen_us.or(commit.patch.last_seen_us);
    commit.patch.counters.add(&patch.counters);
}
