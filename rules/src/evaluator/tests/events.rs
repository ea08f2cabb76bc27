use super::build::*;
use crate::{
    evaluator::Phase::{Firing, Resolved},
    language::EventCondition,
};

#[test]
fn a_crash_ends_with_the_next_step() {
    let mut evaluator = evaluator(vec![on_event(EventCondition::Crashed, None, None)], &facts(&["all"], &[]));
    let mut changes = Vec::new();
    evaluator.advance(&step(5, &[], &[]), &mut changes);
    let crash = [event("run.crashed", None, at_us(125))];
    evaluator.advance(&step(5, &[], &crash), &mut changes);
    assert_eq!(told(&changes), [(5, String::new(), Firing)]);
    assert_eq!(changes[0].at_us, at_us(125));
    evaluator.advance(&step(6, &[], &[]), &mut changes);
    assert_eq!(told(&changes)[1..], [(6, String::new(), Resolved)]);
}
