//! What rules cost, beside what they are computed from. Prints tables and lines of JSON; the ratios are of one run, so that
//! the speed of the machine does not matter.
//!
//! `cargo bench --workspace --bench rules`

#[path = "../tests/support/mod.rs"]
mod support;

use std::{hint::black_box, sync::Arc, time::Instant};

use gradwatch_rules::evaluator::RunEvaluator;
use gradwatch_spectral::{detectors::DetectorConfig, edge::EdgeStream, followers::Followers};

const EDGE_DIM: usize = 4096;
const EDGE_WINDOW: usize = 10;

/// Seconds that this thread was on a processor (Linux), else by the clock: what it costs also on a machine that does other work.
/// Counted in ticks of milliseconds.
fn cpu_s(start: Instant) -> f64 {
    let schedule = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let ns = schedule.and_then(|it| it.split(' ').next()?.parse::<u64>().ok());
    ns.map_or_else(|| start.elapsed().as_secs_f64(), |ns| ns as f64 * 1e-9)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// The edge computation of one reading: window push, readings, detectors.
struct Edge {
    stream: EdgeStream,
    followers: Followers,
    rows: Vec<Vec<f32>>,
    step: u64,
}

impl Edge {
    fn new() -> Self {
        let mut state = 7;
        let rows = (0..64).map(|_| (0..EDGE_DIM).map(|_| support::noise(&mut state) as f32 - 0.5).collect()).collect();
        Self {
            stream: EdgeStream::new(EDGE_DIM, &[EDGE_WINDOW], EDGE_DIM as u64, true).expect("valid declaration"),
            followers: Followers::new(EDGE_WINDOW, &DetectorConfig::default()),
            rows,
            step: 0,
        }
    }

    fn push(&mut self) {
        let row = &self.rows[self.step as usize % self.rows.len()];
        let mut readings = self.stream.push(black_box(row), Some(1e-3)).expect("finite row");
        for reading in &mut readings {
            black_box(self.followers.follow(self.step, reading));
        }
        black_box(readings);
        self.step += 1;
    }
}

/// 100 rules on one new reading, against the edge computation of that reading, taking turns.
fn one_reading(rules: &str, above: f64) -> serde_json::Value {
    const GROUPS: usize = 4;
    /// Short, so that few turns are interrupted; their median is of those that are not.
    const PER_TURN: usize = 20;
    let mut evaluator =
        RunEvaluator::new(support::rules(100, above), &support::facts(GROUPS)).expect("they select the run");
    let (mut edge, mut changes, mut state, mut step) = (Edge::new(), Vec::new(), 1, 60);
    support::feed(&mut evaluator, 0..step, &mut state, &mut changes);
    (0..300).for_each(|_| edge.push());
    let (mut edge_us, mut rules_us) = (Vec::new(), Vec::new());
    for _ in 0..1000 {
        let readings: Vec<_> =
            (0..PER_TURN).map(|at| support::reading(evaluator.inputs(), at % GROUPS, &mut state)).collect();
        let start = Instant::now();
        (0..PER_TURN).for_each(|_| edge.push());
        edge_us.push(start.elapsed().as_secs_f64() * 1e6 / PER_TURN as f64);
        let start = Instant::now();
        for values in &readings {
            support::advance(&mut evaluator, step, values, &mut changes);
            step += 1;
        }
        rules_us.push(start.elapsed().as_secs_f64() * 1e6 / PER_TURN as f64);
        changes.clear();
    }
    let (edge_us, rules_us) = (median(edge_us), median(rules_us));
    let ratio = rules_us / edge_us;
    println!("one reading, d = {EDGE_DIM}, W = {EDGE_WINDOW}, 100 {rules} rules, half of them over 50 readings:");
    println!("  edge {edge_us:.1} us, rules {rules_us:.1} us, ratio {ratio:.2} (at most 1)");
    serde_json::json!({ "bench": "rules.reading", "rules": rules, "edge_us": edge_us, "rules_us": rules_us, "ratio": ratio })
}

/// 500 rules on 1,000 runs: seconds of one core for what 3,000 readings a second bring.
fn many_runs(kind: &str, above: f64) -> serde_json::Value {
    const RUNS: usize = 1000;
    const GROUPS: usize = 2;
    const ROUNDS: usize = 10;
    const READINGS_PER_S: f64 = 3000.0;
    let (rules, facts) = (support::rules(500, above), support::facts(GROUPS));
    let (mut state, mut changes) = (1, Vec::new());
    let origin = Instant::now();
    let start = cpu_s(origin);
    let mut runs: Vec<RunEvaluator> =
        (0..RUNS).map(|_| RunEvaluator::new(Arc::clone(&rules), &facts).expect("they select the run")).collect();
    let build_ms = (cpu_s(origin) - start) * 1e3 / RUNS as f64;
    for evaluator in &mut runs {
        support::feed(evaluator, 0..55, &mut state, &mut changes);
    }
    let mut spent = 0.0;
    for round in 0..ROUNDS {
        let readings: Vec<_> =
            runs.iter().map(|run| support::reading(run.inputs(), round % GROUPS, &mut state)).collect();
        let start = cpu_s(origin);
        // Every reading comes to another run than the one before: nothing is in the cache.
        for (evaluator, values) in runs.iter_mut().zip(&readings) {
            support::advance(evaluator, 55 + round as u64, values, &mut changes);
            changes.clear();
        }
        spent += cpu_s(origin) - start;
    }
    let us_a_reading = spent * 1e6 / (RUNS * ROUNDS) as f64;
    let share = us_a_reading * READINGS_PER_S * 1e-6;
    println!("500 {kind} rules, 1,000 runs of {GROUPS} groups:");
    println!(
        "  {us_a_reading:.1} us a reading, {share:.3} s of one core for each second of 3,000 readings (at most 1)"
    );
    println!("  {build_ms:.2} ms to set up a run");
    serde_json::json!({
        "bench": "rules.runs", "rules": kind, "us_a_reading": us_a_reading, "core_s_per_s": share, "build_ms": build_ms,
    })
}

fn main() {
    let mut records = Vec::new();
    for (rules, above) in [("quiet", 1000.0), ("restless", 0.0)] {
        records.push(one_reading(rules, above));
        records.push(many_runs(rules, above));
    }
    println!("{}", serde_json::Value::from(records));
}
