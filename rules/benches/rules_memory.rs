//! Bytes that a rule takes on a run: its machines, its share of the windows of values, and of what finds them.
//!
//! `cargo bench --workspace --bench rules_memory`

#[path = "../tests/counting/mod.rs"]
mod counting;
#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Arc;

use gradwatch_rules::evaluator::RunEvaluator;

const RULES: usize = 500;
const RUNS: usize = 10;

fn main() {
    let rules = support::rules(RULES, 0.0);
    let mut records = Vec::new();
    for groups in [1, 2, 4, 8] {
        let facts = support::facts(groups);
        let before = counting::live_bytes();
        let evaluators: Vec<RunEvaluator> = (0..RUNS)
            .map(|run| {
                let mut evaluator = RunEvaluator::new(Arc::clone(&rules), &facts).expect("they select the run");
                support::feed(&mut evaluator, 0..70, &mut (run as u64), &mut Vec::new());
                evaluator
            })
            .collect();
        let bytes = (counting::live_bytes() - before) / (RULES * RUNS);
        println!("{groups} groups: {bytes} bytes a rule and run");
        records.push(serde_json::json!({ "bench": "rules.memory", "groups": groups, "bytes": bytes }));
        drop(evaluators);
    }
    println!("{}", serde_json::Value::from(records));
}
