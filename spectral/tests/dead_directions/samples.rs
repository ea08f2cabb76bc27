//! Snapshots from raw tensors.

use gradwatch_spectral::dead_directions::{SampleError, eigenvalues, gram_of_gradients, remove_gauge, singular_values};

use crate::log_spaced;
use crate::network::{orthogonal, times, transposed};
use crate::support::{Random, assert_close};

/// n × width with these singular values: U diag(s) V, U with orthonormal columns.
fn with_singular_values(rows: usize, values: &[f64]) -> Vec<f64> {
    let width = values.len();
    let mut random = Random::new(3);
    let mut left = transposed(&orthogonal(&mut random, rows), rows);
    left = left.chunks_exact(rows).flat_map(|row| row[..width].iter().zip(values).map(|(u, s)| u * s)).collect();
    times(&left, &orthogonal(&mut random, width), width, width)
}

#[test]
fn small_singular_values_are_not_lost() {
    // More rows than a block, and not a multiple of one.
    for rows in [40, 300] {
        let planted = log_spaced(2.0, 2e-13, 40);
        let found = singular_values(&with_singular_values(rows, &planted), 40).expect("whole rows");
        assert_eq!(found.len(), 40);
        for (found, planted) in found.iter().zip(&planted) {
            assert!((found - planted).abs() <= 4e-15 * 2.0, "{found} {planted}");
        }
        // Through XᵀX everything below 1e−8 of the largest would be noise.
        assert_close(found[36], planted[36], 1e-2, "1e-12 of the largest");
    }
}

#[test]
fn columns_that_are_zero_or_dependent_give_rounding_noise() {
    let (rows, width) = (700, 24);
    let mut activations = Random::new(4).gaussians(rows * width);
    for row in activations.chunks_exact_mut(width) {
        row[0] = 0.0;
        row[7] = 0.0;
        row[11] = 2.0 * row[3] - row[5];
        row[23] = row[1];
    }
    let values = singular_values(&activations, width).expect("whole rows");
    assert!(values[19] > 1.0, "{values:?}");
    assert!(values[20..].iter().all(|value| (0.0..1e-12).contains(value)), "{values:?}");
}

#[test]
fn singular_values_of_few_rows_and_of_zeros() {
    let few = singular_values(&[3.0, 0.0, 0.0, 0.0, 4.0, 0.0], 3).expect("whole rows");
    assert_eq!(few.len(), 2, "min(n, width)");
    assert_close(few[0], 4.0, 1e-14, "first");
    assert_close(few[1], 3.0, 1e-14, "second");
    assert_eq!(singular_values(&[0.0f32; 12], 4), Ok(vec![0.0; 3]));
    let one = singular_values(&[3.0f32, -4.0], 1).expect("whole rows");
    assert_close(one[0], 5.0, 1e-14, "a column's length");
}

#[test]
fn singular_values_scale_with_their_matrix_and_keep_their_bits() {
    let activations = Random::new(6).gaussians(600 * 17);
    let values = singular_values(&activations, 17).expect("whole rows");
    assert!(values.is_sorted_by(|a, b| a >= b));
    assert_eq!(singular_values(&activations, 17).expect("again"), values);
    for factor in [2f64.powi(-700), 2f64.powi(700)] {
        let scaled: Vec<f64> = activations.iter().map(|x| x * factor).collect();
        let want: Vec<f64> = values.iter().map(|value| value * factor).collect();
        assert_eq!(singular_values(&scaled, 17).expect("whole rows"), want);
    }
    // Σ sigma² = ‖X‖².
    let squares: f64 = activations.iter().map(|x| x * x).sum();
    assert_close(values.iter().map(|value| value * value).sum(), squares, 1e-13, "squares");
}

#[test]
fn the_gram_matrix_of_gradients() {
    let (rows, width) = (2500, 7);
    let gradients: Vec<f32> = Random::new(8).gaussians(rows * width).iter().map(|x| *x as f32).collect();
    let gram = gram_of_gradients(&gradients, width).expect("whole rows");
    for i in 0..width {
        for j in 0..width {
            let sum: f64 = gradients.chunks_exact(width).map(|row| f64::from(row[i]) * f64::from(row[j])).sum();
            assert!((gram[i * width + j] - sum / rows as f64).abs() <= 1e-13, "{i} {j}");
            assert_eq!(gram[i * width + j].to_bits(), gram[j * width + i].to_bits(), "symmetric");
        }
    }
    assert_eq!(gram_of_gradients(&gradients, width).expect("again"), gram);
    let exact: Vec<f64> = gradients.iter().map(|x| f64::from(*x)).collect();
    assert_eq!(gram_of_gradients(&exact, width).expect("float64"), gram, "float32 is taken exactly");
}

