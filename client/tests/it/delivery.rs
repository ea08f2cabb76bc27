//! Frames arrive: each once, in order, whatever happens to the connection.

use std::net::TcpListener;

use gradwatch_client::{Frame, Outcome};
use gradwatch_proto::v1;
use tonic::Status;

use crate::peer::{Peer, Script};
use crate::{assert_adds_up, assert_all_settled, small_run, submit, wait_until};

#[test]
fn closing_delivers_everything_and_says_how_it_ended() {
    let peer = Peer::start(Script::default());
    let mut run = small_run(&peer.url()).open().unwrap();
    submit(&mut run, 0..300);
    let report = run.close_with(Outcome::Preempted);
    assert_all_settled(&report, 300);
    assert_eq!(report.to_string(), "gradwatch: 300 of 300 frames settled");
    let attempt = peer.checked_attempt(0);
    assert_eq!(attempt.frames.len(), 300);
    assert_eq!(attempt.finish, Some(v1::Finish { outcome: v1::Outcome::Preempted.into(), last_seq: 300 }));
    assert_eq!(attempt.streams, 1);
}

#[test]
fn a_run_without_frames_is_opened_and_finished() {
    let peer = Peer::start(Script::default());
    assert_all_settled(&small_run(&peer.url()).open().unwrap().close(), 0);
    assert_eq!(peer.checked_attempt(0).finish.unwrap().last_seq, 0);
}

#[test]
fn the_request_says_what_the_builder_was_told() {
    let peer = Peer::start(Script::default());
    let run_id = gradwatch_client::Uuid::new_v4();
    let resumed = gradwatch_client::Uuid::new_v4();
    let run = small_run(&peer.url())
        .label("host", "a")
        .config(serde_json::json!({"lr": 0.5}))
        .window(20)
        .window(10)
        .seed(9)
        .update_interval(2)
        .run_id(run_id)
        .resume_from(resumed, 41)
        .open()
        .unwrap();
    assert_eq!(run.run_id(), run_id);
    let attempt_id = run.attempt_id().to_string();
    assert_all_settled(&run.close(), 0);
    let request = peer.checked_attempt(0).request;
    assert_eq!(request.run_id, run_id.to_string());
    assert_eq!((request.project.as_str(), request.name.as_str()), ("p", "n"));
    assert_eq!(request.labels["host"], "a");
    assert_eq!(request.config_json, r#"{"lr":0.5}"#);
    assert_eq!((request.shard, request.shard_count), (0, 1));
    let attempt = request.attempt.unwrap();
    assert_eq!(attempt.attempt_id, attempt_id);
    assert_eq!(attempt.resumes, Some(v1::Resumes { attempt_id: resumed.to_string(), step: 41 }));
    let tensors = vec![v1::Tensor { name: "w".to_owned(), elements: 100 }];
    let spec = v1::StreamSpec {
        sketch_dim: 64,
        sketch_seed: 9,
        encoding: v1::Encoding::F16.into(),
        window_lengths: vec![20, 10],
        groups: vec![v1::Group { name: "all".to_owned(), tensors }],
        kinds: vec![v1::Kind::Update.into()],
        update_interval: 2,
        layers: Vec::new(),
    };
    assert_eq!(request.spec, Some(spec));
}

#[test]
fn broken_streams_lose_nothing_and_repeat_nothing() {
    let script = Script {
        break_before: [1, 3, 40, 41, 150].into(),
        break_after: [2, 77, 200].into(),
        drain_after: [120].into(),
        ..Script::default()
    };
    let peer = Peer::start(script);
    let mut run = small_run(&peer.url()).open().unwrap();
    submit(&mut run, 0..200);
    assert_all_settled(&run.close(), 200);
    let attempt = peer.checked_attempt(0);
    assert_eq!(attempt.frames.len(), 200);
    assert!(attempt.streams >= 9, "{} streams", attempt.streams);
    assert_eq!(peer.state().opens, 1, "a reconnect only opens a stream");
    assert!(attempt.refills.iter().all(Vec::is_empty), "nothing was sent again that was committed");
}

#[test]
fn a_server_that_comes_late_gets_everything() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut run = small_run(&format!("http://{address}")).open().unwrap();
    submit(&mut run, 0..50);
    assert!(!run.status().connected);
    let peer = Peer::start_at(address, Script::default());
    submit(&mut run, 50..60);
    wait_until("all is settled", || run.status().settled == 60);
    assert!(run.status().connected);
    assert_eq!(run.status().segment, Some(0));
    assert_all_settled(&run.close(), 60);
    assert_eq!(peer.checked_attempt(0).frames.len(), 60);
}

#[test]
fn windows_are_refilled_from_what_was_kept() {
    let peer = Peer::start(Script { keep: 11, refill: 11, break_after: [50].into(), ..Script::default() });
    let mut run = small_run(&peer.url()).open().unwrap();
    submit(&mut run, 0..100);
    assert_all_settled(&run.close(), 100);
    let attempt = peer.checked_attempt(0);
    assert_eq!(attempt.refills, [vec![], (40..=50).collect()]);
}

