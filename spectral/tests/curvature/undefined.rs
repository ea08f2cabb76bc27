//! What is null, and why it says so.

use gradwatch_spectral::curvature::{CurvatureReading, CurvatureSnapshot, Kronecker, reading};
use gradwatch_spectral::layers::{FieldValue, Reason};

use crate::made::{DIRECTIONS, falling, power_law, snapshot};
use crate::support::Random;

/// The names of the fields that are not null, without the reason.
fn defined(reading: &CurvatureReading) -> Vec<&'static str> {
    let values = CurvatureReading::FIELDS.iter().zip(reading.values());
    values.filter(|(field, value)| value.is_some() && field.name != "reason").map(|(field, _)| field.name).collect()
}

const COUNTED: [&str; 5] = ["directions", "k_eff", "participation", "participation_gradient", "negative"];

#[test]
fn content_that_cannot_be_read_gives_nothing_but_the_reason() {
    let whole = || {
        let mut made = power_law(1.0, 2.0);
        let ones = || vec![1.0; DIRECTIONS];
        made.kronecker = Some(Kronecker {
            output_factor: ones(),
            input_factor: ones(),
            output_eigenvalues: ones(),
            input_eigenvalues: ones(),
            sum_of_products: ones(),
        });
        made
    };
    assert_eq!(reading(&whole()).reason, None);
    type Change = fn(&mut CurvatureSnapshot);
    fn factors(made: &mut CurvatureSnapshot) -> &mut Kronecker {
        made.kronecker.as_mut().unwrap()
    }
    let cases: [(Change, Reason, &str); 16] = [
        (|it| *it = CurvatureSnapshot::default(), Reason::Empty, "sigma: must not be empty"),
        (|it| it.sigma.clear(), Reason::Empty, "sigma: must not be empty"),
        (|it| it.curvature.truncate(19), Reason::Inconsistent, "curvature: has 19 values, the other fields ask for 20"),
        (|it| it.sigma[3] = f64::NAN, Reason::NonFinite, "sigma[3]: must be a finite number"),
        (|it| it.sigma[0] = f64::INFINITY, Reason::NonFinite, "sigma[0]: must be a finite number"),
        (|it| it.sigma[19] = -1e-9, Reason::Negative, "sigma[19]: must not be negative"),
        (|it| it.curvature[7] = f64::NEG_INFINITY, Reason::NonFinite, "curvature[7]: must be a finite number"),
        (
            |it| factors(it).output_factor.truncate(5),
            Reason::Inconsistent,
            "kronecker.output_factor: has 5 values, the other fields ask for 20",
        ),
        (
            |it| factors(it).input_factor.push(1.0),
            Reason::Inconsistent,
            "kronecker.input_factor: has 21 values, the other fields ask for 20",
        ),
        (
            |it| factors(it).sum_of_products.truncate(1),
            Reason::Inconsistent,
            "kronecker.sum_of_products: has 1 values, the other fields ask for 20",
        ),
        (
            |it| factors(it).output_factor[0] = f64::NAN,
            Reason::NonFinite,
            "kronecker.output_factor[0]: must be a finite number",
        ),
        (
            |it| factors(it).input_factor[2] = f64::NAN,
            Reason::NonFinite,
            "kronecker.input_factor[2]: must be a finite number",
        ),
        (
            |it| factors(it).output_eigenvalues[1] = f64::INFINITY,
            Reason::NonFinite,
            "kronecker.output_eigenvalues[1]: must be a finite number",
        ),
        (
            |it| factors(it).input_eigenvalues[9] = f64::NAN,
            Reason::NonFinite,
            "kronecker.input_eigenvalues[9]: must be a finite number",
        ),
        (
            |it| factors(it).sum_of_products[4] = f64::NAN,
            Reason::NonFinite,
            "kronecker.sum_of_products[4]: must be a finite number",
        ),
        (|it| it.sigma.push(0.0), Reason::Inconsistent, "curvature: has 20 values, the other fields ask for 21"),
    ];
    for (change, reason, message) in cases {
        let mut made = whole();
        change(&mut made);
        assert_eq!(made.check().unwrap_err().to_string(), message);
        let expected = CurvatureReading { reason: Some(reason), ..Default::default() };
        assert_eq!(reading(&made), expected, "{message}");
    }
}

#[test]
fn a_gradient_of_zeros_has_no_directions() {
    let reading = reading(&snapshot(vec![0.0; 20], vec![1.0; 20]));
    assert_eq!((reading.reason, reading.directions, reading.k_eff), (Some(Reason::AllZero), Some(20), Some(0)));
    assert_eq!(defined(&reading), ["directions", "k_eff", "negative"]);
}

