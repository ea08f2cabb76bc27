//! Snapshots made to be known.

use gradwatch_spectral::curvature::{CurvatureSnapshot, gradient_directions, kronecker};

use crate::support::Random;

/// K of the service's default.
pub(crate) const DIRECTIONS: usize = 20;

/// 3·k^−gamma, k = 1…K.
pub(crate) fn falling(gamma: f64) -> Vec<f64> {
    (1..=DIRECTIONS).map(|k| 3.0 * (k as f64).powf(-gamma)).collect()
}

/// A log-normal fall, as most trained layers have.
pub(crate) fn log_normal() -> Vec<f64> {
    (1..=DIRECTIONS).map(|k| (k as f64).ln()).map(|x| (-0.4 * x - 0.29 * x * x).exp()).collect()
}

pub(crate) fn snapshot(sigma: Vec<f64>, curvature: Vec<f64>) -> CurvatureSnapshot {
    CurvatureSnapshot { sigma, curvature, kronecker: None }
}

/// sigma_k = 3·k^−gamma, h_k = 0.7·sigma_k^alpha.
pub(crate) fn power_law(gamma: f64, alpha: f64) -> CurvatureSnapshot {
    let sigma = falling(gamma);
    let curvature = sigma.iter().map(|sigma| 0.7 * sigma.powf(alpha)).collect();
    snapshot(sigma, curvature)
}

/// h_k = sigma_k²·exp(noise·z_k), z_k Gaussian.
pub(crate) fn noisy(random: &mut Random, noise: f64) -> CurvatureSnapshot {
    let sigma = log_normal();
    let curvature = sigma.iter().map(|sigma| sigma * sigma * (noise * random.gaussian()).exp()).collect();
    snapshot(sigma, curvature)
}

/// A linear softmax head of `classes` after some steps of gradient descent, with its tensors.
pub(crate) struct Head {
    pub(crate) classes: usize,
    pub(crate) width: usize,
    pub(crate) samples: usize,
    pub(crate) inputs: Vec<f64>,
    probabilities: Vec<f64>,
    /// p − y, one sample a row.
    pub(crate) errors: Vec<f64>,
    /// (1/B) errorsᵀ inputs.
    pub(crate) gradient: Vec<f64>,
}

impl Head {
    pub(crate) fn trained(seed: u64, classes: usize) -> Self {
        let (width, samples) = (24, 256);
        let mut random = Random::new(seed);
        let teacher = random.gaussians(classes * width);
        let mut inputs = random.gaussians(samples * width);
        for row in inputs.chunks_mut(width) {
            row.iter_mut().zip(1..).for_each(|(x, k)| *x *= f64::from(k).powf(-0.7));
        }
        let labels: Vec<usize> = inputs
            .chunks(width)
            .map(|x| {
                let scores: Vec<f64> =
                    teacher.chunks(width).map(|w| 2.0 * product(w, x) + 0.5 * random.gaussian()).collect();
                (0..classes).max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap()
            })
            .collect();
        let mut weights = vec![0.0; classes * width];
        let mut head = Self {
            classes,
            width,
            samples,
            inputs,
            probabilities: Vec::new(),
            errors: Vec::new(),
            gradient: Vec::new(),
        };
        for _ in 0..30 {
            head.evaluate(&weights, &labels);
            weights.iter_mut().zip(&head.gradient).for_each(|(w, g)| *w -= g);
        }
        head.evaluate(&weights, &labels);
        head
    }

    fn evaluate(&mut self, weights: &[f64], labels: &[usize]) {
        self.probabilities.clear();
        for x in self.inputs.chunks(self.width) {
            let scores: Vec<f64> = weights.chunks(self.width).map(|w| product(w, x).exp()).collect();
            let total: f64 = scores.iter().sum();
            self.probabilities.extend(scores.iter().map(|score| score / total));
        }
        self.errors = self.probabilities.clone();
        self.gradient = vec![0.0; self.classes * self.width];
        for ((row, label), x) in self.errors.chunks_mut(self.classes).zip(labels).zip(self.inputs.chunks(self.width)) {
            row[*label] -= 1.0;
            for (error, gradient) in row.iter().zip(self.gradient.chunks_mut(self.width)) {
                gradient.iter_mut().zip(x).for_each(|(g, x)| *g += error * x / self.samples as f64);
            }
        }
    }

    /// The curvature along `direction`, row-major: the mean over samples of the variance, under p, of what the
    /// direction adds to the scores. Exact: the head's Hessian is its Gauss–Newton matrix.
    fn curvature(&self, direction: &[f64]) -> f64 {
        let samples = self.inputs.chunks(self.width).zip(self.probabilities.chunks(self.classes));
        let variances = samples.map(|(x, p)| {
            let moved: Vec<f64> = direction.chunks(self.width).map(|row| product(row, x)).collect();
            let mean = product(p, &moved);
            p.iter().zip(&moved).map(|(p, moved)| p * (moved - mean).powi(2)).sum::<f64>()
        });
        variances.sum::<f64>() / self.samples as f64
    }

    /// As a client makes it: directions, Hessian products, Kronecker ingredients.
    pub(crate) fn snapshot(&self, count: usize) -> CurvatureSnapshot {
        let found = gradient_directions(self.classes, self.width, &self.gradient, count).unwrap();
        let curvature = (0..found.sigma.len()).map(|k| self.curvature(&found.rank_one(k))).collect();
        let kronecker = Some(kronecker(&found, self.samples, &self.errors, &self.inputs).unwrap());
        CurvatureSnapshot { sigma: found.sigma, curvature, kronecker }
    }
}

pub(crate) fn product(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
