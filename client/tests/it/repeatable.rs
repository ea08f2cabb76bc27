//! What an import needs: sketches of its own, bases that are not sent, waiting instead of dropping, and going on with an
//! attempt that another process began.

use std::time::Duration;

use gradwatch_client::{Frame, OpenError, RepeatableAttempt, Run, SubmitError, TensorName, Uuid, WaitError};
use gradwatch_proto::v1;
use tonic::Status;

use crate::peer::{Peer, Script};
use crate::{PATIENCE, assert_all_settled, small_run, submit, wait_until, weights};

/// Long enough for a peer that answers at once.
const SHORT: Duration = Duration::from_millis(200);

fn sketch(run: &Run, step: u64) -> Vec<f64> {
    let mut sketch = vec![0.0; run.sketcher().dim()];
    run.sketcher().add(&mut sketch, TensorName::new("w"), 0, &weights(step)).unwrap();
    sketch
}

#[test]
fn parameters_sketched_by_the_caller_give_the_same_frames() {
    let peer = Peer::start(Script::default());
    let mut run = small_run(&peer.url()).open().unwrap();
    submit(&mut run, 1..20);
    assert_all_settled(&run.close(), 19);
    let mut run = small_run(&peer.url()).open().unwrap();
    for step in 1..20 {
        let sketch = sketch(&run, step);
        let frame = Frame::new().scalar("loss", step as f64).sketched_parameters("all", &sketch);
        run.submit(step, frame).unwrap();
    }
    assert_all_settled(&run.close(), 19);
    let timeless = |n| -> Vec<v1::Frame> {
        let frames = peer.checked_attempt(n).frames;
        frames.into_iter().map(|frame| v1::Frame { wall_time_us: 0, ..frame }).collect()
    };
    assert_eq!(timeless(0), timeless(1));
    assert_eq!(timeless(1)[18].payloads.len(), 1);
}

#[test]
fn a_wrong_sketch_is_refused_by_name() {
    let mut run = small_run("http://127.0.0.1:9").open().unwrap();
    let (short, right, weights) = (vec![0.0; 32], vec![0.0; 64], weights(1));
    let wrong = run.submit(1, Frame::new().sketched_parameters("all", &short));
    assert_eq!(wrong, Err(SubmitError::SketchLength { group: "all".to_owned(), actual: 32, expected: 64 }));
    let wrong = run.submit(1, Frame::new().sketched_parameters("other", &right));
    assert_eq!(wrong, Err(SubmitError::UnknownGroup { group: "other".to_owned() }));
    let twice = Frame::new().parameters("all", [("w", &weights)]).sketched_parameters("all", &right);
    let wrong = run.submit(1, twice);
    assert_eq!(wrong, Err(SubmitError::Duplicate { what: "parameters of group", name: "all".to_owned() }));
    assert_eq!(run.status().submitted, 0);
}

#[test]
fn a_base_is_not_sent_and_the_next_update_starts_from_it() {
    let peer = Peer::start(Script::default());
    let mut run = small_run(&peer.url()).open().unwrap();
    for (base, step) in [(10, 11), (11, 12), (40, 41)] {
        let (before, after) = (weights(base), weights(step));
        run.set_base(base, Frame::new().parameters("all", [("w", &before)])).unwrap();
        run.submit(step, Frame::new().parameters("all", [("w", &after)])).unwrap();
    }
    assert_all_settled(&run.close(), 3);
    let frames = peer.checked_attempt(0).frames;
    let rows: Vec<_> = frames.iter().map(|frame| (frame.seq, frame.step, frame.payloads[0].base_step)).collect();
    assert_eq!(rows, [(1, 11, 10), (2, 12, 11), (3, 41, 40)]);
}

