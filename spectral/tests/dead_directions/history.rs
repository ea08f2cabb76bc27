//! What readings say by comparing with those before.

use gradwatch_spectral::dead_directions::{BatchKind, DeadDirectionsReading, History};
use gradwatch_spectral::layers::Reason;

use crate::support::{Random, assert_close};

/// A reading with what the history looks at.
fn reading(lambda_min: f64, sigma_min_kept: Option<f64>, logdet: f64, kept: u64) -> DeadDirectionsReading {
    DeadDirectionsReading {
        width: Some(8),
        batch: Some(BatchKind::Train),
        kept: Some(kept),
        lambda_min: Some(lambda_min),
        logdet: Some(logdet),
        sigma_min_kept,
        ..DeadDirectionsReading::default()
    }
}

fn follow(history: &mut History, mut reading: DeadDirectionsReading) -> DeadDirectionsReading {
    history.complete(&mut reading);
    reading
}

/// The last of a sequence of (lambda_min, sigma_min_kept).
fn correlation(pairs: &[(f64, f64)]) -> Option<f64> {
    let mut history = History::default();
    let mut last = None;
    for (lambda_min, sigma_min) in pairs {
        last = follow(&mut history, reading(*lambda_min, Some(*sigma_min), 0.0, 8)).structural_correlation;
    }
    last
}

#[test]
fn structural_correlation_is_spearmans() {
    assert_eq!(correlation(&[(1.0, 5.0)]), None, "one reading is constant");
    assert_eq!(correlation(&[(1.0, 5.0), (1.0, 6.0), (1.0, 7.0)]), None, "lambda_min is constant");
    assert_eq!(correlation(&[(1.0, 5.0), (2.0, 5.0), (3.0, 5.0)]), None, "sigma_min_kept is constant");
    // Any increasing relation, not only a linear one.
    assert_eq!(correlation(&[(1.0, 1e-9), (2.0, 1e-3), (3.0, 1e6)]), Some(1.0));
    assert_eq!(correlation(&[(1.0, 3.0), (2.0, 2.0), (3.0, 1.0)]), Some(-1.0));
    // 1 − 6 Σd²/(n(n²−1)), d = 0, 1, −1, 0.
    assert_close(
        correlation(&[(1.0, 1.0), (2.0, 3.0), (3.0, 2.0), (4.0, 4.0)]).expect("varies"),
        1.0 - 12.0 / 60.0,
        1e-15,
        "by hand",
    );
    // Average ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: cov 4.5, variances 4.5 and 5.
    assert_close(
        correlation(&[(1.0, 1.0), (2.0, 2.0), (2.0, 3.0), (3.0, 4.0)]).expect("varies"),
        4.5 / (4.5f64 * 5.0).sqrt(),
        1e-15,
        "ties",
    );
}

#[test]
fn structural_correlation_is_over_the_last_twenty() {
    let mut history = History::default();
    // Ten readings against the trend, then twenty with it.
    for at in 0..30 {
        let sigma_min = if at < 10 { 100.0 - f64::from(at) } else { f64::from(at) };
        let got = follow(&mut history, reading(f64::from(at + 1), Some(sigma_min), 0.0, 8)).structural_correlation;
        assert_eq!(got == Some(1.0), at == 29, "reading {at}: {got:?}");
    }
}

#[test]
fn structural_correlation_leaves_out_readings_of_silent_layers() {
    let mut history = History::default();
    let pairs = [(1.0, Some(1.0)), (9.0, None), (2.0, Some(2.0)), (0.5, None), (3.0, Some(3.0))];
    let last = pairs.map(|(lambda_min, sigma)| follow(&mut history, reading(lambda_min, sigma, 0.0, 8)));
    assert_eq!(last[4].structural_correlation, Some(1.0));
}

/// Readings whose logdet has slope 3 on ln lambda_min.
fn on_a_line(at: u32, kept: u64) -> DeadDirectionsReading {
    let lambda_min = (-0.2 * f64::from(at)).exp();
    reading(lambda_min, Some(1.0), 7.0 + 3.0 * lambda_min.ln(), kept)
}

