//! Quiet data: stationary noise in many entries, one vector after another.

use crate::support::Random;

/// How a vector departs from Gaussian noise of equal variances.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Shape {
    Plain,
    /// The norm falls from 1 to 0.1 over the run, a half cosine.
    Decaying,
    /// Entries of a Student-t distribution with three degrees of freedom.
    StudentT3,
    /// Every vector times exp(0.3 z).
    RowScales,
    /// Variances 1/k.
    Anisotropic,
}

impl Shape {
    /// The same with a steady norm.
    pub(crate) fn without_decay(self) -> Self {
        if self == Self::Decaying { Self::Plain } else { self }
    }
}

/// A kind of quiet data: AR(1) noise of root-mean-square entry 1.
#[derive(Clone, Copy)]
pub(crate) struct Family {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    /// What an entry keeps of the one before.
    pub(crate) rho: f64,
    /// Norm of a constant drift, in norms of the noise. Edge only.
    pub(crate) drift: f64,
}

pub(crate) const fn family(name: &'static str, shape: Shape, rho: f64, drift: f64) -> Family {
    Family { name, shape, rho, drift }
}

/// The noise of one run.
pub(crate) struct Noise {
    family: Family,
    /// The AR(1) state.
    state: Vec<f64>,
    scales: Vec<f64>,
    /// Vectors so far, and those of the whole run.
    at: usize,
    length: usize,
}

impl Noise {
    pub(crate) fn new(family: Family, dim: usize, length: usize, random: &mut Random) -> Self {
        let weight = |k: usize| if family.shape == Shape::Anisotropic { (k as f64 + 1.0).recip() } else { 1.0 };
        let mean = (0..dim).map(weight).sum::<f64>() / dim as f64;
        let scales = (0..dim).map(|k| (weight(k) / mean).sqrt()).collect();
        Self { family, state: random.gaussians(dim), scales, at: 0, length }
    }

    /// The size of the next vector, without the random part: 1, or less when it decays.
    pub(crate) fn size(&self) -> f64 {
        if self.family.shape == Shape::Decaying {
            0.1 + 0.45 * (1.0 + (std::f64::consts::PI * self.at as f64 / self.length as f64).cos())
        } else {
            1.0
        }
    }

    /// The next vector.
    pub(crate) fn next(&mut self, random: &mut Random) -> Vec<f64> {
        let (rho, heavy) = (self.family.rho, self.family.shape == Shape::StudentT3);
        let fresh = (1.0 - rho * rho).sqrt();
        for x in &mut self.state {
            let mut z = random.gaussian();
            if heavy {
                // z / √(χ²₃/3), divided by its standard deviation √3.
                z /= (random.gaussian().powi(2) - 2.0 * random.uniform().ln()).sqrt();
            }
            *x = rho * *x + fresh * z;
        }
        let scale = if self.family.shape == Shape::RowScales { (0.3 * random.gaussian()).exp() } else { 1.0 };
        let size = self.size() * scale;
        self.at += 1;
        self.state.iter().zip(&self.scales).map(|(x, scale)| size * scale * x).collect()
    }
}
