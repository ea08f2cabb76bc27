//! The detectors over layers: each fires on its change at the reading that confirms it, stays quiet on noise, arms again,
//! does not see what a reading does not say, and continues bit for bit.

mod support;

use gradwatch_spectral::cascade::CascadeReading;
use gradwatch_spectral::curvature::CurvatureReading;
use gradwatch_spectral::dead_directions::{BatchKind, DeadDirectionsReading};
use gradwatch_spectral::detectors::{Detection, Detector, DetectorConfig};
use gradwatch_spectral::layer_followers::LayerFollowers;
use gradwatch_spectral::layers::{LayerInstrument, LayerReading, Reason};
use gradwatch_spectral::learning_cell::LearningCellReading;
use support::{Random, assert_close};

fn follow(readings: &[LayerReading]) -> Vec<Detection> {
    follow_with(readings, &DetectorConfig::default())
}

fn follow_with(readings: &[LayerReading], config: &DetectorConfig) -> Vec<Detection> {
    let mut followers = LayerFollowers::new(readings[0].instrument(), config);
    (0u64..).zip(readings).flat_map(|(step, reading)| followers.follow(step, &mut reading.clone())).collect()
}

/// Who fired, at which reading, over which quantity.
fn said(found: &[Detection]) -> Vec<(u64, &str)> {
    found.iter().map(|detection| (detection.step, detection.evidence.reading.as_ref())).collect()
}

fn cascade(phi: f64, nest_dimension: f64, branching: f64) -> LayerReading {
    LayerReading::Cascade(CascadeReading {
        phi: Some(phi),
        nest_dimension: Some(nest_dimension),
        branching: Some(branching),
        ..CascadeReading::default()
    })
}

/// A wobble between −1 and 1 without randomness.
fn wobble(t: usize) -> f64 {
    (t as f64 * 1.7).sin()
}

fn wobbling_phi(t: usize, phi: f64) -> LayerReading {
    cascade(phi + 0.003 * wobble(t), 1.0 + 0.002 * wobble(t + 1), 0.29 + 0.004 * wobble(t + 2))
}

fn exponent(exponent: f64, error: f64) -> LayerReading {
    LayerReading::Curvature(CurvatureReading {
        exponent: Some(exponent),
        exponent_se: Some(error),
        ..CurvatureReading::default()
    })
}

fn dead(count: u64, gap_nats: f64, kept: u64) -> LayerReading {
    LayerReading::DeadDirections(DeadDirectionsReading {
        count_gap: Some(count),
        gap_nats: Some(gap_nats),
        kept: Some(kept),
        ..DeadDirectionsReading::default()
    })
}

const ALIVE: (u64, f64) = (0, 1.2);

fn counts(values: &[(u64, f64)]) -> Vec<LayerReading> {
    values.iter().map(|(count, gap)| dead(*count, *gap, 64)).collect()
}

#[test]
fn a_shift_of_phi_fires_at_its_third_reading_and_arms_again() {
    let level = |t: usize| if (100..200).contains(&t) { 0.2 } else { 0.14 };
    let readings: Vec<_> = (0..300).map(|t| wobbling_phi(t, level(t))).collect();
    let found = follow(&readings);
    assert_eq!(said(&found), [(102, "cascade.phi"), (202, "cascade.phi")]);
    let Detection { detector, from, to, evidence, .. } = &found[0];
    assert_eq!((*detector, *from, *to), (Detector::CascadeShift, None, None));
    assert_eq!((evidence.window, evidence.window_steps, evidence.confirmed), (None, None, 3));
    assert_eq!(evidence.quantity, "cascade.phi");
    let (reference, spread) = (evidence.reference.expect("a median"), evidence.spread.expect("a spread"));
    assert_close(reference, 0.14, 0.02, "median of the past");
    assert_close(evidence.threshold, 4.5 * spread, 1e-12, "4.5 spreads");
    assert!(evidence.values.iter().all(|x| x - reference > evidence.threshold));
}

/// Until there are 32 readings of new past only a reversal can fire, against the furthest point since the event.
#[test]
fn right_after_a_shift_only_its_reversal_fires() {
    let run = |levels: [f64; 3]| {
        let level = |t: usize| levels[usize::from(t >= 100) + usize::from(t >= 110)];
        follow(&(0..125).map(|t| wobbling_phi(t, level(t))).collect::<Vec<_>>())
    };
    let reversed = run([0.14, 0.2, 0.14]);
    assert_eq!(said(&reversed), [(102, "cascade.phi"), (112, "cascade.phi")]);
    assert_eq!(reversed[1].evidence.spread, None);
    assert_eq!(said(&run([0.14, 0.2, 0.26])), [(102, "cascade.phi")]);
}

