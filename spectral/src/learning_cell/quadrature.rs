//! 200-point Gauss–Hermite quadrature for the standard normal distribution, computed once.

use std::sync::LazyLock;

use faer::Mat;

use super::{activation::DEGREES, spectrum};

const POINTS: usize = 200;

/// One point of the rule.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    pub(super) at: f64,
    pub(super) weight: f64,
    /// He_k(at)/sqrt(k!), k = 0…9: orthonormal.
    pub(super) hermite: [f64; DEGREES],
}

/// The rule: E[p(g)] is exact for polynomials up to degree 399.
pub(super) fn gauss_hermite() -> &'static [Node] {
    static RULE: LazyLock<Vec<Node>> = LazyLock::new(rule);
    &RULE
}

/// Nodes are the eigenvalues of the Jacobi matrix of the recurrence g·h_k = sqrt(k+1)·h_{k+1} + sqrt(k)·h_{k−1} (Golub and
/// Welsch), weights 1/Σ_k h_k².
fn rule() -> Vec<Node> {
    let jacobi = Mat::from_fn(POINTS, POINTS, |i, j| if i.abs_diff(j) == 1 { (i.max(j) as f64).sqrt() } else { 0.0 });
    // Of a matrix of our own: that the iteration converges on it is tested, and does not depend on input.
    let nodes = spectrum::eigenvalues(&jacobi).unwrap_or_default();
    let half: Vec<Node> = nodes.iter().rev().take(POINTS / 2).map(|at| node(*at)).collect();
    // The rule is symmetric; rounding of the eigenvalues must not make odd functions have a mean.
    half.iter().map(mirrored).chain(half.iter().rev().copied()).collect()
}

fn node(at: f64) -> Node {
    let mut hermite = [0.0; DEGREES];
    let (mut before, mut now, mut sum) = (0.0, 1.0, 0.0);
    for k in 0..POINTS {
        sum += now * now;
        if let Some(polynomial) = hermite.get_mut(k) {
            *polynomial = now;
        }
        let next = (at * now - (k as f64).sqrt() * before) / ((k + 1) as f64).sqrt();
        (before, now) = (now, next);
    }
    Node { at, weight: 1.0 / sum, hermite }
}

fn mirrored(node: &Node) -> Node {
    let mut mirror = Node { at: -node.at, ..*node };
    mirror.hermite.iter_mut().skip(1).step_by(2).for_each(|odd| *odd = -*odd);
    mirror
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_of_the_normal_distribution_are_exact() {
        assert_eq!(gauss_hermite().len(), POINTS);
        let mut expected = 1.0;
        for k in 0..20u32 {
            let moment: f64 = gauss_hermite().iter().map(|node| node.weight * node.at.powi(2 * k as i32)).sum();
            assert!((moment / expected - 1.0f64).abs() < 1e-11, "E g^{} = {moment}, not {expected}", 2 * k);
            expected *= f64::from(2 * k + 1);
        }
    }

    #[test]
    fn hermite_polynomials_are_orthonormal_under_it() {
        for i in 0..DEGREES {
            for j in 0..DEGREES {
                let product: f64 =
                    gauss_hermite().iter().map(|node| node.weight * node.hermite[i] * node.hermite[j]).sum();
                assert!((product - f64::from(u8::from(i == j))).abs() < 1e-12, "{i} {j} {product}");
            }
        }
    }
}
