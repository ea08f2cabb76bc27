//! Predictions that are kept, of which the oldest make room for new ones.

use std::collections::{BTreeMap, BTreeSet};

use gradwatch_store::RunCommit;

use super::ROW_BYTES;

/// Segment, step and probe batch of a run's predictions, with what they take in the store: `limit_bytes` at most.
#[derive(Debug)]
pub(crate) struct KeptPredictions {
    kept: BTreeMap<(u32, u64, String), u64>,
    bytes: u64,
    limit_bytes: u64,
}

impl KeptPredictions {
    /// What is in the store, with its length in bytes.
    pub(crate) fn new(kept: Vec<(u32, u64, String, u64)>, limit_bytes: u64) -> Self {
        let mut predictions = Self { kept: BTreeMap::new(), bytes: 0, limit_bytes };
        for (segment, step, probe, bytes) in kept {
            predictions.insert((segment, step, probe), bytes);
        }
        predictions
    }

    fn insert(&mut self, key: (u32, u64, String), value_bytes: u64) {
        let bytes = value_bytes + ROW_BYTES;
        self.bytes += bytes;
        self.kept.insert(key, bytes);
    }

    /// Takes in what a commit brings, and drops in it what there is no more room for.
    pub(crate) fn admit(&mut self, commit: &mut RunCommit) {
        for row in &commit.predictions {
            let bytes = 4 * (row.values.len() + row.targets.len()) as u64;
            self.insert((row.segment, row.step, row.probe.clone()), bytes);
        }
        let mut dropped = BTreeSet::new();
        while self.bytes > self.limit_bytes
            && let Some((oldest, bytes)) = self.kept.pop_first()
        {
            self.bytes -= bytes;
            dropped.insert(oldest);
        }
        if !dropped.is_empty() {
            // What comes and goes in this commit is not stored at all.
            commit.predictions.retain(|row| !dropped.remove(&(row.segment, row.step, row.probe.clone())));
            commit.dropped_predictions.extend(dropped);
        }
    }
}

#[cfg(test)]
mod tests {
    use gradwatch_store::{PredictionRow, RunId};

    use super::*;

    #[test]
    fn the_oldest_make_room() {
        let row = |step, count| PredictionRow {
            segment: 1,
            step,
            probe: "held".into(),
            values: vec![0.5; count],
            targets: vec![0.0; count],
        };
        let mut kept = KeptPredictions::new(vec![(1, 1, "held".into(), 80)], 2 * (80 + ROW_BYTES));
        let mut commit = RunCommit::new(RunId(uuid::Uuid::nil()), 1);
        commit.predictions = vec![row(2, 10)];
        kept.admit(&mut commit);
        assert_eq!((commit.predictions.len(), commit.dropped_predictions.len()), (1, 0));
        // One that is kept in the store, and one that comes and goes in the same commit.
        commit.predictions = vec![row(3, 10), row(4, 10), row(5, 10)];
        kept.admit(&mut commit);
        assert_eq!(commit.dropped_predictions, [(1, 1, "held".into()), (1, 2, "held".into())]);
        assert_eq!(commit.predictions, [row(4, 10), row(5, 10)]);
    }

    #[test]
    fn what_makes_room_in_one_commit_is_taken_out_of_it_in_one_go() {
        // Looked for one by one among the others, it would keep the run, and a thread that all runs need, busy for hours.
        const MANY: u64 = 200_000;
        let mut kept = KeptPredictions::new(vec![(1, 0, "held".into(), 8)], 2 * (8 + ROW_BYTES));
        let row =
            |step| PredictionRow { segment: 1, step, probe: "held".into(), values: vec![0.5], targets: vec![0.5] };
        let mut commit = RunCommit::new(RunId(uuid::Uuid::nil()), 1);
        commit.predictions = (1..=MANY).map(row).collect();
        kept.admit(&mut commit);
        assert_eq!(commit.predictions, [row(MANY - 1), row(MANY)]);
        assert_eq!(commit.dropped_predictions, [(1, 0, "held".into())]);
    }
}
