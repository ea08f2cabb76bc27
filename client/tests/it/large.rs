//! Frames that are large because of what is in them besides updates.

use std::time::Duration;

use gradwatch_client::{
    Activation, CascadeSnapshot, CurvatureSnapshot, Frame, Layer, LayerInstrument, LearningCellSnapshot, SubmitError,
};

use crate::peer::{Peer, Script};
use crate::{PATIENCE, assert_adds_up, assert_all_settled, small_run, submit, wait_until};

#[test]
fn a_snapshot_that_the_buffer_has_no_room_for_is_named() {
    let peer = Peer::start(Script::default());
    let builder = small_run(&peer.url()).buffer_bytes(1 << 20).layer("grad", Layer::cascade());
    let mut run = builder.layer("head", Layer::curvature()).open().unwrap();
    let gradient = vec![1.0_f32; 70_000];
    let frame = || {
        Frame::new()
            .curvature("head", CurvatureSnapshot::new(&[1.0], &[1.0]))
            .cascade("grad", CascadeSnapshot::of_gradient([&gradient]))
    };
    let error = run.submit(0, frame()).unwrap_err();
    let SubmitError::SnapshotTooLarge { bytes, limit, .. } = &error else { panic!("{error}") };
    assert!(*bytes > 128 << 10 && *limit < 128 << 10, "{error}");
    let message = error.to_string();
    assert!(message.starts_with(r#"the cascade snapshot of layer "grad" makes the frame too large: "#), "{message}");
    assert!(message.ends_with("(an eighth of buffer_bytes)"), "{message}");
    assert!(run.snapshot_due(LayerInstrument::Cascade, "grad", 0).unwrap(), "nothing of it was taken");

    let values = vec![0.5_f32; 40_000];
    let error = run.submit(0, Frame::new().predictions("digits", &values, &[])).unwrap_err().to_string();
    assert!(error.starts_with(r#"the predictions on probe "digits" makes the frame too large"#), "{error}");
    submit(&mut run, 0..2);
    assert_all_settled(&run.close(), 2);
}

#[test]
fn a_snapshot_that_the_server_has_no_room_for_is_named() {
    let peer = Peer::start(Script { max_message_bytes: 100 << 10, ..Script::default() });
    let mut run = small_run(&peer.url()).layer("grad", Layer::cascade()).open().unwrap();
    wait_until("it is connected", || run.status().connected);
    let gradient = vec![1.0_f32; 70_000];
    let cascade = |entries| Frame::new().cascade("grad", CascadeSnapshot::of_gradient([&gradient[..entries]]));
    let error = run.submit(0, cascade(70_000)).unwrap_err().to_string();
    assert!(error.starts_with(r#"the cascade snapshot of layer "grad" makes the frame too large: "#), "{error}");
    assert!(error.ends_with("at most 102368 (the server's messages)"), "{error}");
    run.submit(0, cascade(12 * 4_096)).unwrap();
    assert_all_settled(&run.close(), 1);
    assert_eq!(peer.checked_attempt(0).frames[0].snapshots.len(), 1);
    assert!(peer.state().longest_message_bytes <= 100 << 10);
}

#[test]
fn a_frame_taken_before_the_limit_was_known_is_given_up() {
    let peer = Peer::start(Script { max_message_bytes: 100 << 10, refuse_open: Some(away()), ..Script::default() });
    let mut run = small_run(&peer.url()).layer("grad", Layer::cascade()).open().unwrap();
    let gradient = vec![1.0_f32; 70_000];
    run.submit(0, Frame::new().cascade("grad", CascadeSnapshot::of_gradient([&gradient]))).unwrap();
    run.submit(1, Frame::new().scalar("loss", 1.0)).unwrap();
    peer.change(|script| script.refuse_open = None);
    let report = run.close();
    assert_eq!((report.settled, report.dropped, report.undelivered), (1, 1, 0), "{report}");
    let dropped = peer.checked_attempt(0).dropped;
    assert_eq!((dropped.len(), dropped[0].from_seq, dropped[0].to_seq), (1, 1, 1));
}

fn away() -> tonic::Status {
    tonic::Status::unavailable("not yet")
}

#[test]
fn frames_of_16_mib_are_bounded_dropped_and_delivered_like_others() {
    const BUFFER_BYTES: usize = 136 << 20;
    let script = Script { commits: false, keep: u64::MAX, max_message_bytes: 32 << 20, ..Script::default() };
    let peer = Peer::start(script);
    let layer = Layer::learning_cell(1_024, Activation::Tanh).every(1);
    let builder = small_run(&peer.url()).buffer_bytes(BUFFER_BYTES).stall_timeout(Duration::from_secs(600));
    let mut run = builder.layer("mlp", layer).open().unwrap();
    wait_until("it is connected", || run.status().connected);
    let (outer, inner) = (vec![0.5_f32; 4_080], vec![0.25_f32; 4_080 * 1_024]);
    let mut step = 0;
    wait_until("frames are dropped", || {
        run.submit(step, Frame::new().learning_cell("mlp", LearningCellSnapshot::new(&outer, &inner))).unwrap();
        step += 1;
        let status = run.status();
        assert!(status.buffered_bytes <= BUFFER_BYTES + BUFFER_BYTES / 4, "{status:?}");
        status.dropped > 0
    });
    peer.change(|script| script.commits = true);
    run.wait_until_settled(PATIENCE).unwrap();
    assert!(run.status().buffered_bytes < 1 << 20, "what is settled keeps its rows only: {:?}", run.status());
    let report = run.close();
    assert_eq!((report.submitted, report.rejected, report.undelivered), (step, 0, 0), "{report}");
    assert_adds_up(&report);
    let attempt = peer.checked_attempt(0);
    assert_eq!(report.settled, attempt.frames.len() as u64);
    assert!(report.settled >= 2, "{report}");
    let dropped: u64 = attempt.dropped.iter().map(|dropped| dropped.to_seq - dropped.from_seq + 1).sum();
    assert_eq!(report.dropped, dropped);
    assert!(attempt.frames.iter().all(|frame| frame.snapshots.len() == 1));
    assert!(peer.state().longest_message_bytes > 15 << 20);
}