#[test]
fn count_slope_needs_five_readings_and_a_span() {
    let mut history = History::default();
    for at in 0..30 {
        let got = follow(&mut history, on_a_line(at, 8)).count_slope;
        if at < 4 {
            assert_eq!(got, None, "reading {at}");
        } else {
            assert_close(got.expect("five readings"), 3.0, 1e-12, "slope");
        }
    }
    // ln lambda_min spans 0.49, then 0.51.
    let mut history = History::default();
    for (at, x) in [0.0, 0.1, 0.2, 0.3, 0.49, 0.51].into_iter().enumerate() {
        let got = follow(&mut history, reading(f64::exp(x), Some(1.0), 2.0 * x, 8)).count_slope;
        assert_eq!(got.is_some(), at == 5, "reading {at}");
    }
}

#[test]
fn count_slope_is_over_the_last_twenty() {
    let mut history = History::default();
    let mut last = None;
    // Ten readings on another line.
    for at in 0..30 {
        let mut next = on_a_line(at, 8);
        if at < 10 {
            next.logdet = next.lambda_min.map(|lambda| 5.0 * lambda.ln());
        }
        last = follow(&mut history, next).count_slope;
    }
    assert_close(last.expect("defined"), 3.0, 1e-12, "the other line is forgotten");
}

#[test]
fn count_slope_breaks_whenever_kept_changes() {
    let mut history = History::default();
    let kept = [8, 8, 8, 8, 8, 8, 7, 7, 8, 8, 8, 8, 8, 8];
    for (at, kept) in (0..).zip(kept) {
        let got = follow(&mut history, on_a_line(at, kept));
        let changed = if at == 0 { None } else { Some(at == 6 || at == 8) };
        assert_eq!(got.kept_changed, changed, "reading {at}");
        // Five in a row, counted from the last change: what lay before it does not come back.
        assert_eq!(got.count_slope.is_some(), [4, 5, 12, 13].contains(&at), "reading {at}");
    }
}

#[test]
fn batch_changed_compares_with_the_reading_before() {
    let mut history = History::default();
    let kinds = [BatchKind::Train, BatchKind::Train, BatchKind::HeldOut, BatchKind::HeldOut, BatchKind::Train];
    let changed = kinds.map(|batch| {
        follow(&mut history, DeadDirectionsReading { batch: Some(batch), ..on_a_line(0, 8) }).batch_changed
    });
    assert_eq!(changed, [None, Some(false), Some(true), Some(false), Some(true)]);
}

#[test]
fn a_refused_reading_says_nothing_and_breaks_nothing() {
    let mut history = History::default();
    for at in 0..5 {
        follow(&mut history, on_a_line(at, 8));
    }
    let before = history.clone();
    for reason in [Reason::Skipped, Reason::NonFinite, Reason::AllZero] {
        let refused = DeadDirectionsReading { reason: Some(reason), ..DeadDirectionsReading::default() };
        assert_eq!(follow(&mut history, refused.clone()), refused);
        assert_eq!(history, before);
    }
    let next = follow(&mut history, on_a_line(5, 8));
    assert_eq!((next.kept_changed, next.batch_changed), (Some(false), Some(false)));
    assert!(next.count_slope.is_some());
}

#[test]
fn a_layer_of_another_width_begins_again() {
    let mut history = History::default();
    for at in 0..6 {
        follow(&mut history, on_a_line(at, 8));
    }
    let wider = follow(&mut history, DeadDirectionsReading { width: Some(16), ..on_a_line(6, 8) });
    assert_eq!((wider.kept_changed, wider.batch_changed), (None, None));
    assert_eq!((wider.count_slope, wider.structural_correlation), (None, None));
}

#[test]
fn a_history_that_was_saved_continues_with_the_same_bits() {
    let mut random = Random::new(12);
    let readings: Vec<DeadDirectionsReading> = (0..60)
        .map(|at| {
            let sigma_min = (at % 7 != 3).then(|| random.uniform());
            reading(random.uniform(), sigma_min, random.gaussian(), if at % 25 < 20 { 8 } else { 7 })
        })
        .collect();
    let mut straight = History::default();
    let want: Vec<_> = readings.iter().map(|reading| follow(&mut straight, reading.clone())).collect();
    assert!(want.iter().any(|reading| reading.count_slope.is_some()));
    let mut saved = History::default();
    for (reading, want) in readings.iter().zip(&want) {
        let bytes = postcard::to_stdvec(&saved).expect("a history can be saved");
        saved = postcard::from_bytes(&bytes).expect("and read back");
        assert_eq!(&follow(&mut saved, reading.clone()), want);
    }
    assert_eq!(saved, straight);
    // What is read from the store, already complete, gives the same.
    let mut replayed = History::default();
    for want in &want {
        assert_eq!(&follow(&mut replayed, want.clone()), want);
    }
}
