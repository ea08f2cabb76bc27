//! Definitions on spectra made by hand.

use gradwatch_spectral::dead_directions::{BatchKind, DeadDirectionsReading, Spectrum, reading};
use gradwatch_spectral::layers::FieldValue;

use crate::network::{orthogonal, times, transposed};
use crate::support::{Random, assert_close};
use crate::{log_spaced, of_spectrum, read};

#[test]
fn lambda_min_and_logdet_are_of_the_eigenvalues_above_the_cut() {
    // In any order; the cut is at 4e−12, and is itself cut.
    let reading = read(&of_spectrum(&[0.5, -3e-13, 4.0, 4e-12, 5e-12, 2.0]));
    assert_eq!((reading.lambda_min, reading.kept), (Some(5e-12), Some(4)));
    let logdet = 5e-12f64.ln() + 0.5f64.ln() + 2.0f64.ln() + 4.0f64.ln();
    assert_close(reading.logdet.expect("defined"), logdet, 1e-15, "logdet");
    assert_close(reading.logdet_per_direction.expect("defined"), logdet / 4.0, 1e-15, "logdet_per_direction");
    assert_eq!((reading.width, reading.samples, reading.batch), (Some(6), Some(600), Some(BatchKind::Train)));
    assert_eq!(reading.gauge_removed, Some(0));
}

#[test]
fn sigma_min_stands_beside_the_smallest_above_the_cut() {
    let mut snapshot = of_spectrum(&[1.0; 5]);
    snapshot.singular_values = vec![3.0, 2.0, 1.0, 3e-6, 1e-16];
    let reading = read(&snapshot);
    assert_eq!((reading.sigma_min, reading.sigma_min_kept), (Some(1e-16), Some(1.0)), "the cut is at 3e-6");
    assert_eq!((reading.rank, reading.rank_deficient), (Some(3), Some(true)));
    snapshot.singular_values = vec![3.0, 2.0, 1.0, 4e-6, 4e-6];
    let reading = read(&snapshot);
    assert_eq!((reading.sigma_min, reading.sigma_min_kept), (Some(4e-6), Some(4e-6)));
    assert_eq!((reading.rank, reading.rank_deficient), (Some(5), Some(false)));
}

#[test]
fn a_layer_that_is_silent_has_rank_0_and_no_kept_singular_value() {
    let mut snapshot = of_spectrum(&[1.0, 2.0]);
    snapshot.singular_values = vec![0.0; 2];
    let reading = read(&snapshot);
    assert_eq!((reading.sigma_min, reading.sigma_min_kept), (Some(0.0), None));
    assert_eq!((reading.rank, reading.rank_deficient), (Some(0), Some(true)));
    assert_eq!(reading.lambda_min, Some(1.0), "the gradients are read all the same");
}

#[test]
fn count_gap_is_the_position_of_the_widest_gap() {
    let counts = |spectrum: &[f64]| {
        let reading = read(&of_spectrum(spectrum));
        (reading.count_gap.expect("defined"), reading.gap_nats.expect("defined"))
    };
    let (count, nats) = counts(&[1.0, 2.0, 1e-5, 3e-5, 4.0, 3.0, 2.0, 1.0]);
    assert_eq!(count, 2);
    assert_close(nats, (1.0 / 3e-5f64).ln(), 1e-12, "gap_nats");
    // A gap below 2 nats separates nothing; gap_nats still says how wide it is.
    let (count, nats) = counts(&[1.0, 7.0, 8.0, 9.0]);
    assert_eq!(count, 0);
    assert_close(nats, 7f64.ln(), 1e-12, "gap_nats");
    assert_eq!(counts(&[1.0, 7.5, 8.0, 9.0]).0, 1);
    // Equal gaps: the first. Powers of two, so that they are equal to the bit.
    assert_eq!(counts(&[0.0625, 1.0, 1.0, 16.0, 16.0, 16.0]).0, 1);
    // All alike.
    assert_eq!(counts(&[3.0; 6]), (0, 0.0));
}

#[test]
fn count_gap_looks_only_below_three_quarters_of_the_width() {
    // ⌊¾·6⌋ = 4 gaps are looked at; the widest is the fifth.
    let reading = read(&of_spectrum(&[1.0, 1.0, 20.0, 20.0, 20.0, 1e9]));
    assert_eq!(reading.count_gap, Some(2));
    assert_close(reading.gap_nats.expect("defined"), 20f64.ln(), 1e-12, "gap_nats");
    let fourth = read(&of_spectrum(&[1.0, 1.0, 1.0, 1.0, 20.0, 20.0]));
    assert_eq!(fourth.count_gap, Some(4));
}

#[test]
fn eigenvalues_are_floored_before_gaps_are_taken() {
    // Rounding noise around 0 is one plateau at 1e−16 of the largest, whatever its signs and magnitudes.
    let reading = read(&of_spectrum(&[-1e-17, 0.0, 1e-300, 1e-17, 1.0, 1.0, 1.0, 1.0]));
    assert_eq!(reading.count_gap, Some(4));
    assert_close(reading.gap_nats.expect("defined"), 1e16f64.ln(), 1e-12, "gap_nats");
}

