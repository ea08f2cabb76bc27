//! Made runs and rules for the properties.

use gradwatch_spectral::layers::LayerInstrument;
use gradwatch_store::{Kind, LayerKey};
use proptest::prelude::*;

use super::build::{facts, rule as rule_on};
use crate::{
    Hold,
    evaluator::{ActiveRule, EventInput, Inputs, RunFacts, StepInput},
};

/// Everything that a made run has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Column {
    Ratio0,
    Ratio1,
    Gap0,
    Gap1,
    Norm0,
    Norm1,
    Phi0,
    Phi1,
    Windows0,
    Windows1,
    A,
    B,
}

const COLUMNS: [(Column, &str, &str); 12] = [
    (Column::Ratio0, "g0", "ratio"),
    (Column::Ratio1, "g1", "ratio"),
    (Column::Gap0, "g0", "gap"),
    (Column::Gap1, "g1", "gap"),
    (Column::Norm0, "g0", "update_norm"),
    (Column::Norm1, "g1", "update_norm"),
    (Column::Phi0, "l0", "phi"),
    (Column::Phi1, "l1", "phi"),
    (Column::Windows0, "l0", "windows"),
    (Column::Windows1, "l1", "windows"),
    (Column::A, "", "a"),
    (Column::B, "", "b"),
];

impl Column {
    pub(super) fn find(of: &str, name: &str) -> Self {
        COLUMNS.iter().find(|it| it.1 == of && it.2 == name).expect("a column of made runs").0
    }

    pub(super) fn is_stream(self) -> bool {
        (self as usize) < Self::Phi0 as usize
    }
}

pub(super) fn made_facts() -> RunFacts {
    let layer = |name: &str| LayerKey { instrument: LayerInstrument::Cascade, layer: name.into() };
    facts(&["g0", "g1"], &[layer("l0"), layer("l1")])
}

/// What happens at a step.
#[derive(Clone, Copy, Debug)]
pub(super) struct MadeEvent {
    kind: usize,
    group: &'static str,
    delay_us: i64,
}

#[derive(Clone, Debug)]
pub(super) struct MadeStep {
    pub(super) segment: u32,
    pub(super) step: u64,
    pub(super) received_at_us: i64,
    pub(super) values: Vec<Option<f64>>,
    pub(super) events: Vec<MadeEvent>,
}

impl MadeStep {
    /// Its values in the order of the inputs, where `keep` says so.
    pub(super) fn values(&self, inputs: &Inputs, keep: impl Fn(Column) -> bool) -> Vec<Option<f64>> {
        let of = |of: &str, name: &str| {
            let column = Column::find(of, name);
            if keep(column) { self.values[column as usize] } else { None }
        };
        let streams = inputs.streams.iter().flat_map(|(key, names)| names.iter().map(|name| of(&key.group, name)));
        let layers = inputs.layers.iter().flat_map(|(key, names)| names.iter().map(|name| of(&key.layer, name)));
        streams.chain(layers).chain(inputs.scalars.iter().map(|name| of("", name))).collect()
    }

    pub(super) fn events(&self) -> Vec<EventInput<'static>> {
        let one = |it: &MadeEvent| {
            let (event_type, from, to) = [
                ("edge.regime", Some("plateau"), Some("forgetting")),
                ("edge.regime", Some("forgetting"), Some("plateau")),
                ("window.restarted", None, None),
                ("numeric.nonfinite", None, None),
                ("run.crashed", None, None),
                ("run.stalled", None, None),
                ("cascade.shift", None, None),
            ][it.kind];
            let group = match event_type {
                "run.crashed" | "run.stalled" => None,
                "cascade.shift" => Some(if it.group == "g0" { "l0" } else { "l1" }),
                _ => Some(it.group),
            };
            let kind = group.filter(|group| group.starts_with('g')).map(|_| Kind::Update);
            let window = if event_type == "edge.regime" { Some(10) } else { None };
            let at_us = self.received_at_us + it.delay_us;
            EventInput { event_type, group, kind, window, from, to, at_us }
        };
        self.events.iter().map(one).collect()
    }

    pub(super) fn input<'a>(&self, values: &'a [Option<f64>], events: &'a [EventInput<'a>]) -> StepInput<'a> {
        StepInput { segment: self.segment, step: self.step, received_at_us: self.received_at_us, values, events }
    }
}

