//! A reading that leaves its own past: the rule of `edge.gap_opening` and `edge.gap_collapse`.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::config::{GapConfig, share_of};
use super::robust::Centre;
use super::{Detector, Finding};

/// The furthest point since the last event, and its direction.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Furthest {
    x: f64,
    rose: bool,
}

/// State of the rule for one quantity x (a logarithm).
///
/// With m, s the median and 1.4826·MAD of the readings that ended at least ⌊W/2⌋ ago (at most 8W, at least 10, none
/// before the last event): an event when |x − m| > max(ln 2, 4s) for 3 readings on one side. The past is then forgotten;
/// until 10 new readings exist only a reversal can fire, against the furthest point since the event, same threshold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Shift {
    /// Readings since the last event (its confirming ones included), oldest first, the guarded ones at the end.
    past: VecDeque<f64>,
    /// Readings in a row beyond the threshold on one side.
    run: Vec<f64>,
    rising: bool,
    /// The last threshold that was computed from a past.
    threshold: f64,
    furthest: Option<Furthest>,
}

impl Shift {
    /// Takes in a reading. Undefined readings are not shown to it and do not count.
    pub(crate) fn see(
        &mut self,
        x: f64,
        names: (&'static str, &'static str),
        window: usize,
        config: &GapConfig,
    ) -> Option<Finding> {
        let guard = share_of(window, config.guard_windows);
        let most = config.past_windows as usize * window;
        self.past.push_back(x);
        if self.past.len() > most + guard {
            self.past.pop_front();
        }
        let (reference, spread) = self.compare_with(x, guard, most, config)?;
        let offset = x - reference;
        if offset.abs() > self.threshold {
            if self.rising != (offset > 0.0) {
                self.run.clear();
            }
            self.rising = offset > 0.0;
            self.run.push(x);
        } else {
            self.run.clear();
        }
        if self.run.len() < config.confirm_readings as usize {
            return None;
        }
        let values = std::mem::take(&mut self.run);
        self.past.drain(..self.past.len().saturating_sub(values.len()));
        self.furthest = Some(Furthest { x, rose: self.rising });
        Some(Finding {
            detector: if self.rising { Detector::GapOpening } else { Detector::GapCollapse },
            regimes: None,
            reading: names.0,
            quantity: names.1,
            confirmed: values.len() as u32,
            values,
            reference: Some(reference),
            spread,
            threshold: self.threshold,
        })
    }

    /// What x is compared with: the past's median (and its spread), or the furthest point while the past is too short.
    fn compare_with(&mut self, x: f64, guard: usize, most: usize, config: &GapConfig) -> Option<(f64, Option<f64>)> {
        let known = self.past.len().saturating_sub(guard);
        if known >= config.past_min_readings as usize {
            let baseline = self.past.iter().take(known).skip(known.saturating_sub(most)).copied();
            let centre = Centre::of(baseline)?;
            self.threshold = config.ratio.ln().max(config.spread_factor * centre.spread);
            self.furthest = None;
            return Some((centre.median, Some(centre.spread)));
        }
        let furthest = self.furthest.as_mut()?;
        furthest.x = if furthest.rose { furthest.x.max(x) } else { furthest.x.min(x) };
        Some((furthest.x, None))
    }

    /// Readings on the two sides of a hole are not in a row.
    pub(crate) fn window_restarted(&mut self) {
        self.run.clear();
    }
}
