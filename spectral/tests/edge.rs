//! Invariances and known answers of the edge instrument.

mod support;

use gradwatch_spectral::catalogue::{DETECTORS, EDGE_METRICS, edge_metric};
use gradwatch_spectral::edge::{EdgeParams, EdgeReading, EdgeStream, EdgeTerms, edge_readings};
use gradwatch_spectral::window::WindowError;
use support::{Random, add, assert_close, median, norm};

fn params(window: usize) -> EdgeParams {
    EdgeParams { window, parameter_count: 1000, sketch_dim: None }
}

fn read(rows: &[Vec<f64>], window: usize) -> Vec<EdgeReading> {
    edge_readings(rows, params(window), &vec![0.01; rows.len()]).expect("valid rows")
}

/// Rows with structure: drift, a rotating direction, noise.
fn structured(seed: u64, count: usize, dim: usize) -> Vec<Vec<f64>> {
    let mut random = Random::new(seed);
    let (drift, other) = (random.direction(dim), random.direction(dim));
    let mut rows = random.rows(count, dim, 0.3);
    for (at, row) in rows.iter_mut().enumerate() {
        add(row, 2.0, &drift);
        add(row, 1.5 * (at as f64 * 0.7).sin(), &other);
    }
    rows
}

const NAMES_WITH_UNITS: [(&str, i32); 13] = [
    ("update_norm", 1),
    ("sigma_1", 1),
    ("sigma_3", 1),
    ("gap", 1),
    ("gap23", 2),
    ("gram_change", 2),
    ("gram_change_spectral", 2),
    ("drift", 1),
    ("noise_edge", 2),
    ("noise_edge_mean", 2),
    ("adiabatic", 0),
    ("instability", 0),
    ("dk", 0),
];

#[test]
fn scaling_all_updates_changes_only_the_scale() {
    let rows = structured(1, 40, 300);
    let plain = read(&rows, 8);
    for factor in [3.7, 1e-12, 1e30] {
        let scaled: Vec<Vec<f64>> = rows.iter().map(|row| row.iter().map(|x| factor * x).collect()).collect();
        for (a, b) in plain.iter().zip(&read(&scaled, 8)) {
            for metric in EDGE_METRICS {
                let power = NAMES_WITH_UNITS.iter().find(|(name, _)| *name == metric.short).map_or(0, |(_, p)| *p);
                let power = if metric.short == "sigma_2" { 1 } else { power };
                match (a.value(metric.short), b.value(metric.short)) {
                    (Some(x), Some(y)) => {
                        let tolerance = if metric.short.starts_with("alpha") { 1e-6 } else { 1e-8 };
                        assert_close(x * factor.powi(power), y, tolerance, metric.name);
                    }
                    (x, y) => assert_eq!(x, y, "{}", metric.name),
                }
            }
        }
    }
}

#[test]
fn scaling_by_a_power_of_two_keeps_the_bits() {
    let rows = structured(2, 30, 100);
    let scaled: Vec<Vec<f64>> = rows.iter().map(|row| row.iter().map(|x| x * 1024.0).collect()).collect();
    for (a, b) in read(&rows, 6).iter().zip(&read(&scaled, 6)) {
        for name in ["position", "ratio", "instability", "dk", "alpha_1", "overlap_1", "overlap_3", "entropy_rank"] {
            assert_eq!(a.value(name).map(f64::to_bits), b.value(name).map(f64::to_bits), "{name}");
        }
        assert_eq!(a.gap.map(|g| g * 1024.0), b.gap);
    }
}

#[test]
fn a_rotation_of_parameter_space_changes_nothing() {
    let dim = 120;
    let rows = structured(3, 40, dim);
    let mut random = Random::new(33);
    let mut rotated = rows.clone();
    // A product of reflections x − 2⟨x, v⟩v is a rotation of the whole space.
    for _ in 0..6 {
        let v = random.direction(dim);
        for row in &mut rotated {
            let along: f64 = row.iter().zip(&v).map(|(a, b)| a * b).sum();
            add(row, -2.0 * along, &v);
        }
    }
    for (a, b) in read(&rows, 10).iter().zip(&read(&rotated, 10)) {
        for metric in EDGE_METRICS {
            match (a.value(metric.short), b.value(metric.short)) {
                (Some(x), Some(y)) => {
                    assert!((x - y).abs() <= 1e-8 * x.abs().max(y.abs()).max(1e-3), "{}: {x} {y}", metric.name);
                }
                (x, y) => assert_eq!(x, y, "{}", metric.name),
            }
        }
    }
}