/// Runs of up to so many steps, with holes.
pub(super) fn history(steps: usize) -> impl Strategy<Value = Vec<MadeStep>> {
    // Few different values, so that functions meet ties.
    let value = prop_oneof![2 => Just(None), 5 => (-3i32..=3).prop_map(|value| Some(f64::from(value)))];
    let event = (0usize..7, prop_oneof![Just("g0"), Just("g1")], prop_oneof![3 => Just(0), 1 => 1i64..3_000_000]);
    let event = event.prop_map(|(kind, group, delay_us)| MadeEvent { kind, group, delay_us });
    let events = prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(event, 1..3)];
    let step = (1u64..4, 0i64..4_000_000, prop::collection::vec(value, COLUMNS.len()), events, 0u32..20);
    prop::collection::vec(step, 1..steps).prop_map(|steps| {
        let (mut segment, mut at_step, mut received_at_us) = (0, 0, 0);
        let made = steps.into_iter().map(|(skip, wait_us, values, events, luck)| {
            segment += u32::from(luck == 0);
            at_step += skip;
            received_at_us += wait_us;
            MadeStep { segment, step: at_step, received_at_us, values, events }
        });
        made.collect()
    })
}

const GROUP_TERMS: &[&str] = &["edge.ratio", "edge.gap", "edge.ratio{group=\"g1\"}", "scalar.a", "scalar.b"];
const LAYER_TERMS: &[&str] = &["cascade.phi", "cascade.phi{layer=\"l1\"}", "edge.gap{group=\"g0\"}", "scalar.a"];

fn number(terms: &'static [&'static str]) -> impl Strategy<Value = String> {
    let term = prop::sample::select(terms);
    let functions = prop::sample::select(vec!["mean", "min", "max", "stddev", "slope", "zscore"]);
    let leaf = prop_oneof![
        2 => term.clone().prop_map(ToOwned::to_owned),
        4 => (functions, term.clone(), 3usize..7).prop_map(|(function, term, n)| format!("{function}({term}, {n})")),
        1 => (term.clone(), prop::sample::select(vec![0.0, 0.25, 0.5, 0.9, 1.0]), 2usize..7)
            .prop_map(|(term, q, n)| format!("quantile({term}, {q}, {n})")),
        1 => term.prop_map(|term| format!("delta({term})")),
    ];
    leaf.prop_recursive(2, 6, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|it| format!("abs({it})")),
            inner.clone().prop_map(|it| format!("-({it})")),
            (inner.clone(), prop::sample::select(vec!["+", "-", "*", "/"]), inner)
                .prop_map(|(left, sign, right)| format!("({left} {sign} {right})")),
        ]
    })
}

fn truth(terms: &'static [&'static str]) -> impl Strategy<Value = String> {
    // No function of small whole numbers is close to these.
    let thresholds = prop::sample::select(vec!["-1.3717", "-0.1931", "0.2713", "0.8119", "1.6127"]);
    let compared = (number(terms), prop::sample::select(vec!["<", ">", "<=", ">="]), thresholds)
        .prop_map(|(number, sign, threshold)| format!("{number} {sign} {threshold}"));
    compared.prop_recursive(2, 6, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|it| format!("not ({it})")),
            (inner.clone(), inner.clone()).prop_map(|(left, right)| format!("({left}) and ({right})")),
            (inner.clone(), inner).prop_map(|(left, right)| format!("({left}) or ({right})")),
        ]
    })
}

pub(super) fn expression() -> impl Strategy<Value = String> {
    prop_oneof![3 => truth(GROUP_TERMS), 1 => truth(LAYER_TERMS)]
}

pub(super) fn event() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "transition to forgetting",
        "transition from plateau to forgetting",
        "transition to warming",
        "numeric.nonfinite",
        "run.crashed",
        "run.stalled",
        "cascade.shift",
    ])
    .prop_map(ToOwned::to_owned)
}

fn hold() -> impl Strategy<Value = Option<Hold>> {
    prop_oneof![
        2 => Just(None),
        2 => (1u32..5).prop_map(|n| Some(Hold::Readings(n))),
        1 => (1i64..8_000_000).prop_map(|time| Some(Hold::Microseconds(time))),
    ]
}

pub(super) fn rules(condition: impl Strategy<Value = String>) -> impl Strategy<Value = Vec<ActiveRule>> {
    let group = prop_oneof![3 => Just(None), 1 => prop::sample::select(vec!["*", "?1", "g0", "l1"]).prop_map(Some)];
    let max_age = prop_oneof![2 => Just(None), 1 => (0u64..6).prop_map(Some)];
    let active_from_us = prop_oneof![3 => Just(i64::MIN), 1 => 0i64..20_000_000];
    let rule = (condition, group, hold(), hold(), max_age, active_from_us);
    let rule = rule.prop_map(|(when, group, hold, keep_firing_for, max_age, active_from_us)| {
        let mut rule = rule_on(&when);
        let definition = &mut rule.rule.definition;
        definition.select.group = group.map(ToOwned::to_owned);
        (definition.hold, definition.keep_firing_for, definition.max_age) = (hold, keep_firing_for, max_age);
        ActiveRule { active_from_us, ..rule }
    });
    prop::collection::vec(rule, 1..5)
}
