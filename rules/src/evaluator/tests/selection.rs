use std::sync::Arc;

use gradwatch_spectral::layers::LayerInstrument;
use gradwatch_store::{AlertLane, Kind, LayerKey, StreamKey};

use super::build::*;
use crate::{
    RuleDefinition, Selector,
    evaluator::{MachineState, RunEvaluator},
    language::CompiledRule,
};

fn labels(value: &str) -> Selector {
    Selector { labels: [("team".to_owned(), value.to_owned())].into(), ..Selector::default() }
}

fn project(name: &str) -> Selector {
    Selector { project: Some(name.into()), ..Selector::default() }
}

#[test]
fn a_rule_is_for_the_runs_that_it_selects() {
    let is_for = |select| {
        let rules = Arc::new(vec![selecting("scalar.loss > 1", select)]);
        RunEvaluator::new(rules, &facts(&["all"], &[])).is_some()
    };
    assert!(is_for(Selector::default()));
    assert!(is_for(project("p")) && !is_for(project("q")));
    assert!(is_for(labels("red")) && !is_for(labels("blue")));
    let groups = |group: &str| Selector { group: Some(group.into()), ..Selector::default() };
    let on_groups = |group: &str| {
        let rules = Arc::new(vec![selecting("edge.ratio > 1", groups(group))]);
        RunEvaluator::new(rules, &facts(&["all"], &[])).is_some()
    };
    assert!(on_groups("a*") && !on_groups("b*"), "none of its groups");
}

#[test]
fn a_glob_that_is_too_long_is_refused() {
    let select = Selector { group: Some("?".repeat(1_000_000)), ..Selector::default() };
    let problems = CompiledRule::new(RuleDefinition { select, ..definition("edge.ratio > 1") }).expect_err("too long");
    assert_eq!(problems[0].field, "select.group");
}

#[test]
fn inputs_are_named_once() {
    let layer = |name: &str| LayerKey { instrument: LayerInstrument::Cascade, layer: name.into() };
    let mut facts = facts(&["head", "all"], &[layer("l1"), layer("l0")]);
    facts.streams.push((StreamKey { kind: Kind::Gradient, ..stream("all") }, 1));
    facts.streams.push((StreamKey { window: 20, ..stream("all") }, 1));
    let on = |select: Selector, when: &str| selecting(when, select);
    let all = Selector::default;
    let rules = vec![
        on(all(), "edge.ratio < 1.2 and scalar.loss > 2"),
        on(all(), "mean(edge.ratio, 50) < edge.gap"),
        on(Selector { window: Some(20), ..all() }, "edge.ratio > 1"),
        on(Selector { kind: Some(Kind::Gradient), ..all() }, "edge.ratio > 1"),
        on(Selector { group: Some("h*".into()), ..all() }, "edge.drift > 1"),
        on(all(), "edge.pc1{group=\"all\", kind=\"gradient\"} > slope(scalar.loss, 70)"),
        on(all(), "edge.k95{group=\"nowhere\"} > 1"),
        on(all(), "cascade.phi > 1"),
        on(project("q"), "scalar.unread > 1"),
    ];
    let evaluator = evaluator(rules, &facts);
    let inputs = evaluator.inputs();
    let gradient = StreamKey { kind: Kind::Gradient, ..stream("all") };
    let expected = vec![
        (stream("all"), vec!["gap", "ratio"]),
        (StreamKey { window: 20, ..stream("all") }, vec!["ratio"]),
        (gradient, vec!["pc1", "ratio"]),
        (stream("head"), vec!["drift", "gap", "ratio"]),
    ];
    assert_eq!(inputs.streams, expected);
    assert_eq!(inputs.layers, [(layer("l0"), vec!["phi"]), (layer("l1"), vec!["phi"])]);
    assert_eq!(inputs.scalars, ["loss"]);
    assert_eq!((inputs.look_back, inputs.len()), (70, 11));
}

#[test]
fn a_state_is_taken_up_only_by_its_own_machine() {
    let mut fired = evaluator(vec![rule("edge.ratio > 1"), on_event("run.crashed", None, None)], &facts(&["all"], &[]));
    let mut changes = Vec::new();
    fired.advance(&step(0, &[Some(2.0)], &[event("run.crashed", None, 0)]), &mut changes);
    assert_eq!(changes.len(), 2);
    let (ratio, crash) = (fired.state(0, "all").expect("fires"), fired.state(1, "").expect("fires"));
    assert_eq!(fired.state(0, "other"), None);
    assert!(ratio.bytes.len() <= 16, "{ratio:?}");

    let rules = vec![
        rule("edge.ratio > 1"),
        on_event("run.crashed", None, None),
        selecting("edge.gap_collapse", Selector { group: Some("a*".into()), ..Selector::default() }),
    ];
    let mut evaluator = evaluator(rules, &facts(&["all"], &[]));
    assert!(evaluator.restore(0, "all", &ratio) && evaluator.restore(1, "", &crash));
    assert!(!evaluator.restore(0, "head", &ratio), "the run has no such group");
    assert!(!evaluator.restore(3, "all", &ratio), "there is no such rule");
    assert!(!evaluator.restore(1, "all", &crash), "a crash is of the run");
    assert!(evaluator.restore(2, "all", &crash) && !evaluator.restore(2, "head", &crash));
    for bytes in [vec![], vec![9, 9, 9], [ratio.bytes.as_slice(), &[0]].concat()] {
        assert!(!evaluator.restore(0, "all", &MachineState { bytes }));
    }
}

#[test]
fn rules_on_layers_wait() {
    let lane = |when: &str| rule(when).lane();
    for steps in
        ["edge.ratio > 1", "scalar.a > 1", "run.crashed", "edge.gap_collapse", "job.x", "transition to forgetting"]
    {
        assert_eq!(lane(steps), AlertLane::Steps, "{steps}");
    }
    for layers in ["cascade.phi > 1", "scalar.a > 1 and cascade.phi{layer=\"l0\"} > 1", "curvature.shift"] {
        assert_eq!(lane(layers), AlertLane::Layers, "{layers}");
    }
}
