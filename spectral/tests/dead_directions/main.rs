//! The dead-directions instrument: its definitions, what it says of networks whose dead directions are known, what it
//! refuses, and the snapshots that a client makes.

mod bridge;
mod history;
mod network;
mod null;
mod oracle;
mod readings;
mod refusals;
mod samples;
#[path = "../support/mod.rs"]
mod support;

use gradwatch_spectral::dead_directions::{
    BatchKind, DeadDirectionsReading, DeadDirectionsSnapshot, Spectrum, gram_of_gradients, reading, singular_values,
};

/// A snapshot with a spectrum and harmless activations.
fn of_spectrum(eigenvalues: &[f64]) -> DeadDirectionsSnapshot {
    let width = eigenvalues.len();
    DeadDirectionsSnapshot {
        spectrum: Spectrum::Eigenvalues(eigenvalues.to_vec()),
        singular_values: vec![1.0; width],
        samples: 100 * width as u64,
        width: width as u32,
        batch: BatchKind::Train,
        is_float32: false,
        gauge_removed: 0,
    }
}

/// What a client would send of raw tensors, n × width each.
fn of_samples(gradients: &[f64], activations: &[f64], width: usize, batch: BatchKind) -> DeadDirectionsSnapshot {
    DeadDirectionsSnapshot {
        spectrum: Spectrum::Gram(gram_of_gradients(gradients, width).expect("whole rows")),
        singular_values: singular_values(activations, width).expect("whole rows"),
        samples: (gradients.len() / width) as u64,
        width: width as u32,
        batch,
        is_float32: false,
        gauge_removed: 0,
    }
}

/// A reading that was not refused.
#[track_caller]
fn read(snapshot: &DeadDirectionsSnapshot) -> DeadDirectionsReading {
    let reading = reading(snapshot);
    assert_eq!(reading.reason, None);
    reading
}

/// Least-squares slope of y on x.
fn slope(x: &[f64], y: &[f64]) -> f64 {
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let (mean_x, mean_y) = (mean(x), mean(y));
    let xy: f64 = x.iter().zip(y).map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    xy / x.iter().map(|x| (x - mean_x).powi(2)).sum::<f64>()
}

/// `count` values evenly spaced in their logarithm.
fn log_spaced(from: f64, to: f64, count: usize) -> Vec<f64> {
    let step = (to / from).ln() / (count - 1) as f64;
    (0..count).map(|i| from * (step * i as f64).exp()).collect()
}
