//! Snapshots that wait to be read.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use gradwatch_spectral::layers::{LayerReading, Reason};
use gradwatch_store::{LayerReadingRow, RunCommit, SnapshotKey};

use super::ROW_BYTES;
use crate::metrics::Metrics;

/// A run's snapshots that are still to be read: which, and how long. Their payloads are in the store only.
///
/// Invariant (promise 7): they take `limit_bytes` there at most. What comes over it turns the oldest into readings that say
/// so, in the commit that brings it: nothing is lost unseen.
#[derive(Debug)]
pub(crate) struct Backlog {
    pending: BTreeMap<SnapshotKey, Pending>,
    bytes: u64,
    limit_bytes: u64,
    /// Being read: it is not skipped any more.
    in_work: Option<SnapshotKey>,
    metrics: Arc<Metrics>,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    bytes: u64,
    /// The owner's commit that brings it; 0 for what an earlier owner left.
    commit_number: u64,
    /// Of its step, where this owner has seen that.
    wall_time_us: Option<i64>,
}

/// The next snapshot to be read.
#[derive(Debug)]
pub(crate) struct Next {
    pub(crate) key: SnapshotKey,
    pub(crate) wall_time_us: Option<i64>,
}

impl Backlog {
    /// What an earlier owner left, with its length in bytes.
    pub(crate) fn new(left: Vec<(SnapshotKey, u64)>, limit_bytes: u64, metrics: Arc<Metrics>) -> Self {
        let mut backlog = Self { pending: BTreeMap::new(), bytes: 0, limit_bytes, in_work: None, metrics };
        for (key, bytes) in left {
            backlog.insert(key, bytes, 0, None);
        }
        backlog
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether anything of a segment waits.
    pub(crate) fn holds(&self, segment: u32) -> bool {
        self.pending.keys().any(|key| key.segment == segment)
    }

    fn insert(&mut self, key: SnapshotKey, payload_bytes: u64, commit_number: u64, wall_time_us: Option<i64>) {
        let bytes = payload_bytes + ROW_BYTES;
        self.bytes += bytes;
        self.metrics.snapshot_bytes_queued.inc_by(bytes);
        self.pending.insert(key, Pending { bytes, commit_number, wall_time_us });
    }

    fn remove(&mut self, key: &SnapshotKey) -> Option<Pending> {
        let removed = self.pending.remove(key)?;
        self.bytes -= removed.bytes;
        self.metrics.snapshot_bytes_done.inc_by(removed.bytes);
        self.in_work.take_if(|in_work| in_work == key);
        Some(removed)
    }

    /// Takes in what a commit, which will have this number, brings. What is skipped for it gets its reading in the same
    /// commit; answers the wall times of those readings' steps, in their order.
    pub(crate) fn admit(&mut self, commit: &mut RunCommit, commit_number: u64) -> Vec<Option<i64>> {
        if commit.snapshots.is_empty() {
            return Vec::new();
        }
        let steps = commit.steps.iter().map(|step| ((step.segment, step.step), step.wall_time_us));
        let wall_times: HashMap<_, _> = steps.collect();
        for snapshot in &commit.snapshots {
            let key = snapshot.key.clone();
            let wall_time_us = wall_times.get(&(key.segment, key.step)).copied();
            self.insert(key, snapshot.payload.len() as u64, commit_number, wall_time_us);
        }
        let mut skipped_at = Vec::new();
        while self.bytes > self.limit_bytes
            && let Some(oldest) = self.pending.keys().find(|key| self.in_work.as_ref() != Some(key)).cloned()
        {
            let wall_time_us = self.remove(&oldest).and_then(|removed| removed.wall_time_us);
            commit.patch.counters.skipped += 1;
            let reading = LayerReading::refused(oldest.layer.instrument, Reason::Skipped);
            let SnapshotKey { segment, step, layer } = oldest;
            commit.layer_readings.push(LayerReadingRow { layer, segment, step, reading });
            skipped_at.push(wall_time_us);
        }
        if !skipped_at.is_empty() {
            // What this commit brings and is pending no more was skipped just now.
            commit.snapshots.retain(|snapshot| self.pending.contains_key(&snapshot.key));
        }
        skipped_at
    }

    /// The oldest, to be read now: once it is in the store, and when none is being read. `landed` is the number of the
    /// owner's last commit that is there.
    ///
    /// Invariant: the snapshots of a layer are read in the order of their steps.
    pub(crate) fn next(&mut self, landed: u64) -> Option<Next> {
        if self.in_work.is_some() {
            return None;
        }
        let (key, pending) = self.pending.first_key_value().filter(|(_, oldest)| oldest.commit_number <= landed)?;
        let next = Next { key: key.clone(), wall_time_us: pending.wall_time_us };
        self.in_work = Some(key.clone());
        Some(next)
    }

    /// It could not be read for now.
    pub(crate) fn put_back(&mut self, key: &SnapshotKey) {
        self.in_work.take_if(|in_work| in_work == key);
    }

    /// It has its reading; false when it does not wait here.
    pub(crate) fn done(&mut self, key: &SnapshotKey) -> bool {
        self.remove(key).is_some()
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        // Whoever owns the run next counts them again.
        self.metrics.snapshot_bytes_done.inc_by(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use gradwatch_spectral::layers::LayerInstrument;
    use gradwatch_store::{LayerKey, PendingSnapshot, RunId};

    use super::*;

    fn key(segment: u32, step: u64) -> SnapshotKey {
        let layer = LayerKey { instrument: LayerInstrument::Cascade, layer: "all".into() };
        SnapshotKey { segment, step, layer }
    }

    fn brings(keys: &[SnapshotKey], bytes: usize) -> RunCommit {
        let mut commit = RunCommit::new(RunId(uuid::Uuid::nil()), 1);
        commit.snapshots =
            keys.iter().map(|key| PendingSnapshot { key: key.clone(), payload: vec![0; bytes] }).collect();
        commit
    }

    fn skipped(commit: &RunCommit) -> Vec<u64> {
        commit.layer_readings.iter().map(|row| row.step).collect()
    }

    #[test]
    fn snapshots_are_read_oldest_first_and_only_once_they_are_stored() {
        let metrics = Arc::new(Metrics::new());
        let mut backlog = Backlog::new(vec![(key(1, 9), 10)], 1 << 20, Arc::clone(&metrics));
        backlog.admit(&mut brings(&[key(2, 4), key(2, 5)], 10), 1);
        let next = |backlog: &mut Backlog, landed| backlog.next(landed).map(|next| next.key);
        assert_eq!(next(&mut backlog, 0), Some(key(1, 9)));
        assert_eq!(next(&mut backlog, 0), None);
        assert!(backlog.done(&key(1, 9)));
        assert_eq!(next(&mut backlog, 0), None);
        assert_eq!(next(&mut backlog, 1), Some(key(2, 4)));
        backlog.put_back(&key(2, 4));
        assert_eq!(next(&mut backlog, 1), Some(key(2, 4)));
        assert!(backlog.done(&key(2, 4)) && !backlog.done(&key(2, 4)));
        drop(backlog);
        assert_eq!(metrics.snapshot_bytes_queued.get(), metrics.snapshot_bytes_done.get());
    }

    #[test]
    fn the_oldest_are_skipped_when_too_many_bytes_wait() {
        let limit_bytes = 3 * (100 + ROW_BYTES);
        let mut backlog = Backlog::new(Vec::new(), limit_bytes, Arc::new(Metrics::new()));
        assert_eq!(backlog.admit(&mut brings(&[key(1, 1), key(1, 2), key(1, 3)], 100), 1), []);
        assert_eq!(backlog.next(1).map(|next| next.key), Some(key(1, 1)));
        let mut commit = brings(&[key(1, 4), key(1, 5)], 100);
        assert_eq!(backlog.admit(&mut commit, 2).len(), 2);
        // The first is being read.
        assert_eq!((skipped(&commit), commit.patch.counters.skipped), (vec![2, 3], 2));
        assert_eq!(commit.snapshots.len(), 2);
        // One that is larger than the limit pushes out all others and itself, and is not stored at all.
        let mut commit = brings(&[key(1, 6)], 2_000);
        backlog.admit(&mut commit, 3);
        assert_eq!((skipped(&commit), commit.snapshots.len()), (vec![4, 5, 6], 0));
        assert!(backlog.done(&key(1, 1)) && backlog.is_empty());
        let refused = |row: &LayerReadingRow| row.reading.reason() == Some(Reason::Skipped);
        assert!(commit.layer_readings.iter().all(refused));
    }

    #[test]
    fn what_is_skipped_in_one_commit_is_taken_out_of_it_in_one_go() {
        // Looked for one by one among the others, it would keep the run, and a thread that all runs need, busy for hours.
        const MANY: u64 = 200_000;
        let mut backlog = Backlog::new(Vec::new(), 2 * ROW_BYTES, Arc::new(Metrics::new()));
        let keys: Vec<_> = (1..=MANY).map(|step| key(1, step)).collect();
        let mut commit = brings(&keys, 0);
        backlog.admit(&mut commit, 1);
        assert_eq!(skipped(&commit), (1..=MANY - 2).collect::<Vec<_>>());
        let left: Vec<_> = commit.snapshots.into_iter().map(|snapshot| snapshot.key).collect();
        assert_eq!(left, keys[keys.len() - 2..]);
    }
}
