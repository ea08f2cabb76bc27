//! The detectors: planted changes fire, quiet runs stay quiet, states continue bit for bit.

mod support;

use gradwatch_spectral::detectors::{Bands, Detection, Detector, DetectorConfig, Regime};
use gradwatch_spectral::edge::{EdgeParams, EdgeReading, edge_readings};
use gradwatch_spectral::followers::Followers;
use gradwatch_spectral::health::{NormExcess, NormHistory};
use serde_json::json;
use support::{Random, add, assert_close};

const DIM: usize = 512;

fn read(rows: &[Vec<f64>], window: usize) -> Vec<EdgeReading> {
    let params = EdgeParams { window, parameter_count: DIM as u64, sketch_dim: None };
    edge_readings(rows, params, &vec![0.01; rows.len()]).expect("valid rows")
}

fn follow(readings: &[EdgeReading], window: usize, config: &DetectorConfig) -> Vec<Detection> {
    let mut followers = Followers::new(window, config);
    readings
        .iter()
        .enumerate()
        .flat_map(|(step, reading)| followers.follow(step as u64, &mut reading.clone()))
        .collect()
}

/// Everything but the first entry into the plateau, which every run makes.
fn alarms(detections: Vec<Detection>) -> Vec<Detection> {
    detections.into_iter().filter(|detection| detection.from != Some(Regime::Warming)).collect()
}

fn steps_of(detections: &[Detection], detector: Detector) -> Vec<u64> {
    detections.iter().filter(|detection| detection.detector == detector).map(|detection| detection.step).collect()
}

/// A full reading of W = 6 with given singular values and dk.
fn made(sigma: [f64; 6], dk: Option<f64>, overlap: Option<f64>) -> EdgeReading {
    let ratio = |j: usize| sigma[j - 1] / sigma[j];
    let score = |j: usize| sigma[j - 1] * ratio(j);
    let position = (1..6).fold(1, |best, j| if score(j) > score(best) { j } else { best });
    let total: f64 = sigma.iter().map(|s| s * s).sum();
    let reading = json!({
        "window": 6, "rows": 6, "update_norm": 1.0, "sigma": sigma, "modes": 6, "position": position,
        "ratio_1": ratio(1), "gap23_rel": (sigma[1] * sigma[1] - sigma[2] * sigma[2]) / total,
        "dk": dk, "instability": dk, "overlap": overlap.map(|o| [Some(o), None, None]),
        "overlap_unresolved": [false, false, false],
    });
    serde_json::from_value(reading).expect("a reading")
}

const FLAT: [f64; 6] = [1.5, 1.4, 1.3, 1.2, 1.1, 1.0];

fn with_dk(values: impl IntoIterator<Item = f64>) -> Vec<EdgeReading> {
    values.into_iter().map(|dk| made(FLAT, Some(dk), None)).collect()
}

/// A wobble of a few per cent without randomness.
fn wobble(t: usize) -> f64 {
    (0.05 * (t as f64 * 1.7).sin()).exp()
}

fn regimes(detections: &[Detection]) -> Vec<(u64, Regime)> {
    let changes = detections.iter().filter(|detection| detection.detector == Detector::EdgeRegime);
    changes.map(|detection| (detection.step, detection.to.expect("a regime"))).collect()
}

#[test]
fn quiet_runs_stay_quiet() {
    let (mut readings, mut events) = (0, Vec::new());
    for seed in 1..=6 {
        for rho in [0.0, 0.9] {
            let rows = Random::new(seed).rows(600, DIM, rho);
            for window in [10, 20] {
                let run = read(&rows, window);
                readings += run.len();
                events.extend(alarms(follow(&run, window, &DetectorConfig::default())));
            }
        }
    }
    // Measured over many seeds: below 0.1 per 1,000 readings.
    assert!(events.len() * 2000 <= readings, "{} events in {readings} readings: {events:?}", events.len());
}

/// A strong direction appears at 200, is replaced at 300 and vanishes at 400; one update at 500 is thirty times too large.
fn eventful(seed: u64) -> Vec<Vec<f64>> {
    let mut random = Random::new(seed);
    let (first, second) = (random.direction(DIM), random.direction(DIM));
    let mut rows = random.rows(600, DIM, 0.0);
    rows[200..300].iter_mut().for_each(|row| add(row, 6.0, &first));
    rows[300..400].iter_mut().for_each(|row| add(row, 8.0, &second));
    rows[500].iter_mut().for_each(|x| *x *= 30.0);
    rows
}

