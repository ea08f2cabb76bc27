//! What a step brings besides its updates: snapshots to be read later, predictions, and what happened.

use gradwatch_store::{PendingSnapshot, PredictionRow, SnapshotKey};
use serde_json::json;

use super::{SegmentOwner, Turn, joined::Joined};

impl SegmentOwner {
    /// Puts it into the commit that settles the step. Invariant (promise 1): an acknowledged snapshot is in the store,
    /// read or still to be read.
    pub(super) fn record_sent(&self, joined: &mut Joined, turn: &mut Turn<'_>) {
        let (segment, step) = (self.segment.segment, joined.step);
        for (layer, payload) in std::mem::take(&mut joined.snapshots) {
            let layer = self.segment.spec.layers[layer].key();
            turn.commit.snapshots.push(PendingSnapshot { key: SnapshotKey { segment, step, layer }, payload });
        }
        for (probe, prediction) in std::mem::take(&mut joined.predictions) {
            let (values, targets) = (prediction.values, prediction.targets);
            turn.commit.predictions.push(PredictionRow { segment, step, probe, values, targets });
        }
        for name in &joined.happened {
            turn.commit.events.push(self.event(&format!("job.{name}"), Some(step), turn.now_us, json!({})));
        }
    }
}
