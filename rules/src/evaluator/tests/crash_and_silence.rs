use super::build::*;
use crate::{
    Hold,
    evaluator::{
        ActiveRule, Change,
        Phase::{self, Firing, Resolved},
        RunEvaluator,
    },
};

/// (step, second, phase) of every change.
fn told(changes: &[Change]) -> Vec<(u64, i64, Phase)> {
    changes.iter().map(|it| (it.step, it.at_us / 1_000_000, it.phase)).collect()
}

fn on_silence(seconds: i64) -> ActiveRule {
    on_event("run.stalled", Some(Hold::Microseconds(seconds * 1_000_000)), None)
}

fn made(rule: ActiveRule) -> RunEvaluator {
    evaluator(vec![rule], &facts(&["all"], &[]))
}

/// A step that came so many seconds after the first.
fn came(evaluator: &mut RunEvaluator, at_step: u64, second: i64, changes: &mut Vec<Change>) {
    let mut input = step(at_step, &[], &[]);
    input.received_at_us = second * 1_000_000;
    evaluator.advance(&input, changes);
}

#[test]
fn a_crash_ends_with_the_next_step() {
    let mut evaluator = made(on_event("run.crashed", None, None));
    let mut changes = Vec::new();
    came(&mut evaluator, 5, 5, &mut changes);
    let crash = [event("run.crashed", None, at_us(125))];
    evaluator.advance(&step(5, &[], &crash), &mut changes);
    evaluator.tick(at_us(500), &mut changes);
    assert_eq!(told(&changes), [(5, 125, Firing)]);
    came(&mut evaluator, 6, 600, &mut changes);
    assert_eq!(told(&changes)[1..], [(6, 600, Resolved)]);
}

#[test]
fn a_crash_is_the_same_with_its_step_and_behind_it() {
    let crash = [event("run.crashed", None, at_us(125))];
    let (mut with, mut behind) = (made(on_event("run.crashed", None, None)), made(on_event("run.crashed", None, None)));
    let (mut expected, mut changes) = (Vec::new(), Vec::new());
    with.advance(&step(5, &[], &crash), &mut expected);
    behind.advance(&step(5, &[], &[]), &mut changes);
    behind.advance(&step(5, &[], &crash), &mut changes);
    assert_eq!((changes, told(&expected)), (expected, vec![(5, 125, Firing)]));
}

#[test]
fn a_rule_made_while_a_run_is_silent_hears_of_its_crash() {
    let mut evaluator = made(ActiveRule { active_from_us: at_us(100), ..on_event("run.crashed", None, None) });
    let mut changes = Vec::new();
    came(&mut evaluator, 5, 5, &mut changes);
    evaluator.advance(&step(5, &[], &[event("run.crashed", None, at_us(50))]), &mut changes);
    assert_eq!(told(&changes), [], "that was before the rule");
    evaluator.advance(&step(5, &[], &[event("run.crashed", None, at_us(125))]), &mut changes);
    assert_eq!(told(&changes), [(5, 125, Firing)]);
}

#[test]
fn the_servers_own_silence_ends_with_the_next_step() {
    let mut evaluator = made(on_event("run.stalled", None, None));
    let mut changes = Vec::new();
    came(&mut evaluator, 5, 5, &mut changes);
    evaluator.advance(&step(5, &[], &[event("run.stalled", None, at_us(400))]), &mut changes);
    came(&mut evaluator, 6, 500, &mut changes);
    came(&mut evaluator, 7, 501, &mut changes);
    assert_eq!(told(&changes), [(5, 400, Firing), (6, 500, Resolved)]);
}

#[test]
fn silence_fires_when_it_was_long_enough_whoever_notices() {
    let (mut live, mut stored) = (made(on_silence(20)), made(on_silence(20)));
    let (mut changes, mut expected) = (Vec::new(), Vec::new());
    for (at_step, second) in [(1, 10), (2, 29), (3, 100), (4, 101)] {
        if at_step == 3 {
            // The server's own event is another matter.
            live.advance(&step(2, &[], &[event("run.stalled", None, at_us(40))]), &mut changes);
            live.tick(at_us(48), &mut changes);
            assert_eq!(told(&changes), []);
            live.tick(at_us(55), &mut changes);
            live.tick(at_us(90), &mut changes);
        }
        came(&mut live, at_step, second, &mut changes);
        came(&mut stored, at_step, second, &mut expected);
    }
    assert_eq!(told(&changes), [(2, 49, Firing), (3, 100, Resolved)]);
    assert_eq!(changes, expected);
}

#[test]
fn silence_is_noticed_after_a_restart() {
    let mut evaluator = made(on_silence(20));
    evaluator.refill(&step(7, &[], &[]));
    let mut changes = Vec::new();
    evaluator.tick(at_us(27), &mut changes);
    assert_eq!(told(&changes), [(7, 27, Firing)]);

    let kept = evaluator.state(0, "").expect("it fires");
    let mut again = made(on_silence(20));
    again.refill(&step(7, &[], &[]));
    assert!(again.restore(0, "", &kept));
    again.tick(at_us(30), &mut changes);
    assert_eq!(changes.len(), 1, "it was told");
    came(&mut again, 8, 60, &mut changes);
    assert_eq!(told(&changes)[1..], [(8, 60, Resolved)]);
}

#[test]
fn silence_before_the_rule_does_not_count() {
    let mut evaluator = made(ActiveRule { active_from_us: at_us(100), ..on_silence(20) });
    let mut changes = Vec::new();
    came(&mut evaluator, 1, 10, &mut changes);
    evaluator.tick(at_us(119), &mut changes);
    assert_eq!(told(&changes), []);
    evaluator.tick(at_us(130), &mut changes);
    assert_eq!(told(&changes), [(1, 120, Firing)]);
}

#[test]
fn a_run_without_steps_is_not_silent() {
    let mut changes = Vec::new();
    made(on_silence(20)).tick(at_us(1000), &mut changes);
    assert_eq!(told(&changes), []);
}

#[test]
fn the_end_of_a_run_notices_silence_and_ends_it() {
    let mut evaluator = made(on_silence(20));
    let mut changes = Vec::new();
    came(&mut evaluator, 1, 10, &mut changes);
    evaluator.finish(at_us(50), &mut changes);
    assert_eq!(told(&changes), [(1, 30, Firing), (1, 50, Resolved)]);
    assert_eq!(evaluator.state(0, ""), None);
}

#[test]
fn silence_goes_on_firing_as_long_as_asked() {
    let hold = Some(Hold::Microseconds(at_us(20)));
    let mut evaluator = made(on_event("run.stalled", hold, Some(Hold::Readings(2))));
    let mut changes = Vec::new();
    for (at_step, second) in [(1, 0), (2, 30), (3, 31), (4, 32)] {
        came(&mut evaluator, at_step, second, &mut changes);
    }
    assert_eq!(told(&changes), [(1, 20, Firing), (3, 31, Resolved)]);
}
