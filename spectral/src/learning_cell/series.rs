//! K(s, t, c) as a series in c, for the bulk of the pairs of neurons: Σ_k A_k(s) A_k(t) c^k with A_k = sqrt(k!)·c_k in
//! closed form, up to degree 127 \[ours\].
//!
//! What a feature has beyond the last degree is put at the next degree of the same parity. So every norm is exact, the
//! kernel stays positive semidefinite, and what is wrong lies between features whose directions nearly, but not quite,
//! agree: at most 2.1e−4 of the product of the norms for ReLU, less than 1e−8 for smooth activations and ‖w‖ ≤ 2. Joins and
//! the energy of f are read off it; ranks and depths, which need more, are not.

use pulp::{Arch, Simd, WithSimd};

use super::kernel::{Form, sharpness};

/// Neurons whose terms lie beside each other.
pub(super) const LANES: usize = 8;
/// Odd degrees of a step, and even ones of a gate: up to 127 and 126.
const HALF_DEGREES: usize = 64;
/// The part of a squared norm that is rounding.
const ROUNDING: f64 = 1e-13;

/// The coefficients of all neurons, each divided by the feature's norm.
#[derive(Debug)]
pub(super) struct Series {
    /// By how much the degree grows from the term before.
    steps: Vec<u8>,
    /// neurons × terms.
    coefficients: Vec<f64>,
}

impl Series {
    /// `weight_norms` ‖w_i‖, `norms` those of the features.
    pub(super) fn new(form: Form, weight_norms: &[f64], norms: &[f64]) -> Self {
        let mut degrees = degrees(form);
        let mut rows: Vec<Vec<f64>> = Vec::with_capacity(norms.len());
        for (s, norm) in weight_norms.iter().zip(norms) {
            let row = terms(form, *s);
            rows.push(row.iter().map(|term| if *norm > 0.0 { term / norm } else { 0.0 }).collect());
        }
        // The terms that some neuron needs.
        let needed = |row: &Vec<f64>| {
            let mut rest = row.iter().map(|term| term * term).sum::<f64>();
            let last = row.iter().position(|term| {
                rest -= term * term;
                rest < ROUNDING
            });
            last.map_or(row.len(), |last| last + 1)
        };
        let kept = rows.iter().map(needed).max().unwrap_or(0).max(1);
        degrees.truncate(kept);
        if !matches!(form, Form::Polynomial { .. }) {
            degrees.push(degrees.last().copied().unwrap_or(0) + 2);
        }
        let mut coefficients = Vec::with_capacity(norms.len() * degrees.len());
        for (row, norm) in rows.iter().zip(norms) {
            coefficients.extend(&row[..kept]);
            if degrees.len() > kept {
                let rest =
                    if *norm > 0.0 { 1.0 - row[..kept].iter().map(|term| term * term).sum::<f64>() } else { 0.0 };
                coefficients.push(rest.max(0.0).sqrt());
            }
        }
        let before = std::iter::once(0).chain(degrees.iter().copied());
        let steps = degrees.iter().zip(before).map(|(degree, before)| (degree - before) as u8).collect();
        Self { steps, coefficients }
    }

    pub(super) fn terms(&self) -> usize {
        self.steps.len()
    }

    /// The coefficients of a neuron.
    pub(super) fn of(&self, neuron: usize) -> &[f64] {
        &self.coefficients[neuron * self.terms()..(neuron + 1) * self.terms()]
    }

    /// Turns the cosines between the directions of `rows` and of a panel into those between the features. `lanes` holds the
    /// panel's coefficients: term by term for each eight neurons.
    pub(super) fn apply(&self, rows: &[usize], lanes: &[[f64; LANES]], cosines: &mut [f64], columns: usize) {
        for (row, cosines) in rows.iter().zip(cosines.chunks_exact_mut(columns)) {
            Arch::new().dispatch(ApplyRow { steps: &self.steps, left: self.of(*row), lanes, cosines });
        }
    }
}

/// 0, 1, 3, 5, …, 127 or 0, 1, 2, 4, …, 126 or 0, 1, 2, 3.
fn degrees(form: Form) -> Vec<usize> {
    match form {
        Form::Step { .. } => std::iter::once(0).chain((0..HALF_DEGREES).map(|m| 2 * m + 1)).collect(),
        Form::Gate { .. } => [0, 1].into_iter().chain((1..HALF_DEGREES).map(|m| 2 * m)).collect(),
        Form::Polynomial { .. } => vec![0, 1, 2, 3],
    }
}

/// A_k(s) at those degrees.
fn terms(form: Form, s: f64) -> Vec<f64> {
    match form {
        Form::Step { offset, scale, widths } => {
            let odd = step_terms(s, widths.points());
            std::iter::once(offset).chain(odd.iter().map(|term| scale * term)).collect()
        }
        Form::Gate { widths } => {
            // z·F(z) with F = ½ + ½ erf: g·h_k = sqrt(k+1) h_{k+1} + sqrt(k) h_{k−1}.
            let odd = step_terms(s, widths.points());
            let even = (1..HALF_DEGREES).map(|m| {
                let degree = 2.0 * m as f64;
                0.5 * s * (degree.sqrt() * odd[m - 1] + (degree + 1.0).sqrt() * odd[m])
            });
            [0.5 * s * odd[0], 0.5 * s].into_iter().chain(even).collect()
        }
        Form::Polynomial { coefficients } => coefficients(s).to_vec(),
    }
}

