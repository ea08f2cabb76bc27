//! > **Invariant: rules are small.** A rule on a run takes at most 1 KiB, its share of the windows of values included.

mod counting;
mod support;

use std::sync::Arc;

use gradwatch_rules::evaluator::RunEvaluator;

const RULES: usize = 500;
const RUNS: usize = 10;

#[test]
fn a_rule_on_a_run_takes_at_most_a_kilobyte() {
    let rules = support::rules(RULES, 0.0);
    for groups in [1, 2, 4] {
        let facts = support::facts(groups);
        let mut evaluators = Vec::with_capacity(RUNS);
        let before = counting::live_bytes();
        for run in 0..RUNS {
            let mut evaluator = RunEvaluator::new(Arc::clone(&rules), &facts).expect("they select the run");
            assert_eq!(evaluator.inputs().look_back, 50);
            support::feed(&mut evaluator, 0..70, &mut (run as u64), &mut Vec::new());
            evaluators.push(evaluator);
        }
        let bytes = (counting::live_bytes() - before) / (RULES * RUNS);
        println!("{groups} groups: {bytes} bytes a rule and run");
        assert!(bytes <= 1024, "{groups} groups: {bytes} bytes a rule and run");
        drop(evaluators);
    }
}
