//! What a reading says only by comparing with the readings before it.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{BatchKind, DeadDirectionsReading};

/// Readings that are compared, the newest among them.
const READINGS: usize = 20;
/// Fewest readings that have a slope \[ours\].
const SLOPE_MIN_READINGS: usize = 5;
/// A slope over a narrower range of ln `lambda_min` is noise \[ours\].
const SLOPE_MIN_SPAN: f64 = 0.5;

/// The last 20 readings of one layer.
///
/// Invariant: a pure function of the reading sequence, also when it was serialised and read back in between. A reading
/// that was refused or skipped says nothing and breaks nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// Oldest first, all of one width.
    seen: VecDeque<Seen>,
}

/// What later readings need of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Seen {
    width: u64,
    batch: BatchKind,
    kept: u64,
    lambda_min: f64,
    logdet: f64,
    sigma_min_kept: Option<f64>,
}

impl Seen {
    /// None of a reading that says nothing.
    fn of(reading: &DeadDirectionsReading) -> Option<Self> {
        Some(Self {
            width: reading.width?,
            batch: reading.batch?,
            kept: reading.kept?,
            lambda_min: reading.lambda_min?,
            logdet: reading.logdet?,
            sigma_min_kept: reading.sigma_min_kept,
        })
    }
}

impl History {
    /// Takes in a reading and fills `structural_correlation`, `count_slope`, `kept_changed` and `batch_changed`; the latter
    /// two are none in the first reading. A layer whose width changes begins again: widths are not to be compared.
    pub fn complete(&mut self, reading: &mut DeadDirectionsReading) {
        let Some(now) = Seen::of(reading) else { return };
        if self.seen.back().is_some_and(|before| before.width != now.width) {
            self.seen.clear();
        }
        let before = self.seen.back();
        reading.kept_changed = before.map(|before| before.kept != now.kept);
        reading.batch_changed = before.map(|before| before.batch != now.batch);
        if self.seen.len() == READINGS {
            self.seen.pop_front();
        }
        self.seen.push_back(now);
        reading.structural_correlation = self.structural_correlation();
        reading.count_slope = self.count_slope(now.kept);
    }

    /// Spearman correlation of `lambda_min` with `sigma_min_kept`², whose ranks are those of `sigma_min_kept` \[source\]. None
    /// when either is constant.
    fn structural_correlation(&self) -> Option<f64> {
        let (lambda_min, sigma_min): (Vec<f64>, Vec<f64>) =
            self.seen.iter().filter_map(|seen| Some((seen.lambda_min, seen.sigma_min_kept?))).unzip();
        let (x, y) = (average_ranks(&lambda_min), average_ranks(&sigma_min));
        let (xx, xy, yy) = centred_products(x.iter().copied().zip(y.iter().copied()));
        (xx > 0.0 && yy > 0.0).then(|| (xy / (xx * yy).sqrt()).clamp(-1.0, 1.0))
    }

    /// Least-squares slope of `logdet` on ln `lambda_min` over the readings since `kept` last changed \[ours: the t-free
    /// form of the source's slope\].
    fn count_slope(&self, kept: u64) -> Option<f64> {
        let unbroken = || {
            let unbroken = self.seen.iter().rev().take_while(move |seen| seen.kept == kept);
            unbroken.map(|seen| (seen.lambda_min.ln(), seen.logdet))
        };
        let (low, high) =
            unbroken().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), (x, _)| (low.min(x), high.max(x)));
        if unbroken().count() < SLOPE_MIN_READINGS || high - low < SLOPE_MIN_SPAN {
            return None;
        }
        let (xx, xy, _) = centred_products(unbroken());
        Some(xy / xx)
    }
}

/// Ranks from 1; equal values share the mean of theirs.
fn average_ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut below = 0;
    for equal in order.chunk_by(|a, b| values[*a] == values[*b]) {
        for at in equal {
            ranks[*at] = below as f64 + 0.5 * (equal.len() + 1) as f64;
        }
        below += equal.len();
    }
    ranks
}

/// Σ(x−x̄)², Σ(x−x̄)(y−ȳ), Σ(y−ȳ)².
fn centred_products(points: impl Iterator<Item = (f64, f64)> + Clone) -> (f64, f64, f64) {
    let n = points.clone().count() as f64;
    let (sum_x, sum_y) = points.clone().fold((0.0, 0.0), |(sx, sy), (x, y)| (sx + x, sy + y));
    let (mean_x, mean_y) = (sum_x / n, sum_y / n);
    points.fold((0.0, 0.0, 0.0), |(xx, xy, yy), (x, y)| {
        let (x, y) = (x - mean_x, y - mean_y);
        (xx + x * x, xy + x * y, yy + y * y)
    })
}