#[test]
fn fewer_than_four_eigenvalues_have_no_widest_gap() {
    let reading = read(&of_spectrum(&[1e-9, 1.0, 1.0]));
    assert_eq!((reading.count_gap, reading.gap_nats), (None, None));
    assert_eq!(reading.lambda_min, Some(1e-9), "all else is defined");
    let one = read(&of_spectrum(&[2.0]));
    assert_eq!((one.lambda_min, one.logdet, one.kept), (Some(2.0), Some(2f64.ln()), Some(1)));
    // Four, of which one is a gauge direction.
    let mut snapshot = of_spectrum(&[0.0, 1e-9, 1.0, 1.0]);
    snapshot.gauge_removed = 1;
    assert_eq!(read(&snapshot).count_gap, None);
}

#[test]
fn removed_gauge_directions_are_not_counted_as_dead() {
    let mut snapshot = of_spectrum(&[1.0, 1e-6, -1e-17, 2.0, 2.0, 1.0, 1.0, 1e-17]);
    assert_eq!(read(&snapshot).count_gap, Some(2), "the gap to the gauge directions is the widest");
    snapshot.gauge_removed = 2;
    let reading = read(&snapshot);
    assert_eq!((reading.count_gap, reading.gauge_removed), (Some(1), Some(2)));
    assert_eq!((reading.kept, reading.lambda_min), (Some(6), Some(1e-6)));
}

#[test]
fn flags_of_samples_and_precision() {
    let mut snapshot = of_spectrum(&[1.0; 8]);
    assert_eq!((read(&snapshot).few_samples, read(&snapshot).is_float32), (Some(false), Some(false)));
    snapshot.samples = 799;
    snapshot.is_float32 = true;
    snapshot.batch = BatchKind::HeldOut;
    let reading = read(&snapshot);
    assert_eq!((reading.few_samples, reading.is_float32), (Some(true), Some(true)));
    assert_eq!(reading.batch, Some(BatchKind::HeldOut));
    snapshot.samples = 8;
    assert_eq!(read(&snapshot).few_samples, Some(true), "n = width can have full rank");
}

/// Q diag(spectrum) Qᵀ, row-major, Q random.
fn gram_with(spectrum: &[f64]) -> Vec<f64> {
    let width = spectrum.len();
    let basis = orthogonal(&mut Random::new(11), width);
    let mut scaled = basis.clone();
    for (row, lambda) in scaled.chunks_exact_mut(width).zip(spectrum) {
        row.iter_mut().for_each(|x| *x *= lambda);
    }
    times(&transposed(&basis, width), &scaled, width, width)
}

#[test]
fn a_gram_matrix_reads_as_its_eigenvalues() {
    for width in [1, 2, 3, 5, 40] {
        let mut spectrum = log_spaced(1e-6, 10.0, width + 1);
        // No two gaps are equal.
        spectrum.remove(width / 2);
        let mut snapshot = of_spectrum(&spectrum);
        let of_values = read(&snapshot);
        snapshot.spectrum = Spectrum::Gram(gram_with(&spectrum));
        let of_gram = read(&snapshot);
        for (at, field) in DeadDirectionsReading::FIELDS.iter().enumerate() {
            match (&of_values.values()[at], &of_gram.values()[at]) {
                (Some(FieldValue::Number(a)), Some(FieldValue::Number(b))) => {
                    assert!((a - b).abs() <= 1e-8 * a.abs().max(b.abs()).max(1e-6), "{}: {a} {b}", field.name);
                }
                (a, b) => assert_eq!(a, b, "width {width}, {}", field.name),
            }
        }
    }
}

#[test]
fn scaling_the_loss_by_a_power_of_two_moves_only_what_has_a_unit() {
    let spectrum = log_spaced(1e-9, 1.0, 12);
    for factor in [2f64.powi(-900), 2f64.powi(900)] {
        for is_gram in [false, true] {
            let make = |factor: f64| {
                let mut snapshot = of_spectrum(&spectrum);
                let values = if is_gram { gram_with(&spectrum) } else { spectrum.clone() };
                let values = values.iter().map(|value| value * factor).collect();
                snapshot.spectrum = if is_gram { Spectrum::Gram(values) } else { Spectrum::Eigenvalues(values) };
                read(&snapshot)
            };
            let (plain, scaled) = (make(1.0), make(factor));
            assert_eq!(scaled.lambda_min, plain.lambda_min.map(|lambda| lambda * factor));
            assert_eq!((scaled.kept, scaled.count_gap, scaled.gap_nats), (plain.kept, plain.count_gap, plain.gap_nats));
            let moved = plain.logdet.expect("defined") + 12.0 * factor.ln();
            assert_close(scaled.logdet.expect("defined"), moved, 1e-12, "logdet");
        }
    }
}

#[test]
fn the_same_snapshot_gives_the_same_bits() {
    let mut random = Random::new(5);
    let mut snapshot = of_spectrum(&random.gaussians(64).iter().map(|z| z * z).collect::<Vec<_>>());
    snapshot.spectrum = Spectrum::Gram(gram_with(&random.gaussians(64).iter().map(|z| z * z).collect::<Vec<_>>()));
    let bits = |reading: &DeadDirectionsReading| -> Vec<u64> {
        reading.values().into_iter().flatten().filter_map(|value| value.as_number()).map(f64::to_bits).collect()
    };
    let first = read(&snapshot);
    for _ in 0..3 {
        assert_eq!(bits(&first), bits(&reading(&snapshot)));
    }
    // Nor does the order of eigenvalues matter.
    let values: Vec<f64> = random.gaussians(64).iter().map(|z| z * z).collect();
    let reversed: Vec<f64> = values.iter().rev().copied().collect();
    assert_eq!(bits(&read(&of_spectrum(&values))), bits(&read(&of_spectrum(&reversed))));
}
