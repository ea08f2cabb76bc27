//! The regime of a run: how fast its window changes, against its own past.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::config::{Bands, RegimeConfig, share_of};
use super::robust::Centre;
use super::{Detector, Finding, Regime};
use crate::edge::EdgeReading;

/// dk = 0 (the entering row equals the leaving one) has no logarithm; it counts as this.
const SMALLEST_DK: f64 = 1e-300;

/// A plateau reading and the number of the reading it was.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Past {
    reading: u64,
    x: f64,
}

/// Boundaries of x − m (adaptive) or of A0 (absolute), and what they rest on.
struct Boundaries {
    transition: f64,
    forgetting: f64,
    centre: Option<Centre>,
}

/// State of `edge.regime`: as [`RegimeConfig`] says, max(3, ⌊W/2⌋) readings in a row confirm a change, and a state held
/// for 4W readings is the new plateau.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct RegimeDetector {
    regime: Regime,
    /// Full-window readings so far, undefined ones included.
    readings: u64,
    /// Plateau readings, oldest first, the guarded ones at the end.
    past: VecDeque<Past>,
    /// Readings since the plateau was left, at most those that would become the new past.
    held: VecDeque<f64>,
    /// Number of the reading that confirmed the present regime.
    since: u64,
    /// The latest readings in a row that are all above the present regime, or all below it (at most as many as confirm).
    run: Vec<Classed>,
}

/// A reading and the regime that it alone would be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Classed {
    class: Regime,
    x: f64,
}

impl RegimeDetector {
    pub(crate) fn regime(&self) -> Regime {
        self.regime
    }

    /// Takes in a full-window reading.
    pub(crate) fn see(&mut self, reading: &EdgeReading, window: usize, config: &RegimeConfig) -> Option<Finding> {
        self.readings += 1;
        let value = match config.bands {
            Bands::Adaptive => reading.dk.map(|dk| dk.max(SMALLEST_DK).ln())?,
            Bands::Absolute => reading.instability?,
        };
        let boundaries = match config.bands {
            Bands::Adaptive => {
                self.remember(value, window, config);
                self.adaptive(window, config)?
            }
            Bands::Absolute => self.absolute(config),
        };
        let offset = value - boundaries.centre.map_or(0.0, |centre| centre.median);
        let class = if offset < boundaries.transition {
            Regime::Plateau
        } else if offset < boundaries.forgetting {
            Regime::Transition
        } else {
            Regime::Forgetting
        };
        let needed = (config.confirm_readings as usize).max(share_of(window, config.confirm_windows));
        if let Some(class) = self.confirm(class, value, needed) {
            // The boundary between the old and the new regime; the upper one when both were passed at once.
            let upper = class == Regime::Forgetting || (self.regime, class) == (Regime::Forgetting, Regime::Transition);
            let threshold = if upper { boundaries.forgetting } else { boundaries.transition };
            let values = self.run.drain(..).map(|reading| reading.x).collect();
            return Some(self.enter(class, values, threshold, config, boundaries.centre));
        }
        let lasted = self.readings - self.since >= u64::from(config.rebase_windows) * window as u64;
        if config.bands == Bands::Adaptive && self.excited() && lasted {
            return Some(self.rebase(value, boundaries, window, config));
        }
        None
    }

    /// The regime that enough readings in a row confirm: on one side of the present one, the nearest of theirs. A reading
    /// beyond the next regime is one for the next, too, or a value near the upper boundary would confirm neither.
    fn confirm(&mut self, class: Regime, x: f64, needed: usize) -> Option<Regime> {
        let side = class.cmp(&self.regime);
        if self.run.last().is_some_and(|last| last.class.cmp(&self.regime) != side) {
            self.run.clear();
        }
        if side.is_eq() {
            return None;
        }
        self.run.push(Classed { class, x });
        if self.run.len() < needed {
            return None;
        }
        let classes = self.run.iter().map(|reading| reading.class);
        if side.is_gt() { classes.min() } else { classes.max() }
    }

