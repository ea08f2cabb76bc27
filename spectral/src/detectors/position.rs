//! A lasting change of the position where the spectrum breaks.

use serde::{Deserialize, Serialize};

use super::config::{PositionConfig, share_of};
use super::{Detector, Finding};
use crate::edge::{EdgeReading, mass_score};

/// State of `edge.position_change`: one same k* (rule `mass`) other than the confirmed one, its score above 1.5 × the
/// score now at the confirmed position, for max(3, ⌊W/2⌋) readings in a row.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct PositionChange {
    /// The first position seen, then the last one confirmed.
    confirmed: Option<u32>,
    candidate: Option<u32>,
    run: u32,
}

impl PositionChange {
    /// Takes in a full-window reading.
    pub(crate) fn see(&mut self, reading: &EdgeReading, window: usize, config: &PositionConfig) -> Option<Finding> {
        let (Some(position), Some(sigma)) = (reading.position, &reading.sigma) else {
            self.window_restarted();
            return None;
        };
        let confirmed = *self.confirmed.get_or_insert(position);
        let stands_out =
            position != confirmed && mass_score(sigma, position) > config.margin * mass_score(sigma, confirmed);
        if !stands_out {
            self.window_restarted();
            return None;
        }
        self.run = if self.candidate == Some(position) { self.run + 1 } else { 1 };
        self.candidate = Some(position);
        let need = (config.confirm_readings as usize).max(share_of(window, config.confirm_windows));
        if (self.run as usize) < need {
            return None;
        }
        let run = self.run;
        self.confirmed = Some(position);
        self.window_restarted();
        Some(Finding {
            detector: Detector::PositionChange,
            regimes: None,
            reading: "edge.position",
            quantity: "edge.position",
            values: vec![f64::from(position)],
            reference: Some(f64::from(confirmed)),
            spread: None,
            // Any other position is a change; the score's margin is checked before.
            threshold: 0.0,
            confirmed: run,
        })
    }

    /// Readings on the two sides of a hole are not in a row; the confirmed position stays.
    pub(crate) fn window_restarted(&mut self) {
        self.candidate = None;
        self.run = 0;
    }
}
