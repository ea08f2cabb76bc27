use super::build::*;
use crate::{
    Hold, RuleDefinition,
    evaluator::{
        ActiveRule,
        Phase::{self, Firing, Inactive, Pending, Resolved},
        StepInput,
    },
};

const LO: f64 = 0.0;
const HI: f64 = 2.0;
/// No value at this step.
const NO: f64 = f64::NAN;

/// What is told when these are the values of the rule's only column, step by step from 0.
fn told_of(rule: ActiveRule, values: &[f64]) -> Vec<(u64, Phase)> {
    let mut evaluator = evaluator(vec![rule], &facts(&["all"], &[]));
    let mut changes = Vec::new();
    for (at, value) in values.iter().enumerate() {
        evaluator.advance(&step(at as u64, &[(!value.is_nan()).then_some(*value)], &[]), &mut changes);
    }
    changes.iter().map(|it| (it.step, it.phase)).collect()
}

fn lasting(hold: Option<Hold>, keep_firing_for: Option<Hold>) -> ActiveRule {
    active(RuleDefinition { hold, keep_firing_for, ..definition("scalar.loss > 1") })
}

fn with_max_age(when: &str, max_age: u64) -> ActiveRule {
    active(RuleDefinition { max_age: Some(max_age), ..definition(when) })
}

