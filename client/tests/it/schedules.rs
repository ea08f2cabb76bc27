//! When snapshots are looked at, and when they are sent again.

use gradwatch_client::{CascadeSnapshot, CurvatureSnapshot, Frame, Launch, Layer, LayerInstrument, Run, SubmitError};

use crate::peer::{Attempt, Peer, Script};
use crate::{assert_all_settled, small_run, wait_until};

const SIGMA: [f64; 2] = [2.0, 1.0];

fn open(peer: &Peer) -> Run {
    let run = small_run(&peer.url())
        .layer("a", Layer::curvature().every(3))
        .layer("a", Layer::cascade().every(5))
        .layer("b", Layer::curvature());
    run.open().unwrap()
}

fn frame(gradient: &[f32]) -> Frame<'_> {
    Frame::new()
        .curvature("a", CurvatureSnapshot::new(&SIGMA, &SIGMA))
        .cascade("a", CascadeSnapshot::of_gradient([gradient]).with_whole())
}

/// Steps at which there is a snapshot of a layer.
fn steps(attempt: &Attempt, layer: u32) -> Vec<u64> {
    let has = |frame: &&gradwatch_proto::v1::Frame| frame.snapshots.iter().any(|snapshot| snapshot.layer == layer);
    attempt.frames.iter().filter(has).map(|frame| frame.step).collect()
}

#[test]
fn a_snapshot_that_is_not_due_is_not_looked_at() {
    let peer = Peer::start(Script::default());
    let mut run = open(&peer);
    let gradient = [1.0_f32; 8];
    let mut due = Vec::new();
    for step in 10..25 {
        // One that is due and not given waits for the next.
        let is_given = step != 16;
        if run.snapshot_due(LayerInstrument::Curvature, "a", step).unwrap() {
            due.push(step);
        }
        run.submit(step, if is_given { frame(&gradient) } else { Frame::new() }).unwrap();
    }
    assert_eq!(due, [10, 13, 16, 17, 20, 23]);
    assert!(run.snapshot_due(LayerInstrument::Curvature, "b", 25).unwrap(), "there was none of it");
    assert_all_settled(&run.close(), 15);
    let attempt = peer.checked_attempt(0);
    assert_eq!(steps(&attempt, 0), [10, 13, 17, 20, 23]);
    assert_eq!(steps(&attempt, 1), [10, 15, 20], "every layer has a schedule of its own");
}

#[test]
fn a_refused_frame_leaves_its_snapshots_due() {
    let peer = Peer::start(Script::default());
    let mut run = open(&peer);
    let refused = frame(&[1.0; 8]).curvature("b", CurvatureSnapshot::new(&[], &[]));
    assert!(matches!(run.submit(1, refused), Err(SubmitError::Snapshot { .. })));
    assert!(run.snapshot_due(LayerInstrument::Curvature, "a", 1).unwrap());
    run.submit(1, frame(&[1.0; 8])).unwrap();
    assert!(!run.snapshot_due(LayerInstrument::Curvature, "a", 2).unwrap());
    assert_all_settled(&run.close(), 1);
    assert_eq!(steps(&peer.checked_attempt(0), 0), [1]);
}

#[test]
fn parameters_taken_as_a_base_leave_snapshots_due() {
    let peer = Peer::start(Script::default());
    let mut run = open(&peer);
    run.set_base(0, frame(&[1.0; 8])).unwrap();
    run.submit(1, frame(&[1.0; 8])).unwrap();
    assert_all_settled(&run.close(), 1);
    assert_eq!(steps(&peer.checked_attempt(0), 0), [1]);
}

#[test]
fn schedules_begin_anew_when_training_goes_back() {
    let peer = Peer::start(Script::default());
    let mut run = open(&peer);
    for step in [1, 2, 3, 2, 3] {
        run.submit(step, frame(&[1.0; 8])).unwrap();
        if step == 3 {
            assert!(run.snapshot_due(LayerInstrument::Curvature, "a", 2).unwrap(), "a step back is a new attempt");
        }
    }
    assert_all_settled(&run.close(), 5);
    assert_eq!(steps(&peer.checked_attempt(0), 0), [1]);
    assert_eq!(steps(&peer.checked_attempt(1), 0), [2]);

    let peer = Peer::start(Script::default());
    let builder = small_run(&peer.url()).layer("a", Layer::curvature().every(3)).launch(Launch::new()).shard(0, 2);
    let mut run = builder.open().unwrap();
    let frame = || Frame::new().curvature("a", CurvatureSnapshot::new(&SIGMA, &SIGMA));
    run.submit(4, frame()).unwrap();
    assert!(!run.snapshot_due(LayerInstrument::Curvature, "a", 5).unwrap());
    run.rewind_to(5).unwrap();
    assert!(run.snapshot_due(LayerInstrument::Curvature, "a", 5).unwrap());
    run.submit(5, frame()).unwrap();
    assert_all_settled(&run.close(), 2);
    assert_eq!(steps(&peer.checked_attempt(1), 0), [5]);
}

#[test]
fn snapshots_come_again_until_they_are_settled_and_never_after() {
    let script =
        Script { keep: u64::MAX, refill: u64::MAX, lose: [2].into(), break_before: [4].into(), ..Script::default() };
    let peer = Peer::start(script);
    let mut run = small_run(&peer.url()).layer("a", Layer::cascade().every(1)).open().unwrap();
    let gradient: Vec<f32> = (0..70_000).map(|i| i as f32).collect();
    for step in 0..6 {
        let frame = Frame::new().cascade("a", CascadeSnapshot::of_gradient([&gradient])).happened("solved");
        run.submit(step, frame).unwrap();
    }
    wait_until("all is settled", || run.status().settled == 6);
    let kept = run.status().buffered_bytes;
    assert!(kept < 6 * 1000, "{kept} bytes are kept of six frames with 128 KiB each");
    assert_all_settled(&run.close(), 6);
    let attempt = peer.checked_attempt(0);
    assert_eq!(steps(&attempt, 0), [0, 1, 2, 3, 4, 5]);
    assert_eq!(attempt.refills[1], [1, 2, 3], "the rows are kept");
    assert_eq!(attempt.refilled_snapshots, 0);
}
