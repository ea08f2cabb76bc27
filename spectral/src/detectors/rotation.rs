//! A stable leading direction that is replaced from one window to the next.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::config::{RotationConfig, share_of};
use super::robust::median_of;
use super::{Detector, Finding};
use crate::edge::EdgeReading;

/// State of `edge.rotation`: overlap_1 < 0.5 in one reading (a direction that is replaced is replaced in one step),
/// while ratio_1 of each of the previous W + 1 readings > 2 and the median of the previous W overlaps > 0.9; then W
/// readings of rest. A single large update leads for W readings, and not for one more.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rotation {
    /// The previous overlaps of consecutive readings, at most W.
    overlaps: VecDeque<f64>,
    /// Readings in a row, up to the previous one, whose leading direction stood out.
    resolved: u32,
    /// Readings of rest that are left.
    rest: u32,
}

impl Rotation {
    /// Takes in a full-window reading. One whose overlap is undefined or unresolved breaks the row of overlaps.
    pub(crate) fn see(&mut self, reading: &EdgeReading, window: usize, config: &RotationConfig) -> Option<Finding> {
        let was_resolved = self.resolved as usize > share_of(window, config.stood_out_windows);
        self.resolved = if stands_out(reading, config) { self.resolved.saturating_add(1) } else { 0 };
        let rests = self.rest > 0;
        self.rest = self.rest.saturating_sub(1);
        let overlap = reading.overlap.as_ref().and_then(|overlap| overlap[0]);
        let Some(overlap) = overlap.filter(|_| !reading.overlap_unresolved[0]) else {
            self.overlaps.clear();
            return None;
        };
        let median = if self.overlaps.len() == window {
            median_of(&mut self.overlaps.iter().copied().collect::<Vec<_>>())
        } else {
            None
        };
        if self.overlaps.len() == window {
            self.overlaps.pop_front();
        }
        self.overlaps.push_back(overlap);
        let median = median.filter(|median| *median > config.stable_above)?;
        if rests || !was_resolved || overlap >= config.overlap_below {
            return None;
        }
        self.rest = config.rest_windows * window as u32;
        Some(Finding {
            detector: Detector::Rotation,
            regimes: None,
            reading: "edge.overlap_1",
            quantity: "edge.overlap_1",
            values: vec![overlap],
            reference: Some(median),
            spread: None,
            threshold: median - config.overlap_below,
            confirmed: 1,
        })
    }

    /// An overlap needs two consecutive windows, and the row of them must have no hole.
    pub(crate) fn window_restarted(&mut self) {
        self.overlaps.clear();
        self.resolved = 0;
    }
}

/// ratio_1 above the threshold; a single mode stands out infinitely.
fn stands_out(reading: &EdgeReading, config: &RotationConfig) -> bool {
    reading.modes == Some(1) || reading.ratio_1.is_some_and(|ratio| ratio > config.ratio_above)
}
