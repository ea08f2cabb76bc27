//! What the server says to input that is wrong over gRPC, as docs/protocol.md promises it, and that nothing else
//! happens.

use std::collections::BTreeMap;

use gradwatch_proto::v1::{
    self, Frame, GroupOptimizer, Kind, NonFinite, Outcome, RejectCode, SketchF16, client_message, payload::Body,
    server_message::Message,
};
use gradwatch_tests::{
    Peer, PeerStream, Rest, TestServer, assert_status, frame, next_attempt, open_request, payload_f32, spec,
};
use serde_json::Value;
use tonic::{Code, Status};
use uuid::Uuid;

/// Everything that is recorded of a run besides its counters and when it was last heard of.
async fn recorded(rest: &Rest, run_id: &str) -> Value {
    let run = format!("/api/v1/runs/{run_id}");
    let mut about = rest.get(&run).await;
    for changing in ["counters", "last_seen_at"] {
        about.as_object_mut().expect("an object").remove(changing);
    }
    serde_json::json!({
        "run": about,
        "steps": rest.all(&format!("{run}/steps?segment=all")).await,
        "readings": rest.all(&format!("{run}/readings/edge?segment=all")).await,
        "events": rest.all(&format!("{run}/events?segment=all")).await,
    })
}

async fn counters(rest: &Rest, run_id: &str) -> BTreeMap<String, u64> {
    let run = rest.get(&format!("/api/v1/runs/{run_id}")).await;
    serde_json::from_value(run["counters"].clone()).expect("numbers")
}

/// Waits for the rejection of a frame and the acknowledgement that passes it. They come in any order.
async fn rejection(stream: &mut PeerStream, seq: u64) -> v1::Rejected {
    let (mut rejected, mut acknowledged) = (None, false);
    loop {
        if let (Some(rejected), true) = (&rejected, acknowledged) {
            return v1::Rejected::clone(rejected);
        }
        match stream.next().await.expect("an open stream").expect("an open stream") {
            Message::Ack(ack) => acknowledged = ack.committed_seq >= seq,
            Message::Rejected(message) => rejected = Some(message),
            other => panic!("{other:?}"),
        }
    }
}

type Change = fn(&mut Frame);

fn payload(frame: &mut Frame) -> &mut v1::Payload {
    &mut frame.payloads[0]
}

fn with_body(frame: &mut Frame, body: Body) {
    payload(frame).body = Some(body);
}

fn sketch(bytes: usize) -> Body {
    Body::SketchF32(vec![0; bytes].into())
}

fn non_finite(nan: u64, positive_infinity: u64, negative_infinity: u64) -> Body {
    Body::NonFinite(NonFinite { nan, positive_infinity, negative_infinity })
}