    /// Whether the regime is above the plateau. Warming counts as plateau: its readings become the first past.
    fn excited(&self) -> bool {
        matches!(self.regime, Regime::Transition | Regime::Forgetting)
    }

    /// Files x as past of the plateau, or as a candidate for the next one.
    fn remember(&mut self, x: f64, window: usize, config: &RegimeConfig) {
        let (store_most, guard) = (config.past_windows as usize * window, share_of(window, config.guard_windows));
        if self.excited() {
            self.held.push_back(x);
            if self.held.len() > config.rebase_past_windows as usize * window {
                self.held.pop_front();
            }
        } else {
            self.past.push_back(Past { reading: self.readings, x });
            if self.past.len() > store_most + guard {
                self.past.pop_front();
            }
        }
    }

    fn adaptive(&self, window: usize, config: &RegimeConfig) -> Option<Boundaries> {
        let guard = share_of(window, config.guard_windows) as u64;
        let known = self.past.partition_point(|past| past.reading + guard <= self.readings);
        if known < config.past_min_readings as usize {
            return None;
        }
        let most = config.past_windows as usize * window;
        let centre = Centre::of(self.past.iter().take(known).skip(known.saturating_sub(most)).map(|past| past.x))?;
        let limit = config
            .transition_ratio
            .ln()
            .max(config.spread_factor * centre.spread)
            .min(config.transition_ratio_max.ln());
        let back = config.hysteresis * limit;
        let upper = limit + config.forgetting_ratio.ln();
        Some(Boundaries {
            transition: if self.excited() { limit - back } else { limit },
            forgetting: if self.regime == Regime::Forgetting { upper - back } else { upper },
            centre: Some(centre),
        })
    }

    /// Fixed bands of A0, lower by the same share on the way back.
    fn absolute(&self, config: &RegimeConfig) -> Boundaries {
        let back = 1.0 - config.hysteresis;
        let (low, high) = (config.absolute_plateau, config.absolute_forgetting);
        Boundaries {
            transition: if self.excited() { low * back } else { low },
            forgetting: if self.regime == Regime::Forgetting { high * back } else { high },
            centre: None,
        }
    }

    fn enter(
        &mut self,
        regime: Regime,
        values: Vec<f64>,
        threshold: f64,
        config: &RegimeConfig,
        centre: Option<Centre>,
    ) -> Finding {
        let from = std::mem::replace(&mut self.regime, regime);
        self.since = self.readings;
        if !self.excited() {
            self.held.clear();
        }
        let (reading, quantity) = match config.bands {
            Bands::Adaptive => ("edge.dk", "ln edge.dk"),
            Bands::Absolute => ("edge.instability", "edge.instability"),
        };
        Finding {
            detector: Detector::EdgeRegime,
            regimes: Some((from, regime)),
            reading,
            quantity,
            confirmed: values.len() as u32,
            values,
            reference: centre.map(|centre| centre.median),
            spread: centre.map(|centre| centre.spread),
            threshold,
        }
    }

    /// The state held for so long is the new plateau, and its last readings the new past.
    fn rebase(&mut self, value: f64, boundaries: Boundaries, window: usize, config: &RegimeConfig) -> Finding {
        let last = self.readings;
        let count = self.held.len() as u64;
        let renumbered = (1..).zip(self.held.drain(..)).map(|(at, x)| Past { reading: last - count + at, x });
        self.past = renumbered.collect();
        // Readings in a row count against one past only.
        self.window_restarted();
        let mut finding = self.enter(Regime::Plateau, vec![value], boundaries.transition, config, boundaries.centre);
        finding.confirmed = config.rebase_windows * window as u32;
        finding
    }

    /// Readings on the two sides of a hole are not in a row; the past and the regime stay.
    pub(crate) fn window_restarted(&mut self) {
        self.run.clear();
    }
}
