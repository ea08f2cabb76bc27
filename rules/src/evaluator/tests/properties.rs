use std::sync::Arc;

use proptest::prelude::*;

use super::{
    made::{self, Column, MadeStep},
    reference,
};
use crate::evaluator::{ActiveRule, Change, MachineState, RunEvaluator};

fn advance(evaluator: &mut RunEvaluator, steps: &[MadeStep], changes: &mut Vec<Change>) {
    for step in steps {
        let (values, events) = (step.values(evaluator.inputs(), |_| true), step.events());
        evaluator.advance(&step.input(&values, &events), changes);
    }
}

/// Only what has to be given: of every column the last `look_back` values, and the last step.
fn refill(evaluator: &mut RunEvaluator, steps: &[MadeStep]) {
    let look_back = evaluator.inputs().look_back;
    for (index, step) in steps.iter().enumerate() {
        let values_behind =
            |column: Column| steps[index + 1..].iter().filter(|later| later.values[column as usize].is_some()).count();
        let values = step.values(evaluator.inputs(), |column| values_behind(column) < look_back);
        if index + 1 == steps.len() || values.iter().any(Option::is_some) {
            evaluator.refill(&step.input(&values, &[]));
        }
    }
}

fn states(evaluator: &RunEvaluator) -> Vec<(usize, &'static str, MachineState)> {
    let places = (0..evaluator.rules().len()).flat_map(|rule| ["", "g0", "g1", "l0", "l1"].map(|group| (rule, group)));
    places.filter_map(|(rule, group)| Some((rule, group, evaluator.state(rule, group)?))).collect()
}

fn evaluator(rules: &[ActiveRule]) -> RunEvaluator {
    RunEvaluator::new(Arc::new(rules.to_vec()), &made::made_facts()).expect("they select the run")
}

fn any_rules() -> impl Strategy<Value = Vec<ActiveRule>> {
    made::rules(prop_oneof![made::expression(), made::event()])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn expressions_say_what_the_whole_history_says(
        rules in made::rules(made::expression()),
        history in made::history(60),
    ) {
        // A rule whose selector takes nothing of the run is no rule of it.
        let Some(mut evaluator) = RunEvaluator::new(Arc::new(rules.clone()), &made::made_facts()) else {
            prop_assert!(reference::changes(&rules, &history).is_empty());
            return Ok(());
        };
        let mut changes = Vec::new();
        advance(&mut evaluator, &history, &mut changes);
        let mut told: Vec<_> = changes.iter().map(|it| (it.rule, it.group.clone(), it.step, it.phase)).collect();
        told.sort_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)));
        prop_assert_eq!(told, reference::changes(&rules, &history));
    }

    #[test]
    fn what_was_cut_goes_on_the_same(rules in any_rules(), history in made::history(60), cut in 0.0..1.0) {
        if RunEvaluator::new(Arc::new(rules.clone()), &made::made_facts()).is_none() {
            return Ok(());
        }
        let (before, behind) = history.split_at((cut * history.len() as f64) as usize);
        let mut whole = evaluator(&rules);
        advance(&mut whole, before, &mut Vec::new());

        let mut anew = evaluator(&rules);
        refill(&mut anew, before);
        for (rule, group, state) in states(&whole) {
            prop_assert!(anew.restore(rule, group, &state));
        }
        prop_assert_eq!(states(&anew), states(&whole));

        let (mut expected, mut changes) = (Vec::new(), Vec::new());
        advance(&mut whole, behind, &mut expected);
        advance(&mut anew, behind, &mut changes);
        let end_us = history.last().map_or(0, |step| step.received_at_us) + 3_000_000;
        prop_assert_eq!(states(&anew), states(&whole));
        whole.finish(end_us, &mut expected);
        anew.finish(end_us, &mut changes);
        prop_assert_eq!(changes, expected);
    }

    #[test]
    fn ticks_and_late_events_change_nothing(rules in any_rules(), history in made::history(60)) {
        if RunEvaluator::new(Arc::new(rules.clone()), &made::made_facts()).is_none() {
            return Ok(());
        }
        let (mut stored, mut live) = (evaluator(&rules), evaluator(&rules));
        let (mut expected, mut changes) = (Vec::new(), Vec::new());
        advance(&mut stored, &history, &mut expected);
        for (index, step) in history.iter().enumerate() {
            let (values, events) = (step.values(live.inputs(), |_| true), step.events());
            let (on_time, late): (Vec<_>, Vec<_>) =
                events.into_iter().partition(|event| event.at_us <= step.received_at_us);
            live.advance(&step.input(&values, &on_time), &mut changes);
            for event in late {
                live.advance(&step.input(&[], &[event]), &mut changes);
            }
            if let Some(next) = history.get(index + 1) {
                for share in 1..4 {
                    live.tick(step.received_at_us + (next.received_at_us - step.received_at_us) * share / 4, &mut changes);
                }
            }
        }
        prop_assert_eq!(changes, expected);
        prop_assert_eq!(states(&live), states(&stored));
    }

    #[test]
    fn a_state_that_is_not_told_of_is_the_same(rules in any_rules(), history in made::history(60)) {
        if RunEvaluator::new(Arc::new(rules.clone()), &made::made_facts()).is_none() {
            return Ok(());
        }
        let mut evaluator = evaluator(&rules);
        let mut known = Vec::new();
        for step in &history {
            let mut changes = Vec::new();
            advance(&mut evaluator, std::slice::from_ref(step), &mut changes);
            let mut told: Vec<_> = changes.into_iter().map(|it| (it.rule, it.group)).collect();
            told.extend(evaluator.take_touched());
            let is_quiet = |(rule, group, _): &(usize, &'static str, MachineState)| {
                !told.iter().any(|it| it.0 == *rule && it.1 == *group)
            };
            let now = states(&evaluator);
            let quiet_before: Vec<_> = known.iter().filter(|it| is_quiet(it)).cloned().collect();
            let quiet_now: Vec<_> = now.iter().filter(|it| is_quiet(it)).cloned().collect();
            prop_assert_eq!(quiet_before, quiet_now);
            known = now;
        }
    }
}
