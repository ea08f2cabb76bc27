//! Where the spectrum breaks: the four rules for k*.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Which rule says where the spectrum breaks: k*, on which `ratio`, `gap`, `instability`, `dk`, `adiabatic` and the gap
/// flow rest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PositionRule {
    /// The largest (sigma_j / Σ sigma)·(sigma_j / sigma_{j+1}) \[source's code\].
    #[default]
    Mass,
    /// The largest sigma_j / sigma_{j+1}.
    Plain,
    /// The same among the modes above the mean noise edge.
    Edge,
}

impl PositionRule {
    /// `mass`, `plain` or `edge`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mass => "mass",
            Self::Plain => "plain",
            Self::Edge => "edge",
        }
    }
}

impl FromStr for PositionRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [Self::Mass, Self::Plain, Self::Edge];
        let found = all.into_iter().find(|rule| rule.as_str() == text);
        found.ok_or_else(|| format!("unknown position rule {text:?}; one of mass, plain, edge"))
    }
}

/// k* by every rule, 1-based; none where the rule has no candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Positions {
    pub(super) mass: Option<u32>,
    pub(super) plain: Option<u32>,
    pub(super) edge: Option<u32>,
    pub(super) edge_published: Option<u32>,
}

impl Positions {
    /// k* by one of the rules.
    pub(super) fn by(&self, rule: PositionRule) -> Option<u32> {
        match rule {
            PositionRule::Mass => self.mass,
            PositionRule::Plain => self.plain,
            PositionRule::Edge => self.edge,
        }
    }
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
