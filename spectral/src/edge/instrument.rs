//! From dot products to a reading.

use super::noise::{bbp_ratio, noise_edge, noise_edge_mean};
use super::position::{PositionRule, positions, ratio};
use super::spectrum::{FOLLOWED_MODES, Solver, Spectrum};
use super::{EdgeParams, EdgeReading};

/// Two eigenvalues closer than this share of lambda_1 have no direction of their own.
const UNRESOLVED_GAP: f64 = 1e-6;

/// The edge instrument for one window length, with the spectrum of the window before.
///
/// Invariant: `previous` is either the spectrum of exactly the window one row back, or none; in the latter case it is
/// computed again from the same Gram entries and has the same bits.
#[derive(Debug)]
pub(super) struct Instrument {
    params: EdgeParams,
    rule: PositionRule,
    solver: Solver,
    previous: Option<Spectrum>,
}

impl Instrument {
    pub(super) fn new(params: EdgeParams) -> Self {
        Self { params, rule: PositionRule::default(), solver: Solver::new(params.window), previous: None }
    }

    /// k* is to be found by another rule.
    pub(super) fn set_rule(&mut self, rule: PositionRule) {
        self.rule = rule;
    }

    /// To be called whenever a row entered (or all left) without a reading.
    pub(super) fn forget_previous(&mut self) {
        self.previous = None;
    }

    /// The reading after a new row. `dot(i, j)` are the products of the rows of age i and j, age 0 the newest, for
    /// i, j < min(`rows`, W + 1); `rows` counts those since the window began.
    pub(super) fn read(
        &mut self,
        rows: usize,
        learning_rate: Option<f64>,
        dot: impl Fn(usize, usize) -> f64,
    ) -> EdgeReading {
        let window = self.params.window;
        let mut reading = EdgeReading::empty(window, rows.min(window) as u32, dot(0, 0).max(0.0).sqrt());
        if rows < window {
            return reading;
        }
        let previous = match self.previous.take() {
            Some(previous) => Some(previous),
            None if rows > window => self.solver.solve(|i, j| dot(window - i, window - j)),
            None => None,
        };
        reading.drift = drift(window, &dot);
        let Some(spectrum) = self.solver.solve(|i, j| dot(window - 1 - i, window - 1 - j)) else {
            return reading;
        };
        reading.sigma = Some(spectrum.sigma.clone());
        if spectrum.modes > 0 {
            describe_spectrum(&mut reading, &spectrum, &self.params, self.rule);
            if let Some(previous) = &previous {
                describe_change(&mut reading, previous, &spectrum, learning_rate, &dot);
            }
        }
        self.previous = Some(spectrum);
        reading
    }
}

/// sqrt(max(0, Σ_ij G_ij))/W.
fn drift(window: usize, dot: &impl Fn(usize, usize) -> f64) -> Option<f64> {
    let mut sum = 0.0;
    for i in 0..window {
        let mut below = 0.0;
        for j in 0..i {
            below += dot(i, j);
        }
        sum += dot(i, i) + 2.0 * below;
    }
    finite(sum.max(0.0).sqrt() / window as f64)
}

/// Everything that needs only the present window.
fn describe_spectrum(reading: &mut EdgeReading, spectrum: &Spectrum, params: &EdgeParams, rule: PositionRule) {
    let Spectrum { lambda, sigma, modes, .. } = spectrum;
    let edge = noise_edge(lambda, params.parameter_count);
    let edge_mean = noise_edge_mean(lambda, params.parameter_count, params.sketch_dim);
    let found = positions(sigma, lambda, edge, edge_mean);
    reading.modes = Some(*modes as u32);
    reading.position = found.by(rule);
    reading.position_plain = found.plain;
    reading.position_edge = found.edge;
    reading.position_edge_published = found.edge_published;
    reading.noise_edge = finite(edge);
    reading.noise_edge_mean = finite(edge_mean);
    reading.bbp_ratio = bbp_ratio(lambda, params.parameter_count).and_then(finite);
    reading.ratio_1 = ratio(sigma, 1);
    reading.ratio_2 = ratio(sigma, 2);
    reading.ratio_3 = ratio(sigma, 3);
    if let Some(k) = reading.position {
        let k = k as usize;
        reading.ratio = ratio(sigma, k);
        reading.gap = Some(sigma[k - 1] - sigma[k]);
    }
    let total: f64 = lambda.iter().sum();
    let shares = || lambda.iter().map(|l| l / total).filter(|q| *q > 0.0);
    reading.gap23 = Some(lambda[1] - lambda[2]);
    reading.gap23_rel = finite((lambda[1] - lambda[2]) / total);
    reading.pc1 = finite(lambda[0] / total);
    reading.entropy_rank = finite((-shares().map(|q| q * q.ln()).sum::<f64>()).exp());
    reading.participation = finite(1.0 / shares().map(|q| q * q).sum::<f64>());
    reading.k95 = Some(modes_for_share(lambda, total, 0.95));
}

