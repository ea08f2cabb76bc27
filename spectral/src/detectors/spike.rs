//! An update far larger than those before it.

use serde::{Deserialize, Serialize};

use super::config::SpikeConfig;
use super::{Detector, Finding};

/// State of `update.spike`: update.norm_z > 6, one event until it is < 3.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spike {
    spiking: bool,
}

impl Spike {
    /// Takes in a defined norm_z.
    pub(crate) fn see(&mut self, norm_z: f64, config: &SpikeConfig) -> Option<Finding> {
        if norm_z < config.z_rearm {
            self.spiking = false;
        }
        if self.spiking || norm_z <= config.z_above {
            return None;
        }
        self.spiking = true;
        Some(Finding {
            detector: Detector::UpdateSpike,
            regimes: None,
            reading: "update.norm_z",
            quantity: "update.norm_z",
            values: vec![norm_z],
            reference: None,
            spread: None,
            threshold: config.z_above,
            confirmed: 1,
        })
    }
}