#[test]
fn a_server_that_wants_more_than_was_kept_gets_what_there_is() {
    let peer = Peer::start(Script { keep: 4, refill: 1000, ..Script::default() });
    let mut run = small_run(&peer.url()).open().unwrap();
    submit(&mut run, 0..50);
    wait_until("all is settled", || run.status().settled == 50);
    peer.change(|script| script.break_before = [51].into());
    submit(&mut run, 50..60);
    assert_all_settled(&run.close(), 60);
    assert_eq!(peer.checked_attempt(0).refills, [vec![], vec![47, 48, 49, 50]]);
}

#[test]
fn a_hole_is_filled_without_a_new_stream() {
    let peer = Peer::start(Script { lose: [1, 5, 6, 90].into(), ..Script::default() });
    let mut run = small_run(&peer.url()).open().unwrap();
    submit(&mut run, 0..100);
    assert_all_settled(&run.close(), 100);
    let attempt = peer.checked_attempt(0);
    assert_eq!(attempt.frames.len(), 100);
    assert_eq!(attempt.streams, 1);
}

#[test]
fn rejected_frames_are_counted_once_and_quoted() {
    // Frame 20 is rejected, then the stream breaks before its acknowledgement: it is rejected again.
    let script = Script { reject: (1..=10).map(|n| 10 * n).collect(), break_after: [19].into(), ..Script::default() };
    let peer = Peer::start(Script { drain_after: [20, 60].into(), ..script });
    let mut run = small_run(&peer.url()).open().unwrap();
    submit(&mut run, 0..100);
    let report = run.close();
    assert_eq!((report.settled, report.rejected, report.undelivered), (90, 10, 0), "{report}");
    assert_adds_up(&report);
    assert_eq!(report.rejections.len(), 8);
    assert!(report.to_string().contains("frame 100: scalars: not liked (REJECT_CODE_INVALID)"), "{report}");
    peer.checked_attempt(0);
}

#[test]
fn a_refusal_is_final_and_said() {
    let refuse_open = Some(Status::failed_precondition("the run has attempts that this one does not resume"));
    let peer = Peer::start(Script { refuse_open, ..Script::default() });
    let mut run = small_run(&peer.url()).open().unwrap();
    submit(&mut run, 0..20);
    wait_until("the buffer is freed", || peer.state().opens == 1 && run.status().buffered_bytes == 0);
    submit(&mut run, 20..40);
    let report = run.close();
    assert_eq!((report.submitted, report.undelivered), (40, 40));
    assert_eq!(
        report.reason.as_deref(),
        Some("refused by the server: FailedPrecondition: the run has attempts that this one does not resume")
    );
    assert_eq!(peer.state().opens, 1, "nobody tries again");
}

#[test]
fn a_passing_refusal_is_tried_again() {
    // The others are what a proxy says that knows no server behind it.
    let refusals = [
        Status::resource_exhausted("memory_limit"),
        Status::unimplemented("HTTP 404"),
        Status::unauthenticated("HTTP 401"),
        Status::permission_denied("HTTP 403"),
    ];
    for refusal in refusals {
        let peer = Peer::start(Script { refuse_open: Some(refusal), ..Script::default() });
        let mut run = small_run(&peer.url()).open().unwrap();
        submit(&mut run, 0..20);
        wait_until("it has tried twice", || peer.state().opens >= 2);
        peer.change(|script| script.refuse_open = None);
        assert_all_settled(&run.close(), 20);
    }
}

#[test]
fn an_idle_stream_says_that_it_is_alive() {
    let peer = Peer::start(Script { heartbeat_ms: 200, ..Script::default() });
    let run = small_run(&peer.url()).open().unwrap();
    wait_until("two heartbeats came", || {
        let state = peer.state();
        !state.order.is_empty() && state.attempt(0).heartbeats >= 2
    });
    assert_all_settled(&run.close(), 0);
}

#[test]
fn a_frame_longer_than_the_server_takes_is_given_up_alone() {
    let peer = Peer::start(Script { max_message_bytes: 2000, ..Script::default() });
    let mut run = small_run(&peer.url()).open().unwrap();
    submit(&mut run, 0..10);
    let names: Vec<String> = (0..100).map(|i| format!("a scalar with a long name {i}")).collect();
    let long = names.iter().fold(Frame::new(), |frame, name| frame.scalar(name, 1.0));
    run.submit(10, long).unwrap();
    submit(&mut run, 11..100);
    let report = run.close();
    assert_eq!((report.settled, report.dropped, report.undelivered), (99, 1, 0), "{report}");
    let attempt = peer.checked_attempt(0);
    assert_eq!(attempt.dropped, [v1::Dropped { from_seq: 11, to_seq: 11, first_step: 10, last_step: 10 }]);
    assert!(peer.state().longest_message_bytes <= 2000);
}

#[test]
fn a_dropped_run_delivers_but_does_not_finish() {
    let peer = Peer::start(Script::default());
    let mut run = small_run(&peer.url()).open().unwrap();
    wait_until("it is connected", || run.status().connected);
    submit(&mut run, 0..20);
    drop(run);
    wait_until("all is settled", || peer.state().attempt(0).committed_seq == 20);
    assert_eq!(peer.checked_attempt(0).finish, None);
}
