//! Rules, runs and steps to test with.

use std::{collections::BTreeMap, sync::Arc};

use gradwatch_store::{Kind, LayerKey, StreamKey};
use uuid::Uuid;

use crate::{
    Hold, RuleDefinition, Selector,
    evaluator::{ActiveRule, Change, EventInput, Phase, RunEvaluator, RunFacts, StepInput},
    language::{
        CompiledRule, Condition, EventCondition, Expression, Family, Function, Number, Term, TermSource, Truth,
    },
};

pub(super) fn definition(name: &str) -> RuleDefinition {
    RuleDefinition {
        name: name.into(),
        select: Selector::default(),
        when: String::new(),
        hold: None,
        keep_firing_for: None,
        max_age: None,
        severity: Default::default(),
        summary: String::new(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        receivers: Vec::new(),
    }
}

pub(super) fn rule(definition: RuleDefinition, condition: Condition) -> ActiveRule {
    let rule = CompiledRule { definition, condition: Arc::new(condition) };
    ActiveRule { rule_id: Uuid::nil(), revision: 1, active_from_us: i64::MIN, rule }
}

pub(super) fn on_event(condition: EventCondition, hold: Option<Hold>, keep: Option<Hold>) -> ActiveRule {
    let definition = RuleDefinition { hold, keep_firing_for: keep, ..definition("on_event") };
    rule(definition, Condition::Event(condition))
}

pub(super) fn edge(metric: &'static str) -> TermSource {
    TermSource::Edge { metric, group: None, kind: None, window: None }
}

pub(super) fn scalar(name: &str) -> TermSource {
    TermSource::Scalar { name: name.into() }
}

pub(super) fn expression(sources: &[TermSource], truth: Truth) -> Condition {
    let family = if sources.iter().any(|it| matches!(it, TermSource::Edge { group: None, .. })) {
        Family::Groups
    } else {
        let layers = sources.iter().find_map(|it| match it {
            TermSource::Layer { instrument, layer: None, .. } => Some(Family::Layers(*instrument)),
            _ => None,
        });
        layers.unwrap_or(Family::Run)
    };
    let mut readings = vec![1; sources.len()];
    super::super::expression::calls(&truth, &mut |_: Function, term, n| readings[term] = n.max(readings[term]));
    let terms = sources.iter().cloned().zip(readings).map(|(source, readings)| Term { source, readings }).collect();
    Condition::Expression(Expression { text: String::new(), terms, truth, family })
}

/// `term > value`
pub(super) fn above(term: usize, value: f64) -> Truth {
    Truth::Compare(crate::language::Comparison::Greater, Number::Term(term), Number::Constant(value))
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

/// Changes that are told when these are the values of the only column, step by step from 0.
pub(super) fn run_column(evaluator: &mut RunEvaluator, values: &[Option<f64>]) -> Vec<(u64, Phase)> {
    let mut changes = Vec::new();
    for (at, value) in values.iter().enumerate() {
        evaluator.advance(&step(at as u64, &[*value], &[]), &mut changes);
    }
    changes.iter().map(|it| (it.step, it.phase)).collect()
}
