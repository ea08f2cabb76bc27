//! The terms of the gap's flow and of the loss that a job sends: what they are, and how well they explain a gap that moves
//! as they say.

mod support;

use gradwatch_spectral::detectors::DetectorConfig;
use gradwatch_spectral::edge::{EdgeReading, EdgeTerms};
use gradwatch_spectral::followers::Followers;
use serde_json::json;
use support::{Random, assert_close};

const WINDOW: usize = 6;
const ETA: f64 = 0.01;
const OMEGA: f64 = 0.1;
/// Optimizer steps between readings.
const INTERVAL: u64 = 10;
/// Readings of the made flow.
const READINGS: usize = 80;
/// max(10, 2W).
const FEWEST: usize = 12;

/// A full reading whose first two singular values are these.
fn made(sigma_1: f64, sigma_2: f64) -> EdgeReading {
    let sigma = [sigma_1, sigma_2, 0.4, 0.3, 0.2, 0.1];
    let reading = json!({
        "window": WINDOW, "rows": WINDOW, "update_norm": 1.0, "sigma": sigma, "modes": 6, "position": 1,
        "gap": sigma_1 - sigma_2, "alpha": [0.5, 0.25, null], "overlap_unresolved": [false, false, false],
    });
    serde_json::from_value(reading).expect("a reading")
}

fn terms(curvatures: [f64; 2], projections: [f64; 2]) -> EdgeTerms {
    EdgeTerms { position: 1, curvatures: Some(curvatures), projections: Some(projections), loss_projections: None }
}

/// Curvatures and projections at a step.
fn along(step: f64) -> ([f64; 2], [f64; 2]) {
    let curvatures = [0.2 + 0.05 * (0.011 * step).sin(), 0.5 + 0.1 * (0.007 * step).cos()];
    (curvatures, [0.6 + 0.2 * (0.02 * step).sin(), 0.3 + 0.05 * (0.013 * step).cos()])
}

/// What the job measures at a step.
fn measured(step: f64) -> EdgeTerms {
    let (curvatures, projections) = along(step);
    terms(curvatures, projections)
}

/// sigma_2 goes its own way.
fn second(step: f64) -> f64 {
    1.0 + 0.1 * (0.009 * step).sin()
}

/// The theorem's dg/dt.
fn flow(step: f64, gap: f64) -> f64 {
    let ([h, next_h], [g, next_g]) = along(step);
    let (sigma, next_sigma) = (second(step) + gap, second(step));
    -ETA * (h - next_h) * (sigma + next_sigma) / 2.0 - ETA * ((h + next_h) / 2.0 + OMEGA) * gap
        + ETA * WINDOW as f64 * (g * g / sigma - next_g * next_g / next_sigma)
}

/// Readings, by step, of a gap that moves exactly so (Runge–Kutta, one optimizer step at a time), without their terms.
fn moving() -> Vec<(u64, EdgeReading)> {
    let mut gap = 0.5;
    let mut readings = Vec::new();
    for step in 0..READINGS as u64 * INTERVAL {
        let t = step as f64;
        if step % INTERVAL == 0 {
            readings.push((step, made(second(t) + gap, second(t))));
        }
        let a = flow(t, gap);
        let b = flow(t + 0.5, gap + 0.5 * a);
        let c = flow(t + 0.5, gap + 0.5 * b);
        let d = flow(t + 1.0, gap + c);
        gap += (a + 2.0 * b + 2.0 * c + d) / 6.0;
    }
    readings
}

/// Follows the moving gap with the terms that `sent` says at each reading.
fn followed(sent: impl Fn(usize, f64) -> Option<EdgeTerms>) -> Vec<EdgeReading> {
    let mut followers = Followers::new(WINDOW, &DetectorConfig::default());
    let follow = |(at, (step, mut reading)): (usize, (u64, EdgeReading))| {
        if let Some(terms) = sent(at, step as f64) {
            reading.add_terms(&terms, Some(ETA), Some(OMEGA));
        }
        followers.follow(step, &mut reading);
        reading
    };
    moving().into_iter().enumerate().map(follow).collect()
}