#[test]
fn every_quantity_of_the_cascade_is_looked_at() {
    let readings: Vec<_> = (0..140)
        .map(|t| {
            let (nest, branching) = (if t >= 60 { 1.1 } else { 1.0 }, if t >= 90 { 0.2 } else { 0.29 });
            cascade(0.14 + 0.003 * wobble(t), nest + 0.002 * wobble(t + 1), branching + 0.004 * wobble(t + 2))
        })
        .collect();
    assert_eq!(said(&follow(&readings)), [(62, "cascade.nest_dimension"), (92, "cascade.branching")]);
}

#[test]
fn a_shift_needs_three_readings_and_a_past() {
    let twice: Vec<_> = (0..200).map(|t| wobbling_phi(t, if t % 40 >= 38 { 0.3 } else { 0.14 })).collect();
    assert!(follow(&twice).is_empty(), "two readings in a row");
    let sides: Vec<_> =
        (0..100).map(|t| wobbling_phi(t, if t < 60 { 0.14 } else { [0.3, 0.0][t % 2] })).take(64).collect();
    assert!(follow(&sides).is_empty(), "never on one side");
    // The 33rd reading is the first with 32 before it.
    let early =
        |at: usize| follow(&(0..50).map(|t| wobbling_phi(t, if t < at { 0.14 } else { 0.2 })).collect::<Vec<_>>());
    assert_eq!(said(&early(32)), [(34, "cascade.phi")]);
    assert_eq!(said(&early(31)), [(34, "cascade.phi")]);
}

/// A past without spread must not make an event of a rounding.
#[test]
fn a_constant_past_allows_for_roundings() {
    let run =
        |phi: f64| follow(&(0..60).map(|t| cascade(if t < 40 { 0.14 } else { phi }, 1.0, 0.29)).collect::<Vec<_>>());
    assert!(run(0.1405).is_empty());
    assert_eq!(said(&run(0.142)), [(42, "cascade.phi")]);
}

#[test]
fn dying_directions_fire_at_the_third_reading() {
    let mut values = vec![ALIVE; 20];
    values.extend([(2, 4.0); 10]);
    values.extend([ALIVE; 10]);
    values.extend([(1, 3.5); 10]);
    let found = follow(&counts(&values));
    let steps: Vec<u64> = found.iter().map(|detection| detection.step).collect();
    assert_eq!(steps, [22, 32, 42]);
    let evidence = &found[0].evidence;
    assert_eq!(found[0].detector, Detector::DeadCountChange);
    assert_eq!((evidence.values.as_slice(), evidence.reference, evidence.confirmed), ([2.0].as_slice(), Some(0.0), 3));
    assert_eq!((evidence.reading.as_ref(), evidence.window), ("dead_directions.count_gap", None));
}

#[test]
fn a_count_must_be_clear_lasting_and_of_one_kept() {
    let after = |changed: &[LayerReading]| {
        let mut readings = counts(&[ALIVE; 10]);
        readings.extend_from_slice(changed);
        follow(&readings).iter().map(|detection| detection.step).collect::<Vec<_>>()
    };
    assert!(after(&counts(&[(2, 2.9); 8])).is_empty(), "a gap of 2 to 3 nats shows nothing");
    assert!(
        after(&counts(&[(2, 4.0), (2, 4.0), ALIVE, (2, 4.0), (2, 4.0), (3, 4.0), (2, 4.0)])).is_empty(),
        "not lasting"
    );
    assert_eq!(
        after(&[dead(2, 4.0, 64), dead(2, 4.0, 64), dead(2, 4.0, 62), dead(2, 4.0, 62)]),
        [0u64; 0],
        "kept changed"
    );
    assert_eq!(after(&[dead(2, 4.0, 64), dead(2, 4.0, 62), dead(2, 4.0, 62), dead(2, 4.0, 62)]), [13]);
    // Back to 0: only below 2 nats, which every count of 0 is unless thresholds say otherwise.
    let mut strict = DetectorConfig::default();
    strict.dead_directions.gap_below = 1.0;
    let mut values = vec![(2, 4.0); 5];
    values.extend([(0, 1.2); 5]);
    values.extend([(0, 0.9); 5]);
    assert_eq!(follow_with(&counts(&values), &strict)[0].step, 12);
}

/// A layer that starts with dead directions has them from the start: nothing has changed.
#[test]
fn the_first_count_is_no_event() {
    assert!(follow(&counts(&[(3, 5.0); 30])).is_empty());
    let mut values = vec![ALIVE];
    values.extend([(3, 5.0); 30]);
    assert!(follow(&counts(&values)).is_empty(), "a single reading confirms no first count");
}