#[test]
fn planted_changes_fire() {
    for seed in 20..24 {
        let window = 10;
        let found = alarms(follow(&read(&eventful(seed), window), window, &DetectorConfig::default()));
        let within = |detector, from: u64, to: u64| {
            let steps = steps_of(&found, detector);
            assert!(
                steps.iter().any(|step| (from..to).contains(step)),
                "{detector} in {from}..{to}, seed {seed}: {steps:?}"
            );
        };
        within(Detector::GapOpening, 200, 215);
        within(Detector::EdgeRegime, 300, 315);
        within(Detector::GapCollapse, 400, 415);
        within(Detector::UpdateSpike, 500, 501);
        assert!(found.iter().all(|detection| detection.step >= 200), "nothing before the first change, seed {seed}");
        for detection in &found {
            let evidence = &detection.evidence;
            assert_eq!((evidence.window, evidence.window_steps), (Some(10), Some(10)));
            assert!(!evidence.values.is_empty() && evidence.confirmed >= 1);
            let regime = detection.detector == Detector::EdgeRegime;
            assert_eq!((detection.from.is_some(), detection.to.is_some()), (regime, regime));
        }
    }
}

/// Detectors see only the past: a shorter run gives the beginning of the detections of the longer one.
#[test]
fn detections_are_causal() {
    let rows = eventful(30);
    let all = follow(&read(&rows, 10), 10, &DetectorConfig::default());
    for length in [150, 203, 310, 411, 501, 550] {
        let prefix = follow(&read(&rows[..length], 10), 10, &DetectorConfig::default());
        let expected: Vec<Detection> = all.iter().filter(|d| (d.step as usize) < length).cloned().collect();
        assert_eq!(prefix, expected, "first {length} rows");
    }
}

#[test]
fn a_saved_state_continues_with_the_same_bits() {
    let readings = read(&eventful(31), 10);
    let config = DetectorConfig::default();
    let mut undisturbed = Followers::new(10, &config);
    let mut through_json = Followers::new(10, &config);
    let mut through_postcard = Followers::new(10, &config);
    let mut said = 0;
    for (step, reading) in readings.iter().enumerate() {
        let (mut a, mut b, mut c) = (reading.clone(), reading.clone(), reading.clone());
        let detections = undisturbed.follow(step as u64, &mut a);
        assert_eq!(through_json.follow(step as u64, &mut b), detections);
        assert_eq!(through_postcard.follow(step as u64, &mut c), detections);
        said += detections.len();
        let bits = |reading: &EdgeReading| postcard::to_stdvec(reading).expect("serialisable");
        assert_eq!((bits(&a), bits(&a)), (bits(&b), bits(&c)));
        let text = serde_json::to_string(&through_json).expect("serialisable");
        through_json = serde_json::from_str(&text).expect("readable");
        let bytes = postcard::to_stdvec(&through_postcard).expect("serialisable");
        through_postcard = postcard::from_bytes(&bytes).expect("readable");
        assert_eq!(through_json, undisturbed);
        assert_eq!(postcard::to_stdvec(&undisturbed).expect("serialisable"), bytes);
    }
    assert!(said > 4, "the run must say something: {said}");
}

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

/// Six spreads of a nearly constant norm are no spike: it must also be three times as large.
#[test]
fn a_spike_is_three_times_the_norm_before() {
    let run = |norm: f64, config: &DetectorConfig| {
        let mut followers = Followers::new(6, config);
        let mut reading = |t: u64| {
            let mut reading = made(FLAT, Some(1.0), None);
            reading.update_norm = if t == 40 { norm } else { 1.0 };
            steps_of(&followers.follow(t, &mut reading), Detector::UpdateSpike)
        };
        (0..60).flat_map(&mut reading).collect::<Vec<_>>()
    };
    let mut config = DetectorConfig::default();
    assert!(run(2.9, &config).is_empty());
    assert_eq!(run(3.1, &config), [40]);
    config.spike.ratio = 1.0;
    assert_eq!(run(2.9, &config), [40]);
}