#[test]
fn rank_one_drift_breaks_at_one() {
    let direction = Random::new(4).direction(500);
    let pure: Vec<Vec<f64>> = (0..20).map(|t| direction.iter().map(|x| (1.0 + 0.1 * t as f64) * x).collect()).collect();
    for reading in read(&pure, 6).iter().filter(|reading| !reading.is_warming()) {
        assert_eq!((reading.modes, reading.position, reading.position_plain), (Some(1), Some(1), Some(1)));
        assert_eq!((reading.ratio, reading.ratio_1, reading.ratio_2), (None, None, None), "sigma_2 = 0");
        assert_eq!(reading.gap, reading.value("sigma_1"), "the gap of the last mode is its singular value");
        assert_close(reading.entropy_rank.expect("defined"), 1.0, 1e-9, "entropy_rank");
        assert_eq!((reading.k95, reading.bbp_ratio), (Some(1), None));
        if let Some(overlap) = reading.overlap {
            assert_close(overlap[0].expect("one mode"), 1.0, 1e-9, "overlap_1");
            assert_eq!((overlap[1], overlap[2]), (None, None), "beyond modes");
            let alpha = reading.alpha.expect("defined with overlap");
            assert!(alpha[0].is_some() && alpha[1].is_none() && alpha[2].is_none());
        }
    }
    let mut noisy = Random::new(5).rows(40, 500, 0.0);
    noisy.iter_mut().for_each(|row| add(row, 5.0, &direction));
    for reading in read(&noisy, 10).iter().filter(|reading| !reading.is_warming()) {
        assert_eq!(reading.position, Some(1));
        assert!(reading.ratio_1.expect("defined") > 5.0);
        assert!((reading.drift.expect("defined") - 5.0).abs() < 1.0);
    }
}

#[test]
fn two_equal_orthogonal_spikes_break_at_two() {
    let mut random = Random::new(6);
    let dim = 2000;
    let first = random.direction(dim);
    let mut second = random.direction(dim);
    let along: f64 = first.iter().zip(&second).map(|(a, b)| a * b).sum();
    add(&mut second, -along, &first);
    let length = norm(&second);
    second.iter_mut().for_each(|x| *x /= length);
    let mut rows = random.rows(60, dim, 0.0);
    for (at, row) in rows.iter_mut().enumerate() {
        add(row, 5.0, &first);
        add(row, if at % 2 == 0 { 5.0 } else { -5.0 }, &second);
    }
    for reading in read(&rows, 10).iter().filter(|reading| !reading.is_warming()) {
        assert_eq!((reading.position, reading.position_plain), (Some(2), Some(2)));
        assert_eq!((reading.position_edge, reading.k95), (Some(2), Some(2)));
    }
}

#[test]
fn iid_noise_has_ratios_near_one() {
    let rows = Random::new(7).rows(200, 4096, 0.0);
    let readings = edge_readings(&rows, EdgeParams { window: 10, parameter_count: 4096, sketch_dim: None }, &[])
        .expect("valid rows");
    let full: Vec<&EdgeReading> = readings.iter().filter(|reading| !reading.is_warming()).collect();
    let mut above_mean_edge = 0;
    for reading in &full {
        for name in ["ratio", "ratio_1", "ratio_2", "ratio_3"] {
            let ratio = reading.value(name).expect("defined");
            assert!((1.0..1.06).contains(&ratio), "{name} {ratio}");
        }
        assert!(reading.bbp_ratio.expect("defined") > 3.0, "vacuous: pure noise is far above 1");
        assert!(reading.entropy_rank.expect("defined") > 9.9);
        assert_eq!(reading.adiabatic, None, "no learning rate");
        above_mean_edge += usize::from(reading.position_edge.is_some());
    }
    assert!(above_mean_edge < full.len() / 2, "{above_mean_edge} of {}", full.len());
}

/// A temporally correlated null: no structure at all, and yet a leading gap.
#[test]
fn autocorrelated_noise_has_a_leading_gap() {
    let mut random = Random::new(8);
    let (mut w10, mut w20) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        let rows = random.rows(120, 4096, 0.9);
        // Windows one length apart are nearly independent.
        w10.extend(read(&rows, 10).iter().skip(20).step_by(10).map(|reading| reading.ratio_1.expect("defined")));
        w20.extend(read(&rows, 20).iter().skip(20).step_by(20).map(|reading| reading.ratio_1.expect("defined")));
    }
    let inside = w10.iter().filter(|ratio| (2.17..=2.33).contains(*ratio)).count();
    assert!(inside * 10 >= w10.len() * 9, "{inside} of {} in the 1 to 99 % band", w10.len());
    assert!((median(w10) - 2.25).abs() < 0.02);
    assert!((median(w20) - 1.68).abs() < 0.02);
}