/// Frames that are invalid in one way each: (the change that does it to a good frame, code, field, part of the
/// message).
fn invalid_frames() -> Vec<(Change, RejectCode, &'static str, &'static str)> {
    use RejectCode::{Invalid, Limit, SpecMismatch, StepNotIncreasing};
    vec![
        (
            |it| with_body(it, sketch(4 * 63)),
            SpecMismatch,
            "payloads[0].sketch_f32",
            "252 bytes; sketch_dim 64 needs 256",
        ),
        (|it| with_body(it, sketch(4 * 128)), SpecMismatch, "payloads[0].sketch_f32", "512 bytes"),
        (|it| with_body(it, sketch(0)), SpecMismatch, "payloads[0].sketch_f32", "0 bytes"),
        (
            |it| with_body(it, Body::SketchF16(SketchF16 { scale: 1.0, values: vec![0; 128].into() })),
            SpecMismatch,
            "payloads[0].sketch_f16",
            "encoding",
        ),
        (|it| payload(it).kind = Kind::Gradient.into(), SpecMismatch, "payloads[0].kind", "gradient was not declared"),
        (|it| payload(it).group = 1, SpecMismatch, "payloads[0].group", "1 is not the index"),
        (|it| payload(it).group = u32::MAX, SpecMismatch, "payloads[0].group", "4294967295"),
        (
            |it| it.group_optimizers.push(GroupOptimizer { group: 9, ..GroupOptimizer::default() }),
            SpecMismatch,
            "group_optimizers[0].group",
            "9 is not the index",
        ),
        (|it| payload(it).kind = 0, Invalid, "payloads[0].kind", "KIND_UPDATE"),
        (|it| payload(it).kind = 99, Invalid, "payloads[0].kind", "KIND_UPDATE"),
        (|it| payload(it).body = None, Invalid, "payloads[0].body", "missing"),
        (|it| payload(it).base_step = it.step, Invalid, "payloads[0].base_step", "not below"),
        (|it| payload(it).base_step = u64::MAX, Invalid, "payloads[0].base_step", "not below"),
        (|it| it.payloads.push(it.payloads[0].clone()), Invalid, "payloads[1]", "second update payload"),
        (|it| with_body(it, non_finite(0, 0, 0)), Invalid, "payloads[0].non_finite", "between 1 and"),
        (|it| with_body(it, non_finite(60, 4, 1)), Invalid, "payloads[0].non_finite", "between 1 and"),
        (|it| with_body(it, non_finite(u64::MAX, 1, 0)), Invalid, "payloads[0].non_finite", "between 1 and"),
        (|it| it.step = 1 << 53, Invalid, "step", "not below 2^53"),
        (|it| it.step = u64::MAX, Invalid, "step", "not below 2^53"),
        (|it| it.scalars = [("a\0b".to_owned(), 1.0)].into(), Invalid, r#"scalars["a\0b"]"#, "NUL"),
        (|it| it.scalars = [(String::new(), 1.0)].into(), Invalid, r#"scalars[""]"#, "empty"),
        (|it| it.scalars = [("a\u{7}".to_owned(), 1.0)].into(), Invalid, r#"scalars["a\u{7}"]"#, "control character"),
        (|it| it.learning_rate = Some(-1.0), Invalid, "learning_rate", "negative"),
        (|it| it.weight_decay = Some(f64::NEG_INFINITY), Invalid, "weight_decay", "negative"),
        (
            |it| {
                let learning_rate = Some(-0.5);
                it.group_optimizers.push(GroupOptimizer { learning_rate, ..GroupOptimizer::default() });
            },
            Invalid,
            "group_optimizers[0].learning_rate",
            "negative",
        ),
        (
            |it| it.scalars = (0..257).map(|n| (format!("scalar {n}"), 1.0)).collect(),
            Limit,
            "scalars",
            "257 scalars; the limit is 256",
        ),
        (
            |it| (it.step, it.payloads) = (10, Vec::new()),
            StepNotIncreasing,
            "step",
            "not above the attempt's last step",
        ),
        (|it| (it.step, it.payloads) = (0, Vec::new()), StepNotIncreasing, "step", "not above the attempt's last step"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalid_frame_is_rejected_counted_and_passed_and_nothing_else_happens() {
    let server = TestServer::start().await;
    let rest = server.rest();
    let mut peer = Peer::connect(&server.url()).await;
    let request = open_request(spec());
    let run_id = &request.run_id;
    let (mut stream, _) = peer.open(&request).await.unwrap();
    stream.frames((1..=10).map(|seq| frame(seq, seq)).collect()).await;
    stream.acknowledged(10).await;
    let before = recorded(&rest, run_id).await;
    let mut expected = counters(&rest, run_id).await;
    assert_eq!((expected["steps"], expected["rejected"]), (10, 0));

    let mut seq = 10;
    for (change, code, field, part) in invalid_frames() {
        seq += 1;
        let mut bad = frame(seq, 11);
        change(&mut bad);
        stream.frames(vec![bad]).await;
        let rejected = rejection(&mut stream, seq).await;
        assert_eq!((rejected.seq, rejected.code(), rejected.field.as_str()), (seq, code, field), "{rejected:?}");
        assert!(rejected.message.contains(part), "{rejected:?}");
        *expected.get_mut("rejected").expect("a counter") += 1;
        assert_eq!(counters(&rest, run_id).await, expected, "{field}");
        assert_eq!(recorded(&rest, run_id).await, before, "{field}");
    }

    // The windows did not notice: the next row continues them.
    stream.frames(vec![frame(seq + 1, 11)]).await;
    stream.acknowledged(seq + 1).await;
    let readings = rest.all(&format!("/api/v1/runs/{run_id}/readings/edge?from_step=11")).await;
    assert_eq!((readings.len(), &readings[0]["rows"]), (1, &3.into()));
    let metrics = rest.call(http::Method::GET, "/metrics", "").await.1;
    assert!(metrics.contains(&format!("gradwatch_frames_rejected_total {}\n", seq - 10)), "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_precision_and_resumed_attempts_have_rejections_of_their_own() {
    let server = TestServer::start().await;
    let mut peer = Peer::connect(&server.url()).await;
    let mut f16 = spec();
    f16.encoding = v1::Encoding::F16.into();
    let first = open_request(f16);
    let (mut stream, _) = peer.open(&first).await.unwrap();
    let half = |scale: f32, bytes: usize| Body::SketchF16(SketchF16 { scale, values: vec![0; bytes].into() });
    let bodies = [
        (half(1.0, 126), RejectCode::SpecMismatch, "payloads[0].sketch_f16.values"),
        (half(1.0, 256), RejectCode::SpecMismatch, "payloads[0].sketch_f16.values"),
        (half(f32::NAN, 128), RejectCode::Invalid, "payloads[0].sketch_f16.scale"),
        (half(f32::INFINITY, 128), RejectCode::Invalid, "payloads[0].sketch_f16.scale"),
        (half(-1.0, 128), RejectCode::Invalid, "payloads[0].sketch_f16.scale"),
        (sketch(256), RejectCode::SpecMismatch, "payloads[0].sketch_f32"),
    ];
    for (seq, (body, code, field)) in (1..).zip(bodies) {
        let mut bad = frame(seq, 1);
        with_body(&mut bad, body);
        stream.frames(vec![bad]).await;
        let rejected = rejection(&mut stream, seq).await;
        assert_eq!((rejected.code(), rejected.field.as_str()), (code, field), "{rejected:?}");
    }

    let mut resumed = next_attempt(&first, Some((&first, 20)));
    resumed.spec = Some(spec());
    let (mut stream, _) = peer.open(&resumed).await.unwrap();
    for (seq, step) in [(1, 20), (2, 3)] {
        stream.frames(vec![frame(seq, step)]).await;
        let rejected = rejection(&mut stream, seq).await;
        assert_eq!((rejected.code(), rejected.field.as_str()), (RejectCode::StepNotIncreasing, "step"));
        assert!(rejected.message.contains("resumes"), "{rejected:?}");
    }
    stream.frames(vec![frame(3, 21)]).await;
    assert_eq!(stream.acknowledged(3).await, []);
}

/// How a stream ended.
async fn end(stream: &mut PeerStream) -> Status {
    loop {
        match stream.next().await {
            Err(status) => return status,
            Ok(Some(Message::Ack(_))) => {}
            Ok(other) => panic!("the stream was to be closed with a status, not {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_breaks_the_protocol_is_closed_and_loses_nothing_that_was_taken_in() {
    let server = TestServer::start_with(|config| config.limits.max_message_bytes = 1 << 16).await;
    let rest = server.rest();
    let mut peer = Peer::connect(&server.url()).await;
    let request = open_request(spec());
    peer.open_run(&request).await.unwrap();
    let attempt_id = request.attempt.as_ref().unwrap().attempt_id.clone();
    let open = v1::Open { run_id: request.run_id.clone(), attempt_id, shard: 0, writer_id: request.writer_id.clone() };

    // The first message.
    let unknown = Uuid::new_v4().to_string();
    let first_messages = [
        (client_message::Message::Heartbeat(v1::Heartbeat {}), Code::InvalidArgument, "message", "Open"),
        (
            client_message::Message::Frames(v1::FrameBatch { frames: vec![frame(1, 1)] }),
            Code::InvalidArgument,
            "message",
            "Open",
        ),
        (
            client_message::Message::Open(v1::Open { run_id: "4711".into(), ..open.clone() }),
            Code::InvalidArgument,
            "run_id",
            "not a UUID",
        ),
        (
            client_message::Message::Open(v1::Open { attempt_id: "an attempt".into(), ..open.clone() }),
            Code::InvalidArgument,
            "attempt_id",
            "not a UUID",
        ),
        (
            client_message::Message::Open(v1::Open { writer_id: String::new(), ..open.clone() }),
            Code::InvalidArgument,
            "writer_id",
            "empty",
        ),
        (
            client_message::Message::Open(v1::Open { run_id: unknown.clone(), ..open.clone() }),
            Code::NotFound,
            "run_id",
            &unknown,
        ),
        (
            client_message::Message::Open(v1::Open { attempt_id: unknown.clone(), ..open.clone() }),
            Code::NotFound,
            "attempt_id",
            "not opened",
        ),
        (
            client_message::Message::Open(v1::Open { writer_id: "someone else".into(), ..open.clone() }),
            Code::AlreadyExists,
            "writer_id",
            "another process",
        ),
    ];
    for (message, code, field, part) in first_messages {
        let mut stream = peer.stream().await.unwrap();
        stream.send(message).await;
        assert_status(&end(&mut stream).await, code, field, part);
    }

    // Any later one: what came before it is settled all the same.
    let oversized = v1::Frame { scalars: [("s".repeat(1 << 16), 1.0)].into(), ..frame(9, 9) };
    let unspecified = v1::Finish { outcome: Outcome::Unspecified.into(), last_seq: 0 };
    let later_messages = [
        (client_message::Message::Open(open.clone()), "message", "second Open"),
        (
            client_message::Message::Frames(v1::FrameBatch { frames: vec![oversized] }),
            "message",
            "max_message_bytes (65536)",
        ),
        (
            client_message::Message::Frames(v1::FrameBatch { frames: vec![frame(0, 9)] }),
            "frames[0].seq",
            "starts from 1",
        ),
        (
            client_message::Message::Dropped(v1::Dropped { from_seq: 9, to_seq: 8, first_step: 9, last_step: 8 }),
            "dropped.to_seq",
            "not a stretch",
        ),
        (client_message::Message::Finish(unspecified), "outcome", "must be"),
    ];
    let mut seq = 0;
    for (message, field, part) in later_messages {
        let (mut stream, opened) = peer.open_stream(&request).await.unwrap();
        // What the stream before had sent may have been on its way to the database when this one was opened.
        assert!(opened.committed_seq <= seq);
        stream.frames((seq + 1..=seq + 3).map(|seq| frame(seq, seq)).collect()).await;
        stream.send(message).await;
        seq += 3;
        assert_status(&end(&mut stream).await, Code::InvalidArgument, field, part);
        let path = format!("/api/v1/runs/{}/steps", request.run_id);
        rest.until(&path, "every step", |steps| steps["items"].as_array().map(Vec::len) == Some(seq as usize)).await;
    }
    assert_eq!(counters(&rest, &request.run_id).await["rejected"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hole_is_asked_for_and_nothing_is_lost() {
    let server = TestServer::start().await;
    let rest = server.rest();
    let mut peer = Peer::connect(&server.url()).await;
    let request = open_request(spec());
    let (mut stream, _) = peer.open(&request).await.unwrap();
    let batch = |from: u64, to: u64| (from..=to).map(|seq| frame(seq, seq)).collect();
    stream.frames(batch(1, 3)).await;
    stream.acknowledged(3).await;
    stream.frames(batch(6, 7)).await;
    stream.frames(batch(9, 9)).await;
    assert_eq!(stream.next().await.unwrap(), Some(Message::Resend(v1::Resend { from_seq: 4 })));
    stream.frames(batch(4, 5)).await;
    assert_eq!(stream.acknowledged(5).await, [], "a hole is asked for once");
    stream.frames(batch(7, 8)).await;
    assert_eq!(stream.next().await.unwrap(), Some(Message::Resend(v1::Resend { from_seq: 6 })));
    stream.frames(batch(6, 12)).await;
    assert_eq!(stream.acknowledged(12).await, []);

    let run = format!("/api/v1/runs/{}", request.run_id);
    for rows in ["steps", "readings/edge"] {
        let rows = rest.all(&format!("{run}/{rows}?segment=all")).await;
        let steps: Vec<u64> = rows.iter().map(|row| row["step"].as_u64().unwrap()).collect();
        assert_eq!(steps, (1..=12).collect::<Vec<u64>>());
    }
    let types: Vec<Value> =
        rest.all(&format!("{run}/events?segment=all")).await.iter().map(|it| it["type"].clone()).collect();
    assert_eq!(types, ["segment.started"], "no window started again");
    let counters = counters(&rest, &request.run_id).await;
    assert_eq!((counters["steps"], counters["rejected"], counters["dropped"]), (12, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payload_of_an_undeclared_length_never_reaches_another_run() {
    let server = TestServer::start().await;
    let rest = server.rest();
    let mut peer = Peer::connect(&server.url()).await;
    let (bad, good) = (open_request(spec()), open_request(spec()));
    let (mut bad_stream, _) = peer.open(&bad).await.unwrap();
    let (mut good_stream, _) = peer.open(&good).await.unwrap();
    for seq in 1..=10 {
        let mut wrong = frame(seq, seq);
        wrong.payloads = vec![payload_f32(0, seq - 1, &[1.0; 65])];
        bad_stream.frames(vec![wrong]).await;
        good_stream.frames(vec![frame(seq, seq)]).await;
    }
    good_stream.acknowledged(10).await;
    assert_eq!(bad_stream.acknowledged(10).await.len(), 10, "each is answered");
    assert_eq!(counters(&rest, &bad.run_id).await["rejected"], 10);
    assert_eq!(rest.all(&format!("/api/v1/runs/{}/steps?segment=all", bad.run_id)).await, Vec::<Value>::new());
    assert_eq!(rest.all(&format!("/api/v1/runs/{}/steps?segment=all", good.run_id)).await.len(), 10);
}
