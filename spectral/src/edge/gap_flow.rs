//! The gap's own dynamics: dg/dt = a·g + b over recent readings (2603.28964, Theorem 14.2; the fit is ours).

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::flow_terms::{FlowTerms, TermsFit};

/// Fewest readings of an unbroken stretch that are fitted: max(10, 2W).
fn fewest_readings(window: usize) -> usize {
    (2 * window).max(10)
}

/// Result of the fit dg/dt = a·g + b. All finite.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct GapFlowFit {
    /// −a, per optimizer step. None when g did not vary.
    pub(crate) rate: Option<f64>,
    /// −b/a; none when a = 0.
    pub(crate) equilibrium: Option<f64>,
    /// Share of the variance of dg/dt the fit explains; none when dg/dt did not vary.
    pub(crate) r2: Option<f64>,
}

/// Spectra of the last 4W full-window readings without a hole.
///
/// Invariant: a central difference never spans a hole in the steps: a restart of the window forgets everything.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct GapFlow {
    /// Optimizer steps, ascending.
    steps: VecDeque<u64>,
    /// Singular values of those readings, one after the other, W each.
    sigma: VecDeque<f64>,
    terms: FlowTerms,
}

impl GapFlow {
    /// Takes in the spectrum (W singular values) of the reading at `step`, and the flow's terms if the job sent them: their
    /// position, curvature, damping and driving.
    pub(crate) fn push(&mut self, step: u64, sigma: &[f64], terms: Option<(u32, [f64; 3])>) {
        if self.steps.back().is_some_and(|last| *last >= step) {
            self.clear();
        }
        let window = sigma.len();
        let position = terms.map_or(0, |(position, _)| position as usize);
        let gap_before = (1..window).contains(&position).then(|| {
            let last = self.sigma.len().checked_sub(window)?;
            Some(self.sigma[last + position - 1] - self.sigma[last + position])
        });
        let before = self.steps.back().copied().zip(gap_before.flatten());
        self.terms.push(before, step, sigma, terms);
        if self.steps.len() == 4 * window {
            self.steps.pop_front();
            self.sigma.drain(..window);
        }
        self.steps.push_back(step);
        self.sigma.extend(sigma);
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.steps.clear();
        self.sigma.clear();
        self.terms.clear();
    }

    /// How well the terms explain dg/dt at position `k`.
    pub(crate) fn fit_terms(&self, window: usize, k: u32) -> TermsFit {
        self.terms.fit(k, fewest_readings(window))
    }

    /// Least squares of the central differences of g = sigma_k − sigma_{k+1} on g, at one fixed k (1-based, below W) for
    /// the whole stretch. No fit for fewer than max(10, 2W) readings.
    pub(crate) fn fit(&self, window: usize, k: u32) -> GapFlowFit {
        let count = self.steps.len();
        let k = k as usize;
        if count < fewest_readings(window) || k == 0 || k >= window {
            return GapFlowFit::default();
        }
        let gap = |at: usize| self.sigma[at * window + k - 1] - self.sigma[at * window + k];
        let inner = 1..count - 1;
        let points = || {
            inner.clone().map(|at| {
                let elapsed = (self.steps[at + 1] - self.steps[at - 1]) as f64;
                (gap(at), (gap(at + 1) - gap(at - 1)) / elapsed)
            })
        };
        let n = inner.len() as f64;
        let (sum_g, sum_slope) = points().fold((0.0, 0.0), |(x, y), (g, slope)| (x + g, y + slope));
        let (mean_g, mean_slope) = (sum_g / n, sum_slope / n);
        let (mut gg, mut gs, mut ss) = (0.0, 0.0, 0.0);
        for (g, slope) in points() {
            gg += (g - mean_g) * (g - mean_g);
            gs += (g - mean_g) * (slope - mean_slope);
            ss += (slope - mean_slope) * (slope - mean_slope);
        }
        let a = gs / gg;
        let b = mean_slope - a * mean_g;
        let finite = |x: f64| x.is_finite().then_some(x);
        GapFlowFit { rate: finite(-a), equilibrium: finite(-b / a), r2: finite(gs / gg * (gs / ss)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recovers_a_planted_flow() {
        // g(t) = 2 + 3·exp(−0.01 t): dg/dt = −0.01·(g − 2); sampled every 5 steps.
        let mut flow = GapFlow::default();
        for at in 0..40u64 {
            let step = 5 * at;
            let gap = 2.0 + 3.0 * (-0.01 * step as f64).exp();
            flow.push(step, &[10.0 + gap, 10.0, 1.0], None);
            let fit = flow.fit(3, 1);
            assert_eq!(fit.rate.is_some(), at >= 9, "reading {at}");
        }
        assert_eq!(flow.steps.len(), 12, "4W readings are kept");
        let fit = flow.fit(3, 1);
        // The central difference of an exponential is its derivative times sinh(h)/h, h = 0.05.
        let expected = 0.01 * 0.05f64.sinh() / 0.05;
        assert!((fit.rate.unwrap() - expected).abs() < 1e-9, "{fit:?}");
        assert!((fit.equilibrium.unwrap() - 2.0).abs() < 1e-6, "{fit:?}");
        assert!((fit.r2.unwrap() - 1.0).abs() < 1e-6, "{fit:?}");
        // At a position whose gap stands still there is nothing to fit.
        assert_eq!(flow.fit(3, 2), GapFlowFit::default());
        flow.push(195, &[3.0, 2.0, 1.0], None);
        assert_eq!(flow.steps.len(), 1, "a step that does not increase starts again");
    }
}
