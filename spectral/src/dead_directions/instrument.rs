//! From a snapshot to a reading.

use super::{DeadDirectionsReading, DeadDirectionsSnapshot, SampleError, Spectrum, eigenvalues};
use crate::layers::Reason;

/// Eigenvalues of G up to this share of the largest are rounding \[ours\].
const EIGENVALUE_CUT: f64 = 1e-12;
/// The same for singular values of X: the root of the eigenvalue cut \[ours\].
const SINGULAR_VALUE_CUT: f64 = 1e-6;
/// Eigenvalues are raised to this share of the largest before gaps are taken \[ours\].
const GAP_FLOOR: f64 = 1e-16;
/// Gaps are looked for in this lower part of the spectrum \[ours\].
const GAP_SHARE: f64 = 0.75;
/// A widest gap below this separates nothing \[ours\].
const GAP_MIN_NATS: f64 = 2.0;
/// Fewest eigenvalues that have a widest gap \[ours\].
const GAP_MIN_WIDTH: usize = 4;
/// Fewer samples per unit of width than this bias `lambda_min` low \[source\].
const SAMPLES_PER_WIDTH: u64 = 100;
/// How far below 0, as a share of the largest magnitude, rounding can bring an eigenvalue of G, and how far from
/// symmetric G itself can be \[ours\].
const ROUNDING: f64 = 1e-9;
/// The same for a spectrum computed in float32 \[ours\].
const ROUNDING_FLOAT32: f64 = 1e-3;

/// What the dead-directions instrument says of a snapshot. What compares with earlier readings is left none, see
/// [`History`](super::History). A snapshot that cannot be read gives a reading with nothing but the reason.
///
/// Invariant: a pure function; every number is finite.
pub fn reading(snapshot: &DeadDirectionsSnapshot) -> DeadDirectionsReading {
    read(snapshot)
        .unwrap_or_else(|reason| DeadDirectionsReading { reason: Some(reason), ..DeadDirectionsReading::default() })
}

fn read(snapshot: &DeadDirectionsSnapshot) -> Result<DeadDirectionsReading, Reason> {
    let width = snapshot.width as usize;
    let values = match &snapshot.spectrum {
        Spectrum::Eigenvalues(values) | Spectrum::Gram(values) => values.len(),
    };
    if width == 0 || values == 0 || snapshot.singular_values.is_empty() {
        return Err(Reason::Empty);
    }
    let samples = snapshot.samples;
    if samples < width as u64 {
        return Err(Reason::TooFewSamples);
    }
    let spectrum = spectrum(snapshot, width)?;
    let singular_values = singular_values(snapshot, width)?;

    let mut reading = DeadDirectionsReading {
        width: Some(width as u64),
        samples: Some(samples),
        batch: Some(snapshot.batch),
        gauge_removed: Some(u64::from(snapshot.gauge_removed)),
        few_samples: Some(samples < SAMPLES_PER_WIDTH * width as u64),
        is_float32: Some(snapshot.is_float32),
        ..DeadDirectionsReading::default()
    };
    describe_gradients(&mut reading, &spectrum);
    describe_activations(&mut reading, &singular_values);
    Ok(reading)
}

/// Eigenvalues of G without those of gauge directions, ascending; the last is positive.
fn spectrum(snapshot: &DeadDirectionsSnapshot, width: usize) -> Result<Vec<f64>, Reason> {
    let rounding = if snapshot.is_float32 { ROUNDING_FLOAT32 } else { ROUNDING };
    let mut spectrum = match &snapshot.spectrum {
        Spectrum::Eigenvalues(values) => values.clone(),
        Spectrum::Gram(gram) => {
            let values = eigenvalues(gram, width).map_err(|error| match error {
                SampleError::NonFinite { .. } => Reason::NonFinite,
                SampleError::NoConvergence { .. } => Reason::Failed,
                SampleError::Rows { .. } | SampleError::Size { .. } | SampleError::NoDirection => Reason::Inconsistent,
            })?;
            if !is_symmetric(gram, width, rounding) {
                return Err(Reason::Inconsistent);
            }
            values
        }
    };
    if spectrum.len() != width {
        return Err(Reason::Inconsistent);
    }
    if !spectrum.iter().all(|value| value.is_finite()) {
        return Err(Reason::NonFinite);
    }
    spectrum.sort_by(f64::total_cmp);
    let (smallest, largest) = (spectrum[0], spectrum[width - 1]);
    if smallest < -rounding * smallest.abs().max(largest) {
        return Err(Reason::Negative);
    }
    if largest <= 0.0 {
        return Err(Reason::AllZero);
    }
    // Projected out, a direction has eigenvalue 0: it is among the smallest.
    spectrum.drain(..width.min(snapshot.gauge_removed as usize));
    if spectrum.is_empty() { Err(Reason::Empty) } else { Ok(spectrum) }
}