#[test]
fn fewer_than_5_singular_values_are_not_fitted() {
    let mut made = power_law(1.0, 2.0);
    // Exactly at the cut is below it.
    let cut = 1e-5 * made.sigma[0];
    made.sigma[4..].fill(cut);
    made.curvature[1] = -1.0;
    let reading_of_4 = reading(&made);
    assert_eq!(reading_of_4.reason, Some(Reason::TooFewSingularValues));
    assert_eq!((reading_of_4.directions, reading_of_4.k_eff, reading_of_4.negative), (Some(20), Some(4), Some(1)));
    assert_eq!(defined(&reading_of_4), COUNTED);
    made.sigma[4] = 1.001 * cut;
    let reading_of_5 = reading(&made);
    assert_eq!((reading_of_5.k_eff, reading_of_5.rank_decay.is_some()), (Some(5), true));
    assert_eq!(reading_of_5.reason, Some(Reason::TooFewPositiveCurvatures));
}

#[test]
fn fewer_than_5_positive_curvatures_leave_what_needs_none() {
    let mut made = power_law(1.0, 2.0);
    made.curvature[4..].fill(-0.1);
    made.curvature[9] = 0.0;
    let four = reading(&made);
    assert_eq!((four.reason, four.negative), (Some(Reason::TooFewPositiveCurvatures), Some(16)));
    let mut expected = COUNTED.to_vec();
    expected.splice(2..2, ["rank_decay", "rank_decay_r2"]);
    expected.splice(6..6, ["rank_model"]);
    assert_eq!(defined(&four), expected);
    made.curvature[4] = 0.7 * made.sigma[4].powi(2);
    let five = reading(&made);
    assert_eq!((five.reason, five.negative), (None, Some(15)));
    assert!((five.exponent.unwrap() - 2.0).abs() < 1e-10);
    // gamma is over all kept directions, s over the positive ones by their own rank.
    assert!((five.rank_decay.unwrap() - 1.0).abs() < 1e-10);
    assert!((five.hessian_decay.unwrap() - 2.0).abs() < 1e-10);
}

#[test]
fn equal_singular_values_have_no_exponent() {
    let rising: Vec<f64> = (1..=20).map(f64::from).collect();
    let chained: Vec<f64> = (0..20).map(|k| 0.9995f64.powi(k)).collect();
    for sigma in [vec![2.0; 20], chained] {
        let reading = reading(&snapshot(sigma, rising.clone()));
        assert_eq!(reading.reason, Some(Reason::DuplicateSingularValues));
        assert_eq!((reading.exponent, reading.exponent_r2, reading.exponent_se), (None, None, None));
        assert_eq!((reading.transfer_error, reading.transfer_null, reading.preconditioner), (None, None, None));
        assert_eq!((reading.r2_low, reading.participation_zeta_ratio), (None, None));
        // Their curvatures are averaged, so that these do not fall either.
        assert_eq!((reading.hessian_decay, reading.hessian_decay_r2), (Some(0.0), None));
        assert!((reading.participation.unwrap() - 20.0).abs() < 1e-9);
    }
    // Those that have a positive curvature count, not the one beside them.
    let mut sigma = vec![1.0; 20];
    sigma[0] = 2.0;
    let mut curvature = vec![1.0; 20];
    curvature[0] = -1.0;
    assert_eq!(reading(&snapshot(sigma, curvature)).reason, Some(Reason::DuplicateSingularValues));
}

#[test]
fn a_level_has_a_slope_of_0_but_no_r2() {
    let level = reading(&snapshot(falling(1.0), vec![0.3; 20]));
    assert_eq!(level.reason, None);
    assert_eq!((level.exponent, level.exponent_r2, level.exponent_se), (Some(0.0), None, Some(0.0)));
    assert_eq!((level.hessian_decay, level.hessian_decay_r2), (Some(0.0), None));
    assert_eq!((level.transfer_error, level.transfer_null), (None, None));
    assert_eq!((level.r2_low, level.participation_zeta_ratio), (None, None));
    let same = reading(&snapshot(vec![2.0; 20], vec![1.0; 20]));
    assert_eq!((same.rank_decay, same.rank_decay_r2), (Some(0.0), None));
}

/// s < 1e-12: no share of it means anything.
#[test]
fn a_curvature_that_hardly_decays_has_no_transfer_error() {
    let raised = |by: f64| {
        let mut curvature = vec![0.3; 20];
        curvature[0] *= 1.0 + by;
        reading(&snapshot(falling(1.0), curvature))
    };
    let hardly = raised(1e-13);
    assert!((1e-15..1e-12).contains(&hardly.hessian_decay.unwrap()), "{hardly:?}");
    assert_eq!((hardly.reason, hardly.transfer_error, hardly.transfer_null), (None, None, None));
    let little = raised(1e-9);
    assert!(little.transfer_error.is_some() && little.transfer_null.is_some(), "{little:?}");
}

#[test]
fn without_any_curvature_there_is_no_participation() {
    let flat = reading(&snapshot(falling(1.0), vec![0.0; 20]));
    assert_eq!((flat.participation, flat.negative), (None, Some(20)));
    assert_eq!(flat.reason, Some(Reason::TooFewPositiveCurvatures));
    assert!(flat.participation_gradient.is_some());
}