#[test]
fn a_shift_of_the_exponent_fires_at_its_second_reading_and_is_the_new_reference() {
    let level = |t: usize| if (30..50).contains(&t) { 2.0 } else { 1.5 };
    let readings: Vec<_> = (0..70).map(|t| exponent(level(t) + 0.02 * wobble(t), 0.05)).collect();
    let found = follow(&readings);
    assert_eq!(said(&found), [(31, "curvature.exponent"), (51, "curvature.exponent")]);
    let evidence = &found[0].evidence;
    assert_eq!((found[0].detector, evidence.confirmed), (Detector::CurvatureShift, 2));
    let error = 0.05 * 2f64.sqrt();
    assert_close(evidence.spread.expect("an error"), error, 1e-12, "error of the difference");
    assert_close(evidence.threshold, 3.0 * error, 1e-12, "three errors");
    assert_close(found[1].evidence.reference.expect("the confirmed one"), 2.0 + 0.02 * wobble(31), 1e-12, "reference");
}

#[test]
fn an_exponent_must_leave_its_errors_and_a_tenth_twice_on_one_side() {
    let after = |changed: &[(f64, f64)]| {
        let mut readings = vec![exponent(1.5, 0.01); 5];
        readings.extend(changed.iter().map(|(value, error)| exponent(*value, *error)));
        follow(&readings).len()
    };
    assert_eq!(after(&[(1.59, 0.001); 5]), 0, "less than a tenth");
    assert_eq!(after(&[(1.62, 0.001); 5]), 1);
    assert_eq!(after(&[(2.0, 0.2); 5]), 0, "less than three errors");
    assert_eq!(after(&[(2.0, 0.01), (1.5, 0.01), (2.0, 0.01), (1.0, 0.01), (1.5, 0.01)]), 0, "never twice on one side");
}

/// One run of each instrument with a change in the middle of noise.
fn eventful(seed: u64) -> Vec<Vec<LayerReading>> {
    let mut random = Random::new(seed);
    let mut at = |t: usize| (if t >= 150 { 1.0 } else { 0.0 }, random.gaussians(4));
    let mut runs = vec![Vec::new(); 3];
    for t in 0..300 {
        let (changed, z) = at(t);
        runs[0].push(cascade(0.14 + 0.05 * changed + 0.003 * z[0], 1.0 + 0.002 * z[1], 0.29 + 0.004 * z[2]));
        runs[1].push(dead(2 * changed as u64, 1.0 + 4.0 * changed + 0.1 * z[3], 64));
        runs[2].push(exponent(1.5 + 0.5 * changed + 0.05 * z[3], 0.05));
    }
    runs
}

#[test]
fn noise_before_and_after_a_change_is_quiet() {
    for seed in 1..20 {
        for (run, at) in eventful(seed).iter().zip([152, 152, 151]) {
            let steps: Vec<u64> = follow(run).iter().map(|detection| detection.step).collect();
            assert_eq!(steps, [at], "{}, seed {seed}", run[0].instrument());
        }
    }
}

/// Refused, skipped and failed readings are as if they had not been there, in the middle of a change too.
#[test]
fn readings_without_values_are_not_seen() {
    for run in eventful(40) {
        let instrument = run[0].instrument();
        let plain = follow(&run);
        let (mut holed, mut numbers) = (Vec::new(), Vec::new());
        for (t, reading) in run.iter().enumerate() {
            if t % 7 == 3 || (149..153).contains(&t) {
                for reason in [Reason::Skipped, Reason::Failed, Reason::Empty] {
                    holed.push(LayerReading::refused(instrument, reason));
                    numbers.push(t as u64);
                }
            }
            holed.push(reading.clone());
            numbers.push(t as u64);
        }
        let mut followers = LayerFollowers::new(instrument, &DetectorConfig::default());
        let found: Vec<Detection> = numbers
            .iter()
            .zip(&holed)
            .flat_map(|(step, reading)| followers.follow(*step, &mut reading.clone()))
            .collect();
        assert_eq!(found, plain, "{instrument}");
        assert_eq!(found.len(), 1);
    }
}

