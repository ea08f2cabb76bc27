//! What a row costs: window push, every edge reading, detectors. Prints a table and one line of JSON.
//!
//! `cargo bench -p gradwatch-spectral --bench edge`

use std::hint::black_box;
use std::time::Instant;

use gradwatch_spectral::detectors::DetectorConfig;
use gradwatch_spectral::edge::EdgeStream;
use gradwatch_spectral::followers::Followers;

/// SplitMix64, uniform in (−1, 1).
fn noise(state: &mut u64) -> f32 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}

fn percentile(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}

fn measure(dim: usize, lengths: &[usize], pushes: usize) -> Vec<f64> {
    let mut state = 7;
    let rows: Vec<Vec<f32>> = (0..256).map(|_| (0..dim).map(|_| noise(&mut state)).collect()).collect();
    let mut stream = EdgeStream::new(dim, lengths, dim as u64, true).expect("valid declaration");
    let mut followers: Vec<Followers> =
        lengths.iter().map(|length| Followers::new(*length, &DetectorConfig::default())).collect();
    let mut times = Vec::with_capacity(pushes);
    // Steady state: every past of the followers is full.
    let warm = 12 * lengths.iter().max().expect("a length") + 64;
    for step in 0..warm + pushes {
        let row = &rows[step % rows.len()];
        let start = Instant::now();
        let mut readings = stream.push(black_box(row), Some(1e-3)).expect("finite row");
        for (reading, follower) in readings.iter_mut().zip(&mut followers) {
            black_box(follower.follow(step as u64, reading));
        }
        black_box(readings);
        if step >= warm {
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
    }
    times.sort_by(f64::total_cmp);
    times
}

fn main() {
    println!("{:>6} {:>10} {:>12} {:>12} {:>12}", "d", "windows", "median_us", "p10_us", "p99_us");
    let mut records = Vec::new();
    for (dim, lengths) in
        [(1024, vec![10]), (4096, vec![10]), (4096, vec![20]), (4096, vec![10, 20]), (65_536, vec![20])]
    {
        let times = measure(dim, &lengths, 2000);
        let (median, low, high) = (percentile(&times, 0.5), percentile(&times, 0.1), percentile(&times, 0.99));
        println!("{dim:>6} {:>10} {median:>12.1} {low:>12.1} {high:>12.1}", format!("{lengths:?}"));
        records.push(serde_json::json!({
            "bench": "edge.push", "d": dim, "windows": lengths, "median_us": median, "p10_us": low, "p99_us": high,
        }));
    }
    println!("{}", serde_json::Value::from(records));
}
