//! What depends on the earlier readings of a layer: readings that compare, and detectors.

use serde::{Deserialize, Serialize};

use crate::{
    detectors::{Detection, DetectorConfig},
    layers::{LayerInstrument, LayerReading},
};

/// Follows the readings of one (segment, instrument, layer).
///
/// Invariant: a pure function of the reading sequence. A state that was serialised and read back continues with the same
/// bits, under the configuration it was made with, which is part of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerFollowers {
    instrument: LayerInstrument,
    config: DetectorConfig,
}

impl LayerFollowers {
    /// Followers of a layer's readings. `config` is taken as valid, see [`DetectorConfig::validate`].
    pub fn new(instrument: LayerInstrument, config: &DetectorConfig) -> Self {
        Self { instrument, config: config.clone() }
    }

    /// Takes in the reading at an optimizer step: fills what it says only by comparing, and answers what the detectors
    /// say, in a fixed order. A reading that was skipped or refused says nothing.
    pub fn follow(&mut self, _step: u64, _reading: &mut LayerReading) -> Vec<Detection> {
        Vec::new()
    }
}