#[test]
fn whoever_waits_for_room_loses_nothing() {
    let peer = Peer::start(Script { commits: false, keep: 20, ..Script::default() });
    // The smallest buffer: 4 × 11 frames, of which some hundreds are submitted.
    let mut run = small_run(&peer.url()).buffer_bytes(25 << 10).open().unwrap();
    let mut step = 0;
    let mut waits = 0;
    while step < 600 {
        match run.wait_for_room(SHORT) {
            Ok(()) => {
                submit(&mut run, [step]);
                step += 1;
            }
            Err(error) => {
                assert!(matches!(error, WaitError::Stalled { .. }), "{error}");
                waits += 1;
                peer.change(|script| script.commits = true);
            }
        }
    }
    assert!(waits > 0, "nobody had to wait");
    run.wait_until_settled(PATIENCE).unwrap();
    assert_eq!((run.status().settled, run.status().dropped), (600, 0));
    assert_all_settled(&run.close(), 600);
}

#[test]
fn waiting_ends_with_a_refusal() {
    let refusal = Status::failed_precondition("not like this");
    let peer = Peer::start(Script { refuse_open: Some(refusal), ..Script::default() });
    let mut run = small_run(&peer.url()).open().unwrap();
    submit(&mut run, 0..3);
    let error = run.wait_until_settled(PATIENCE).unwrap_err();
    assert!(matches!(&error, WaitError::Refused { reason } if reason.contains("not like this")), "{error}");
    assert_eq!(run.wait_for_room(PATIENCE), Err(error));
}

#[test]
fn another_process_goes_on_with_an_attempt() {
    let peer = Peer::start(Script { refill: 6, keep: 100, ..Script::default() });
    let run_id = Uuid::new_v4();
    let attempt = |first_seq, settled_seq| RepeatableAttempt {
        attempt_id: Uuid::from_u128(7),
        writer_id: "import".to_owned(),
        first_seq,
        settled_seq,
    };
    let open = |attempt| small_run(&peer.url()).run_id(run_id).repeatable_attempt(attempt).open().unwrap();
    let mut first = open(attempt(1, 0));
    submit(&mut first, 1..=40);
    first.wait_until_settled(PATIENCE).unwrap();
    drop(first);

    // The frames of before are offered again from 31; the peer wants them from 35. It has settled more than is known.
    let mut second = open(attempt(31, 38));
    let before = weights(30);
    second.set_base(30, Frame::new().parameters("all", [("w", &before)])).unwrap();
    submit(&mut second, 31..=60);
    assert_all_settled(&second.close(), 30);
    let attempt_seen = peer.checked_attempt(0);
    assert_eq!(attempt_seen.request.writer_id, "import");
    let rows: Vec<_> = attempt_seen.frames.iter().map(|frame| (frame.seq, frame.step)).collect();
    assert_eq!(rows, (1..=60).map(|seq| (seq, seq)).collect::<Vec<_>>());
    assert!(attempt_seen.frames[1..].iter().all(|frame| frame.payloads[0].base_step == frame.step - 1));
    assert_eq!(attempt_seen.refills.last().unwrap(), &[35, 36, 37, 38, 39, 40]);
    assert_eq!(attempt_seen.finish.unwrap().last_seq, 60);

    // Nothing new, but the end.
    let mut third = open(attempt(60, 60));
    submit(&mut third, [60]);
    wait_until("it is settled", || third.status().settled == 1);
    assert_all_settled(&third.close(), 1);
}

#[test]
fn an_attempt_that_leaves_a_hole_is_refused() {
    for (first_seq, settled_seq) in [(0, 0), (2, 0), (7, 5)] {
        let attempt = RepeatableAttempt {
            attempt_id: Uuid::from_u128(7),
            writer_id: "import".to_owned(),
            first_seq,
            settled_seq,
        };
        let error = small_run("http://127.0.0.1:9").repeatable_attempt(attempt).open().unwrap_err();
        assert!(matches!(&error, OpenError::Argument { field, .. } if field == "repeatable_attempt"), "{error}");
    }
}
