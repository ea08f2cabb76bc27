//! What follows the readings of one layer: readings that compare with earlier ones, and detectors.

use std::panic::{AssertUnwindSafe, catch_unwind};

use gradwatch_spectral::{
    detectors::{Detection, DetectorConfig},
    layer_followers::LayerFollowers,
    layers::{LayerReading, Reason},
};
use gradwatch_store::{FollowerKey, FollowerSnapshot, LayerKey};

use super::decode::is_sound;
use crate::pipeline::followed::{decode, due, encode, first_due};

/// Follows one layer of a segment.
#[derive(Debug)]
pub(crate) struct LayerFollower {
    segment: u32,
    layer: LayerKey,
    state: LayerFollowers,
    since_snapshot: u32,
}

impl LayerFollower {
    pub(crate) fn new(segment: u32, layer: LayerKey, config: &DetectorConfig) -> Self {
        let state = LayerFollowers::new(layer.instrument, config);
        Self { segment, layer, state, since_snapshot: first_due() }
    }

    /// Continues from a saved state; the readings stored behind it must then be followed again.
    pub(crate) fn restore(&mut self, bytes: &[u8]) -> bool {
        let Some(state) = decode(bytes) else { return false };
        self.state = state;
        self.since_snapshot = 0;
        true
    }

    /// Takes in the next reading and completes it. Invariant (promise 3): the state is a function of the readings alone, in
    /// the order of their steps, so following the stored ones again gives the same bits. Skipped ones are stored when there
    /// was no room for them, which may be out of that order: they are not followed, now or again.
    ///
    /// Invariant (promise 11): a fault costs the one reading: it says that it failed, and is followed as that.
    pub(crate) fn follow(
        &mut self,
        step: u64,
        reading: &mut LayerReading,
    ) -> (Vec<Detection>, Option<FollowerSnapshot>) {
        if reading.reason() == Some(Reason::Skipped) {
            return (Vec::new(), None);
        }
        let before = self.state.clone();
        let followed = catch_unwind(AssertUnwindSafe(|| self.state.follow(step, reading)));
        let detections = match followed {
            Ok(detections) if is_sound(reading) => detections,
            _ => {
                tracing::error!(segment = self.segment, step, layer = ?self.layer, "a layer's reading cannot be followed");
                *reading = LayerReading::refused(self.layer.instrument, Reason::Failed);
                self.state = before;
                Vec::new()
            }
        };
        let snapshot = due(&mut self.since_snapshot).then(|| FollowerSnapshot {
            segment: self.segment,
            key: FollowerKey::Layer(self.layer.clone()),
            step,
            state: encode(&self.state),
        });
        (detections, snapshot)
    }
}
