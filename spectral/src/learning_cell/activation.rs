//! The activations: their values, their parity, and what they are made of.

use std::f64::consts::FRAC_1_SQRT_2;

use super::{quadrature, reading::Activation};

/// Degrees 0…9 of the degree kernel.
pub(super) const DEGREES: usize = 10;

/// What act(−z) is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parity {
    /// act(z).
    Even,
    /// −act(z).
    Odd,
    /// Neither.
    None,
}

impl Activation {
    /// act(z).
    pub(super) fn value(self, z: f64) -> f64 {
        match self {
            Self::Tanh => z.tanh(),
            Self::Relu => z.max(0.0),
            Self::Gelu => 0.5 * z * libm::erfc(-z * FRAC_1_SQRT_2),
            Self::Silu => z / (1.0 + (-z).exp()),
            Self::Sigmoid => 1.0 / (1.0 + (-z).exp()),
            Self::Erf => libm::erf(z),
            Self::Square => z * z,
            Self::Identity => z,
            Self::He3 => z * z * z - 3.0 * z,
        }
    }

    pub(super) fn parity(self) -> Parity {
        match self {
            Self::Tanh | Self::Erf | Self::Identity | Self::He3 => Parity::Odd,
            Self::Square => Parity::Even,
            Self::Relu | Self::Gelu | Self::Silu | Self::Sigmoid => Parity::None,
        }
    }

    /// sqrt(k!)·c_k(s), k = 0…9, c_k(s) = E[act(s g) He_k(g)]/k! by 200-point Gauss–Hermite \[ours\]: its square is the
    /// degree-k part of the feature's squared norm, for a neuron with ‖w‖ = s.
    pub(super) fn hermite(self, s: f64) -> [f64; DEGREES] {
        let mut coefficients = [0.0; DEGREES];
        for node in quadrature::gauss_hermite() {
            let value = self.value(s * node.at) * node.weight;
            for (coefficient, polynomial) in coefficients.iter_mut().zip(node.hermite) {
                *coefficient += value * polynomial;
            }
        }
        coefficients
    }
}
