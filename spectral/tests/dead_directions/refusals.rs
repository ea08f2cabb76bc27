//! What is refused, and with which reason.

use gradwatch_spectral::dead_directions::{DeadDirectionsReading, DeadDirectionsSnapshot, Spectrum, reading};
use gradwatch_spectral::layers::Reason;

use crate::{of_spectrum, read};

/// Null but for the reason.
#[track_caller]
fn assert_refused(snapshot: &DeadDirectionsSnapshot, reason: Reason) {
    assert_eq!(reading(snapshot), DeadDirectionsReading { reason: Some(reason), ..DeadDirectionsReading::default() });
}

fn healthy() -> DeadDirectionsSnapshot {
    of_spectrum(&[1.0, 2.0, 3.0, 4.0])
}

fn with_gram(gram: &[f64]) -> DeadDirectionsSnapshot {
    let mut snapshot = of_spectrum(&[1.0, 1.0]);
    snapshot.spectrum = Spectrum::Gram(gram.to_vec());
    snapshot
}

#[test]
fn empty() {
    assert_refused(&of_spectrum(&[]), Reason::Empty);
    let mut snapshot = healthy();
    snapshot.spectrum = Spectrum::Gram(Vec::new());
    assert_refused(&snapshot, Reason::Empty);
    let mut snapshot = healthy();
    snapshot.singular_values.clear();
    assert_refused(&snapshot, Reason::Empty);
    for gauge_removed in [4, 5, u32::MAX] {
        assert_refused(&DeadDirectionsSnapshot { gauge_removed, ..healthy() }, Reason::Empty);
    }
    assert_eq!(read(&DeadDirectionsSnapshot { gauge_removed: 3, ..healthy() }).kept, Some(1));
}

#[test]
fn all_zero() {
    assert_refused(&of_spectrum(&[0.0; 4]), Reason::AllZero);
    assert_refused(&of_spectrum(&[0.0, -0.0, 0.0, 0.0]), Reason::AllZero);
    assert_refused(&with_gram(&[0.0; 4]), Reason::AllZero);
}

#[test]
fn fewer_samples_than_the_layer_is_wide() {
    for samples in [0, 3] {
        assert_refused(&DeadDirectionsSnapshot { samples, ..healthy() }, Reason::TooFewSamples);
    }
    // As it is sent: min(n, width) singular values.
    let snapshot = DeadDirectionsSnapshot { samples: 3, singular_values: vec![1.0; 3], ..healthy() };
    assert_refused(&snapshot, Reason::TooFewSamples);
}

#[test]
fn non_finite() {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_refused(&of_spectrum(&[1.0, bad, 1.0, 1.0]), Reason::NonFinite);
        assert_refused(&with_gram(&[1.0, 0.0, 0.0, bad]), Reason::NonFinite);
        let mut snapshot = healthy();
        snapshot.singular_values[1] = bad;
        assert_refused(&snapshot, Reason::NonFinite);
    }
    // Finite entries, an eigenvalue beyond float64.
    assert_refused(&with_gram(&[1.5e308; 4]), Reason::NonFinite);
}

#[test]
fn negative() {
    assert_refused(&of_spectrum(&[-1.0, 2.0, 3.0, 4.0]), Reason::Negative);
    assert_refused(&of_spectrum(&[-1.0; 4]), Reason::Negative);
    assert_refused(&with_gram(&[1.0, 2.0, 2.0, 1.0]), Reason::Negative);
    let mut snapshot = healthy();
    snapshot.singular_values[3] = -1e-3;
    assert_refused(&snapshot, Reason::Negative);
    // Rounding is no refusal: float64 allows 1e-9 of the largest, float32 1e-3.
    assert_eq!(read(&of_spectrum(&[-1e-10, 1.0, 1.0, 1.0])).kept, Some(3));
    let mut snapshot = of_spectrum(&[-1e-6, 1.0, 1.0, 1.0]);
    assert_refused(&snapshot, Reason::Negative);
    snapshot.is_float32 = true;
    assert_eq!(read(&snapshot).kept, Some(3));
}

#[test]
fn inconsistent() {
    let mut snapshot = healthy();
    snapshot.width = 5;
    assert_refused(&snapshot, Reason::Inconsistent);
    snapshot.spectrum = Spectrum::Gram(vec![1.0; 24]);
    assert_refused(&snapshot, Reason::Inconsistent);
    let mut snapshot = healthy();
    snapshot.singular_values.push(0.0);
    assert_refused(&snapshot, Reason::Inconsistent);
    assert_refused(&with_gram(&[1.0, 0.1, 0.2, 1.0]), Reason::Inconsistent);
    assert_eq!(read(&with_gram(&[1.0, 0.1, 0.1 + 1e-12, 1.0])).kept, Some(2), "asymmetric by rounding only");
}
