use gradwatch_spectral::layers::LayerInstrument;
use gradwatch_store::{Kind, LayerKey};

use super::build::*;
use crate::{
    Hold, Selector,
    evaluator::{
        ActiveRule, Change, EVENT_KEEP_READINGS, EventInput,
        Phase::{Firing, Inactive, Pending, Resolved},
        RunEvaluator,
    },
};

const READING: &[Option<f64>] = &[Some(1.0)];

fn selecting(rule: ActiveRule, select: Selector) -> ActiveRule {
    let mut rule = rule;
    rule.rule.definition.select = select;
    rule
}

fn in_group(group: &str) -> Selector {
    Selector { group: Some(group.into()), ..Selector::default() }
}

/// One group `all`, whose readings are the only column.
fn one_group(rule: ActiveRule) -> RunEvaluator {
    let evaluator = evaluator(vec![rule], &facts(&["all"], &[]));
    assert_eq!(evaluator.inputs().streams, [(stream("all"), vec!["update_norm"])]);
    evaluator
}

fn readings(evaluator: &mut RunEvaluator, steps: std::ops::Range<u64>, changes: &mut Vec<Change>) {
    steps.for_each(|at| evaluator.advance(&step(at, READING, &[]), changes));
}

#[test]
fn an_event_holds_at_its_step_and_is_kept_for_fifty_readings() {
    let mut evaluator = one_group(on_event("numeric.nonfinite", None, None));
    let mut changes = Vec::new();
    evaluator.advance(&step(3, &[None], &[event("numeric.nonfinite", Some("all"), at_us(3))]), &mut changes);
    // Without readings nothing is evaluated.
    (4..400).for_each(|at| evaluator.advance(&step(at, &[None], &[]), &mut changes));
    readings(&mut evaluator, 400..500, &mut changes);
    let end = 399 + u64::from(EVENT_KEEP_READINGS);
    assert_eq!(told(&changes), [(3, "all".into(), Firing), (end, "all".into(), Resolved)]);
}

#[test]
fn an_event_again_is_the_same_alert() {
    let mut evaluator = one_group(on_event("numeric.nonfinite", None, Some(Hold::Readings(3))));
    let mut changes = Vec::new();
    for at in 0..9 {
        let events = [event("numeric.nonfinite", Some("all"), at_us(at))];
        evaluator.advance(&step(at, READING, if at == 0 || at == 2 { &events } else { &[] }), &mut changes);
    }
    assert_eq!(told(&changes), [(0, "all".into(), Firing), (5, "all".into(), Resolved)]);
}

#[test]
fn events_of_one_step_are_an_alert_for_each_group() {
    let mut evaluator = evaluator(vec![on_event("numeric.nonfinite", None, None)], &facts(&["a", "b"], &[]));
    let at = at_us(0);
    let events = [
        event("numeric.nonfinite", Some("b"), at),
        event("run.lossy", None, at),
        event("numeric.nonfinite", None, at),
        event("numeric.nonfinite", Some("b"), at),
        event("numeric.nonfinite", Some("a"), at),
    ];
    let mut changes = Vec::new();
    evaluator.advance(&step(0, &[None, None], &events), &mut changes);
    let expected = ["", "a", "b"].map(|group| (0, group.to_owned(), Firing));
    assert_eq!(told(&changes), expected);
    assert_eq!(changes[0].values, [].into());
}

#[test]
fn an_event_without_group_ends_with_the_steps_of_the_run() {
    let mut evaluator = evaluator(vec![on_event("job.evaluated", None, Some(Hold::Readings(2)))], &facts(&["a"], &[]));
    assert!(evaluator.inputs().is_empty());
    let mut changes = Vec::new();
    evaluator.advance(&step(7, &[], &[event("job.evaluated", None, at_us(7))]), &mut changes);
    (8..20).for_each(|at| evaluator.advance(&step(at, &[], &[]), &mut changes));
    assert_eq!(told(&changes), [(7, String::new(), Firing), (9, String::new(), Resolved)]);
}

#[test]
fn a_selector_says_of_which_group_kind_and_window() {
    let fires = |select: Selector, event: EventInput<'_>| {
        let rule = selecting(on_event(event.event_type, None, None), select);
        let mut evaluator = evaluator(vec![rule], &facts(&["all", "head"], &[]));
        let mut changes = Vec::new();
        let values = vec![None; evaluator.inputs().len()];
        evaluator.advance(&step(0, &values, &[event]), &mut changes);
        changes.len() == 1
    };
    let of = |event_type, group, kind, window| EventInput { kind, window, ..event(event_type, group, 0) };
    let (update, gradient) = (Some(Kind::Update), Some(Kind::Gradient));
    let all = Selector::default;

    let collapse = |group, kind, window| of("edge.gap_collapse", Some(group), kind, window);
    assert!(fires(all(), collapse("all", update, Some(10))));
    assert!(!fires(all(), collapse("all", gradient, Some(10))), "updates unless it says otherwise");
    assert!(!fires(all(), collapse("all", update, Some(20))), "the first window unless it says otherwise");
    assert!(fires(Selector { window: Some(20), ..all() }, collapse("all", update, Some(20))));
    assert!(fires(Selector { kind: gradient, ..all() }, collapse("all", gradient, Some(10))));
    assert!(fires(in_group("he*"), collapse("head", update, Some(10))));
    assert!(!fires(in_group("he*"), collapse("all", update, Some(10))));
    assert!(!fires(in_group("he"), collapse("head", update, Some(10))));

    let nonfinite = |group, kind| of("numeric.nonfinite", group, kind, None);
    assert!(fires(all(), nonfinite(Some("all"), gradient)), "what is of no window is of any kind");
    assert!(!fires(Selector { kind: update, ..all() }, nonfinite(Some("all"), gradient)));
    assert!(fires(all(), nonfinite(None, None)));
    assert!(fires(in_group("*"), nonfinite(None, None)));
    assert!(!fires(in_group("head"), nonfinite(None, None)), "an event of the run is of no group");
    assert!(fires(in_group("head"), of("run.crashed", None, None, None)), "a crash is of all groups");
}

