//! How well the terms that a job sends explain how its gap moves (2603.28964, Theorem 14.2; the fits are ours).

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// dg/dt that varies by no more than this share of itself does not vary: the rest is rounding.
const CONSTANT: f64 = 1e-12;
/// A term is left out of the free fit when the terms before it leave less than this share of it.
const DEPENDENT: f64 = 1e-10;

/// Shares of the variance of dg/dt that the three terms explain. All finite.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct TermsFit {
    /// With the theorem's coefficients, which are 1: 1 − Σ(dg/dt − ΣT)²/Σ(dg/dt − mean)²; negative when they explain less
    /// than the mean does.
    pub(crate) r2_unit: Option<f64>,
    /// The same with the least-squares coefficients, without a constant, so that it is never below `r2_unit`.
    pub(crate) r2_free: Option<f64>,
}

/// Terms and the dg/dt around them, of the last 4W readings that have both, without a hole.
///
/// Invariant: dg/dt is the central difference over the readings before and after, at the position that the terms are
/// about. So the newest reading's is not known yet, and that of the first reading of a window never is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct FlowTerms {
    newest: Option<Newest>,
    points: VecDeque<Point>,
}

/// Terms whose dg/dt waits for the next reading.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Newest {
    position: u32,
    terms: [f64; 3],
    /// Step of the reading before, and its gap at the position.
    step_before: u64,
    gap_before: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Point {
    position: u32,
    terms: [f64; 3],
    /// dg/dt per optimizer step.
    slope: f64,
}

impl FlowTerms {
    /// Takes in the spectrum of the reading at `step`, and the terms, if it has them, with their position. `before` are the
    /// step of the reading before, if it belongs to the same stretch, and its gap at that position.
    pub(crate) fn push(
        &mut self,
        before: Option<(u64, f64)>,
        step: u64,
        sigma: &[f64],
        terms: Option<(u32, [f64; 3])>,
    ) {
        if let Some(Newest { position, terms, step_before, gap_before }) = self.newest.take()
            && let Some(gap) = gap_at(sigma, position)
        {
            if self.points.len() == 4 * sigma.len() {
                self.points.pop_front();
            }
            let slope = (gap - gap_before) / (step - step_before) as f64;
            self.points.push_back(Point { position, terms, slope });
        }
        if let (Some((step_before, gap_before)), Some((position, terms))) = (before, terms) {
            self.newest = Some(Newest { position, terms, step_before, gap_before });
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.newest = None;
        self.points.clear();
    }

    /// The fits over the points of one position: gaps at different positions differ in more than the terms. None for
    /// fewer than `fewest` of them, or when dg/dt did not vary.
    pub(crate) fn fit(&self, position: u32, fewest: usize) -> TermsFit {
        let points: Vec<&Point> = self.points.iter().filter(|point| point.position == position).collect();
        let scale = points.iter().map(|point| point.slope.abs()).fold(0.0, f64::max);
        if points.len() < fewest || scale == 0.0 {
            return TermsFit::default();
        }
        // Relative to the largest slope, so that no square overflows or vanishes that the result would not.
        let slopes: Vec<f64> = points.iter().map(|point| point.slope / scale).collect();
        let mean = slopes.iter().sum::<f64>() / slopes.len() as f64;
        let total: f64 = slopes.iter().map(|slope| (slope - mean).powi(2)).sum();
        if total <= CONSTANT * CONSTANT * slopes.len() as f64 {
            return TermsFit::default();
        }
        let unexplained = points.iter().zip(&slopes).map(|(point, slope)| {
            let sum: f64 = point.terms.iter().map(|term| term / scale).sum();
            (slope - sum).powi(2)
        });
        let share = |rest: f64| Some(1.0 - rest / total).filter(|share| share.is_finite());
        let columns = [0, 1, 2].map(|term| points.iter().map(|point| point.terms[term]).collect());
        TermsFit { r2_unit: share(unexplained.sum()), r2_free: share(dot_self(&residual(slopes.clone(), columns))) }
    }
}

/// sigma_k − sigma_{k+1}, k 1-based.
fn gap_at(sigma: &[f64], k: u32) -> Option<f64> {
    let k = k as usize;
    Some(sigma.get(k.checked_sub(1)?)? - sigma.get(k)?)
}

/// What is left of `values` after their least-squares fit on the columns: they are made orthogonal one after the other,
/// twice, which keeps the rounding of a nearly dependent one out of the answer. A dependent one adds nothing.
fn residual(mut values: Vec<f64>, columns: [Vec<f64>; 3]) -> Vec<f64> {
    let mut basis: Vec<Vec<f64>> = Vec::new();
    for mut column in columns {
        let largest = column.iter().map(|value| value.abs()).fold(0.0, f64::max);
        if largest == 0.0 {
            continue;
        }
        column.iter_mut().for_each(|value| *value /= largest);
        let before = dot_self(&column);
        for _ in 0..2 {
            basis.iter().for_each(|direction| remove(&mut column, direction));
        }
        let after = dot_self(&column);
        if after > DEPENDENT * DEPENDENT * before {
            let norm = after.sqrt();
            column.iter_mut().for_each(|value| *value /= norm);
            basis.push(column);
        }
    }
    basis.iter().for_each(|direction| remove(&mut values, direction));
    values
}

/// Takes the part along a unit vector away.
fn remove(values: &mut [f64], direction: &[f64]) {
    let along: f64 = values.iter().zip(direction).map(|(a, b)| a * b).sum();
    values.iter_mut().zip(direction).for_each(|(value, unit)| *value -= along * unit);
}

fn dot_self(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum()
}
