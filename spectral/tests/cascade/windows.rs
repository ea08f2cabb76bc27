//! What a client cuts out of a gradient.

use gradwatch_spectral::cascade::{WindowsError, window_positions, windows};
use gradwatch_spectral::layers::Reason;
use half::f16;

use crate::support::Random;

fn gradient(seed: u64, sizes: &[usize]) -> Vec<Vec<f32>> {
    let mut random = Random::new(seed);
    sizes.iter().map(|size| random.gaussians(*size).into_iter().map(|x| x as f32).collect()).collect()
}

fn slices(tensors: &[Vec<f32>]) -> Vec<&[f32]> {
    tensors.iter().map(Vec::as_slice).collect()
}

#[test]
fn sixteen_windows_evenly_spaced_from_end_to_end() {
    let total = 1_000_003;
    let positions = window_positions(total).unwrap();
    assert_eq!(positions.len(), 16);
    assert_eq!((positions[0], positions[15]), (0, total - 4096));
    for (i, position) in positions.iter().enumerate() {
        assert_eq!(*position, i * (total - 4096) / 15);
    }
    assert_eq!(window_positions(16 * 4096).unwrap(), (0..16).map(|i| i * 4096).collect::<Vec<_>>());
    // So large that a product in 64 bits would overflow.
    assert_eq!(window_positions(usize::MAX).unwrap()[15], usize::MAX - 4096);
}

#[test]
fn a_small_gradient_has_fewer_windows_that_do_not_overlap() {
    assert_eq!(window_positions(16 * 4096 - 1).unwrap().len(), 15);
    assert_eq!(window_positions(3 * 4096 + 10).unwrap(), [0, 4096 + 5, 2 * 4096 + 10]);
    // One window: in the middle.
    assert_eq!(window_positions(4096).unwrap(), [0]);
    assert_eq!(window_positions(2 * 4096 - 1).unwrap(), [2047]);
    for total in (4096..20 * 4096).step_by(997) {
        let positions = window_positions(total).unwrap();
        assert!(positions.windows(2).all(|pair| pair[1] - pair[0] >= 4096), "{total}");
        assert!(positions.last().unwrap() + 4096 <= total);
    }
}

#[test]
fn a_gradient_below_one_window_is_refused_as_too_small() {
    for sizes in [vec![], vec![0], vec![4095], vec![4000, 95]] {
        let tensors = gradient(1, &sizes);
        let error = windows(&slices(&tensors)).unwrap_err();
        assert_eq!(error, WindowsError::TooSmall { total: sizes.iter().sum() });
        assert_eq!(error.reason(), Reason::TooSmall);
        assert!(error.to_string().contains("too_small"), "{error}");
    }
}

#[test]
fn windows_are_the_magnitudes_over_each_tensor_s_rms() {
    // Uneven tensors, some shorter than a window, some without entries; with scales far apart.
    let mut tensors = gradient(2, &[30_000, 5, 0, 3_000, 70_001, 4_096, 9_999]);
    for (factor, tensor) in [1.0, 1e-20, 1.0, 1e15, 3e-7, 42.0, 1e-3].into_iter().zip(&mut tensors) {
        tensor.iter_mut().for_each(|value| *value *= factor);
    }
    let flat: Vec<f64> = tensors
        .iter()
        .flat_map(|tensor| {
            let squares: f64 = tensor.iter().map(|x| f64::from(*x).powi(2)).sum();
            let rms = (squares / tensor.len() as f64).sqrt();
            tensor.iter().map(move |x| f64::from(*x).abs() / rms)
        })
        .collect();
    let found = windows(&slices(&tensors)).unwrap();
    let positions = window_positions(flat.len()).unwrap();
    assert_eq!(found.len(), 16);
    for (window, position) in found.iter().zip(positions) {
        assert_eq!(window.len(), 4096);
        for (value, expected) in window.iter().zip(&flat[position..]) {
            assert!((f64::from(*value) - expected).abs() <= 1e-6 * expected, "{value} {expected}");
        }
    }
}

#[test]
fn a_tensor_of_zeros_contributes_zeros() {
    let tensors = vec![vec![0.0; 4096], gradient(3, &[4096]).remove(0)];
    let found = windows(&slices(&tensors)).unwrap();
    assert!(found[0].iter().all(|value| *value == 0.0));
    assert!(found[1].iter().all(|value| *value > 0.0));
}

#[test]
fn nan_and_infinity_are_refused_and_name_the_tensor() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut tensors = gradient(4, &[5000, 5000, 5000]);
        tensors[1][4999] = bad;
        let error = windows(&slices(&tensors)).unwrap_err();
        assert_eq!(error, WindowsError::NonFinite { tensor: 1 });
        assert_eq!(error.reason(), Reason::NonFinite);
        assert!(error.to_string().contains("tensor 1"), "{error}");
    }
}

#[test]
fn extreme_float32_entries_stay_finite_in_float16() {
    let mut tensor = vec![1e-45; 1 << 17];
    tensor[0] = f32::MAX;
    let found = windows(&[&tensor]).unwrap();
    assert!(found.iter().flatten().all(|value| f16::from_f32(*value).is_finite()));
    assert!((f64::from(found[0][0]) - f64::from(1u32 << 17).sqrt()).abs() < 1e-3, "{}", found[0][0]);
    let tiny = windows(&[&vec![1e-45; 4096]]).unwrap();
    assert!(tiny[0].iter().all(|value| *value == 1.0));
}
