//! K(s, t, c) = E[act(s g) act(t h)] for standard normal g, h with correlation c, in closed form \[ours: the choice of
//! forms\]. Truncated at degree 9 it would be too coarse for a rank at 1e−6.
//!
//! - erf: (2/π) asin(2stc/sqrt((1+2s²)(1+2t²))) (Williams 1997).
//! - ReLU: (st/2π)(sin θ + (π−θ) cos θ), cos θ = c (Cho and Saul 2009); it is the gate z·Phi(z/τ) with τ = 0, GELU with τ = 1.
//! - tanh(z) = E[erf(z/(sqrt(2) τ))], τ a Kolmogorov variable (the logistic distribution is a scale mixture of normal ones:
//!   Andrews and Mallows 1974). Ten points stand for its law; |tanh(z) − Σ p erf(z/(sqrt(2) τ))| < 1.5e−8 at every z, so that
//!   products are those of a function that close to tanh: positive semidefinite, without an error that grows with ‖w‖.
//!   Sigmoid and SiLU = z·sigmoid(z) follow, within 0.8e−8 and 5.2e−8.
//! - z, z², z³ − 3z: finite sums of powers of c.

use std::f64::consts::{FRAC_1_PI, SQRT_2, TAU};

use super::reading::Activation;

/// (τ, p): the ten-point Gauss rule, in ln τ, of the Kolmogorov distribution.
const KOLMOGOROV: &[(f64, f64)] = &[
    (0.3022515725793384, 6.956_693_914_282_643e-5),
    (0.3783400271808791, 4.269_207_908_548_14e-3),
    (0.4720791143614669, 4.738_941_802_790_828e-2),
    (0.5941455414921922, 1.807_048_300_742_977e-1),
    (0.7560415966993927, 3.121_826_575_370_146e-1),
    (0.9692149405681733, 2.823_864_360_331_768e-1),
    (1.241260744599732, 1.379_237_058_135_58e-1),
    (1.576398361590702, 3.231_134_525_377_2e-2),
    (1.985300826290644, 2.720_151_435_003_628e-3),
    (2.507393505824861, 4.268_097_757_661e-5),
];

/// Laws of one point: erf(z) has τ = 1/sqrt(2), GELU 1, ReLU 0.
const ERF: &[(f64, f64)] = &[(std::f64::consts::FRAC_1_SQRT_2, 1.0)];
const GELU: &[(f64, f64)] = &[(1.0, 1.0)];
const RELU: &[(f64, f64)] = &[(0.0, 1.0)];

/// The law of the width τ of a smooth step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Widths {
    points: &'static [(f64, f64)],
    stretch: f64,
}

impl Widths {
    fn new(points: &'static [(f64, f64)], stretch: f64) -> Self {
        Self { points, stretch }
    }

    /// (τ, p).
    pub(super) fn points(self) -> impl Iterator<Item = (f64, f64)> + Clone {
        self.points.iter().map(move |(width, share)| (width * self.stretch, *share))
    }
}

/// What an activation is made of.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    /// offset + scale·E[erf(z/(sqrt(2) τ))].
    Step { offset: f64, scale: f64, widths: Widths },
    /// E[z Phi(z/τ)].
    Gate { widths: Widths },
    /// sqrt(k!)·c_k(s), k = 0…3, and nothing beyond.
    Polynomial { coefficients: fn(f64) -> [f64; 4] },
}

impl Activation {
    pub(super) fn form(self) -> Form {
        match self {
            Self::Tanh => Form::Step { offset: 0.0, scale: 1.0, widths: Widths::new(KOLMOGOROV, 1.0) },
            Self::Sigmoid => Form::Step { offset: 0.5, scale: 0.5, widths: Widths::new(KOLMOGOROV, 2.0) },
            Self::Erf => Form::Step { offset: 0.0, scale: 1.0, widths: Widths::new(ERF, 1.0) },
            Self::Relu => Form::Gate { widths: Widths::new(RELU, 1.0) },
            Self::Gelu => Form::Gate { widths: Widths::new(GELU, 1.0) },
            Self::Silu => Form::Gate { widths: Widths::new(KOLMOGOROV, 2.0) },
            Self::Square => Form::Polynomial { coefficients: |s| [s * s, 0.0, SQRT_2 * s * s, 0.0] },
            Self::Identity => Form::Polynomial { coefficients: |s| [0.0, s, 0.0, 0.0] },
            Self::He3 => {
                Form::Polynomial { coefficients: |s| [0.0, 3.0 * (s * s * s - s), 0.0, 6.0f64.sqrt() * s * s * s] }
            }
        }
    }
}

impl Form {
    /// K(s, t, c).
    pub(super) fn product(self, s: f64, t: f64, c: f64) -> f64 {
        match self {
            Self::Step { offset, scale, widths } => {
                offset * offset + scale * scale * mixed(widths, |one, other| step(s, t, c, one, other))
            }
            Self::Gate { widths } => mixed(widths, |one, other| gate(s, t, c, one, other)),
            Self::Polynomial { coefficients } => {
                let (left, right) = (coefficients(s), coefficients(t));
                (0..4).rev().fold(0.0, |sum, k| sum * c + left[k] * right[k])
            }
        }
    }
}

