//! The regime: bands, confirmation, the way back.

use super::*;

#[test]
fn regime_follows_dk_and_returns() {
    // Past around 1; at 50 twenty times as fast (ln 8 ≥ l, so transition), at 70 a thousand times, at 85 back.
    let dk = (0..120).map(|t| {
        wobble(t) * [1.0, 20.0, 1000.0, 1.0][usize::from(t >= 50) + usize::from(t >= 70) + usize::from(t >= 85)]
    });
    let found = follow(&with_dk(dk), 6, &DetectorConfig::default());
    // 10 readings of past and a guard of 3 make the first plateau possible at 12, and 3 readings confirm it.
    let expected = [(14, Regime::Plateau), (52, Regime::Transition), (72, Regime::Forgetting), (87, Regime::Plateau)];
    assert_eq!(regimes(&found), expected);
    let evidence = &found[1].evidence;
    assert_eq!((evidence.reading.as_ref(), evidence.confirmed, evidence.values.len()), ("edge.dk", 3, 3));
    assert_close(evidence.threshold, 3f64.ln(), 1e-12, "l is ln 3 for a quiet past");
    assert!(evidence.values.iter().all(|x| x - evidence.reference.expect("a median") > evidence.threshold));
}

#[test]
fn two_readings_confirm_nothing() {
    let dk = (0..80).map(|t| wobble(t) * if t % 20 >= 18 { 50.0 } else { 1.0 });
    assert!(alarms(follow(&with_dk(dk), 6, &DetectorConfig::default())).is_empty());
}

#[test]
fn a_regime_held_for_four_windows_is_the_new_plateau() {
    let dk = (0..200).map(|t| wobble(t) * if t >= 60 { 20.0 } else { 1.0 });
    let found = follow(&with_dk(dk), 6, &DetectorConfig::default());
    assert_eq!(regimes(&found), [(14, Regime::Plateau), (62, Regime::Transition), (62 + 24, Regime::Plateau)]);
    assert_eq!(found[2].evidence.confirmed, 24);
}

#[test]
fn the_way_back_is_lower_by_a_fifth() {
    // Between 0.8·l and l of the past: stays a transition, though it would not begin one.
    let between = 3f64.powf(0.9);
    let level = |t: usize| {
        if t < 50 {
            1.0
        } else if t < 55 {
            6.0
        } else if t < 65 {
            between
        } else {
            3f64.powf(0.7)
        }
    };
    let found = follow(&with_dk((0..80).map(|t| wobble(0) * level(t))), 6, &DetectorConfig::default());
    assert_eq!(regimes(&found), [(14, Regime::Plateau), (52, Regime::Transition), (67, Regime::Plateau)]);
    let quiet = follow(&with_dk((0..80).map(|t| if t < 50 { 1.0 } else { between })), 6, &DetectorConfig::default());
    assert_eq!(regimes(&quiet), [(14, Regime::Plateau)]);
}

#[test]
fn absolute_bands_call_stationary_noise_forgetting() {
    let mut config = DetectorConfig::default();
    config.regime.bands = Bands::Absolute;
    let rows = Random::new(5).rows(300, DIM, 0.0);
    let found = follow(&read(&rows, 10), 10, &config);
    assert_eq!(regimes(&found).last().map(|(_, regime)| *regime), Some(Regime::Forgetting));
    let levels = [0.05, 1.0, 100.0, 9.0, 5.0, 0.09, 0.05];
    let found = follow(&with_dk(levels.iter().flat_map(|level| [*level; 4])), 6, &config);
    let expected = [
        (2, Regime::Plateau),
        (6, Regime::Transition),
        (10, Regime::Forgetting),
        // 9 is above 10 less a fifth.
        (18, Regime::Transition),
        // 0.09 is above 0.1 less a fifth.
        (26, Regime::Plateau),
    ];
    assert_eq!(regimes(&found), expected);
}

/// Readings on both sides of the boundary of forgetting, 30 times the past, are a transition all the same.
#[test]
fn readings_near_the_upper_boundary_confirm_the_nearer_regime() {
    let level = |t: usize| if t < 50 { 1.0 } else { [50.0, 20.0][t % 2] };
    let found = follow(&with_dk((0..60).map(|t| wobble(t) * level(t))), 6, &DetectorConfig::default());
    assert_eq!(regimes(&found), [(14, Regime::Plateau), (52, Regime::Transition)]);
    assert!(found[1].evidence.values.iter().all(|x| x - found[1].evidence.reference.expect("a median") > 3f64.ln()));
}

/// Half of a long window confirms a regime.
#[test]
fn long_windows_take_longer_to_confirm_a_regime() {
    let mut config = DetectorConfig::default();
    let readings = with_dk((0..80).map(|t| wobble(t) * if t >= 50 { 20.0 } else { 1.0 }));
    let entered = |config: &DetectorConfig| regimes(&follow(&readings, 20, config))[1];
    assert_eq!(entered(&config), (59, Regime::Transition));
    config.regime.confirm_windows = 0.0;
    assert_eq!(entered(&config), (52, Regime::Transition));
}
