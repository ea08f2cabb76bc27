//! K(s, t, c) as a series in c, for the bulk of the pairs of neurons: Σ_k A_k(s) A_k(t) c^k with A_k = sqrt(k!)·c_k in
//! closed form, up to degree 127 \[ours\].
//!
//! What a feature has beyond the last degree is put at the next degree of the same parity. So every norm is exact, the
//! kernel stays positive semidefinite, and what is wrong lies between features whose directions nearly, but not quite,
//! agree: at most 2e−5 of the product of the norms for ReLU, 2e−9 for smooth activations and ‖w‖ ≤ 2, 6e−3 for steps as steep
//! as ‖w‖ = 20. Joins and the energy of f are read off it; ranks and depths, which need more, are not.

use std::sync::LazyLock;

use pulp::{Arch, Simd, WithSimd};

use super::kernel::{Form, sharpness};

/// Neurons whose terms lie beside each other.
pub(super) const LANES: usize = 16;
/// Odd degrees of a step, and even ones of a gate: up to 127 and 126.
const HALF_DEGREES: usize = 64;
/// What a cosine between features may be wrong by where the sum ends early.
const NEGLIGIBLE: f64 = 1e-10;
/// Terms between two looks at whether it may.
const STRIDE: usize = 4;

/// The coefficients of all neurons, each divided by the feature's norm.
#[derive(Debug)]
pub(super) struct Series {
    /// By how much the degree grows from the term before.
    steps: Vec<u8>,
    /// neurons × terms.
    coefficients: Vec<f64>,
    /// The norm of a neuron's coefficients from each term on.
    rests: Vec<f64>,
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
                rest < NEGLIGIBLE * NEGLIGIBLE
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
        let rests = coefficients.chunks_exact(degrees.len()).flat_map(rests).collect();
        Self { steps, coefficients, rests }
    }

    pub(super) fn terms(&self) -> usize {
        self.steps.len()
    }

    /// The coefficients of a neuron.
    pub(super) fn of(&self, neuron: usize) -> &[f64] {
        &self.coefficients[neuron * self.terms()..(neuron + 1) * self.terms()]
    }

    fn rests_of(&self, neuron: usize) -> &[f64] {
        &self.rests[neuron * self.terms()..(neuron + 1) * self.terms()]
    }

    /// Turns the cosines between the directions of `rows` and of a panel into those between the features. `lanes` holds the
    /// panel's coefficients: term by term for each sixteen neurons.
    pub(super) fn apply(&self, rows: &[usize], lanes: &[[f64; LANES]], cosines: &mut [f64], columns: usize) {
        Arch::new().dispatch(Apply { series: self, rows, lanes, cosines, columns });
    }
}

/// sqrt(Σ_{k≥term} A_k²), for each term.
fn rests(row: &[f64]) -> Vec<f64> {
    let mut squares = 0.0;
    let mut rests: Vec<f64> = row
        .iter()
        .rev()
        .map(|term| {
            squares += term * term;
            f64::sqrt(squares)
        })
        .collect();
    rests.reverse();
    rests
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
        let mut power = share * alpha;
        for (term, scale) in terms.iter_mut().zip(arcsine_scales()) {
            *term += scale * power;
            power *= alpha * alpha;
        }
    }
    terms
}

/// (−1)^m sqrt((2/π) q_m).
fn arcsine_scales() -> &'static [f64; HALF_DEGREES] {
    static SCALES: LazyLock<[f64; HALF_DEGREES]> = LazyLock::new(|| {
        let (mut asin, mut sign) = (std::f64::consts::FRAC_2_PI, 1.0);
        let mut scales = [0.0; HALF_DEGREES];
        for (m, scale) in scales.iter_mut().enumerate() {
            *scale = sign * f64::sqrt(asin);
            let m = m as f64;
            asin *= (2.0 * m + 1.0).powi(2) / ((2.0 * m + 2.0) * (2.0 * m + 3.0));
            sign = -sign;
        }
        scales
    });
    &SCALES
}

/// Compiled once per instruction set. No fused operations: the same bits on every path.
struct Apply<'a> {
    series: &'a Series,
    rows: &'a [usize],
    lanes: &'a [[f64; LANES]],
    cosines: &'a mut [f64],
    columns: usize,
}

impl WithSimd for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let Self { series, rows, lanes, cosines, columns } = self;
        // A lane's terms stay in the nearest cache while all rows pass by.
        for (right, from) in lanes.chunks_exact(series.terms()).zip((0..columns).step_by(LANES)) {
            let width = LANES.min(columns - from);
            for (place, row) in rows.iter().enumerate() {
                let given = &mut cosines[place * columns + from..][..width];
                let mut cosine = [0.0; LANES];
                cosine.iter_mut().zip(given.iter()).for_each(|(cosine, given)| *cosine = given.clamp(-1.0, 1.0));
                let sums = sum_series(&series.steps, series.of(*row), series.rests_of(*row), right, &cosine);
                given.copy_from_slice(&sums[..width]);
            }
        }
    }
}

#[inline(always)]
fn sum_series(
    steps: &[u8],
    left: &[f64],
    rests: &[f64],
    right: &[[f64; LANES]],
    cosine: &[f64; LANES],
) -> [f64; LANES] {
    let square = cosine.map(|c| c * c);
    let (mut power, mut sum) = ([1.0f64; LANES], [0.0f64; LANES]);
    let strides = steps.chunks(STRIDE).zip(left.chunks(STRIDE)).zip(right.chunks(STRIDE)).zip(rests.chunks(STRIDE));
    for (((steps, left), right), rests) in strides {
        // What follows adds at most the power times the norm of what is left of either side.
        let largest = power.iter().fold(0.0, |largest: f64, power| largest.max(power.abs()));
        if largest * rests[0] < NEGLIGIBLE {
            break;
        }
        for ((step, left), right) in steps.iter().zip(left).zip(right) {
            match step {
                0 => {}
                1 => (0..LANES).for_each(|lane| power[lane] *= cosine[lane]),
                _ => (0..LANES).for_each(|lane| power[lane] *= square[lane]),
            }
            for lane in 0..LANES {
                sum[lane] += left * right[lane] * power[lane];
            }
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
                for i in -1000..=1000 {
                    let (series, closed) = series_product(*act, s, t, f64::from(i) / 1000.0);
                    worst = worst.max((series - closed).abs());
                }
            }
            println!("{act}: {worst:e}");
            let stated = if *act == Activation::Relu { 2e-5 } else { 2e-9 };
            assert!(worst < stated, "{act}: {worst}");
        }
    }

    #[test]
    fn steep_steps_keep_their_norm_and_stay_close() {
        for act in [Activation::Tanh, Activation::Silu, Activation::Erf] {
            let mut worst: f64 = 0.0;
            for i in -1000..=1000 {
                let (series, closed) = series_product(act, 20.0, 20.0, f64::from(i) / 1000.0);
                worst = worst.max((series - closed).abs());
            }
            println!("{act} at 20: {worst:e}");
            let (series, closed) = series_product(act, 20.0, 20.0, 1.0);
            assert!((series - 1.0).abs() < 1e-12 && (closed - 1.0).abs() < 1e-12, "{act}: {series} {closed}");
            assert!(worst < 6e-3, "{act}: {worst}");
        }
    }
}
