//! Riemann's zeta function.

use std::f64::consts::PI;

use gradwatch_spectral::curvature::zeta;

#[test]
fn known_values() {
    let known = [
        (1.0 + 1.0 / 1_048_576.0, 1_048_576.577_215_734_4),
        (1.1, 10.584_448_464_950_81),
        (1.5, 2.612_375_348_685_488),
        (2.0, PI.powi(2) / 6.0),
        (3.0, 1.202_056_903_159_594_2),
        (4.0, PI.powi(4) / 90.0),
        (6.0, PI.powi(6) / 945.0),
        (10.0, PI.powi(10) / 93_555.0),
        (20.0, 1.000_000_953_962_033_9),
        (50.0, 1.000_000_000_000_000_9),
        (63.9, 1.0),
        (1e300, 1.0),
        (f64::INFINITY, 1.0),
    ];
    for (s, expected) in known {
        let value = zeta(s).unwrap();
        assert!((value / expected - 1.0).abs() < 5e-15, "zeta({s}) = {value}, not {expected}");
    }
}

#[test]
fn agrees_with_the_plain_sum_between_them() {
    for s in [5.3, 7.7, 12.1, 33.3] {
        let plain: f64 = (1..20_000).rev().map(|k| f64::from(k).powf(-s)).sum();
        assert!((zeta(s).unwrap() - plain).abs() < 1e-14, "zeta({s})");
    }
}

#[test]
fn there_is_none_at_and_below_the_pole() {
    for s in [1.0, 0.5, 0.0, -2.0, f64::NEG_INFINITY, f64::NAN] {
        assert_eq!(zeta(s), None, "zeta({s})");
    }
    assert!(zeta(1.0 + f64::EPSILON).unwrap().is_finite());
}
