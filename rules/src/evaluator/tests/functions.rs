use super::{super::functions, reference::function_of};
use crate::language::Function;

fn close(one: f64, other: f64) -> bool {
    (one - other).abs() <= 1e-12 * (1.0 + other.abs())
}

#[test]
fn functions_have_their_textbook_values() {
    // R: x <- c(2, 4, 4, 4, 5, 5, 7, 9); quantile(x, 0.9, type = 7); sd(x); coef(lm(x ~ I(3 * 0:7)))
    let x = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0];
    let steps: Vec<f64> = (0..8).map(|at| f64::from(3 * at)).collect();
    assert!(close(functions::mean(&x), 5.0));
    assert!(close(functions::stddev(&x), (32.0f64 / 7.0).sqrt()));
    assert!(close(functions::min(&x), 2.0) && close(functions::max(&x), 9.0));
    assert!(close(functions::slope(&steps, &x), 17.0 / 63.0));
    for (q, expected) in [(0.0, 2.0), (0.25, 4.0), (0.5, 4.5), (0.9, 7.6), (1.0, 9.0)] {
        assert!(close(functions::quantile(&mut x.clone(), q), expected), "{q}");
    }
    // Mean 31/7 and standard deviation of the seven before the newest.
    let spread = (x[..7].iter().map(|it| (it - 31.0 / 7.0).powi(2)).sum::<f64>() / 6.0).sqrt();
    assert!(close(functions::zscore(&x), (9.0 - 31.0 / 7.0) / spread));
}

#[test]
fn what_is_undefined_is_no_number() {
    assert!(functions::stddev(&[1.0]).is_nan());
    assert!(functions::zscore(&[1.0, 1.0, 1.0, 2.0]).is_nan());
    assert!(functions::zscore(&[1.0, 2.0]).is_nan());
    assert!(functions::slope(&[0.0, 0.0], &[1.0, 2.0]).is_nan());
    assert!(functions::quantile(&mut [], 0.5).is_nan());
}

#[test]
fn the_reference_agrees_on_values_of_any_size() {
    let mut state = 3;
    let mut noise = || {
        state = u64::wrapping_add(u64::wrapping_mul(state, 6_364_136_223_846_793_005), 1_442_695_040_888_963_407);
        ((state >> 11) as f64 / (1u64 << 53) as f64 - 0.3) * 1e3
    };
    for n in 3..60 {
        let pairs: Vec<(u64, f64)> = (0..n).map(|at| (7 * at + at % 3, noise())).collect();
        let values: Vec<f64> = pairs.iter().map(|it| it.1).collect();
        let steps: Vec<f64> = pairs.iter().map(|it| it.0 as f64).collect();
        let close = |one: f64, function| (one - function_of(function, &pairs)).abs() < 1e-7;
        assert!(close(functions::mean(&values), Function::Mean));
        assert!(close(functions::stddev(&values), Function::Stddev));
        assert!(close(functions::slope(&steps, &values), Function::Slope));
        assert!(close(functions::zscore(&values), Function::Zscore));
        assert!(close(functions::quantile(&mut values.clone(), 0.37), Function::Quantile(0.37)));
    }
}
