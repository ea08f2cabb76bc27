//! How fast the moments of the weights grow, and what stands in for it when they are too heavy or too few \[ours\].

use super::{LearningCellReading, LearningCellSnapshot};
use crate::layers::Reason;

/// Moments looked at: bounded weights would support far more, and say nothing new.
const MOST_MOMENTS: usize = 24;
/// Entries that a moment must rest on: (Σ|t|^k)²/Σ|t|^2k.
const EFFECTIVE_ENTRIES: f64 = 20.0;
const FEWEST_MOMENTS: usize = 5;
const FEWEST_NEURONS: usize = 300;
/// Orders above it are heavy tails.
const HEAVY_ORDER: f64 = 1.3;
/// Hill indices below it are heavy tails.
const HEAVY_HILL: f64 = 5.0;

/// Fills the moment readings. Entries are those of (a, w), each coordinate divided by its RMS, not centred; coordinates
/// that are all zero are left out.
pub(super) fn fill(snapshot: &LearningCellSnapshot, reading: &mut LearningCellReading) {
    let entries = standardised(snapshot);
    if entries.is_empty() {
        return;
    }
    let neurons = snapshot.outer.len();
    let logs = log_moments(&entries);
    reading.moment_k = Some(logs.len() as u64);
    if neurons < FEWEST_NEURONS {
        reading.reason = Some(Reason::TooFewNeurons);
    }
    if logs.len() < FEWEST_MOMENTS || neurons < FEWEST_NEURONS {
        reading.hill_index = hill_index(entries);
        // With enough moments but too few neurons nothing is known of the tail.
        let no_moments = logs.len() < FEWEST_MOMENTS;
        reading.heavy_tail = reading.hill_index.filter(|_| no_moments).map(|index| index < HEAVY_HILL);
        return;
    }
    let (order, log_radius) = growth(&logs);
    reading.moment_order = Some(order);
    reading.moment_radius = super::finite(log_radius.exp());
    reading.heavy_tail = Some(order > HEAVY_ORDER);
}

/// |t| of all entries.
fn standardised(snapshot: &LearningCellSnapshot) -> Vec<f64> {
    let (neurons, width) = (snapshot.outer.len(), snapshot.width);
    let mut squares = vec![0.0; width + 1];
    for (neuron, a) in snapshot.outer.iter().enumerate() {
        squares[0] += f64::from(*a).powi(2);
        for (square, entry) in squares[1..].iter_mut().zip(snapshot.row(neuron)) {
            *square += f64::from(*entry).powi(2);
        }
    }
    let scales: Vec<f64> = squares.iter().map(|square| (square / neurons as f64).sqrt()).collect();
    let mut entries = Vec::with_capacity(neurons * (width + 1));
    for (neuron, a) in snapshot.outer.iter().enumerate() {
        let coordinates = std::iter::once(a).chain(snapshot.row(neuron));
        let there = coordinates.zip(&scales).filter(|(_, scale)| **scale > 0.0);
        entries.extend(there.map(|(entry, scale)| f64::from(entry.abs()) / scale));
    }
    entries
}

/// ln M_k, k = 1…K.
fn log_moments(entries: &[f64]) -> Vec<f64> {
    let largest = entries.iter().copied().fold(0.0, f64::max);
    let parts: Vec<f64> = entries.iter().map(|entry| entry / largest).collect();
    let mut powers = vec![1.0; parts.len()];
    let mut logs = Vec::new();
    for k in 1..=MOST_MOMENTS {
        let (mut sum, mut squares) = (0.0, 0.0);
        for (power, part) in powers.iter_mut().zip(&parts) {
            *power *= part;
            sum += *power;
            squares += *power * *power;
        }
        if sum * sum < EFFECTIVE_ENTRIES * squares {
            break;
        }
        logs.push((sum / parts.len() as f64).ln() + k as f64 * largest.ln());
    }
    logs
}

/// Least squares of ln M_k = c + k·b + order·ln k!: (order, b).
fn growth(logs: &[f64]) -> (f64, f64) {
    let count = logs.len() as f64;
    let centred = |values: Vec<f64>| {
        let mean = values.iter().sum::<f64>() / count;
        values.into_iter().map(|value| value - mean).collect::<Vec<_>>()
    };
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    let degrees = centred((1..=logs.len()).map(|k| k as f64).collect());
    let mut log_factorial = 0.0;
    let factorials = (1..=logs.len()).map(|k| {
        log_factorial += (k as f64).ln();
        log_factorial
    });
    let factorials = centred(factorials.collect());
    let logs = centred(logs.to_vec());
    let slope = |values: &[f64]| dot(values, &degrees) / dot(&degrees, &degrees);
    // Without what k explains.
    let (along_factorials, along_logs) = (slope(&factorials), slope(&logs));
    let rest: Vec<f64> = factorials.iter().zip(&degrees).map(|(f, k)| f - along_factorials * k).collect();
    let order = dot(&rest, &logs) / dot(&rest, &rest);
    (order, along_logs - order * along_factorials)
}

/// 1/mean ln(v_i/v_m) over the largest 5 % (at least 10), v_m the next; none when there is no next, or no tail.
fn hill_index(mut entries: Vec<f64>) -> Option<f64> {
    entries.sort_by(|x, y| y.total_cmp(x));
    let top = (entries.len() / 20).max(10);
    let threshold = *entries.get(top)?;
    let mean = entries[..top].iter().map(|entry| (entry / threshold).ln()).sum::<f64>() / top as f64;
    (threshold > 0.0 && mean > 0.0).then(|| 1.0 / mean).and_then(super::finite)
}
