//! Seeded random rows for the tests: SplitMix64 and Box–Muller, nothing from outside.

#![allow(dead_code, reason = "every test file uses its own part")]

/// SplitMix64 with a Gaussian on top.
pub(crate) struct Random {
    state: u64,
    spare: Option<f64>,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed, spare: None }
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in (0, 1].
    pub(crate) fn uniform(&mut self) -> f64 {
        ((self.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// Standard Gaussian.
    pub(crate) fn gaussian(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        let angle = std::f64::consts::TAU * self.uniform();
        self.spare = Some(radius * angle.sin());
        radius * angle.cos()
    }

    pub(crate) fn gaussians(&mut self, count: usize) -> Vec<f64> {
        (0..count).map(|_| self.gaussian()).collect()
    }

    /// A random direction of length 1.
    pub(crate) fn direction(&mut self, dim: usize) -> Vec<f64> {
        let row = self.gaussians(dim);
        let norm = norm(&row);
        row.into_iter().map(|x| x / norm).collect()
    }

    /// `count` rows of norm about 1; each repeats `rho` of the row before (stationary AR(1)).
    pub(crate) fn rows(&mut self, count: usize, dim: usize, rho: f64) -> Vec<Vec<f64>> {
        let scale = 1.0 / (dim as f64).sqrt();
        let fresh = (1.0 - rho * rho).sqrt();
        let mut rows: Vec<Vec<f64>> = Vec::with_capacity(count);
        for _ in 0..count {
            let noise = self.gaussians(dim);
            let row = match rows.last() {
                Some(before) => before.iter().zip(&noise).map(|(b, z)| rho * b + fresh * scale * z).collect(),
                None => noise.iter().map(|z| scale * z).collect(),
            };
            rows.push(row);
        }
        rows
    }
}

pub(crate) fn norm(row: &[f64]) -> f64 {
    row.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// row += factor · direction
pub(crate) fn add(row: &mut [f64], factor: f64, direction: &[f64]) {
    for (x, d) in row.iter_mut().zip(direction) {
        *x += factor * d;
    }
}

pub(crate) fn to_f32(rows: &[Vec<f64>]) -> Vec<Vec<f32>> {
    rows.iter().map(|row| row.iter().map(|x| *x as f32).collect()).collect()
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    assert!(!values.is_empty());
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// |a − b| ≤ tolerance · max(|a|, |b|)
#[track_caller]
pub(crate) fn assert_close(a: f64, b: f64, tolerance: f64, what: &str) {
    assert!((a - b).abs() <= tolerance * a.abs().max(b.abs()), "{what}: {a} and {b} differ by more than {tolerance}");
}
