//! The detectors: planted changes fire, quiet runs stay quiet, states continue bit for bit.

mod regime;
mod spectrum;
mod spike;
#[path = "../support/mod.rs"]
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
