//! Everything for one transaction, gathered from the settlements that wait.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    sync::Arc,
};

use gradwatch_store::{RunCommit, RunId};
use tokio::sync::{mpsc, oneshot};

use super::{InFlight, Lost, MarkAdvance, Settlement};
use crate::pipeline::Permit;

/// Rows in one transaction: enough to make its cost per row small, few enough that an ack does not wait for long.
const MAX_ROWS: usize = 8_192;
/// Bytes of snapshots and sketches that take about as long to write as a row.
const PAYLOAD_BYTES_A_ROW: usize = 4_096;

/// Everything for one transaction, one entry a run in both lists.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) commits: Vec<RunCommit>,
    pub(super) follow_ups: Vec<FollowUp>,
    pub(super) rows: usize,
}

/// What a commit leads to.
pub(super) struct FollowUp {
    pub(super) advances: Vec<MarkAdvance>,
    pub(super) layer_wall_times: Vec<Option<i64>>,
    pub(super) project: Arc<str>,
    pub(super) live_to_step: Arc<BTreeMap<u32, u64>>,
    pub(super) permits: Vec<Permit>,
    pub(super) in_flight: Vec<InFlight>,
    pub(super) done: Vec<oneshot::Sender<()>>,
}

impl Batch {
    pub(super) fn add(&mut self, settlement: Settlement, by_run: &mut HashMap<(RunId, u64), usize>) {
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
    pub(super) fn fill(&mut self, queue: &mut mpsc::Receiver<Settlement>, by_run: &mut HashMap<(RunId, u64), usize>) {
        while self.rows < MAX_ROWS
            && let Ok(next) = queue.try_recv()
        {
            self.add(next, by_run);
        }
    }

    /// Where each owner's part is.
    pub(super) fn by_run(&self) -> HashMap<(RunId, u64), usize> {
        let owners = self.commits.iter().map(|commit| (commit.run_id, commit.owner_epoch));
        owners.zip(0..).collect()
    }

    /// Takes in parts of other owners.
    pub(super) fn append(&mut self, other: Self) {
        self.rows += other.rows;
        self.commits.extend(other.commits);
        self.follow_ups.extend(other.follow_ups);
    }

    /// Leaves a run out and says so: its owner has to begin again from what is committed.
    pub(super) fn remove(&mut self, run_id: RunId, lost: &mpsc::UnboundedSender<Lost>, as_data: bool) {
        while let Some(index) = self.commits.iter().position(|commit| commit.run_id == run_id) {
            let RunCommit { owner_epoch, steps, .. } = self.commits.remove(index);
            let refused = steps.last().filter(|_| as_data).map(|step| (step.segment, step.step));
            // Nobody listens any more when the pipeline is gone, and then nobody needs to.
            let _ = lost.send(Lost { run_id, owner_epoch, refused });
            // Behind it: whoever sees its settlement go has been told why.
            self.follow_ups.remove(index);
        }
    }

    pub(super) fn split(self) -> impl Iterator<Item = Self> {
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
