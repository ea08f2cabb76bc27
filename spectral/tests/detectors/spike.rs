//! Norms of updates and their spikes.

use super::*;

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