fn mixed(widths: Widths, product: impl Fn(f64, f64) -> f64) -> f64 {
    let of = |one: (f64, f64)| widths.points().map(|other| other.1 * product(one.0, other.0)).sum::<f64>();
    widths.points().map(|one| one.1 * of(one)).sum()
}

/// s/sqrt(τ² + s²): the correlation of s·g with the noise of width τ added.
pub(super) fn sharpness(s: f64, width: f64) -> f64 {
    if s > 0.0 { s / s.hypot(width) } else { 0.0 }
}

/// E[erf(sg/(√2τ)) erf(th/(√2τ'))].
fn step(s: f64, t: f64, c: f64, one: f64, other: f64) -> f64 {
    2.0 * FRAC_1_PI * (c * sharpness(s, one) * sharpness(t, other)).asin()
}

/// E[sg·Phi(sg/τ)·th·Phi(th/τ')] by Stein's identity, applied to each factor in turn. With q = stc and
/// Δ = (τ²+s²)(τ'²+t²) − q²: q(¼ + asin(q/sqrt((τ²+s²)(τ'²+t²)))/2π) + (s²t² − q² + q²(τ²/(τ²+s²) + τ'²/(τ'²+t²)))/(2π sqrt(Δ)).
/// Written with s·t taken out, so that neither tiny nor huge norms leave the range of float64.
fn gate(s: f64, t: f64, c: f64, one: f64, other: f64) -> f64 {
    if s == 0.0 || t == 0.0 {
        return 0.0;
    }
    let (alpha, beta) = (sharpness(s, one), sharpness(t, other));
    let r = c * alpha * beta;
    // 1 − r², without cancellation where it matters: for ReLU and directions that nearly agree.
    let delta = (1.0 - r) * (1.0 + r);
    let soft = (1.0 - alpha * alpha) + (1.0 - beta * beta);
    let bend = if delta > 0.0 { alpha * beta * ((1.0 - c) * (1.0 + c) + c * c * soft) / delta.sqrt() } else { 0.0 };
    s * t * (c * (0.25 + r.asin() / TAU) + bend / TAU)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E over a fine grid of the plane: g on a trapezoid, h = c g + sqrt(1 − c²) k.
    fn brute_force(act: Activation, s: f64, t: f64, c: f64) -> f64 {
        let grid: Vec<(f64, f64)> = (-360..=360)
            .map(|i| (f64::from(i) / 40.0, (-0.5 * (f64::from(i) / 40.0).powi(2)).exp() / (40.0 * TAU.sqrt())))
            .collect();
        let across = (1.0 - c * c).sqrt();
        let inner = |g: f64| -> f64 { grid.iter().map(|(k, w)| w * act.value(t * (c * g + across * k))).sum() };
        grid.iter().map(|(g, w)| w * act.value(s * g) * inner(*g)).sum()
    }

    #[test]
    fn closed_forms_are_the_expectations() {
        for act in Activation::ALL {
            // The grid is exact to rounding for smooth functions, to the square of its step for the kink of ReLU.
            let tolerance = if *act == Activation::Relu { 2e-4 } else { 2e-7 };
            for (s, t, c) in [(0.3, 1.7, 0.6), (1.0, 1.0, -0.35), (2.0, 0.5, 0.95), (1.2, 3.0, 0.0), (0.7, 0.7, -1.0)] {
                let (closed, brute) = (act.form().product(s, t, c), brute_force(*act, s, t, c));
                let scale = (brute_force(*act, s, s, 1.0) * brute_force(*act, t, t, 1.0)).sqrt();
                assert!((closed - brute).abs() < tolerance * scale, "{act} {s} {t} {c}: {closed} {brute}");
            }
        }
    }

    #[test]
    fn ten_points_stand_for_the_kolmogorov_law() {
        let mut worst = [0.0f64; 2];
        for i in 0..40_000 {
            let z = f64::from(i) * 1e-3;
            let mixture: f64 = Widths::new(KOLMOGOROV, 1.0)
                .points()
                .map(|(width, share)| share * libm::erf(z / (SQRT_2 * width)))
                .sum();
            let error = (z.tanh() - mixture).abs();
            // SiLU at 2z is 2z(½ + ½ tanh z).
            worst = [worst[0].max(error), worst[1].max(z * error)];
        }
        assert!(worst[0] < 1.5e-8 && worst[1] < 5.2e-8, "{worst:?}");
        assert!((KOLMOGOROV.iter().map(|it| it.1).sum::<f64>() - 1.0).abs() < 1e-14);
    }

    #[test]
    fn relu_is_the_arc_cosine_kernel() {
        for c in [-1.0, -0.9, -0.2, 0.0, 0.3, 0.99, 1.0f64] {
            let theta = c.acos();
            let expected = 2.0 * 3.0 / TAU * (theta.sin() + (std::f64::consts::PI - theta) * c);
            assert!((Activation::Relu.form().product(2.0, 3.0, c) - expected).abs() < 1e-14, "{c}");
        }
    }
}
