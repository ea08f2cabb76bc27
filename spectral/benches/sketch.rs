//! How near the sketch of a model's parameters comes to the speed of merely reading them.
//!
//! `cargo bench -p gradwatch-spectral --bench sketch [-- --elements N]`: sketches N (default 124 million) float32 on
//! one thread, as one tensor and as 200 tensors of mixed sizes, and compares with a read kernel (a sum) and with a
//! textbook hash-and-scatter count sketch. Each comparison is a median over interleaved pairs, so that a change of
//! clock speed or a noisy neighbour hits both sides. Prints a table, then one line of JSON.

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Instant;

use gradwatch_spectral::sketch::{DEFAULT_DIM, SimdPath, Sketcher, TensorName, mix};
use pulp::NullaryFnOnce;

const DEFAULT_ELEMENTS: usize = 124_000_000;
const SMOKE_TEST_ELEMENTS: usize = 1 << 20;
const PAIRS: usize = 15;
const TENSORS: usize = 200;
const SEED: u64 = 7;

/// The sum of all values in 8 vector accumulators of 16 lanes: one pass over memory and nothing else.
struct Sum<'a>(&'a [f32]);

impl NullaryFnOnce for Sum<'_> {
    type Output = f32;

    #[inline(always)]
    fn call(self) -> f32 {
        let mut lanes = [0.0_f32; 128];
        let (blocks, rest) = self.0.as_chunks::<128>();
        for block in blocks {
            for lane in 0..128 {
                lanes[lane] += block[lane];
            }
        }
        lanes.iter().sum::<f32>() + rest.iter().sum::<f32>()
    }
}

/// A count sketch as usually written: a hash of every index gives its bucket and sign.
fn hash_and_scatter(acc: &mut [f64], key: u64, values: &[f32]) {
    let mask = acc.len() - 1;
    for (index, &value) in values.iter().enumerate() {
        let z = mix(key ^ index as u64);
        // The sign without a branch: mispredicted half the time, that would make this baseline almost three times slower.
        let value = f64::from_bits(f64::from(value).to_bits() ^ (z >> 63 << 63));
        acc[z as usize & mask] += value;
    }
}

/// Sizes that add up to `total`: of 200 tensors of a transformer most are vectors, a few are large matrices.
fn mixed_sizes(total: usize) -> Vec<usize> {
    let weights: Vec<u64> =
        (0..TENSORS as u64).map(|i| [768, 3072, 589_824, 2_359_296, 1_769_472][i as usize % 5]).collect();
    let sum: u64 = weights.iter().sum();
    let mut sizes: Vec<usize> =
        weights.iter().map(|w| (u128::from(*w) * total as u128 / u128::from(sum)) as usize).collect();
    sizes[TENSORS - 1] += total - sizes.iter().sum::<usize>();
    sizes
}

