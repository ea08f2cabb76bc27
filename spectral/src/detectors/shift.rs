//! A reading that leaves its own past: the rule of `edge.gap_opening`, `edge.gap_collapse` and `cascade.shift`.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::robust::Centre;
use super::{Detector, Finding};

/// What a [`Shift`] looks at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quantity {
    /// Metric name of the reading.
    pub(crate) reading: &'static str,
    /// What x is made from it.
    pub(crate) quantity: &'static str,
    /// Who says that x rose, and that it fell.
    pub(crate) rose: Detector,
    pub(crate) fell: Detector,
}

/// When a [`Shift`] speaks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ShiftRule {
    /// Least distance from the past's median that is an event.
    pub(crate) least_offset: f64,
    /// Least distance that `confirm` readings in a row confirm; a smaller one has to last. At least `least_offset`.
    pub(crate) sudden_offset: f64,
    /// Spreads off the median that are an event.
    pub(crate) spread_factor: f64,
    /// Readings in a row, on one side, that confirm a sudden event, and one that lasts.
    pub(crate) confirm: usize,
    pub(crate) confirm_lasting: usize,
    /// Least and most readings of past.
    pub(crate) past_min: usize,
    pub(crate) past_max: usize,
    /// Readings younger than this, of which the present one is 0 old, are no past yet.
    pub(crate) guard: usize,
}

/// The furthest point since the last event, and its direction.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Furthest {
    x: f64,
    rose: bool,
}

/// State of the rule for one quantity x.
///
/// With m, s the median and 1.4826·MAD of the past (the readings that are old enough, at most and at least so many, none
/// before the last event): an event when |x − m| > max(sudden offset, factor · s) for some readings in a row on one side,
/// or > max(least offset, factor · s) for more of them. The past is then forgotten; until there is enough of it again only
/// a reversal can fire, against the furthest point since the event, same thresholds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Shift {
    /// Readings since the last event (its confirming ones included), oldest first, the guarded ones at the end.
    past: VecDeque<f64>,
    /// Readings in a row beyond the lower threshold on one side, and how many of the latest are beyond the upper one.
    run: Vec<f64>,
    sudden: usize,
    rising: bool,
    /// The last thresholds that were computed from a past.
    threshold: f64,
    sudden_threshold: f64,
    furthest: Option<Furthest>,
}

impl Shift {
    /// Takes in a reading. Undefined readings are not shown to it and do not count.
    pub(crate) fn see(&mut self, x: f64, what: Quantity, rule: &ShiftRule) -> Option<Finding> {
        self.past.push_back(x);
        if self.past.len() > rule.past_max + rule.guard {
            self.past.pop_front();
        }
        let (reference, spread) = self.compare_with(x, rule)?;
        let offset = x - reference;
        if offset.abs() > self.threshold {
            if self.rising != (offset > 0.0) {
                self.window_restarted();
            }
            self.rising = offset > 0.0;
            self.run.push(x);
            self.sudden = if offset.abs() > self.sudden_threshold { self.sudden + 1 } else { 0 };
        } else {
            self.window_restarted();
        }
        let is_sudden = self.sudden >= rule.confirm;
        if !is_sudden && self.run.len() < rule.confirm_lasting {
            return None;
        }
        let confirmed = if is_sudden { self.sudden } else { self.run.len() };
        let values = self.run.split_off(self.run.len() - confirmed);
        self.window_restarted();
        self.past.drain(..self.past.len().saturating_sub(values.len()));
        self.furthest = Some(Furthest { x, rose: self.rising });
        Some(Finding {
            detector: if self.rising { what.rose } else { what.fell },
            regimes: None,
            reading: what.reading,
            quantity: what.quantity,
            confirmed: values.len() as u32,
            values,
            reference: Some(reference),
            spread,
            threshold: if is_sudden { self.sudden_threshold } else { self.threshold },
        })
    }

    /// What x is compared with: the past's median (and its spread), or the furthest point while the past is too short.
    fn compare_with(&mut self, x: f64, rule: &ShiftRule) -> Option<(f64, Option<f64>)> {
        let known = self.past.len().saturating_sub(rule.guard);
        if known >= rule.past_min {
            let baseline = self.past.iter().take(known).skip(known.saturating_sub(rule.past_max)).copied();
            let centre = Centre::of(baseline)?;
            self.threshold = rule.least_offset.max(rule.spread_factor * centre.spread);
            self.sudden_threshold = rule.sudden_offset.max(self.threshold);
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
        self.sudden = 0;
    }
}
