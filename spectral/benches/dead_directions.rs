//! What a snapshot of dead directions costs: the reading on the server, with eigenvalues or the Gram matrix sent, and what
//! a client computes. Prints a table and one line of JSON.
//!
//! `cargo bench -p gradwatch-spectral --bench dead_directions`

use std::{hint::black_box, time::Instant};

use gradwatch_spectral::dead_directions::{
    BatchKind, DeadDirectionsSnapshot, Spectrum, eigenvalues, gram_of_gradients, reading, singular_values,
};

/// SplitMix64, uniform in (−1, 1).
fn noise(state: &mut u64) -> f32 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}

fn median_ms(repeats: usize, mut work: impl FnMut()) -> f64 {
    work();
    let mut times: Vec<f64> = (0..repeats)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[repeats / 2]
}

/// What the server does with a snapshot (Gram matrix, eigenvalues), and a client with 100 samples per unit of width (Gram
/// matrix, eigenvalues, singular values), in ms.
fn measure(width: usize, repeats: usize) -> [f64; 5] {
    let mut state = 7;
    let samples = 100 * width;
    let tensor: Vec<f32> = (0..samples * width).map(|_| noise(&mut state)).collect();
    let gram = gram_of_gradients(&tensor, width).expect("whole rows");
    let mut snapshot = DeadDirectionsSnapshot {
        spectrum: Spectrum::Gram(gram.clone()),
        singular_values: vec![1.0; width],
        samples: samples as u64,
        width: width as u32,
        batch: BatchKind::Train,
        is_float32: false,
        gauge_removed: 0,
    };
    let of_gram = median_ms(repeats, || _ = black_box(reading(black_box(&snapshot))));
    snapshot.spectrum = Spectrum::Eigenvalues(eigenvalues(&gram, width).expect("square"));
    let of_values = median_ms(repeats, || _ = black_box(reading(black_box(&snapshot))));
    [
        of_gram,
        of_values,
        median_ms(3, || _ = black_box(gram_of_gradients(black_box(&tensor), width))),
        median_ms(3, || _ = black_box(eigenvalues(black_box(&gram), width))),
        median_ms(3, || _ = black_box(singular_values(black_box(&tensor), width))),
    ]
}

fn main() {
    println!("medians, ms; client figures at n = 100 width, float32");
    println!(
        "{:>6} {:>12} {:>14} {:>12} {:>18} {:>22}",
        "width", "read_gram", "read_values", "client_gram", "client_eigenvalues", "client_singular_values"
    );
    let mut records = Vec::new();
    for (width, repeats) in [(128, 41), (512, 21), (1024, 5)] {
        let [of_gram, of_values, gram, eigenvalues, singular_values] = measure(width, repeats);
        println!(
            "{width:>6} {of_gram:>12.2} {of_values:>14.4} {gram:>12.1} {eigenvalues:>18.2} {singular_values:>22.1}"
        );
        records.push(serde_json::json!({
            "bench": "dead_directions", "width": width, "read_gram_ms": of_gram, "read_values_ms": of_values,
            "client_gram_ms": gram, "client_eigenvalues_ms": eigenvalues, "client_singular_values_ms": singular_values,
        }));
    }
    println!("{}", serde_json::Value::from(records));
}