#[test]
fn a_saved_state_continues_with_the_same_bits() {
    for run in eventful(41) {
        let mut undisturbed = LayerFollowers::new(run[0].instrument(), &DetectorConfig::default());
        let (mut through_json, mut through_postcard) = (undisturbed.clone(), undisturbed.clone());
        let mut said = 0;
        for (step, reading) in (0u64..).zip(&run) {
            let detections = undisturbed.follow(step, &mut reading.clone());
            assert_eq!(through_json.follow(step, &mut reading.clone()), detections);
            assert_eq!(through_postcard.follow(step, &mut reading.clone()), detections);
            said += detections.len();
            let text = serde_json::to_string(&through_json).expect("serialisable");
            through_json = serde_json::from_str(&text).expect("readable");
            let bytes = postcard::to_stdvec(&through_postcard).expect("serialisable");
            through_postcard = postcard::from_bytes(&bytes).expect("readable");
            assert_eq!(postcard::to_stdvec(&undisturbed).expect("serialisable"), bytes);
            assert_eq!(postcard::to_stdvec(&through_json).expect("serialisable"), bytes);
        }
        assert_eq!(said, 1, "the run must say something");
    }
}

/// Detectors see only the past: a shorter run gives the beginning of what the longer one gives.
#[test]
fn detections_are_causal() {
    for run in eventful(42) {
        let all = follow(&run);
        for length in [100, 151, 152, 153, 200] {
            let expected: Vec<Detection> = all.iter().filter(|it| (it.step as usize) < length).cloned().collect();
            assert_eq!(follow(&run[..length]), expected, "first {length} readings");
        }
    }
}

#[test]
fn learning_cells_and_strangers_say_nothing() {
    let mut followers = LayerFollowers::new(LayerInstrument::LearningCell, &DetectorConfig::default());
    let mut reading = LayerReading::LearningCell(LearningCellReading::default());
    assert!(followers.follow(1, &mut reading).is_empty());
    let mut followers = LayerFollowers::new(LayerInstrument::Curvature, &DetectorConfig::default());
    let before = followers.clone();
    assert!(followers.follow(1, &mut dead(2, 4.0, 64)).is_empty());
    assert_eq!(followers, before);
}

#[test]
fn thresholds_are_checked_by_name() {
    type Spoil = fn(&mut DetectorConfig);
    let cases: [(&str, Spoil); 10] = [
        ("cascade.spread_factor", |c| c.cascade.spread_factor = f64::NAN),
        ("cascade.least_change", |c| c.cascade.least_change = -1.0),
        ("cascade.confirm_readings", |c| c.cascade.confirm_readings = 0),
        ("cascade.past_readings", |c| c.cascade.past_readings = 1_000_000),
        ("cascade.past_min_readings", |c| c.cascade.past_min_readings = 257),
        ("dead_directions.gap_below", |c| c.dead_directions.gap_below = 3.5),
        ("dead_directions.confirm_readings", |c| c.dead_directions.confirm_readings = 0),
        ("curvature.error_factor", |c| c.curvature.error_factor = -0.1),
        ("curvature.least_change", |c| c.curvature.least_change = f64::INFINITY),
        ("curvature.confirm_readings", |c| c.curvature.confirm_readings = 5000),
    ];
    for (field, spoil) in cases {
        let mut config = DetectorConfig::default();
        spoil(&mut config);
        assert_eq!(config.validate().expect_err("out of range").field, field);
    }
}

#[test]
fn a_reading_is_completed_by_comparing_with_the_earlier_ones() {
    let of = |instrument| LayerFollowers::new(instrument, &DetectorConfig::default());
    let mut followers = of(LayerInstrument::LearningCell);
    let mut propagation = |order| {
        let cell = LearningCellReading { moment_order: Some(order), ..Default::default() };
        let mut reading = LayerReading::LearningCell(cell);
        followers.follow(1, &mut reading);
        reading.value("moment_propagation")
    };
    assert_eq!([0.5, 0.58, 0.7].map(&mut propagation), [Some(1.0), Some(1.0), Some(0.0)]);

    let mut followers = of(LayerInstrument::DeadDirections);
    let mut slope = |number: u64| {
        // One direction dies: ln lambda_min falls, and the volume with it.
        let lambda_min = (-(number as f64)).exp();
        let mut reading = LayerReading::DeadDirections(DeadDirectionsReading {
            width: Some(8),
            batch: Some(BatchKind::Train),
            kept: Some(8),
            lambda_min: Some(lambda_min),
            logdet: Some(3.0 + 2.0 * lambda_min.ln()),
            ..Default::default()
        });
        followers.follow(number, &mut reading);
        reading.value("count_slope")
    };
    let slopes: Vec<_> = (1..=6).map(&mut slope).collect();
    assert_eq!(slopes[..4], [None; 4]);
    assert!((slopes[5].expect("five readings and more") - 2.0).abs() < 1e-12, "{slopes:?}");
}
