//! Gaps, the position of the break, and rotation of its direction.

use super::*;

/// A leading gap of the given ratio over an otherwise flat spectrum.
fn with_ratio(ratio: f64) -> EdgeReading {
    let mut sigma = FLAT;
    sigma[0] = sigma[1] * ratio;
    made(sigma, Some(1.0), None)
}

#[test]
fn gaps_open_and_collapse_once() {
    let level = |t: usize| if (60..66).contains(&t) || t >= 130 { 5.0 } else { 1.1 };
    let readings: Vec<EdgeReading> = (0..200).map(|t| with_ratio(level(t) * wobble(t))).collect();
    let found = follow(&readings, 6, &DetectorConfig::default());
    let leading: Vec<(u64, Detector)> = found
        .iter()
        .filter(|detection| detection.evidence.reading == "edge.ratio_1")
        .map(|detection| (detection.step, detection.detector))
        .collect();
    // The reversal at 68 fires before 10 readings of new past exist: against the furthest point.
    let expected = [(62, Detector::GapOpening), (68, Detector::GapCollapse), (132, Detector::GapOpening)];
    assert_eq!(leading, expected);
    let reversal = found.iter().find(|detection| detection.step == 68).expect("found above");
    assert_eq!(reversal.evidence.spread, None);
    assert_close(reversal.evidence.threshold, 2.5f64.ln(), 1e-12, "threshold");
}

#[test]
fn position_changes_when_it_lasts_and_stands_out() {
    let spectrum = |k: usize| {
        let mut sigma = FLAT;
        sigma[..k].iter_mut().for_each(|s| *s *= 3.0);
        made(sigma, Some(1.0), None)
    };
    let at = |t: usize| if (30..32).contains(&t) || t >= 50 { 2 } else { 1 };
    let readings: Vec<EdgeReading> = (0..80).map(|t| spectrum(at(t))).collect();
    assert_eq!((readings[0].position, readings[79].position), (Some(1), Some(2)));
    let found = follow(&readings, 6, &DetectorConfig::default());
    assert_eq!(steps_of(&found, Detector::PositionChange), [52]);
    let change = found.iter().find(|d| d.detector == Detector::PositionChange).expect("found above");
    assert_eq!((change.evidence.values.as_slice(), change.evidence.reference), ([2.0].as_slice(), Some(1.0)));
    // A position that wins by less than the margin changes nothing.
    let narrow = |k: usize| {
        let sigma = if k == 1 { [4.1, 2.0, 1.0, 0.9, 0.8, 0.7] } else { [4.0, 3.2, 1.5, 1.4, 1.3, 1.2] };
        made(sigma, Some(1.0), None)
    };
    assert_eq!((narrow(1).position, narrow(2).position), (Some(1), Some(2)));
    let readings: Vec<EdgeReading> = (0..80).map(|t| narrow(if t < 40 { 1 } else { 2 })).collect();
    assert!(steps_of(&follow(&readings, 6, &DetectorConfig::default()), Detector::PositionChange).is_empty());
    let mut lenient = DetectorConfig::default();
    lenient.position.margin = 1.25;
    assert_eq!(steps_of(&follow(&readings, 6, &lenient), Detector::PositionChange), [42]);
}

#[test]
fn rotation_needs_a_stable_direction_that_stood_out() {
    let strong = [6.0, 1.4, 1.3, 1.2, 1.1, 1.0];
    let run = |sigma: [f64; 6], turns: &[usize], stable: f64| {
        let overlap = |t: usize| if turns.contains(&t) { 0.1 } else { stable };
        let readings: Vec<EdgeReading> = (0..60).map(|t| made(sigma, Some(1.0), (t > 0).then(|| overlap(t)))).collect();
        steps_of(&follow(&readings, 6, &DetectorConfig::default()), Detector::Rotation)
    };
    assert_eq!(run(strong, &[30], 0.99), [30]);
    // Six readings of rest: 36 is silent, 37 is not.
    assert_eq!(run(strong, &[30, 36], 0.99), [30]);
    assert_eq!(run(strong, &[30, 37], 0.99), [30, 37]);
    // The first overlap is reading 1; six of them are needed before.
    assert_eq!(run(strong, &[6, 20], 0.99), [20]);
    assert!(run(strong, &[30], 0.8).is_empty(), "was not stable");
    assert!(run(FLAT, &[30], 0.99).is_empty(), "did not stand out");
}

/// A single large update leads until it leaves the window; that it leaves is no rotation.
#[test]
fn a_direction_that_led_for_one_window_does_not_rotate() {
    let strong = [6.0, 1.4, 1.3, 1.2, 1.1, 1.0];
    let run = |led: usize| {
        let reading = |t: usize| {
            let (from, until) = (30, 30 + led);
            let overlap = if t == from || t == until { 0.1 } else { 0.99 };
            made(if (from..until).contains(&t) { strong } else { FLAT }, Some(1.0), (t > 0).then_some(overlap))
        };
        steps_of(&follow(&(0..60).map(reading).collect::<Vec<_>>(), 6, &DetectorConfig::default()), Detector::Rotation)
    };
    assert!(run(6).is_empty());
    assert_eq!(run(7), [37]);
}

/// A gap that opens by 2.5 needs 3 readings; one that opens by less, more readings than a single update is in the window.
#[test]
fn a_small_gap_has_to_outlast_the_window() {
    let run = |ratio: f64, lasts: usize| {
        let level = |t: usize| if (60..60 + lasts).contains(&t) { ratio } else { 1.1 };
        let found = follow(&(0..90).map(|t| with_ratio(level(t))).collect::<Vec<_>>(), 6, &DetectorConfig::default());
        let leading = found.into_iter().filter(|detection| detection.evidence.reading == "edge.ratio_1");
        leading.map(|detection| (detection.step, detection.evidence)).collect::<Vec<_>>()
    };
    let sudden = run(1.1 * 2.6, 3);
    assert_eq!((sudden[0].0, sudden[0].1.confirmed, sudden[0].1.values.len()), (62, 3, 3));
    assert_close(sudden[0].1.threshold, 2.5f64.ln(), 1e-12, "threshold");
    assert!(run(1.1 * 2.4, 6).is_empty());
    let lasting = run(1.1 * 2.4, 7);
    assert_eq!((lasting[0].0, lasting[0].1.confirmed, lasting[0].1.values.len()), (66, 7, 7));
    assert_close(lasting[0].1.threshold, 2f64.ln(), 1e-12, "threshold");
    assert!(run(1.1 * 1.9, 30).is_empty());
}