#[test]
fn eigenvalues_ascend_and_are_those_that_were_planted() {
    let planted = log_spaced(1e-12, 1.0, 50);
    let basis = orthogonal(&mut Random::new(9), 50);
    let mut scaled = basis.clone();
    for (row, lambda) in scaled.chunks_exact_mut(50).zip(&planted) {
        row.iter_mut().for_each(|x| *x *= lambda);
    }
    let gram = times(&transposed(&basis, 50), &scaled, 50, 50);
    let found = eigenvalues(&gram, 50).expect("square");
    assert!(found.is_sorted());
    for (found, planted) in found.iter().zip(&planted) {
        assert!((found - planted).abs() <= 2e-15, "{found} {planted}");
    }
    assert_eq!(eigenvalues(&[4.0], 1), Ok(vec![4.0]));
    assert_eq!(eigenvalues(&[0.0; 9], 3), Ok(vec![0.0; 3]));
    assert_eq!(eigenvalues(&[], 0), Ok(Vec::new()));
}

#[test]
fn a_gauge_direction_is_projected_out() {
    let (rows, width) = (500, 6);
    // Softmax-like: every gradient sums to 0, up to a float32 backward pass.
    let mut random = Random::new(10);
    let mut gradients = random.gaussians(rows * width);
    for row in gradients.chunks_exact_mut(width) {
        let mean = row.iter().sum::<f64>() / width as f64;
        row.iter_mut().for_each(|x| *x -= mean + 1e-4);
    }
    let mut gram = gram_of_gradients(&gradients, width).expect("whole rows");
    let before = eigenvalues(&gram, width).expect("square");
    assert!((1e-9..1e-6).contains(&before[0]), "looks like a dead direction: {before:?}");
    remove_gauge(&mut gram, &[5.0; 6]).expect("a direction");
    let after = eigenvalues(&gram, width).expect("square");
    assert!(after[0].abs() < 1e-15, "{after:?}");
    for (after, before) in after[1..].iter().zip(&before[1..]) {
        assert_close(*after, *before, 1e-6, "the others stay");
    }
    // As if the gradients themselves had been projected.
    for row in gradients.chunks_exact_mut(width) {
        let mean = row.iter().sum::<f64>() / width as f64;
        row.iter_mut().for_each(|x| *x -= mean);
    }
    for (got, want) in gram.iter().zip(gram_of_gradients(&gradients, width).expect("whole rows")) {
        assert!((got - want).abs() < 1e-14, "{got} {want}");
    }
}

#[test]
fn tensors_that_make_no_snapshot_are_named() {
    let rows = |field, got, width| SampleError::Rows { field, got, width };
    assert_eq!(gram_of_gradients(&[1.0; 5], 2), Err(rows("gradients", 5, 2)));
    assert_eq!(gram_of_gradients::<f64>(&[], 2), Err(rows("gradients", 0, 2)));
    assert_eq!(gram_of_gradients(&[1.0], 0), Err(rows("gradients", 1, 0)));
    assert_eq!(singular_values(&[1.0; 5], 2), Err(rows("activations", 5, 2)));
    assert_eq!(singular_values::<f64>(&[], 2), Err(rows("activations", 0, 2)));
    assert_eq!(singular_values(&[1.0], 0), Err(rows("activations", 1, 0)));
    for bad in [f64::NAN, f64::INFINITY] {
        assert_eq!(gram_of_gradients(&[1.0, bad], 1), Err(SampleError::NonFinite { field: "gradients" }));
        assert_eq!(singular_values(&[1.0, bad], 1), Err(SampleError::NonFinite { field: "activations" }));
        assert_eq!(eigenvalues(&[bad], 1), Err(SampleError::NonFinite { field: "gram" }));
        assert_eq!(remove_gauge(&mut [1.0], &[bad]), Err(SampleError::NonFinite { field: "direction" }));
    }
    assert_eq!(gram_of_gradients(&[1e200], 1), Err(SampleError::NonFinite { field: "gradients" }), "overflow");
    let size = |got, expected| SampleError::Size { field: "gram", got, expected };
    assert_eq!(eigenvalues(&[1.0; 3], 2), Err(size(3, 4)));
    assert_eq!(remove_gauge(&mut [1.0; 3], &[1.0, 1.0]), Err(size(3, 4)));
    assert_eq!(remove_gauge(&mut [1.0; 4], &[0.0; 2]), Err(SampleError::NoDirection));
    assert_eq!(
        rows("activations", 5, 2).to_string(),
        "activations: 5 values are not whole rows of 2",
        "a message names the field"
    );
}
