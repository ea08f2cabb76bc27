//! What a snapshot of the default size costs: 20 directions with Kronecker ingredients; and what a client pays for the
//! directions of a gradient, without its Hessian-vector products. Prints medians.
//!
//! `cargo bench -p gradwatch-spectral --bench curvature`

use std::hint::black_box;
use std::time::Instant;

use gradwatch_spectral::curvature::{CurvatureSnapshot, Kronecker, gradient_directions, reading};

fn main() {
    // k^−power with a wobble, so that nothing ties and every fit has residuals.
    let falling = |power: f64, phase: f64| -> Vec<f64> {
        (1..=20).map(f64::from).map(|k| k.powf(-power) * (0.1 * (7.0 * k + phase).sin()).exp()).collect()
    };
    let snapshot = CurvatureSnapshot {
        sigma: falling(1.0, 0.0),
        curvature: falling(2.0, 1.0),
        kronecker: Some(Kronecker {
            output_factor: falling(0.9, 2.0),
            input_factor: falling(1.0, 3.0),
            output_eigenvalues: falling(1.0, 4.0),
            input_eigenvalues: falling(1.1, 5.0),
            sum_of_products: falling(1.9, 6.0),
        }),
    };
    assert!(reading(&snapshot).exponent_common.is_some(), "everything is computed");
    let (median, p99) = milliseconds(2000, || black_box(reading(black_box(&snapshot))));
    println!("curvature.reading: {median:.4} ms, p99 {p99:.4} ms");
    for size in [128, 512, 1024] {
        let gradient: Vec<f32> = (0..size * size).map(|at| ((at * at) as f32 * 0.7).sin()).collect();
        let (median, _) = milliseconds(5, || black_box(gradient_directions(size, size, black_box(&gradient), 20)));
        println!("curvature.gradient_directions {size} x {size}: {median:.1} ms");
    }
}

/// Median and 99th percentile of the time `work` takes.
fn milliseconds<T>(times: usize, work: impl Fn() -> T) -> (f64, f64) {
    let mut taken: Vec<f64> = (0..times)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    taken.sort_by(f64::total_cmp);
    (taken[times / 2], taken[times * 99 / 100])
}
