//! Health of a run: how unusual the size of an update is.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::detectors::robust::Centre;

/// Fewer previous updates than this say nothing.
pub const NORM_HISTORY_MIN: usize = 16;
/// Previous updates that are compared with.
pub const NORM_HISTORY_MAX: usize = 64;
/// Least spread of ln‖delta‖: without it a run of nearly constant norms would call every wobble a spike.
const SPREAD_FLOOR: f64 = 0.1;

/// How far an update's norm is above those before it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NormExcess {
    /// `update.norm_z`.
    pub z: f64,
    /// ln of the norm over the median of those before it.
    pub log_ratio: f64,
}

/// `update.norm_z` \[ours\]: (ln‖delta‖ − median)/max(1.4826·MAD, 0.1) over the previous 16 to 64 updates of one group and
/// kind. A hole in the steps does not end the history: norms do not need consecutive rows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NormHistory {
    /// ln‖delta‖ of the previous updates, oldest first, at most 64.
    log_norms: VecDeque<f64>,
}

impl NormHistory {
    /// How an update compares with those before it, which it then joins. None for fewer than 16 previous updates,
    /// and for a norm that is 0 or not finite; such an update does not join.
    pub fn push(&mut self, update_norm: f64) -> Option<NormExcess> {
        if !(update_norm > 0.0 && update_norm.is_finite()) {
            return None;
        }
        let log_norm = update_norm.ln();
        let excess = (self.log_norms.len() >= NORM_HISTORY_MIN)
            .then(|| Centre::of(self.log_norms.iter().copied()))
            .flatten()
            .map(|centre| {
                let log_ratio = log_norm - centre.median;
                NormExcess { z: log_ratio / centre.spread.max(SPREAD_FLOOR), log_ratio }
            });
        if self.log_norms.len() == NORM_HISTORY_MAX {
            self.log_norms.pop_front();
        }
        self.log_norms.push_back(log_norm);
        excess
    }
}