#[test]
fn gram_change_is_exact_and_bounds_the_spectral_one() {
    let dim = 60;
    let rows = structured(9, 50, dim);
    let window = 7;
    for (t, reading) in read(&rows, window).iter().enumerate().skip(window) {
        let (new, old) = (&rows[t], &rows[t - window]);
        let mut brute = 0.0;
        for i in 0..dim {
            for j in 0..dim {
                brute += (new[i] * new[j] - old[i] * old[j]).powi(2);
            }
        }
        let (a, b) = (norm(new).powi(2), norm(old).powi(2));
        let change = reading.gram_change.expect("two windows");
        assert!((change * change - brute).abs() <= 1e-12 * (a * a + b * b), "{} {brute}", change * change);
        let spectral = reading.gram_change_spectral.expect("two windows");
        assert!(spectral <= change + 1e-7 * (a + b));
        let gap = reading.gap.expect("defined");
        assert_close(reading.instability.expect("g > 0"), change / (gap * gap), 1e-12, "A0");
        assert_close(reading.adiabatic.expect("eta > 0"), change / (0.01 * gap * gap), 1e-12, "A");
        assert!(reading.dk.expect("g > 0") <= reading.instability.expect("g > 0"));
    }
}

#[test]
fn what_is_undefined_is_none() {
    let rows = structured(10, 12, 50);
    let readings = edge_readings(&rows, params(3), &[]).expect("valid rows");
    for (t, reading) in readings.iter().enumerate() {
        assert_eq!(reading.rows as usize, (t + 1).min(3));
        assert_close(reading.update_norm, norm(&rows[t]), 1e-12, "update_norm");
        let defined = |name: &str| reading.value(name).is_some();
        for metric in EDGE_METRICS.iter().filter(|metric| metric.short != "update_norm") {
            assert!(t >= 2 || !defined(metric.short), "{} while warming", metric.name);
        }
        for name in
            ["gram_change", "gram_change_spectral", "instability", "dk", "alpha_1", "alpha_spectral_1", "overlap_1"]
        {
            assert_eq!(defined(name), t >= 3, "{name} at {t}");
        }
        assert!(!defined("ratio_3") && !defined("adiabatic"), "W = 3, no learning rate");
        assert_eq!(defined("ratio_2"), t >= 2);
    }
    assert_eq!(edge_readings(&rows, params(3), &[0.0; 12]).expect("valid")[5].adiabatic, None, "eta = 0");
}

#[test]
fn a_window_of_zeros_says_only_that() {
    let mut rows = vec![vec![0.0f64; 20]; 8];
    rows.extend(structured(11, 8, 20));
    let readings = read(&rows, 4);
    let zero = &readings[5];
    assert_eq!((zero.sigma.as_deref(), zero.drift), (Some([0.0; 4].as_slice()), Some(0.0)));
    assert_eq!(zero.update_norm, 0.0);
    for metric in EDGE_METRICS {
        let kept = ["update_norm", "drift", "sigma_1", "sigma_2", "sigma_3"].contains(&metric.short);
        assert_eq!(zero.value(metric.short).is_some(), kept, "{}", metric.name);
    }
    // The first non-zero row: one mode now, none before.
    let first = &readings[8];
    assert_eq!((first.modes, first.overlap), (Some(1), Some([None; 3])));
    assert!(first.gram_change.is_some());
}

#[test]
fn a_vanishing_gap_leaves_its_ratios_undefined() {
    // Orthonormal rows: all singular values equal, g = 0.
    let rows: Vec<Vec<f64>> = (0..10).map(|t| (0..10).map(|i| f64::from(u8::from(i == t))).collect()).collect();
    for reading in read(&rows, 4).iter().skip(4) {
        assert_eq!((reading.gap, reading.ratio), (Some(0.0), Some(1.0)));
        assert_eq!((reading.adiabatic, reading.instability, reading.dk), (None, None, None));
        assert_eq!(reading.alpha, Some([Some(0.0); 3]), "no separation: 0");
        assert_eq!(reading.overlap_unresolved, [true; 3]);
        assert_eq!(reading.gram_change, Some(2f64.sqrt()));
    }
}

