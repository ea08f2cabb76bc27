//! Rules, runs and steps to test with.

use std::sync::Arc;

use gradwatch_store::{Kind, LayerKey, StreamKey};
use uuid::Uuid;

use crate::{
    Hold, RuleDefinition, Selector,
    evaluator::{ActiveRule, Change, EventInput, Phase, RunEvaluator, RunFacts, StepInput},
    language::{
        CompiledRule, Condition, EventCondition, Expression, Family, Function, Number, Term, TermSource, Truth,
    },
};

/// A rule on all runs, by its condition.
pub(super) fn rule(when: &str) -> ActiveRule {
    let definition: RuleDefinition =
        serde_json::from_value(serde_json::json!({ "name": "rule", "when": when })).expect("a definition");
    let rule = CompiledRule::new(definition).expect("a rule");
    ActiveRule { rule_id: Uuid::nil(), revision: 1, active_from_us: i64::MIN, rule }
}

pub(super) fn on_event(when: &str, hold: Option<Hold>, keep_firing_for: Option<Hold>) -> ActiveRule {
    let mut rule = rule(when);
    rule.rule.definition.hold = hold;
    rule.rule.definition.keep_firing_for = keep_firing_for;
    rule
}

pub(super) fn stream(group: &str) -> StreamKey {
    StreamKey { group: group.into(), kind: Kind::Update, window: 10 }
}

pub(super) fn facts(groups: &[&str], layers: &[LayerKey]) -> RunFacts {
    RunFacts {
        project: "p".into(),
        labels: [("team".to_owned(), "red".to_owned())].into(),
        streams: groups.iter().map(|group| (stream(group), 1)).collect(),
        first_window: 10,
        layers: layers.to_vec(),
    }
}

pub(super) fn evaluator(rules: Vec<ActiveRule>, facts: &RunFacts) -> RunEvaluator {
    RunEvaluator::new(Arc::new(rules), facts).expect("a rule selects the run")
}

/// Steps come a second apart, from second 0 on.
pub(super) fn at_us(step: u64) -> i64 {
    step as i64 * 1_000_000
}

pub(super) fn event<'a>(event_type: &'a str, group: Option<&'a str>, at_us: i64) -> EventInput<'a> {
    EventInput { event_type, group, kind: None, window: None, from: None, to: None, at_us }
}

pub(super) fn transition<'a>(group: &'a str, from: &'a str, to: &'a str, at_us: i64) -> EventInput<'a> {
    EventInput {
        kind: Some(Kind::Update),
        window: Some(10),
        from: Some(from),
        to: Some(to),
        ..event("edge.regime", Some(group), at_us)
    }
}

/// Changes as (step, group, phase).
pub(super) type Told = Vec<(u64, String, Phase)>;

pub(super) fn told(changes: &[Change]) -> Told {
    changes.iter().map(|it| (it.step, it.group.clone(), it.phase)).collect()
}

pub(super) fn step<'a>(step: u64, values: &'a [Option<f64>], events: &'a [EventInput<'a>]) -> StepInput<'a> {
    StepInput { segment: 0, step, received_at_us: at_us(step), values, events }
}