/// Nothing may bridge a hole; what was learned stays.
#[test]
fn a_restart_of_the_window_breaks_rows_of_readings() {
    let strong = [6.0, 1.4, 1.3, 1.2, 1.1, 1.0];
    let mut followers = Followers::new(6, &DetectorConfig::default());
    for t in 0..30 {
        followers.follow(t, &mut made(strong, Some(1.0), (t > 0).then_some(0.99)));
    }
    assert_eq!(followers.regime(), Regime::Plateau);
    let mut steep = made(strong, Some(20.0), Some(0.99));
    followers.follow(30, &mut steep);
    followers.follow(31, &mut steep);
    assert!(steep.gap_flow_r2.is_none(), "a constant gap has no flow");
    followers.window_restarted();
    assert_eq!(followers.regime(), Regime::Plateau, "the regime stays");
    let mut turned = made(strong, Some(20.0), Some(0.1));
    assert!(followers.follow(40, &mut turned).is_empty(), "neither a third reading in a row nor a rotation");
    followers.follow(41, &mut steep);
    let found = followers.follow(42, &mut steep);
    assert_eq!(regimes(&found), [(42, Regime::Transition)], "the past was kept");
    assert_eq!(found[0].evidence.window_steps, Some(6));
    // A warming reading of one row is a restart by itself.
    let mut by_itself = followers.clone();
    let mut told = followers;
    told.window_restarted();
    let mut warming = made(strong, None, None);
    (warming.rows, warming.sigma, warming.position) = (1, None, None);
    assert_eq!(by_itself.follow(50, &mut warming.clone()), told.follow(50, &mut warming));
    assert_eq!(by_itself, told);
}

#[test]
fn norm_z_compares_with_up_to_64_previous_updates() {
    let mut history = NormHistory::default();
    for t in 0..16 {
        assert_eq!(history.push(2.0), None, "update {t}: fewer than 16 before");
    }
    let none_above = Some(NormExcess { z: 0.0, log_ratio: 0.0 });
    // The spread of a constant past is 0: the floor 0.1 applies.
    let excess = history.push(2.0 * 1f64.exp()).expect("16 before");
    assert_close(excess.z, 10.0, 1e-12, "norm_z");
    assert_close(excess.log_ratio, 1.0, 1e-12, "ratio");
    assert_eq!((history.push(0.0), history.push(f64::NAN), history.push(f64::INFINITY)), (None, None, None));
    assert_eq!(history.push(2.0), none_above, "an undefined norm does not join");
    for _ in 0..64 {
        history.push(5.0);
    }
    assert_eq!(history.push(5.0), none_above, "older ones are forgotten");
    // Median and MAD of 1, e, e², …, e^15: 7.5 and 4.
    let mut history = NormHistory::default();
    (0..16).for_each(|t| assert_eq!(history.push(f64::from(t).exp()), None));
    assert_close(history.push(20f64.exp()).expect("defined").z, 12.5 / (1.4826 * 4.0), 1e-12, "norm_z");
}

#[test]
fn a_spike_is_one_event_and_is_reported_once() {
    let norms = |t: u64| match t {
        40..=44 => 50.0,
        60 => 50.0,
        _ => 1.0,
    };
    let readings = |t: u64| {
        let mut reading = made(FLAT, Some(1.0), None);
        reading.update_norm = norms(t);
        reading
    };
    let mut loud = Followers::new(6, &DetectorConfig::default());
    let mut silent = Followers::new(6, &DetectorConfig::default()).without_spike();
    let mut steps = Vec::new();
    for t in 0..80 {
        let (mut a, mut b) = (readings(t), readings(t));
        let found = loud.follow(t, &mut a);
        let without = silent.follow(t, &mut b);
        assert_eq!(a, b, "norm_z is filled all the same");
        steps.extend(steps_of(&found, Detector::UpdateSpike));
        assert!(without.iter().all(|detection| detection.detector != Detector::UpdateSpike));
    }
    assert_eq!(steps, [40, 60]);
}