#[test]
fn extreme_rows_give_no_nan_and_no_infinity() {
    let mut random = Random::new(12);
    for scale in [f32::MAX, 1e30, 1.0, 1e-30, f32::from_bits(1)] {
        let mut stream = EdgeStream::new(64, &[3, 5], 64, true).expect("valid");
        for t in 0..40 {
            let row: Vec<f32> = (0..64)
                .map(|_| scale * if t % 11 == 0 { 0.0 } else { (2.0 * random.uniform() - 1.0) as f32 })
                .collect();
            for reading in stream.push(&row, Some(f64::MIN_POSITIVE)).expect("finite row") {
                for metric in EDGE_METRICS {
                    assert!(reading.value(metric.short).is_none_or(f64::is_finite), "{} at {scale}", metric.name);
                }
                let text = serde_json::to_string(&reading).expect("JSON");
                assert_eq!(serde_json::from_str::<EdgeReading>(&text).expect("JSON"), reading);
            }
        }
    }
}

#[test]
fn updates_at_hand_equal_the_stream() {
    let rows = support::to_f32(&structured(13, 40, 77));
    let mut stream = EdgeStream::new(77, &[9], 1000, false).expect("valid");
    let readings = edge_readings(&rows, params(9), &[0.5; 40]).expect("valid");
    for (row, reading) in rows.iter().zip(&readings) {
        assert_eq!(&stream.push(row, Some(0.5)).expect("valid")[0], reading);
    }
    assert!(edge_readings::<Vec<f64>, f64>(&[], params(9), &[]).expect("valid").is_empty());
    assert_eq!(edge_readings(&rows, params(9), &[0.5; 3]), Err(WindowError::LearningRates { got: 3, rows: 40 }));
    assert_eq!(
        edge_readings(&[vec![1.0f64, 2.0], vec![1.0]], params(9), &[]),
        Err(WindowError::RowLength { got: 1, expected: 2 })
    );
    assert_eq!(edge_readings(&[[1e200f64]], params(9), &[]), Err(WindowError::NonFinite), "its norm overflows");
    assert_eq!(edge_readings(&[[1.0f64]], params(2), &[]), Err(WindowError::LengthOutOfRange { length: 2 }));
}

/// The catalogue and the reading name the same things.
#[test]
fn the_catalogue_is_complete() {
    let mut reading = read(&structured(14, 40, 50), 8).pop().expect("readings");
    reading.norm_z = Some(0.5);
    reading.gap_flow_rate = Some(0.1);
    reading.gap_flow_equilibrium = Some(0.2);
    reading.gap_flow_r2 = Some(0.3);
    reading.gap_flow_r2_unit = Some(0.4);
    reading.gap_flow_r2_free = Some(0.5);
    let terms = EdgeTerms {
        position: reading.position.expect("defined"),
        curvatures: Some([1.0, 2.0]),
        projections: Some([3.0, 4.0]),
        loss_projections: Some([[5.0; 3]; 2]),
    };
    reading.add_terms(&terms, Some(0.1), Some(0.0));
    for metric in EDGE_METRICS {
        assert!(reading.value(metric.short).is_some(), "{} is not resolved", metric.name);
        assert_eq!(edge_metric(metric.name), Some(metric));
        let (instrument, short) = metric.name.split_once('.').expect("instrument.reading");
        assert!(["edge", "update"].contains(&instrument) && short == metric.short);
    }
    let mut names: Vec<&str> = EDGE_METRICS.iter().map(|metric| metric.short).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), EDGE_METRICS.len(), "a name twice");
    let serialised = serde_json::to_value(&reading).expect("JSON");
    for field in serialised.as_object().expect("an object").keys() {
        let known = names.contains(&field.as_str()) || names.contains(&format!("{field}_1").as_str());
        let no_metric = ["window", "rows", "overlap_unresolved"].contains(&field.as_str());
        assert!(known || no_metric, "{field} is not in the catalogue");
    }
    assert_eq!(reading.value("sigma_8"), reading.sigma.as_ref().map(|sigma| sigma[7]));
    for unknown in ["", "sigma_9", "sigma_0", "alpha_4", "ratio_4", "window", "edge.ratio"] {
        assert_eq!(reading.value(unknown), None, "{unknown}");
    }
    assert!(DETECTORS.iter().all(|info| info.name == info.detector.as_str()));
    assert_eq!(DETECTORS.len(), 9);
}