#[test]
fn the_zeta_ratio_needs_a_sum_that_converges() {
    let shallow = reading(&power_law(0.5, 1.5));
    assert_eq!((shallow.reason, shallow.participation_zeta_ratio), (None, None));
    assert!(reading(&power_law(0.7, 1.5)).participation_zeta_ratio.is_some());
}

#[test]
fn the_accounting_needs_5_directions_with_every_factor() {
    let mut made = power_law(1.0, 2.0);
    let some = |count: usize| falling(1.0)[..count].to_vec();
    let kronecker = |count: usize| {
        Some(Kronecker {
            output_factor: some(20),
            input_factor: some(20),
            output_eigenvalues: some(20),
            input_eigenvalues: some(count),
            sum_of_products: vec![],
        })
    };
    made.kronecker = kronecker(4);
    let four = reading(&made);
    assert_eq!(four.reason, Some(Reason::TooFewKroneckerDirections));
    assert_eq!((four.beta, four.phi_slope, four.chi_slope, four.exponent_common), (None, None, None, None));
    assert!(four.exponent.is_some() && four.concentration.is_none());
    made.kronecker = kronecker(5);
    let five = reading(&made);
    assert_eq!(five.reason, None);
    assert!((five.exponent_common.unwrap() - 2.0).abs() < 1e-10);
    // The first five in one near tie.
    made.sigma[..5].fill(4.0);
    let tied = reading(&made);
    assert_eq!((tied.reason, tied.beta), (Some(Reason::DuplicateSingularValues), None));
    assert!(tied.exponent.is_some());
    // What keeps the power laws from being fitted is said first.
    made.kronecker = kronecker(4);
    made.curvature.fill(-1.0);
    assert_eq!(reading(&made).reason, Some(Reason::TooFewPositiveCurvatures));
}

#[test]
fn a_bad_fit_is_flagged() {
    let mut random = Random::new(21);
    let curvature = random.gaussians(20).iter().map(|z| (3.0 * z).exp()).collect();
    let scattered = reading(&snapshot(falling(1.0), curvature));
    assert!(scattered.exponent_r2.unwrap() < 0.8, "{scattered:?}");
    assert_eq!(scattered.r2_low, Some(true));
}

/// A mean of 19 of the largest numbers rounds to infinity if it is let, and one of the smallest to 0.
#[test]
fn a_near_tie_at_either_end_of_the_range_keeps_its_mean() {
    let sigma: Vec<f64> = [vec![1.0; 19], (1..=6).map(|k| 0.5f64.powi(k)).collect()].concat();
    let largest = reading(&snapshot(sigma.clone(), vec![f64::MAX; 25]));
    assert_eq!((largest.reason, largest.exponent, largest.negative), (None, Some(0.0), Some(0)));
    assert_eq!(largest.participation, Some(25.0));
    let smallest = reading(&snapshot(sigma, vec![5e-324; 25]));
    assert_eq!((smallest.reason, smallest.exponent, smallest.negative), (None, Some(0.0), Some(0)));
}

/// Whatever finite numbers come: no NaN, no infinity, and a reason wherever the exponent is null.
#[test]
fn no_reading_holds_a_number_that_is_not_finite() {
    let mut random = Random::new(22);
    let mut null = 0;
    for draw in 0..3000 {
        let spread = [0.1, 3.0, 60.0, 700.0][draw % 4];
        let mut values = |count: usize, signed: bool| -> Vec<f64> {
            let value = |_| match random.next_u64() % 12 {
                0 => 0.0,
                1 => f64::MAX,
                2 => f64::MIN_POSITIVE / 4.0,
                other => {
                    let size = (spread * random.gaussian()).clamp(-700.0, 700.0).exp();
                    if signed && other == 3 { -size } else { size }
                }
            };
            (0..count).map(value).collect()
        };
        let mut made = snapshot(values(20, false), values(20, true));
        made.kronecker = Some(Kronecker {
            output_factor: values(20, true),
            input_factor: values(20, false),
            output_eigenvalues: values(20, false),
            input_eigenvalues: values(16, true),
            sum_of_products: values(20, false),
        });
        if draw % 2 == 0 {
            // Spread wide, f64::MAX would trim all the rest.
            made.sigma.iter_mut().for_each(|sigma| *sigma = if *sigma > 1e250 { 1e250 } else { sigma.max(1e246) });
        }
        let reading = reading(&made);
        for value in reading.values().into_iter().flatten() {
            match value {
                FieldValue::Number(number) => assert!(number.is_finite(), "{reading:?}"),
                FieldValue::List(list) => assert!(list.iter().all(|number| number.is_finite()), "{reading:?}"),
                FieldValue::Count(_) | FieldValue::Flag(_) | FieldValue::Word(_) => {}
            }
        }
        assert!(reading.exponent.is_some() || reading.reason.is_some(), "{reading:?}");
        null += usize::from(reading.exponent.is_none());
    }
    assert!((300..2700).contains(&null), "both happen: {null} of 3,000 without an exponent");
}
