//! A lasting change of the number of dead directions of a layer.

use serde::{Deserialize, Serialize};

use super::layer_config::CountChangeConfig;
use super::{Detector, Finding};
use crate::dead_directions::DeadDirectionsReading;

/// What the readings in a row agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Candidate {
    count: u64,
    kept: u64,
}

/// State of `dead_directions.count_change` \[ours\]: one same count_gap other than the confirmed one for 3 readings in a
/// row, with `kept` unchanged among them; gap_nats > 3 in each for a count of at least 1, gap_nats < 2 for a count of 0.
///
/// The first count is confirmed by as many readings, and is no event.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct CountChange {
    confirmed: Option<u64>,
    candidate: Option<Candidate>,
    run: u32,
}

impl CountChange {
    /// Takes in a reading. One without a count is not seen, and breaks no row.
    pub(crate) fn see(&mut self, reading: &DeadDirectionsReading, config: &CountChangeConfig) -> Option<Finding> {
        let (count, gap_nats, kept) = (reading.count_gap?, reading.gap_nats?, reading.kept?);
        let is_clear = if count == 0 { gap_nats < config.gap_below } else { gap_nats > config.gap_above };
        if self.confirmed == Some(count) || !is_clear {
            self.candidate = None;
            return None;
        }
        let candidate = Candidate { count, kept };
        self.run = if self.candidate == Some(candidate) { self.run + 1 } else { 1 };
        self.candidate = Some(candidate);
        if self.run < config.confirm_readings {
            return None;
        }
        self.candidate = None;
        let before = self.confirmed.replace(count)?;
        Some(Finding {
            detector: Detector::DeadCountChange,
            regimes: None,
            reading: "dead_directions.count_gap",
            quantity: "dead_directions.count_gap",
            values: vec![count as f64],
            reference: Some(before as f64),
            spread: None,
            // Any other count is a change; gap_nats is checked before.
            threshold: 0.0,
            confirmed: self.run,
        })
    }
}
