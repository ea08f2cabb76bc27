//! Training goes back: a new attempt, after everything of the old one.

use gradwatch_proto::v1;

use crate::peer::{Peer, Script};
use crate::{assert_all_settled, small_run, submit};

#[test]
fn a_lower_step_opens_an_attempt_that_resumes_the_last() {
    let peer = Peer::start(Script { break_before: [25].into(), keep: 5, ..Script::default() });
    let mut run = small_run(&peer.url()).open().unwrap();
    let first = run.attempt_id();
    submit(&mut run, 0..30);
    assert_eq!(run.attempt_id(), first);
    submit(&mut run, 20..40);
    let second = run.attempt_id();
    submit(&mut run, 39..41);
    let third = run.attempt_id();
    submit(&mut run, 0..3);
    let fourth = run.attempt_id();
    assert_all_settled(&run.close(), 55);

    let ids = [first, second, third, fourth].map(|id| id.to_string());
    assert_eq!(peer.state().order, ids, "in order");
    let attempts = [0, 1, 2, 3].map(|n| peer.checked_attempt(n));
    let resumes = |n: usize, step| Some(v1::Resumes { attempt_id: ids[n].clone(), step });
    let expected = [(None, false), (resumes(0, 19), false), (resumes(1, 38), false), (None, true)];
    let steps = [0..30, 20..40, 39..41, 0..3];
    let mut started_at_us = 0;
    for (n, attempt) in attempts.iter().enumerate() {
        let header = attempt.request.attempt.as_ref().unwrap();
        assert_eq!((header.resumes.clone(), header.unrelated), expected[n]);
        assert!(header.started_at_us > started_at_us);
        started_at_us = header.started_at_us;
        assert_eq!(attempt.request.writer_id, attempts[0].request.writer_id);
        assert!(attempt.frames.iter().map(|frame| frame.step).eq(steps[n].clone()));
        assert_eq!(attempt.frames[0].payloads, [], "the base is taken anew");
        assert_eq!(attempt.frames[1].payloads[0].base_step, steps[n].start);
        assert_eq!(attempt.finish.is_some(), n == 3, "only the last one ends the run");
    }
}

#[test]
fn a_step_before_the_one_that_a_launch_resumes_goes_back_as_well() {
    let peer = Peer::start(Script::default());
    let old = gradwatch_client::Uuid::new_v4();
    let mut run = small_run(&peer.url()).resume_from(old, 50).open().unwrap();
    let first = run.attempt_id();
    submit(&mut run, 41..45);
    assert_all_settled(&run.close(), 4);
    let resumes = |n: usize| peer.checked_attempt(n).request.attempt.unwrap().resumes.unwrap();
    assert_eq!(resumes(0), v1::Resumes { attempt_id: old.to_string(), step: 50 });
    assert_eq!(resumes(1), v1::Resumes { attempt_id: first.to_string(), step: 40 });
}