fn r2(reading: &EdgeReading) -> (f64, f64) {
    (reading.gap_flow_r2_unit.expect("defined"), reading.gap_flow_r2_free.expect("defined"))
}

#[test]
fn the_terms_are_those_of_the_theorem() {
    let mut reading = made(3.0, 1.0);
    let loss_projections = Some([[2.0, -3.0, 5.0], [7.0, 11.0, 13.0]]);
    let terms = EdgeTerms { loss_projections, ..terms([5.0, 9.0], [6.0, -2.0]) };
    reading.add_terms(&terms, Some(0.5), Some(0.25));
    // d̄ = 2, g = 2, h̄ = 7.
    assert_eq!(reading.gap_flow_curvature, Some(0.5 * 4.0 * 2.0));
    assert_eq!(reading.gap_flow_damping, Some(-0.5 * 7.25 * 2.0));
    assert_eq!(reading.gap_flow_driving, Some(0.5 * 6.0 * (36.0 / 3.0 - 4.0)));
    assert_eq!(reading.loss_terms, Some([Some(7.0), Some(-8.25), None]), "alpha_3 is undefined");
    assert_eq!(reading.value("loss_terms_2"), Some(-8.25));
}

#[test]
fn a_term_is_null_where_something_of_it_is_missing() {
    let all = EdgeTerms { loss_projections: Some([[1.0; 3]; 2]), ..terms([5.0, 9.0], [6.0, -2.0]) };
    let of = |mut reading: EdgeReading, terms: EdgeTerms, eta, omega| {
        reading.add_terms(&terms, eta, omega);
        let number = |value: Option<f64>| value.map(|value| assert!(value.is_finite())).is_some();
        [
            number(reading.gap_flow_curvature),
            number(reading.gap_flow_damping),
            number(reading.gap_flow_driving),
            reading.loss_terms.is_some(),
        ]
    };
    let (eta, omega) = (Some(0.5), Some(0.0));
    let reading = || made(3.0, 1.0);
    assert_eq!(of(reading(), all, eta, omega), [true; 4]);
    assert_eq!(of(reading(), all, Some(0.0), omega), [true; 4], "a learning rate of 0 is known");
    assert_eq!(of(reading(), all, None, omega), [false, false, false, true]);
    assert_eq!(of(reading(), all, Some(f64::NAN), omega), [false, false, false, true]);
    assert_eq!(of(reading(), all, eta, None), [true, false, true, true]);
    assert_eq!(of(reading(), all, eta, Some(f64::INFINITY)), [true, false, true, true]);
    assert_eq!(of(reading(), EdgeTerms { curvatures: None, ..all }, eta, omega), [false, false, true, true]);
    assert_eq!(of(reading(), EdgeTerms { projections: None, ..all }, eta, omega), [true, true, false, true]);
    assert_eq!(of(reading(), EdgeTerms { loss_projections: None, ..all }, eta, omega), [true, true, true, false]);
    for position in [0, 2, 5, 6, u32::MAX] {
        assert_eq!(of(reading(), EdgeTerms { position, ..all }, eta, omega), [false; 4], "position {position}");
    }
    assert_eq!(of(EdgeReading { position: None, ..reading() }, all, eta, omega), [false; 4]);
    assert_eq!(of(EdgeReading { alpha: None, ..reading() }, all, eta, omega), [true, true, true, false]);
    assert_eq!(of(made(3.0, 0.0), all, eta, omega), [true, true, false, true], "sigma_{{k+1}} = 0");
    let nothing = EdgeTerms { projections: Some([0.0; 2]), ..all };
    assert_eq!(of(made(3.0, 0.0), nothing, eta, omega), [true, true, false, true], "0/0");
    let huge = EdgeTerms { projections: Some([1e200, 1.0]), ..all };
    assert_eq!(of(reading(), huge, eta, omega), [true, true, false, true], "its square overflows");
    let huge = EdgeTerms { curvatures: Some([f64::MAX, -f64::MAX]), ..all };
    assert_eq!(of(reading(), huge, eta, omega), [false, true, true, true]);
}

