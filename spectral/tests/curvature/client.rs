//! What a client computes around its Hessian-vector products.

use gradwatch_spectral::curvature::{CurvatureError, GradientDirections, gradient_directions, kronecker};

use crate::made::{Head, product};
use crate::support::{Random, assert_close, norm};

/// Σ sigma_k u_k v_kᵀ with all directions is the gradient again, whatever its shape.
#[test]
fn directions_make_up_the_gradient() {
    let mut random = Random::new(41);
    for (rows, cols) in [(1, 1), (1, 7), (7, 1), (5, 5), (30, 4), (4, 30), (40, 33)] {
        let gradient = random.gaussians(rows * cols);
        let found = gradient_directions(rows, cols, &gradient, usize::MAX).unwrap();
        assert_eq!(found.sigma.len(), rows.min(cols));
        assert!(found.sigma.is_sorted_by(|a, b| a >= b));
        let mut sum = vec![0.0; gradient.len()];
        for (k, sigma) in found.sigma.iter().enumerate() {
            assert_eq!((found.u[k].len(), found.v[k].len()), (rows, cols));
            let direction = found.rank_one(k);
            assert_close(norm(&direction), 1.0, 1e-12, "norm of a direction");
            assert_close(product(&direction, &gradient), *sigma, 1e-10, "gradient along its direction");
            sum.iter_mut().zip(direction).for_each(|(sum, d)| *sum += sigma * d);
        }
        assert!(sum.iter().zip(&gradient).all(|(a, b)| (a - b).abs() < 1e-12), "{rows} x {cols}");
    }
}

#[test]
fn the_leading_directions_come_first_and_in_either_precision() {
    let (u, v) = (Random::new(42).direction(12), Random::new(43).direction(9));
    let (u2, v2) = (Random::new(44).direction(12), Random::new(45).direction(9));
    let gradient: Vec<f32> =
        (0..12 * 9).map(|at| (5.0 * u[at / 9] * v[at % 9] + 0.01 * u2[at / 9] * v2[at % 9]) as f32).collect();
    let found = gradient_directions(12, 9, &gradient, 2).unwrap();
    assert_eq!((found.sigma.len(), found.u.len(), found.v.len()), (2, 2, 2));
    assert_close(found.sigma[0], 5.0, 1e-2, "sigma_1");
    assert!(product(&found.u[0], &u).abs() > 0.999 && product(&found.v[0], &v).abs() > 0.999);
    let wide: Vec<f64> = gradient.iter().map(|x| f64::from(*x)).collect();
    assert_eq!(gradient_directions(12, 9, &wide, 2).unwrap(), found);
    assert_eq!(gradient_directions(3, 2, &[0.0f32; 6], 5).unwrap().sigma, [0.0, 0.0]);
}

/// Against the definition, factor matrices and all.
#[test]
fn kronecker_ingredients_are_those_of_the_factor_matrices() {
    let head = Head::trained(46, 6);
    let found = gradient_directions(head.classes, head.width, &head.gradient, 6).unwrap();
    let made = kronecker(&found, head.samples, &head.errors, &head.inputs).unwrap();
    let factor = |rows: &[f64], width: usize| {
        let mut matrix = vec![vec![0.0; width]; width];
        for row in rows.chunks(width) {
            for (i, line) in matrix.iter_mut().enumerate() {
                line.iter_mut().zip(row).for_each(|(m, x)| *m += row[i] * x / head.samples as f64);
            }
        }
        matrix
    };
    let form =
        |matrix: &[Vec<f64>], x: &[f64]| -> f64 { matrix.iter().zip(x).map(|(row, x_i)| x_i * product(row, x)).sum() };
    let (errors, inputs) = (factor(&head.errors, head.classes), factor(&head.inputs, head.width));
    for (k, (u, v)) in found.u.iter().zip(&found.v).enumerate() {
        assert_close(made.output_factor[k] + 1.0, form(&errors, u) + 1.0, 1e-12, "uᵀC_delta u");
        assert_close(made.input_factor[k], form(&inputs, v), 1e-12, "vᵀC_A v");
        let rows = head.errors.chunks(head.classes).zip(head.inputs.chunks(head.width));
        let products: f64 = rows.map(|(error, input)| (product(error, u) * product(input, v)).powi(2)).sum();
        assert_close(made.sum_of_products[k] + 1.0, products / head.samples as f64 + 1.0, 1e-12, "sum of products");
    }
    // As many eigenvalues as directions; all six of C_delta, whose trace they sum to.
    assert_eq!((made.output_eigenvalues.len(), made.input_eigenvalues.len()), (6, 6));
    let trace: f64 = (0..6).map(|i| errors[i][i]).sum();
    assert_close(made.output_eigenvalues.iter().sum(), trace, 1e-12, "trace of C_delta");
    assert!(made.output_eigenvalues[5] < 1e-15, "the errors of a sample sum to 0: {:?}", made.output_eigenvalues);
    assert!(made.input_eigenvalues.is_sorted_by(|a, b| a >= b));
}

#[test]
fn what_is_wrong_is_named() {
    let message = |result: Result<GradientDirections, CurvatureError>| result.unwrap_err().to_string();
    assert_eq!(message(gradient_directions(0, 2, &[0.0f64; 0], 1)), "rows: must not be empty");
    assert_eq!(message(gradient_directions(2, 0, &[0.0f64; 0], 1)), "cols: must not be empty");
    assert_eq!(message(gradient_directions(1, 1, &[1.0f64], 0)), "count: must not be empty");
    assert_eq!(
        message(gradient_directions(2, 2, &[0.0f64; 3], 1)),
        "gradient: has 3 values, the other fields ask for 4"
    );
    assert_eq!(message(gradient_directions(1, 2, &[0.0, f32::NAN], 1)), "gradient[1]: must be a finite number");
    let huge = message(gradient_directions(usize::MAX, 2, &[0.0f64], 1));
    assert!(huge.starts_with("rows, cols: ") && huge.ends_with(" is too large"), "{huge}");

    let found = gradient_directions(2, 3, &[1.0, 0.0, 0.0, 0.0, 1.0, 0.0], 2).unwrap();
    let wrong = |found: &GradientDirections, samples, errors: &[f64], inputs: &[f64]| {
        kronecker(found, samples, errors, inputs).unwrap_err().to_string()
    };
    assert_eq!(wrong(&found, 0, &[], &[]), "samples: must not be empty");
    assert_eq!(wrong(&found, 1, &[1.0], &[1.0; 3]), "errors: has 1 values, the other fields ask for 2");
    assert_eq!(wrong(&found, 1, &[1.0; 2], &[1.0; 4]), "inputs: has 4 values, the other fields ask for 3");
    assert_eq!(wrong(&found, 1, &[1.0; 2], &[f64::INFINITY; 3]), "inputs[0]: must be a finite number");
    let none = GradientDirections { sigma: vec![], u: vec![], v: vec![] };
    assert_eq!(wrong(&none, 1, &[1.0], &[1.0]), "directions.sigma: must not be empty");
    let torn = GradientDirections { sigma: vec![1.0; 2], u: vec![vec![1.0; 2]; 2], v: vec![vec![1.0; 3]] };
    assert_eq!(wrong(&torn, 1, &[1.0; 2], &[1.0; 3]), "directions.v: has 1 values, the other fields ask for 2");
}
