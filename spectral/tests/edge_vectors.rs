//! The edge instrument against reference values computed elsewhere (float64, exact dot products).

mod support;

use gradwatch_spectral::edge::{EdgeParams, EdgeReading, alpha_of_lambda, edge_readings_from_dots, positions_of_sigma};
use serde_json::Value;
use support::assert_close;

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors/edge.json")).expect("vectors/edge.json is JSON")
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().expect("an array").iter().map(|x| x.as_f64().expect("a number")).collect()
}

const POSITIONS: [&str; 6] = ["modes", "position", "position_plain", "position_edge", "position_edge_published", "k95"];
const SCALARS: [&str; 20] = [
    "ratio",
    "ratio_1",
    "ratio_2",
    "ratio_3",
    "gap",
    "gap23",
    "gap23_rel",
    "drift",
    "pc1",
    "entropy_rank",
    "participation",
    "noise_edge",
    "noise_edge_mean",
    "bbp_ratio",
    "update_norm",
    "gram_change",
    "gram_change_spectral",
    "instability",
    "adiabatic",
    "dk",
];

fn compare(got: &EdgeReading, want: &Value, what: &str) {
    let sigma = got.sigma.as_ref().expect("a full window has a spectrum");
    let want_sigma = floats(&want["sigma"]);
    assert_eq!(sigma.len(), want_sigma.len());
    for (a, b) in sigma.iter().zip(&want_sigma) {
        assert!((a - b).abs() <= 1e-9 * want_sigma[0], "{what} sigma: {a} {b}");
    }
    for name in POSITIONS {
        assert_eq!(got.value(name), want[name].as_f64(), "{what} {name}");
    }
    for name in SCALARS {
        match (got.value(name), want[name].as_f64()) {
            (Some(a), Some(b)) => assert_close(a, b, 1e-9, &format!("{what} {name}")),
            (a, b) => assert_eq!(a, b, "{what} {name}"),
        }
    }
    for (name, tolerance) in [("alpha", 1e-9), ("alpha_spectral", 1e-9), ("overlap", 1e-6)] {
        for j in 0..3 {
            let value = got.value(&format!("{name}_{}", j + 1));
            match want[name].as_array() {
                None => assert_eq!(value, None, "{what} {name}"),
                Some(_) if name == "overlap" && got.overlap_unresolved[j] => {}
                Some(list) => {
                    let (a, b) = (value.expect("defined"), list[j].as_f64().expect("a number"));
                    assert!((a - b).abs() <= tolerance * b.abs().max(1e-12), "{what} {name}_{}: {a} {b}", j + 1);
                }
            }
        }
    }
}

#[test]
fn readings_equal_the_reference() {
    let vectors = vectors();
    let rows = vectors["dots"].as_array().expect("an array");
    let dots: Vec<f64> = rows.iter().flat_map(floats).collect();
    let mut compared = 0;
    for case in vectors["windows"].as_array().expect("an array") {
        let window = case["window"].as_u64().expect("a number") as usize;
        let params = EdgeParams { window, parameter_count: case["p"].as_u64().expect("a number"), sketch_dim: None };
        let rates = vec![case["lr"].as_f64().expect("a number"); rows.len()];
        let readings = edge_readings_from_dots(&dots, rows.len(), params, &rates).expect("valid input");
        assert_eq!(readings.len(), rows.len());
        assert!(readings[..window - 1].iter().all(EdgeReading::is_warming));
        for want in case["readings"].as_array().expect("an array") {
            let t = want["t"].as_u64().expect("a number") as usize;
            compare(&readings[t], want, &format!("W = {window}, t = {t}"));
            compared += 1;
        }
    }
    assert!(compared >= 36 + 31 + 21, "compared {compared}");
}

#[test]
fn printed_spectrum() {
    let printed = &vectors()["printed_spectrum"];
    let params = EdgeParams { window: 10, parameter_count: 163_150_848, sketch_dim: None };
    let (mass, plain, edge, published, noise_edge, noise_edge_mean) =
        positions_of_sigma(&floats(&printed["sigma"]), params);
    assert_eq!((mass, plain, edge, published), (Some(2), Some(9), Some(2), Some(2)));
    assert!((noise_edge - 4197.585).abs() < 1e-3, "{noise_edge}");
    assert_close(noise_edge, printed["noise_edge"].as_f64().expect("a number"), 1e-12, "noise_edge");
    assert_close(noise_edge_mean, printed["noise_edge_mean"].as_f64().expect("a number"), 1e-12, "noise_edge_mean");
}

#[test]
fn printed_stability() {
    let stability = &vectors()["stability"];
    let (before, after) = (floats(&stability["lambda_before"]), floats(&stability["lambda_after"]));
    let change = before.iter().zip(&after).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt();
    assert_close(change * change, 5.25, 1e-12, "gram_change_spectral squared");
    for (alpha, want) in alpha_of_lambda(&after, change).iter().zip(floats(&stability["alpha_spectral"])) {
        assert!((alpha.expect("three modes") - want).abs() < 5e-6, "{alpha:?} {want}");
    }
}

/// The smallest noise a window can hold decides nothing: ties and missing modes follow the stated rules.
#[test]
fn positions_of_degenerate_spectra() {
    let params = EdgeParams { window: 4, parameter_count: 1000, sketch_dim: None };
    let positions = |sigma: [f64; 4]| {
        let (mass, plain, edge, published, _, _) = positions_of_sigma(&sigma, params);
        (mass, plain, edge, published)
    };
    // The last non-zero mode has an infinite ratio and ranks first; the lower half of lambda is 0, so is `noise_edge`.
    assert_eq!(positions([3.0, 0.0, 0.0, 0.0]), (Some(1), Some(1), Some(1), Some(1)));
    assert_eq!(positions([3.0, 2.0, 0.0, 0.0]).0, Some(2));
    // First maximum wins.
    assert_eq!(positions([8.0, 4.0, 2.0, 1.0]).1, Some(1));
    // Equal values: every ratio is 1, and nothing stands above the mean's edge.
    assert_eq!(positions([1.0; 4]), (Some(1), Some(1), None, None));
    assert_eq!(positions([0.0; 4]), (None, None, None, None));
}
