//! Where the spectrum breaks: the four rules for k*.

/// k* by every rule, 1-based; none where the rule has no candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Positions {
    pub(super) mass: Option<u32>,
    pub(super) plain: Option<u32>,
    pub(super) edge: Option<u32>,
    pub(super) edge_published: Option<u32>,
}

/// sigma_j / sigma_{j+1}, j 1-based; none when sigma_{j+1} is 0 or there is none.
pub(super) fn ratio(sigma: &[f64], j: usize) -> Option<f64> {
    let (above, below) = (*sigma.get(j.checked_sub(1)?)?, *sigma.get(j)?);
    (below > 0.0).then(|| above / below).filter(|ratio| ratio.is_finite())
}

/// sigma_j / sigma_{j+1} for j ≤ min(modes, W−1); infinite at the last non-zero mode, which therefore ranks first.
fn plain_scores(sigma: &[f64]) -> impl Iterator<Item = f64> {
    let modes = sigma.iter().take_while(|s| **s > 0.0).count();
    // sigma_j > 0 for every j ≤ modes, so the only zero divisor is at j = modes and gives infinity, never NaN.
    sigma.windows(2).take(modes).map(|pair| pair[0] / pair[1])
}

/// (sigma_j / Σ sigma)·(sigma_j / sigma_{j+1}): the default rule `mass` \[source's code\].
fn mass_scores(sigma: &[f64]) -> impl Iterator<Item = f64> {
    let total: f64 = sigma.iter().sum();
    plain_scores(sigma).zip(sigma).map(move |(ratio, s)| ratio * (s / total))
}

/// The score of rule `mass` at position k (1-based): 0 beyond the positions that can be ranked, infinite where
/// sigma_{k+1} = 0.
pub(crate) fn mass_score(sigma: &[f64], k: u32) -> f64 {
    mass_scores(sigma).nth((k as usize).saturating_sub(1)).unwrap_or(0.0)
}

/// First maximum of the scores, 1-based.
fn first_maximum(scores: impl Iterator<Item = f64>) -> Option<u32> {
    let mut best: Option<(u32, f64)> = None;
    for (at, score) in (1..).zip(scores) {
        if best.is_none_or(|(_, highest)| score > highest) {
            best = Some((at, score));
        }
    }
    best.map(|(at, _)| at)
}

/// All four rules. `sigma` and `lambda` are descending and as long as the window.
pub(super) fn positions(sigma: &[f64], lambda: &[f64], noise_edge: f64, noise_edge_mean: f64) -> Positions {
    let above = |edge: f64| lambda.iter().filter(|l| **l > edge).count();
    Positions {
        mass: first_maximum(mass_scores(sigma)),
        plain: first_maximum(plain_scores(sigma)),
        edge: first_maximum(plain_scores(sigma).take(above(noise_edge_mean))),
        edge_published: first_maximum(plain_scores(sigma).take(above(noise_edge))),
    }
}