#[test]
fn the_terms_of_a_flow_explain_it() {
    let readings = followed(|_, step| Some(measured(step)));
    for (at, reading) in readings.iter().enumerate() {
        // The first reading has none before it, the newest none behind it.
        let expected = at > FEWEST;
        assert_eq!(reading.gap_flow_r2_unit.is_some(), expected, "reading {at}");
        assert_eq!(reading.gap_flow_r2_free.is_some(), expected, "reading {at}");
        if expected {
            let (unit, free) = r2(reading);
            assert!(unit > 0.99 && unit <= free && free <= 1.0, "reading {at}: {unit}, {free}");
        }
    }
}

/// With coefficients of its own the fit does not see that a term is 16 times what it was; with those of the theorem it does.
#[test]
fn free_coefficients_forgive_what_unit_coefficients_do_not() {
    let quadrupled = |_, step: f64| {
        let it = measured(step);
        Some(EdgeTerms { projections: it.projections.map(|projections| projections.map(|g| 4.0 * g)), ..it })
    };
    let right = followed(|_, step| Some(measured(step)));
    for (reading, right) in followed(quadrupled).iter().zip(&right).skip(FEWEST + 1) {
        let (unit, free) = r2(reading);
        assert!(unit < 0.0, "{unit}");
        assert_close(free, r2(right).1, 1e-9, "free");
    }
}

#[test]
fn terms_that_have_nothing_to_do_with_the_gap_explain_little() {
    let noise = |at: usize, _| {
        let mut random = Random::new(at as u64);
        let mut two = || [random.gaussian(), random.gaussian()];
        Some(terms(two(), two()))
    };
    let readings = followed(noise);
    let count = (READINGS - FEWEST - 1) as f64;
    let mean: f64 = readings[FEWEST + 1..].iter().map(|reading| r2(reading).1).sum::<f64>() / count;
    assert!(mean < 0.5, "{mean}");
    assert!(readings[FEWEST + 1..].iter().all(|reading| r2(reading).0 < 0.0));
}

/// Terms may come on a slower schedule than readings; dg/dt is that of all readings.
#[test]
fn only_readings_with_terms_are_counted() {
    let readings = followed(|at, step| (at % 3 == 0).then(|| measured(step)));
    for (at, reading) in readings.iter().enumerate() {
        assert_eq!(reading.gap_flow_r2_unit.is_some(), at % 3 == 0 && at / 3 > FEWEST, "reading {at}");
        assert_eq!(reading.gap_flow_r2_unit.is_some(), reading.gap_flow_r2_free.is_some());
    }
    assert!(r2(&readings[78]).0 > 0.99);
}

/// What is older than the last 4W readings with terms is forgotten; at another position the count begins anew.
#[test]
fn the_fit_forgets_and_keeps_positions_apart() {
    let wrong = terms([50.0, -50.0], [0.0, 9.0]);
    let readings = followed(|at, step| Some(if at < 40 { wrong } else { measured(step) }));
    assert!(r2(&readings[40 + 4 * WINDOW - 1]).0 < 0.0);
    assert!(r2(&readings[40 + 4 * WINDOW + 1]).0 > 0.99);

    let mut followers = Followers::new(WINDOW, &DetectorConfig::default());
    for (at, (step, mut reading)) in moving().into_iter().enumerate() {
        let elsewhere = at % 2 == 1;
        let position = if elsewhere { 2 } else { 1 };
        reading.position = Some(position);
        let terms = if elsewhere { wrong } else { measured(step as f64) };
        reading.add_terms(&EdgeTerms { position, ..terms }, Some(ETA), Some(OMEGA));
        followers.follow(step, &mut reading);
        // 4W readings are kept of both together, which is 2W, just enough, of each.
        if !elsewhere {
            assert_eq!(reading.gap_flow_r2_unit.is_some(), at > 2 * FEWEST, "reading {at}");
            assert!(reading.gap_flow_r2_unit.is_none_or(|unit| unit > 0.99), "reading {at}: {reading:?}");
        }
    }
}

#[test]
fn a_gap_that_stands_still_or_moves_evenly_has_nothing_to_explain() {
    for drift in [0.0, 0.3] {
        let mut followers = Followers::new(WINDOW, &DetectorConfig::default());
        for at in 0..40u64 {
            let mut reading = made(2.0 + drift * at as f64, 1.0);
            reading.add_terms(&measured(at as f64), Some(ETA), Some(OMEGA));
            followers.follow(at, &mut reading);
            assert!(reading.gap_flow_driving.is_some());
            assert_eq!((reading.gap_flow_r2_unit, reading.gap_flow_r2_free), (None, None), "drift {drift}, {at}");
        }
    }
}

