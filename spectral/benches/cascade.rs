//! What a cascade reading costs at the defaults: 16 windows of 4096 values, everything that is read of them. Prints a
//! table and one line of JSON.
//!
//! `cargo bench -p gradwatch-spectral --bench cascade`

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;
use std::time::Instant;

use gradwatch_spectral::cascade::{CascadeSnapshot, reading};
use support::Random;

const READINGS: usize = 20;

/// Median and maximum of the time of one reading, ms.
fn measure(snapshot: &CascadeSnapshot) -> (f64, f64) {
    let mut times: Vec<f64> = (0..READINGS)
        .map(|_| {
            let start = Instant::now();
            black_box(reading(black_box(snapshot)));
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    (times[READINGS / 2], times[READINGS - 1])
}

fn main() {
    let mut random = Random::new(7);
    let mut snapshot = |value: fn(&mut Random) -> f64| CascadeSnapshot {
        windows: (0..16).map(|_| (0..4096).map(|_| value(&mut random).abs()).collect()).collect(),
        whole: None,
    };
    let cases = [
        ("iid Gaussian", snapshot(Random::gaussian)),
        ("Cauchy", snapshot(|random| random.gaussian() / random.gaussian())),
        // The longest cascades that float16 can hold: a few huge entries over almost nothing.
        ("9 % huge", snapshot(|random| if random.uniform() < 0.09 { 60_000.0 } else { 1e-7 })),
    ];
    println!("{:>14} {:>6} {:>12} {:>12}", "values", "phi", "median_ms", "max_ms");
    let mut records = Vec::new();
    for (name, snapshot) in &cases {
        let phi = reading(snapshot).phi.expect("a cascade");
        let (median, max) = measure(snapshot);
        println!("{name:>14} {phi:>6.2} {median:>12.2} {max:>12.2}");
        records.push(serde_json::json!({
            "bench": "cascade.reading", "values": name, "phi": phi, "median_ms": median, "max_ms": max,
        }));
    }
    println!("{}", serde_json::Value::from(records));
}