/// Least number of leading eigenvalues whose sum reaches `share` of the total.
fn modes_for_share(lambda: &[f64], total: f64, share: f64) -> u32 {
    let mut sum = 0.0;
    for (count, l) in (1..).zip(lambda) {
        sum += l;
        if sum / total >= share {
            return count;
        }
    }
    lambda.len() as u32
}

/// Everything that compares with the window one row back. `reading` already describes the present spectrum.
fn describe_change(
    reading: &mut EdgeReading,
    previous: &Spectrum,
    spectrum: &Spectrum,
    learning_rate: Option<f64>,
    dot: &impl Fn(usize, usize) -> f64,
) {
    let window = spectrum.lambda.len();
    let change = gram_change(dot(0, 0), dot(window, window), dot(0, window));
    let spectral = distance(&spectrum.lambda, &previous.lambda);
    reading.gram_change = finite(change);
    reading.gram_change_spectral = finite(spectral);
    reading.alpha = Some(alpha(&spectrum.lambda, spectrum.modes, change));
    reading.alpha_spectral = Some(alpha(&spectrum.lambda, spectrum.modes, spectral));
    if let (Some(k), Some(gap)) = (reading.position, reading.gap)
        && gap > 0.0
    {
        let k = k as usize;
        let instability = change / gap / gap;
        reading.instability = finite(instability);
        reading.dk = finite(change / (spectrum.lambda[k - 1] - spectrum.lambda[k]));
        reading.adiabatic = learning_rate.filter(|eta| *eta > 0.0).and_then(|eta| finite(instability / eta));
    }
    reading.overlap = Some(std::array::from_fn(|j| overlap(j, previous, spectrum, dot)));
    reading.overlap_unresolved =
        std::array::from_fn(|j| unresolved(&previous.lambda, j) || unresolved(&spectrum.lambda, j));
}

/// ‖ΔXᵀX‖_F = sqrt((a−b)² + 2(ab−c²)) for a = ‖entering row‖², b = ‖leaving row‖², c their product \[ours, exact\].
/// Squares are taken relative to the larger norm, so nothing overflows that the result would not.
fn gram_change(a: f64, b: f64, c: f64) -> f64 {
    let scale = a.max(b);
    if scale == 0.0 {
        return 0.0;
    }
    let (a, b, c) = (a / scale, b / scale, c / scale);
    scale * ((a - b) * (a - b) + 2.0 * (a * b - c * c)).max(0.0).sqrt()
}

/// Euclidean distance of two vectors, safe from overflow and underflow of the squares.
fn distance(x: &[f64], y: &[f64]) -> f64 {
    let largest = x.iter().zip(y).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    if largest == 0.0 {
        return 0.0;
    }
    largest * x.iter().zip(y).map(|(a, b)| ((a - b) / largest).powi(2)).sum::<f64>().sqrt()
}

/// max(0, 1 − change²/gap_j²), gap_j the distance of lambda_j to its nearest neighbour; 0 when that is 0, none beyond
/// `modes`. `lambda` is descending.
pub(super) fn alpha(lambda: &[f64], modes: usize, change: f64) -> [Option<f64>; 3] {
    std::array::from_fn(|j| {
        let separation = neighbour_gap(lambda, j);
        (j < modes).then(|| if separation > 0.0 { (1.0 - (change / separation).powi(2)).max(0.0) } else { 0.0 })
    })
}

/// Distance of lambda_j (0-based) to the nearer neighbour: in a sorted list, to every other eigenvalue.
fn neighbour_gap(lambda: &[f64], j: usize) -> f64 {
    let above = if j > 0 { lambda[j - 1] - lambda[j] } else { f64::INFINITY };
    let below = lambda.get(j + 1).map_or(f64::INFINITY, |next| lambda[j] - next);
    above.min(below)
}

fn unresolved(lambda: &[f64], j: usize) -> bool {
    neighbour_gap(lambda, j) < UNRESOLVED_GAP * lambda[0]
}

/// |⟨v_j(t−1), v_j(t)⟩| = |u_j(t−1)ᵀ [X(t−1)X(t)ᵀ] u_j(t)|/(sigma_j(t−1) sigma_j(t)), j 0-based \[source\]. None when
/// either window has no such mode.
fn overlap(j: usize, previous: &Spectrum, spectrum: &Spectrum, dot: &impl Fn(usize, usize) -> f64) -> Option<f64> {
    debug_assert!(j < FOLLOWED_MODES);
    if j >= previous.modes.min(spectrum.modes) {
        return None;
    }
    let window = spectrum.lambda.len();
    let mut sum = 0.0;
    for (i, before) in previous.vector(j).iter().enumerate() {
        let mut row = 0.0;
        for (k, now) in spectrum.vector(j).iter().enumerate() {
            // Row i of the window before has age W − i now; row k of the present one has age W − 1 − k.
            row += dot(window - i, window - 1 - k) * now;
        }
        sum += before * row;
    }
    finite((sum / previous.sigma[j] / spectrum.sigma[j]).abs()).map(|overlap| overlap.min(1.0))
}

/// The value, unless it is NaN or infinite.
fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}