#[test]
fn a_layers_event_is_kept_for_readings_of_the_layer() {
    let layer = |name: &str| LayerKey { instrument: LayerInstrument::Curvature, layer: name.into() };
    let facts = facts(&["l0"], &[layer("l0"), layer("l1")]);
    let mut evaluator = evaluator(vec![on_event("curvature.shift", None, Some(Hold::Readings(2)))], &facts);
    assert_eq!(evaluator.inputs().layers.len(), 2);
    assert_eq!(evaluator.inputs().streams, []);
    let mut changes = Vec::new();
    evaluator.advance(&step(0, &[Some(1.0), None], &[event("curvature.shift", Some("l0"), at_us(9))]), &mut changes);
    for (at, values) in [(1, [None, Some(1.0)]), (2, [Some(1.0), None]), (3, [None, None]), (4, [Some(1.0), None])] {
        evaluator.advance(&step(at, &values, &[]), &mut changes);
    }
    assert_eq!(told(&changes), [(0, "l0".into(), Firing), (4, "l0".into(), Resolved)]);
}

#[test]
fn a_regime_holds_until_it_changes_again() {
    let turns = [
        (0, "plateau", "transition"),
        (2, "transition", "forgetting"),
        (6, "forgetting", "transition"),
        (8, "transition", "forgetting"),
        (9, "forgetting", "plateau"),
    ];
    let table = [
        ("transition to forgetting", None, vec![(2, Firing), (6, Resolved), (8, Firing), (9, Resolved)]),
        (
            "transition to forgetting",
            Some(Hold::Readings(3)),
            vec![(2, Pending), (4, Firing), (6, Resolved), (8, Pending), (9, Inactive)],
        ),
        ("transition from plateau to forgetting", None, vec![]),
        ("transition from forgetting to plateau", None, vec![(9, Firing)]),
    ];
    for (condition, hold, expected) in table {
        let mut evaluator = one_group(on_event(condition, hold, None));
        let mut changes = Vec::new();
        for at in 0..12 {
            let turn = turns.iter().find(|it| it.0 == at);
            let events: Vec<_> =
                turn.map(|(at, from, to)| transition("all", from, to, at_us(*at))).into_iter().collect();
            evaluator.advance(&step(at, READING, &events), &mut changes);
        }
        let phases: Vec<_> = changes.iter().map(|it| (it.step, it.phase)).collect();
        assert_eq!(phases, expected, "{condition}");
    }
}

#[test]
fn a_regime_is_lost_with_its_window_and_with_its_segment() {
    let enter = |evaluator: &mut RunEvaluator, changes: &mut Vec<Change>| {
        evaluator.advance(&step(0, READING, &[transition("all", "plateau", "forgetting", 0)]), changes);
        readings(evaluator, 1..5, changes);
        assert_eq!(told(changes), [(0, "all".into(), Firing)]);
    };
    let restarted = |kind| EventInput { kind, ..event("window.restarted", Some("all"), at_us(5)) };
    let mut changes = Vec::new();
    let mut evaluator = one_group(on_event("transition to forgetting", None, None));
    enter(&mut evaluator, &mut changes);
    evaluator.advance(&step(5, READING, &[restarted(Some(Kind::Gradient))]), &mut changes);
    assert_eq!(changes.len(), 1, "that was another window");
    evaluator.advance(&step(6, &[None], &[restarted(Some(Kind::Update))]), &mut changes);
    assert_eq!(told(&changes)[1..], [(6, "all".into(), Resolved)]);

    changes.clear();
    let mut evaluator = one_group(on_event("transition to forgetting", None, None));
    enter(&mut evaluator, &mut changes);
    let mut input = step(5, &[None], &[]);
    input.segment = 1;
    evaluator.advance(&input, &mut changes);
    assert_eq!(told(&changes)[1..], [(5, "all".into(), Resolved)]);
}

#[test]
fn the_end_of_a_run_ends_everything() {
    let rules = vec![
        on_event("numeric.nonfinite", None, None),
        on_event("transition to forgetting", Some(Hold::Readings(5)), None),
        rule("scalar.loss > 1"),
        rule("scalar.loss > 5"),
    ];
    let mut evaluator = evaluator(rules, &facts(&["all"], &[]));
    let mut changes = Vec::new();
    let events = [event("numeric.nonfinite", None, 0), transition("all", "plateau", "forgetting", 0)];
    evaluator.advance(&step(4, &[Some(1.0), Some(2.0)], &events), &mut changes);
    changes.clear();
    evaluator.finish(at_us(9), &mut changes);
    let mut ended: Vec<_> = changes.iter().map(|it| (it.rule, it.step, it.at_us, it.phase)).collect();
    ended.sort_by_key(|it| it.0);
    let at = at_us(9);
    assert_eq!(ended, [(0, 4, at, Resolved), (1, 4, at, Inactive), (2, 4, at, Resolved)]);
    assert_eq!(evaluator.take_touched(), []);
    changes.clear();
    evaluator.finish(at_us(10), &mut changes);
    assert_eq!(changes, []);
}