#[test]
fn a_hole_is_never_spanned() {
    let mut followers = Followers::new(WINDOW, &DetectorConfig::default());
    for (at, (step, mut reading)) in moving().into_iter().enumerate() {
        if at == 40 {
            followers.window_restarted();
        }
        reading.add_terms(&measured(step as f64), Some(ETA), Some(OMEGA));
        followers.follow(step, &mut reading);
        let since = if at < 40 { at } else { at - 40 };
        assert_eq!(reading.gap_flow_r2_unit.is_some(), since > FEWEST, "reading {at}");
    }
}

/// A power of two changes no bit: updates and projections scaled alike multiply every term and dg/dt by it. The sign of a
/// singular vector is arbitrary, and so is that of the projections on it.
#[test]
fn scale_and_sign() {
    let run = |scale: f64, sign: f64| -> Vec<EdgeReading> {
        let mut followers = Followers::new(WINDOW, &DetectorConfig::default());
        let one = |(step, reading): (u64, EdgeReading)| {
            let sigma = reading.sigma.as_ref().map(|sigma| sigma.iter().map(|s| scale * s).collect());
            let mut reading = EdgeReading { sigma, ..reading };
            let it = measured(step as f64);
            let projections = it.projections.map(|it| it.map(|g| sign * scale * g));
            let loss_projections = Some([[sign, sign, sign], [1.0, 2.0, 3.0]]);
            reading.add_terms(&EdgeTerms { projections, loss_projections, ..it }, Some(ETA), Some(OMEGA));
            followers.follow(step, &mut reading);
            reading
        };
        moving().into_iter().map(one).collect()
    };
    let (plain, scaled, turned) = (run(1.0, 1.0), run(8.0, 1.0), run(1.0, -1.0));
    for ((plain, scaled), turned) in plain.iter().zip(&scaled).zip(&turned) {
        for name in ["gap_flow_curvature", "gap_flow_damping", "gap_flow_driving"] {
            assert_eq!(scaled.value(name), plain.value(name).map(|value| 8.0 * value), "{name}");
            assert_eq!(turned.value(name), plain.value(name), "{name}");
        }
        for name in ["gap_flow_r2_unit", "gap_flow_r2_free"] {
            assert_eq!(scaled.value(name), plain.value(name), "{name}");
            assert_eq!(turned.value(name), plain.value(name), "{name}");
        }
        assert_eq!(turned.value("loss_terms_1"), plain.value("loss_terms_1").map(|value| -value));
    }
}

/// Terms that depend on each other leave a fit.
#[test]
fn dependent_terms_are_fitted() {
    let still = terms([0.3, 0.3], [0.0, 0.0]);
    let readings = followed(|_, _| Some(still));
    let (_, free) = r2(&readings[60]);
    assert!(free.is_finite() && free <= 1.0, "{free}");
    assert_eq!(readings[60].gap_flow_curvature.map(f64::abs), Some(0.0));
}

/// After a restart stored readings are followed again: they hold their terms, and give the same bits from the beginning
/// and from a saved state.
#[test]
fn stored_readings_give_the_same_bits() {
    let live = followed(|at, step| (at % 5 != 3).then(|| measured(step)));
    let steps = || moving().into_iter().map(|(step, _)| step);
    let bits = |reading: &EdgeReading| postcard::to_stdvec(reading).expect("serialisable");
    let mut anew = Followers::new(WINDOW, &DetectorConfig::default());
    for (step, stored) in steps().zip(&live) {
        let mut reading = stored.clone();
        anew.follow(step, &mut reading);
        assert_eq!(bits(&reading), bits(stored), "step {step}");
        let state = postcard::to_stdvec(&anew).expect("serialisable");
        anew = postcard::from_bytes(&state).expect("readable");
    }
    assert!(live.iter().any(|reading| reading.gap_flow_r2_free.is_some()));
}
