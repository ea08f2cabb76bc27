//! The directions that are read: above the numerical rank, in order, with near ties averaged.

use super::CurvatureSnapshot;

/// sigma_k above this share of sigma_1 are kept \[source\].
const NUMERICAL_RANK: f64 = 1e-5;

/// Singular values that differ by less than this share have no directions of their own \[source\].
const NEAR_TIE: f64 = 1e-3;

/// The K_eff directions above the numerical rank, sigma decreasing.
///
/// Invariant: every fit, count and sum of the instrument is taken over these, never over what was trimmed: a layer's
/// gradient often has a rank far below K (that of a head of c classes is c − 1), and singular values of rounding noise
/// would rule the slopes.
pub(super) struct KeptDirections {
    /// Their place in the snapshot.
    pub(super) place: Vec<usize>,
    /// sigma_k, all positive.
    pub(super) sigma: Vec<f64>,
    /// h_k; within a near tie its mean, since any rotation of those u_k, v_k is as good a choice.
    pub(super) curvature: Vec<f64>,
    /// Number of the near tie that k is in, increasing; a direction without one has its own.
    tie: Vec<usize>,
}

impl KeptDirections {
    /// `snapshot` is one that passed its check.
    pub(super) fn of(snapshot: &CurvatureSnapshot) -> Self {
        let mut place: Vec<usize> = (0..snapshot.sigma.len()).collect();
        place.sort_by(|a, b| snapshot.sigma[*b].total_cmp(&snapshot.sigma[*a]));
        let largest = place.first().map_or(0.0, |first| snapshot.sigma[*first]);
        place.retain(|at| snapshot.sigma[*at] > NUMERICAL_RANK * largest);
        let sigma: Vec<f64> = place.iter().map(|at| snapshot.sigma[*at]).collect();
        let tie = near_ties(&sigma);
        let curvature = place.iter().map(|at| snapshot.curvature[*at]).collect();
        Self { curvature: average_ties(curvature, &tie), place, sigma, tie }
    }

    /// K_eff.
    pub(super) fn count(&self) -> usize {
        self.sigma.len()
    }

    /// Whether the directions `places` (increasing) share one near tie, so that nothing can be regressed on their sigma.
    pub(super) fn are_one_tie(&self, places: &[usize]) -> bool {
        match places {
            [first, .., last] => self.tie[*first] == self.tie[*last],
            _ => true,
        }
    }
}

/// |sigma_k − sigma_{k+1}| < 1e−3·sigma_k, chained.
fn near_ties(sigma: &[f64]) -> Vec<usize> {
    let mut ties = 0;
    (0..sigma.len())
        .map(|k| {
            if k > 0 && sigma[k - 1] - sigma[k] >= NEAR_TIE * sigma[k - 1] {
                ties += 1;
            }
            ties
        })
        .collect()
}

fn average_ties(mut values: Vec<f64>, tie: &[usize]) -> Vec<f64> {
    let mut rest = values.as_mut_slice();
    for members in tie.chunk_by(|a, b| a == b) {
        let (group, behind) = rest.split_at_mut(members.len());
        if let [_, _, ..] = group {
            let count = group.len() as f64;
            let least = group.iter().copied().fold(f64::INFINITY, f64::min);
            let largest = group.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            // Divided first: the sum of huge values must not overflow. At either end of the range that rounds to more or
            // less than any member; a mean is never outside them.
            let mean: f64 = group.iter().map(|value| value / count).sum();
            group.fill(mean.clamp(least, largest));
        }
        rest = behind;
    }
    values
}
