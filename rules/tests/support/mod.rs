//! Five hundred rules as a user might have them, and runs to evaluate them on. Shared by the test of the memory bound and the
//! benchmark.

#![allow(dead_code, reason = "each of them uses a part")]

use std::{collections::BTreeMap, sync::Arc};

use gradwatch_rules::{
    RuleDefinition,
    evaluator::{ActiveRule, Change, Inputs, RunEvaluator, RunFacts, StepInput},
    language::CompiledRule,
};
use gradwatch_spectral::catalogue::EDGE_METRICS;
use gradwatch_store::{Kind, StreamKey};
use uuid::Uuid;

/// Every windowed function.
const FUNCTIONS: [&str; 7] = ["mean", "min", "max", "stddev", "slope", "zscore", "quantile"];

/// Rules on every group, all different; every other one with a function over the last 50 readings. Values are between 0
/// and 20: above 1000, no condition holds; above 0, many come and go with every reading, as badly chosen ones do.
pub(crate) fn rules(count: usize, above: f64) -> Arc<Vec<ActiveRule>> {
    let rule = |number: usize| {
        let metric = |at: usize| EDGE_METRICS[at % EDGE_METRICS.len()].name;
        let (one, other) = (metric(number / 2), metric(number / 2 + 7));
        let threshold = above + number as f64 / 10.0;
        let when = if number.is_multiple_of(2) {
            match FUNCTIONS[(number / 2) % FUNCTIONS.len()] {
                "quantile" => format!("quantile({one}, 0.9, 50) > {threshold} or {other} < -1"),
                function => format!("{function}({one}, 50) > {threshold} or {other} < -1"),
            }
        } else if number % 10 == 9 {
            ["edge.gap_collapse", "edge.rotation", "numeric.nonfinite"][number % 3].to_owned()
        } else {
            format!("abs({other} - {one}) > {threshold} and {one} > 1")
        };
        // An event cannot hold for longer.
        let hold = if when.contains(' ') { Some(3) } else { None };
        let definition = serde_json::json!({ "name": format!("rule_{number}"), "when": when, "for": hold });
        let definition: RuleDefinition = serde_json::from_value(definition).expect("a definition");
        let rule = CompiledRule::new(definition).expect("a rule");
        ActiveRule { rule_id: Uuid::nil(), revision: 1, active_from_us: 0, rule }
    };
    Arc::new((0..count).map(rule).collect())
}

/// A run with so many groups.
pub(crate) fn facts(groups: usize) -> RunFacts {
    let stream = |group| StreamKey { group: format!("blocks.{group}.attention"), kind: Kind::Update, window: 10 };
    RunFacts {
        project: "grok".into(),
        labels: BTreeMap::new(),
        streams: (0..groups).map(|group| (stream(group), 1)).collect(),
        first_window: 10,
        layers: Vec::new(),
    }
}

/// SplitMix64, uniform in (0, 1).
pub(crate) fn noise(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

/// A reading of one group, with all that is asked of it, in the place where the inputs have it.
pub(crate) fn reading(inputs: &Inputs, group: usize, state: &mut u64) -> Vec<Option<f64>> {
    let mut values = Vec::with_capacity(inputs.len());
    for (at, (_, metrics)) in inputs.streams.iter().enumerate() {
        values.extend(metrics.iter().map(|_| (at == group).then(|| 20.0 * noise(state))));
    }
    values
}

/// Steps come a second apart.
pub(crate) fn advance(evaluator: &mut RunEvaluator, step: u64, values: &[Option<f64>], changes: &mut Vec<Change>) {
    let received_at_us = step as i64 * 1_000_000;
    evaluator.advance(&StepInput { segment: 0, step, received_at_us, values, events: &[] }, changes);
}

/// Gives a run readings of all its groups at so many steps.
pub(crate) fn feed(
    evaluator: &mut RunEvaluator,
    steps: std::ops::Range<u64>,
    state: &mut u64,
    changes: &mut Vec<Change>,
) {
    for step in steps {
        let values: Vec<_> = (0..evaluator.inputs().len()).map(|_| Some(20.0 * noise(state))).collect();
        advance(evaluator, step, &values, changes);
        changes.clear();
    }
}