fn is_symmetric(gram: &[f64], width: usize, rounding: f64) -> bool {
    let largest = gram.iter().fold(0.0f64, |largest, entry| largest.max(entry.abs()));
    (0..width).all(|i| (0..i).all(|j| (gram[i * width + j] - gram[j * width + i]).abs() <= rounding * largest))
}

/// Singular values of X, decreasing.
fn singular_values(snapshot: &DeadDirectionsSnapshot, width: usize) -> Result<Vec<f64>, Reason> {
    let mut values = snapshot.singular_values.clone();
    if values.len() != width {
        return Err(Reason::Inconsistent);
    }
    if !values.iter().all(|value| value.is_finite()) {
        return Err(Reason::NonFinite);
    }
    if values.iter().any(|value| *value < 0.0) {
        return Err(Reason::Negative);
    }
    values.sort_by(|a, b| b.total_cmp(a));
    Ok(values)
}

/// The readings of G. `spectrum` is ascending, its last value positive.
fn describe_gradients(reading: &mut DeadDirectionsReading, spectrum: &[f64]) {
    let largest = spectrum[spectrum.len() - 1];
    let kept = &spectrum[spectrum.partition_point(|value| *value <= EIGENVALUE_CUT * largest)..];
    let logdet: f64 = kept.iter().map(|value| value.ln()).sum();
    reading.lambda_min = Some(kept[0]);
    reading.logdet = Some(logdet);
    reading.kept = Some(kept.len() as u64);
    reading.logdet_per_direction = Some(logdet / kept.len() as f64);
    if let Some((count, nats)) = widest_gap(spectrum) {
        reading.count_gap = Some(count);
        reading.gap_nats = Some(nats);
    }
}

/// (`count_gap`, `gap_nats`) \[ours\]: with eigenvalues floored at 1e−16 of the largest, the position and the width of the
/// widest gap ln w_{i+1} − ln w_i among the first ⌊¾·width⌋, the first of equal ones; position 0 when it is below 2 nats.
/// None for fewer than 4 eigenvalues. `spectrum` is ascending, its last value positive.
fn widest_gap(spectrum: &[f64]) -> Option<(u64, f64)> {
    let width = spectrum.len();
    if width < GAP_MIN_WIDTH {
        return None;
    }
    let log = |value: f64| (value / spectrum[width - 1]).max(GAP_FLOOR).ln();
    let (mut position, mut widest) = (0, 0.0);
    for i in 0..(GAP_SHARE * width as f64) as usize {
        let gap = log(spectrum[i + 1]) - log(spectrum[i]);
        if gap > widest {
            (position, widest) = (i as u64 + 1, gap);
        }
    }
    Some((if widest < GAP_MIN_NATS { 0 } else { position }, widest))
}

/// The readings of X. `values` is decreasing.
fn describe_activations(reading: &mut DeadDirectionsReading, values: &[f64]) {
    let rank = values.partition_point(|value| *value > SINGULAR_VALUE_CUT * values[0]);
    reading.sigma_min = values.last().copied();
    reading.sigma_min_kept = rank.checked_sub(1).map(|last| values[last]);
    reading.rank = Some(rank as u64);
    reading.rank_deficient = Some(rank < values.len());
}