/// A spike needs no window: it is seen while the window fills.
#[test]
fn warming_readings_show_only_their_norm() {
    let mut followers = Followers::new(6, &DetectorConfig::default());
    for t in 0..40u64 {
        let mut reading = made(FLAT, Some(1.0), None);
        reading.rows = 2;
        reading.update_norm = if t == 39 { 99.0 } else { 1.0 };
        let found = followers.follow(t, &mut reading);
        assert_eq!(reading.norm_z.is_some(), t >= 16);
        assert_eq!(steps_of(&found, Detector::UpdateSpike).len(), usize::from(t == 39));
        assert_eq!((found.len(), reading.gap_flow_r2), (usize::from(t == 39), None));
    }
    assert_eq!(followers.regime(), Regime::Warming);
}

#[test]
fn gap_flow_is_filled_once_there_is_enough() {
    let window = 6;
    let mut followers = Followers::new(window, &DetectorConfig::default());
    for t in 0..40u64 {
        let step = 100 + 10 * t;
        let mut sigma = FLAT;
        // g = 1 + 2·exp(−0.02·step), at position 1.
        sigma[0] = sigma[1] + 1.0 + 2.0 * (-0.02 * (step - 100) as f64).exp();
        let mut reading = made(sigma, Some(1.0), None);
        followers.follow(step, &mut reading);
        assert_eq!(reading.gap_flow_rate.is_some(), t + 1 >= 12, "reading {t}");
        if t == 20 {
            assert_close(reading.gap_flow_rate.expect("defined"), 0.02 * 0.2f64.sinh() / 0.2, 1e-6, "rate");
            assert_close(reading.gap_flow_equilibrium.expect("defined"), 1.0, 1e-6, "equilibrium");
            assert_close(reading.gap_flow_r2.expect("defined"), 1.0, 1e-9, "r2");
        }
    }
}

#[test]
fn thresholds_are_checked_by_name() {
    assert_eq!(DetectorConfig::default().validate(), Ok(()));
    type Spoil = fn(&mut DetectorConfig);
    let cases: [(&str, Spoil); 13] = [
        ("regime.transition_ratio", |c| c.regime.transition_ratio = f64::NAN),
        ("regime.transition_ratio_max", |c| c.regime.transition_ratio_max = 2.0),
        ("regime.confirm_readings", |c| c.regime.confirm_readings = 0),
        ("regime.rebase_past_windows", |c| c.regime.rebase_past_windows = 5),
        ("gap.past_min_readings", |c| c.gap.past_min_readings = 100),
        ("regime.confirm_windows", |c| c.regime.confirm_windows = -1.0),
        ("gap.sudden_ratio", |c| c.gap.sudden_ratio = 1.9),
        ("gap.lasting_windows", |c| c.gap.lasting_windows = 5.0),
        ("rotation.stood_out_windows", |c| c.rotation.stood_out_windows = f64::NAN),
        ("spike.ratio", |c| c.spike.ratio = 0.5),
        ("position.margin", |c| c.position.margin = 0.5),
        ("rotation.stable_above", |c| c.rotation.stable_above = 1.5),
        ("spike.z_rearm", |c| c.spike.z_rearm = 7.0),
    ];
    for (field, spoil) in cases {
        let mut config = DetectorConfig::default();
        spoil(&mut config);
        assert_eq!(config.validate().expect_err("out of range").field, field);
    }
    let config: DetectorConfig =
        serde_json::from_str(r#"{"regime": {"bands": "absolute"}, "spike": {"z_above": 8}}"#).expect("valid");
    assert_eq!((config.regime.bands, config.spike.z_above, config.spike.z_rearm), (Bands::Absolute, 8.0, 3.0));
    let unknown = serde_json::from_str::<DetectorConfig>(r#"{"regime": {"band": "absolute"}}"#);
    assert!(unknown.expect_err("unknown").to_string().contains("band"));
}

#[test]
fn names_are_stable() {
    for regime in Regime::ALL {
        assert_eq!(regime.as_str().parse(), Ok(regime));
        assert_eq!(serde_json::to_value(regime).expect("JSON"), regime.as_str());
    }
    assert!("calm".parse::<Regime>().is_err());
    for info in gradwatch_spectral::catalogue::DETECTORS {
        assert_eq!(serde_json::to_value(info.detector).expect("JSON"), info.name);
    }
}