/// Those of E[erf(z/(sqrt(2) τ))] at degrees 1, 3, 5, …: (−1)^m sqrt((2/π) q_m)·alpha^(2m+1), alpha = s/sqrt(τ²+s²), q_m the
/// coefficients of asin.
fn step_terms(s: f64, widths: impl Iterator<Item = (f64, f64)>) -> Vec<f64> {
    let mut terms = vec![0.0; HALF_DEGREES];
    for (width, share) in widths {
        let alpha = sharpness(s, width);
        let (mut asin, mut power, mut sign) = (std::f64::consts::FRAC_2_PI, alpha, share);
        for (m, term) in terms.iter_mut().enumerate() {
            *term += sign * asin.sqrt() * power;
            let m = m as f64;
            asin *= (2.0 * m + 1.0).powi(2) / ((2.0 * m + 2.0) * (2.0 * m + 3.0));
            power *= alpha * alpha;
            sign = -sign;
        }
    }
    terms
}

/// One neuron against a panel, compiled once per instruction set. No fused operations: the same bits on every path.
struct ApplyRow<'a> {
    steps: &'a [u8],
    left: &'a [f64],
    lanes: &'a [[f64; LANES]],
    cosines: &'a mut [f64],
}

impl WithSimd for ApplyRow<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let panels = self.lanes.chunks_exact(self.steps.len());
        for (cosines, right) in self.cosines.chunks_mut(LANES).zip(panels) {
            let mut cosine = [0.0; LANES];
            for (cosine, given) in cosine.iter_mut().zip(cosines.iter()) {
                *cosine = given.clamp(-1.0, 1.0);
            }
            let sums = sum_series(self.steps, self.left, right, &cosine);
            cosines.copy_from_slice(&sums[..cosines.len()]);
        }
    }
}

#[inline(always)]
fn sum_series(steps: &[u8], left: &[f64], right: &[[f64; LANES]], cosine: &[f64; LANES]) -> [f64; LANES] {
    let square = cosine.map(|c| c * c);
    let (mut power, mut sum) = ([1.0; LANES], [0.0; LANES]);
    for (term, ((step, left), right)) in steps.iter().zip(left).zip(right).enumerate() {
        match step {
            0 => {}
            1 => (0..LANES).for_each(|lane| power[lane] *= cosine[lane]),
            _ => (0..LANES).for_each(|lane| power[lane] *= square[lane]),
        }
        // What follows adds at most the power: each side's squares sum to 1.
        if term % 8 == 7 && power.iter().all(|power| power.abs() < 1e-15) {
            break;
        }
        for lane in 0..LANES {
            sum[lane] += left * right[lane] * power[lane];
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learning_cell::Activation;

    fn series_product(act: Activation, s: f64, t: f64, c: f64) -> (f64, f64) {
        let form = act.form();
        let norms = [s, t].map(|norm| form.product(norm, norm, 1.0).sqrt());
        let series = Series::new(form, &[s, t], &norms);
        let right: Vec<[f64; LANES]> = series.of(1).iter().map(|term| [*term; LANES]).collect();
        let mut cosine = [c];
        series.apply(&[0], &right, &mut cosine, 1);
        (cosine[0], form.product(s, t, c) / (norms[0] * norms[1]))
    }

    #[test]
    fn the_series_is_the_closed_form_within_its_stated_error() {
        for act in Activation::ALL {
            let mut worst: f64 = 0.0;
            for (s, t) in [(0.3, 0.3), (0.5, 2.0), (1.0, 1.5), (2.0, 2.0)] {
                for i in -200..=200 {
                    let (series, closed) = series_product(*act, s, t, f64::from(i) / 200.0);
                    worst = worst.max((series - closed).abs());
                }
            }
            println!("{act}: {worst:e}");
            let stated = if *act == Activation::Relu { 2.1e-4 } else { 1e-8 };
            assert!(worst < stated, "{act}: {worst}");
        }
    }

    #[test]
    fn steep_steps_keep_their_norm_and_stay_close() {
        for act in [Activation::Tanh, Activation::Silu, Activation::Erf] {
            let mut worst: f64 = 0.0;
            for i in -200..=200 {
                let (series, closed) = series_product(act, 20.0, 20.0, f64::from(i) / 200.0);
                worst = worst.max((series - closed).abs());
            }
            println!("{act} at 20: {worst:e}");
            let (series, closed) = series_product(act, 20.0, 20.0, 1.0);
            assert!((series - 1.0).abs() < 1e-12 && (closed - 1.0).abs() < 1e-12, "{act}: {series} {closed}");
            assert!(worst < 0.02, "{act}: {worst}");
        }
    }
}
