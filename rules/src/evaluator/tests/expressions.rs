use super::build::*;
use crate::{
    Hold, RuleDefinition,
    evaluator::Phase::{Firing, Inactive, Pending, Resolved},
    language::Condition,
};

fn loss_above_one() -> Condition {
    expression(&[scalar("loss")], above(0, 1.0))
}

fn told_of(hold: Option<Hold>, keep: Option<Hold>, values: &[f64]) -> Vec<(u64, crate::evaluator::Phase)> {
    let definition = RuleDefinition { hold, keep_firing_for: keep, ..definition("loss") };
    let mut evaluator = evaluator(vec![rule(definition, loss_above_one())], &facts(&[], &[]));
    let values: Vec<_> = values.iter().map(|value| value.is_finite().then_some(*value)).collect();
    run_column(&mut evaluator, &values)
}

#[test]
fn a_condition_fires_and_resolves() {
    let (lo, hi, no) = (0.0, 2.0, f64::NAN);
    let readings = |n| Some(Hold::Readings(n));
    let seconds = |n: i64| Some(Hold::Microseconds(n * 1_000_000));
    let table: &[(&str, Option<Hold>, Option<Hold>, &[f64], &[(u64, crate::evaluator::Phase)])] = &[
        ("at once", None, None, &[lo, hi, hi, lo, lo], &[(1, Firing), (3, Resolved)]),
        ("for 1", readings(1), None, &[lo, hi, lo], &[(1, Firing), (2, Resolved)]),
        ("for 3", readings(3), None, &[hi, hi, hi, hi, lo], &[(0, Pending), (2, Firing), (4, Resolved)]),
        (
            "for 3, broken",
            readings(3),
            None,
            &[hi, hi, lo, hi, hi, hi],
            &[(0, Pending), (2, Inactive), (3, Pending), (5, Firing)],
        ),
        ("for 3, without readings between", readings(3), None, &[hi, no, no, hi, hi], &[(0, Pending), (4, Firing)]),
        ("for 2 s", seconds(2), None, &[hi, hi, hi, lo], &[(0, Pending), (2, Firing), (3, Resolved)]),
        ("for 2 s, without readings between", seconds(2), None, &[hi, no, no, no, hi], &[(0, Pending), (4, Firing)]),
        ("kept for 3", None, readings(3), &[hi, lo, lo, lo, lo], &[(0, Firing), (3, Resolved)]),
        ("kept for 3, again", None, readings(3), &[hi, lo, lo, hi, lo, lo, lo], &[(0, Firing), (6, Resolved)]),
        ("kept for 2 s", None, seconds(2), &[hi, lo, no, lo, lo], &[(0, Firing), (3, Resolved)]),
    ];
    for (name, hold, keep, values, expected) in table {
        assert_eq!(told_of(*hold, *keep, values), *expected, "{name}");
    }
}
