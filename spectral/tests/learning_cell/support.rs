//! Random numbers and made networks.

use gradwatch_spectral::learning_cell::{Activation, LearningCellSnapshot};
use gradwatch_spectral::sketch::mix;

/// SplitMix64.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    /// In (0, 1).
    pub(crate) fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        ((mix(self.0) >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    pub(crate) fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }

    pub(crate) fn normals(&mut self, count: usize) -> Vec<f64> {
        (0..count).map(|_| self.normal()).collect()
    }
}

pub(crate) fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|value| *value as f32).collect()
}

pub(crate) fn block(activation: Activation, outer: &[f64], rows: &[Vec<f64>]) -> LearningCellSnapshot {
    LearningCellSnapshot {
        outer: narrow(outer),
        inner: narrow(&rows.concat()),
        width: rows[0].len(),
        activation,
        probe: None,
    }
}

/// `count` orthonormal rows, by Gram–Schmidt on random ones.
pub(crate) fn orthonormal(count: usize, width: usize, random: &mut Random) -> Vec<Vec<f64>> {
    let mut rows: Vec<Vec<f64>> = Vec::new();
    while rows.len() < count {
        let mut row = random.normals(width);
        for _ in 0..2 {
            for other in &rows {
                let along: f64 = row.iter().zip(other).map(|(x, y)| x * y).sum();
                row.iter_mut().zip(other).for_each(|(x, y)| *x -= along * y);
            }
        }
        let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
        rows.push(row.iter().map(|x| x / norm).collect());
    }
    rows
}

pub(crate) fn scaled(rows: &[Vec<f64>], by: f64) -> Vec<Vec<f64>> {
    rows.iter().map(|row| row.iter().map(|x| x * by).collect()).collect()
}