#[test]
fn a_condition_fires_and_resolves() {
    let readings = |n| Some(Hold::Readings(n));
    let seconds = |n: i64| Some(Hold::Microseconds(at_us(n as u64)));
    type Row = (&'static str, Option<Hold>, Option<Hold>, &'static [f64], &'static [(u64, Phase)]);
    let table: &[Row] = &[
        ("at once", None, None, &[LO, HI, HI, LO, LO], &[(1, Firing), (3, Resolved)]),
        ("for 1", readings(1), None, &[LO, HI, LO], &[(1, Firing), (2, Resolved)]),
        ("for 3", readings(3), None, &[HI, HI, HI, HI, LO], &[(0, Pending), (2, Firing), (4, Resolved)]),
        (
            "for 3, broken",
            readings(3),
            None,
            &[HI, HI, LO, HI, HI, HI],
            &[(0, Pending), (2, Inactive), (3, Pending), (5, Firing)],
        ),
        ("for 3, nothing between", readings(3), None, &[HI, NO, NO, HI, HI], &[(0, Pending), (4, Firing)]),
        ("for 2 s", seconds(2), None, &[HI, HI, HI, LO], &[(0, Pending), (2, Firing), (3, Resolved)]),
        ("for 2 s, nothing between", seconds(2), None, &[HI, NO, NO, NO, HI], &[(0, Pending), (4, Firing)]),
        ("kept for 3", None, readings(3), &[HI, LO, LO, LO, LO], &[(0, Firing), (3, Resolved)]),
        ("kept for 3, again", None, readings(3), &[HI, LO, LO, HI, LO, LO, LO], &[(0, Firing), (6, Resolved)]),
        ("kept for 2 s", None, seconds(2), &[HI, LO, NO, LO, LO], &[(0, Firing), (3, Resolved)]),
    ];
    for (name, hold, keep, values, expected) in table {
        assert_eq!(told_of(lasting(*hold, *keep), values), *expected, "{name}");
    }
}

#[test]
fn what_is_unknown_changes_nothing() {
    type Row = (&'static str, &'static [f64], &'static [(u64, Phase)]);
    // 1 / 0 is unknown.
    let table: &[Row] = &[
        ("1 / scalar.a > 0.4", &[1.0, 0.0, 2.0, 4.0], &[(0, Firing), (3, Resolved)]),
        ("1 / scalar.a > 0.4", &[0.0, 0.0], &[]),
        ("not (1 / scalar.a > 0.4)", &[0.0, 4.0], &[(1, Firing)]),
        ("1 / scalar.a > 0.4 or scalar.a == 0", &[0.0], &[(0, Firing)]),
        ("1 / scalar.a > 0.4 and scalar.a == 0", &[0.0, 0.0], &[]),
        ("scalar.a != 0 and 1 / scalar.a > 0.4", &[1.0, 0.0], &[(0, Firing), (1, Resolved)]),
        ("scalar.a * 1e300 > 1", &[1e300, 1.0], &[(1, Firing)]),
        ("mean(scalar.a, 3) >= 0", &[1.0, 1.0, 1.0], &[(2, Firing)]),
        ("delta(scalar.a) > 0", &[1.0, 2.0, 2.0], &[(1, Firing), (2, Resolved)]),
        ("zscore(scalar.a, 4) > 0", &[1.0, 1.0, 1.0, 2.0], &[]),
        ("quantile(scalar.a, 0.5, 3) == 2", &[3.0, 1.0, 2.0, 9.0], &[(2, Firing)]),
    ];
    for (when, values, expected) in table {
        assert_eq!(told_of(rule(when), values), *expected, "{when} of {values:?}");
    }
}

#[test]
fn a_term_is_taken_while_it_is_young_enough() {
    // Columns: edge.ratio of all, with a value at every step; scalar.loss.
    let both = "edge.ratio >= 0 and scalar.loss > 1";
    let unknown_at = |rule: ActiveRule, loss_at: &[u64], steps: u64| {
        let mut evaluator = evaluator(vec![rule], &facts(&["all"], &[]));
        (0..steps)
            .filter(|&at| {
                let values = [Some(1.0), loss_at.contains(&at).then_some(2.0)];
                let mut evaluated = evaluator.clone();
                evaluator.refill(&step(at, &values, &[]));
                let mut changes = Vec::new();
                evaluated.advance(&step(at, &values, &[]), &mut changes);
                changes.is_empty()
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(unknown_at(rule(both), &[1], 4), [0, 2, 3], "one value is good for its own step");
    assert_eq!(unknown_at(rule(both), &[0, 3], 12), [1, 2, 10, 11], "twice the distance of the last two");
    assert_eq!(unknown_at(with_max_age(both, 1), &[0, 3], 6), [2, 5]);
    assert_eq!(unknown_at(with_max_age(both, 0), &[0, 3], 5), [1, 2, 4]);
}

#[test]
fn an_edge_term_is_young_for_two_intervals() {
    let mut facts = facts(&["all"], &[]);
    facts.streams[0].1 = 10;
    let mut evaluator = evaluator(vec![rule("edge.ratio > 1 and scalar.loss > 1")], &facts);
    let mut changes = Vec::new();
    evaluator.advance(&step(0, &[Some(2.0), Some(0.0)], &[]), &mut changes);
    evaluator.advance(&step(20, &[None, Some(2.0)], &[]), &mut changes);
    evaluator.advance(&step(21, &[None, Some(0.0)], &[]), &mut changes);
    assert_eq!(changes.iter().map(|it| (it.step, it.phase)).collect::<Vec<_>>(), [(20, Firing), (21, Resolved)]);
    evaluator.advance(&step(22, &[None, Some(2.0)], &[]), &mut changes);
    assert_eq!(changes.len(), 2, "the ratio is 22 steps old");
}

#[test]
fn a_change_has_the_values_that_it_is_about() {
    let mut evaluator = evaluator(
        vec![rule("edge.ratio < 1.2 and mean(scalar.\"a b\", 2) > 2 and edge.gap{group=\"head\"} > 0")],
        &facts(&["all", "head"], &[]),
    );
    let inputs = evaluator.inputs().clone();
    assert_eq!(inputs.streams, [(stream("all"), vec!["ratio"]), (stream("head"), vec!["gap", "ratio"])]);
    assert_eq!((inputs.scalars, inputs.look_back), (vec!["a b".to_owned()], 2));
    let mut changes = Vec::new();
    evaluator.advance(&step(0, &[Some(1.0), Some(3.0), Some(1.1), Some(2.0)], &[]), &mut changes);
    evaluator.advance(&step(1, &[Some(1.0), Some(3.0), Some(9.0), Some(4.0)], &[]), &mut changes);
    assert_eq!(told(&changes), [(1, "all".into(), Firing)]);
    let values = [("edge.ratio", 1.0), ("edge.gap{group=\"head\"}", 3.0), ("scalar.\"a b\"", 4.0)];
    assert_eq!(changes[0].values, values.map(|(text, value)| (text.to_owned(), value)).into());
}

#[test]
fn a_rule_says_nothing_of_steps_before_it() {
    let rule = ActiveRule { active_from_us: at_us(3), ..rule("mean(scalar.loss, 3) > 1") };
    assert_eq!(told_of(rule, &[HI, HI, HI, HI, LO]), [(3, Firing)], "its window is there from the first");
}

#[test]
fn a_group_is_not_evaluated_for_another() {
    let mut evaluator = evaluator(vec![rule("edge.ratio > 1")], &facts(&["a", "b"], &[]));
    let mut changes = Vec::new();
    evaluator.advance(&step(0, &[None, Some(2.0)], &[]), &mut changes);
    evaluator.advance(&step(1, &[Some(2.0), None], &[]), &mut changes);
    evaluator.advance(&step(2, &[None, Some(0.0)], &[]), &mut changes);
    assert_eq!(told(&changes), [(0, "b".into(), Firing), (1, "a".into(), Firing), (2, "b".into(), Resolved)]);
}

#[test]
fn values_that_are_not_finite_are_none() {
    assert_eq!(
        told_of(rule("scalar.loss > 1"), &[HI, f64::INFINITY, f64::NEG_INFINITY, LO]),
        [(0, Firing), (3, Resolved)]
    );
}

#[test]
fn a_step_that_comes_again_brings_no_values() {
    let mut evaluator = evaluator(vec![rule("delta(scalar.loss) > 0")], &facts(&[], &[]));
    let mut changes = Vec::new();
    for (at, value) in [(1, 1.0), (1, 5.0), (0, 7.0)] {
        evaluator.advance(&step(at, &[Some(value)], &[]), &mut changes);
    }
    assert_eq!(changes, []);
    evaluator.advance(&step(2, &[Some(1.0)], &[]), &mut changes);
    assert_eq!(changes, [], "1 - 1");
}

#[test]
fn segments_come_in_the_order_of_the_line_not_of_their_numbers() {
    // 2 was opened before 3, which started before it: 1, then 3, then 2.
    let mut evaluator = evaluator(vec![rule("scalar.x > 1")], &facts(&["all"], &[]));
    let mut changes = Vec::new();
    for (segment, at_step, x) in [(1, 1, 0.0), (3, 2, 0.0), (2, 3, 9.0), (2, 4, 0.0)] {
        evaluator.advance(&StepInput { segment, ..step(at_step, &[Some(x)], &[]) }, &mut changes);
    }
    assert_eq!(told(&changes), [(3, String::new(), Phase::Firing), (4, String::new(), Phase::Resolved)]);
}
