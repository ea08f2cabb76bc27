//! An update far larger than those before it.

use serde::{Deserialize, Serialize};

use super::config::SpikeConfig;
use super::{Detector, Finding};
use crate::health::NormExcess;

/// State of `update.spike`: update.norm_z > 6 and the norm more than 3 × the median of those before, one event until
/// norm_z < 3.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spike {
    spiking: bool,
}

impl Spike {
    /// Takes in how an update's norm compares with those before it.
    pub(crate) fn see(&mut self, excess: NormExcess, config: &SpikeConfig) -> Option<Finding> {
        let norm_z = excess.z;
        if norm_z < config.z_rearm {
            self.spiking = false;
        }
        if self.spiking || norm_z <= config.z_above || excess.log_ratio <= config.ratio.ln() {
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