fn seconds(work: &mut dyn FnMut()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

struct Comparison {
    name: String,
    /// Median time of the candidate.
    candidate_ms: f64,
    /// Median time of what it is compared with.
    baseline_ms: f64,
    /// Median over pairs of (baseline time / candidate time): the candidate's speed as a share of the baseline's.
    speed_ratio: f64,
}

/// Interleaves `pairs` runs of both, after one run of each that warms caches and page tables.
fn compare(name: String, pairs: usize, candidate: &mut dyn FnMut(), baseline: &mut dyn FnMut()) -> Comparison {
    candidate();
    baseline();
    let times: Vec<(f64, f64)> = (0..pairs).map(|_| (seconds(candidate), seconds(baseline))).collect();
    let comparison = Comparison {
        name,
        candidate_ms: 1e3 * median(times.iter().map(|t| t.0).collect()),
        baseline_ms: 1e3 * median(times.iter().map(|t| t.1).collect()),
        speed_ratio: median(times.iter().map(|t| t.1 / t.0).collect()),
    };
    println!(
        "{:<58} {:>9.2} ms {:>9.2} ms {:>7.3}",
        comparison.name, comparison.candidate_ms, comparison.baseline_ms, comparison.speed_ratio
    );
    comparison
}

/// `--elements N`; a smoke test without `--bench`, which `cargo bench` passes and `cargo test --benches` does not.
fn elements_argument() -> usize {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(position) = arguments.iter().position(|argument| argument == "--elements") {
        let number = arguments.get(position + 1).and_then(|n| n.parse().ok());
        return number.expect("--elements takes a whole number");
    }
    if arguments.iter().any(|argument| argument == "--bench") { DEFAULT_ELEMENTS } else { SMOKE_TEST_ELEMENTS }
}

fn main() {
    let elements = elements_argument();
    let d = DEFAULT_DIM;
    let values: Vec<f32> = (0..elements as u64).map(|i| (mix(i) >> 40) as f32 / (1 << 24) as f32 - 0.5).collect();
    let whole = vec![(TensorName::new("tensor.0"), values.as_slice())];
    let mut rest = values.as_slice();
    let mut mixed = Vec::new();
    for (i, size) in mixed_sizes(elements).into_iter().enumerate() {
        let (tensor, tail) = rest.split_at(size);
        mixed.push((TensorName::new(&format!("tensor.{i}")), tensor));
        rest = tail;
    }

    let best = SimdPath::best();
    println!("{elements} float32, d = {d}, best path {}, one thread, medians of {PAIRS} pairs", best.name());
    println!("{:<58} {:>12} {:>12} {:>7}", "candidate vs. baseline", "candidate", "baseline", "speed");

    let mut read = || {
        black_box(best.run(Sum(black_box(&values))));
    };
    let mut acc_f64 = vec![0.0_f64; d];
    let mut acc_f32 = vec![0.0_f32; d];
    let mut results = Vec::new();
    for path in SimdPath::available() {
        let Ok(sketcher) = Sketcher::with_path(d, SEED, path) else { unreachable!("the default dimension is valid") };
        for (label, tensors) in [("1 tensor", &whole), ("200 tensors", &mixed)] {
            let mut sketch_f64 = || {
                for (name, tensor) in tensors {
                    black_box(sketcher.add(&mut acc_f64, *name, 0, black_box(tensor))).ok();
                }
            };
            let name = format!("sketch f64, {label}, {} vs. read", path.name());
            results.push(compare(name, PAIRS, &mut sketch_f64, &mut read));
            let mut sketch_f32 = || {
                for (name, tensor) in tensors {
                    black_box(sketcher.add(&mut acc_f32, *name, 0, black_box(tensor))).ok();
                }
            };
            let name = format!("sketch f32, {label}, {} vs. read", path.name());
            results.push(compare(name, PAIRS, &mut sketch_f32, &mut read));
            if path.name() == best.name() {
                let mut scatter_acc = vec![0.0_f64; d];
                let mut scatter = || {
                    for (i, (_, tensor)) in tensors.iter().enumerate() {
                        hash_and_scatter(black_box(&mut scatter_acc), mix(i as u64), black_box(tensor));
                    }
                };
                let name = format!("sketch f64, {label}, {} vs. hash-and-scatter", path.name());
                results.push(compare(name, PAIRS, &mut sketch_f64, &mut scatter));
            }
        }
    }
    println!("{}", json(elements, d, best.name(), &results));
}

fn json(elements: usize, d: usize, best: &str, results: &[Comparison]) -> String {
    let mut json = format!(r#"{{"elements":{elements},"d":{d},"best_path":"{best}","pairs":{PAIRS},"results":["#);
    for (i, result) in results.iter().enumerate() {
        let Comparison { name, candidate_ms, baseline_ms, speed_ratio } = result;
        let comma = if i == 0 { "" } else { "," };
        let _ = write!(
            json,
            r#"{comma}{{"name":"{name}","candidate_ms":{candidate_ms:.3},"baseline_ms":{baseline_ms:.3},"speed_ratio":{speed_ratio:.4}}}"#
        );
    }
    json.push_str("]}");
    json
}
