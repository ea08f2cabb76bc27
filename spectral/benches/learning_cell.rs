//! What a snapshot of a learning cell costs: a fresh block and one whose neurons have gathered on a few directions.
//! Prints a table and one line of JSON.
//!
//! `cargo bench -p gradwatch-spectral --bench learning_cell`

use std::hint::black_box;
use std::time::Instant;

use gradwatch_spectral::learning_cell::{Activation, LearningCellSnapshot, ProbeBatch, reading};
use gradwatch_spectral::sketch::mix;

/// About standard normal: a sum of twelve uniform numbers, from SplitMix64.
fn noise(state: &mut u64) -> f32 {
    let mut uniform = || {
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        (mix(*state) >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..12).map(|_| uniform()).sum::<f32>() - 6.0
}

/// `directions` 0: all neurons on their own.
fn snapshot(
    activation: Activation,
    neurons: usize,
    width: usize,
    directions: usize,
    inputs: usize,
) -> LearningCellSnapshot {
    let mut state = 7;
    let mut draw = |count: usize, scale: f32| (0..count).map(|_| scale * noise(&mut state)).collect::<Vec<f32>>();
    let scale = 1.5 / (width as f32).sqrt();
    let common = draw(directions * width, scale);
    let mut inner = draw(neurons * width, scale);
    if directions > 0 {
        for (i, row) in inner.chunks_mut(width).enumerate() {
            let own = &common[i % directions * width..][..width];
            row.iter_mut().zip(own).for_each(|(w, v)| *w = v + 0.02 * *w);
        }
    }
    let probe = ProbeBatch { inputs: draw(inputs * width, 1.0), targets: draw(inputs, 1.0) };
    let outer = if directions > 0 { vec![1.0; neurons] } else { draw(neurons, 1.0) };
    LearningCellSnapshot { outer, inner, width, activation, probe: (inputs > 0).then_some(probe) }
}

/// Milliseconds that this thread was on a processor (Linux): what a reading costs also on a machine that does other work.
fn thread_cpu_ms() -> Option<f64> {
    let schedule = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(schedule.split_whitespace().next()?.parse::<f64>().ok()? / 1e6)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Median milliseconds of a reading, by the clock and on the processor.
fn measure(snapshot: &LearningCellSnapshot, rounds: usize) -> (f64, Option<f64>) {
    black_box(reading(snapshot));
    let (mut clock, mut processor) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (start, cpu_start) = (Instant::now(), thread_cpu_ms());
        black_box(reading(black_box(snapshot)));
        clock.push(start.elapsed().as_secs_f64() * 1e3);
        processor.extend(thread_cpu_ms().zip(cpu_start).map(|(end, start)| end - start));
    }
    (median(clock), (processor.len() == rounds).then(|| median(processor)))
}

fn main() {
    println!(
        "{:>8} {:>6} {:>6} {:>11} {:>7} {:>10} {:>14}",
        "act", "N", "width", "directions", "probe", "median_ms", "median_cpu_ms"
    );
    let mut records = Vec::new();
    for (neurons, inputs) in [(2048, 0), (8192, 0), (2048, 1024)] {
        for activation in [Activation::Tanh, Activation::Relu, Activation::Silu] {
            for (width, directions) in [(8, 0), (8, 3), (64, 0), (64, 3)] {
                let rounds = if neurons > 2048 { 3 } else { 9 };
                let (clock, cpu) = measure(&snapshot(activation, neurons, width, directions, inputs), rounds);
                let activation = activation.as_str();
                let shown = cpu.map_or("-".into(), |cpu| format!("{cpu:.1}"));
                println!(
                    "{activation:>8} {neurons:>6} {width:>6} {directions:>11} {inputs:>7} {clock:>10.1} {shown:>14}"
                );
                records.push(serde_json::json!({
                    "bench": "learning_cell.reading", "activation": activation, "neurons": neurons, "width": width,
                    "directions": directions, "probe": inputs, "median_ms": clock, "median_cpu_ms": cpu,
                }));
            }
        }
    }
    println!("{}", serde_json::Value::from(records));
}
