//! An attempt that was rewound may still be sending: what comes late is kept in its own segment, with the same bits as
//! ever, and fires nothing.

use std::time::Duration;

use gradwatch_proto::v1::{
    self, Dropped, Frame, NonFinite, OpenRunRequest, RejectCode, client_message, payload::Body, server_message::Message,
};
use gradwatch_tests::{
    PATIENCE, Peer, PeerStream, Rest, TestServer, frame, group_spec, next_attempt, open_request, payload_f32, spec,
};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

async fn events(rest: &Rest, run_id: &str) -> Vec<Value> {
    rest.all(&format!("/api/v1/runs/{run_id}/events?segment=all&limit=1000")).await
}

async fn rows(rest: &Rest, run_id: &str, path: &str) -> Vec<Value> {
    rest.all(&format!("/api/v1/runs/{run_id}/{path}&limit=1000")).await
}

fn steps_of(rows: &[Value]) -> Vec<u64> {
    rows.iter().map(|row| row["step"].as_u64().expect("a step")).collect()
}

fn types_of(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|event| event["type"].as_str()).collect()
}

/// Opens an attempt once its windows have been let go: it asks for settled frames again, which an attempt that is still
/// in memory never does.
async fn open_released(peer: &mut Peer, request: &OpenRunRequest) -> (PeerStream, v1::Opened) {
    let opening = async {
        loop {
            let (stream, opened) = peer.open_stream(request).await.expect("opened again");
            if opened.resend_from_seq <= opened.committed_seq {
                return (stream, opened);
            }
            drop(stream);
            // Several checks long.
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, opening).await.expect("the windows of a superseded attempt are let go")
}

/// What a live attempt makes events of, from seq 11 on: NaN, a hole, lost frames.
fn eventful() -> Vec<client_message::Message> {
    let frames = |frames| client_message::Message::Frames(v1::FrameBatch { frames });
    let mut not_a_number = frame(11, 11);
    not_a_number.scalars = [("loss".to_owned(), f64::NAN)].into();
    not_a_number.payloads[0].body =
        Some(Body::NonFinite(NonFinite { nan: 1, positive_infinity: 2, negative_infinity: 3 }));
    let mut another_phase = frame(16, 19);
    another_phase.phase = 1;
    vec![
        // Step 12 starts a window, step 14 does not continue it.
        frames(vec![not_a_number, frame(12, 12), frame(13, 14)]),
        client_message::Message::Dropped(Dropped { from_seq: 14, to_seq: 15, first_step: 15, last_step: 18 }),
        frames(vec![another_phase, frame(17, 20)]),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_frames_of_a_superseded_attempt_fire_nothing_at_all() {
    let server = TestServer::start().await;
    let rest = server.rest();
    let mut peer = Peer::connect(&server.url()).await;
    let undisturbed = open_request(spec());
    let old = open_request(spec());
    let mut streams = Vec::new();
    for request in [&undisturbed, &old] {
        let (mut stream, _) = peer.open(request).await.expect("opened");
        stream.frames((1..=10).map(|seq| frame(seq, seq)).collect()).await;
        assert_eq!(stream.acknowledged(10).await, []);
        streams.push(stream);
    }
    let new = next_attempt(&old, Some((&old, 5)));
    let (mut new_stream, _) = peer.open(&new).await.expect("opened");
    new_stream.frames((1..=5).map(|seq| frame(seq, 5 + seq)).collect()).await;
    assert_eq!(new_stream.acknowledged(5).await, []);
    let before = events(&rest, &old.run_id).await;
    assert_eq!(types_of(&before), ["segment.started", "segment.started"]);

    for stream in &mut streams {
        for message in eventful() {
            stream.send(message).await;
        }
        // An invalid frame is answered, also when it is late.
        stream.frames(vec![Frame { learning_rate: Some(-1.0), ..frame(18, 21) }, frame(19, 22)]).await;
        let answers = stream.acknowledged(19).await;
        let [Message::Rejected(rejected)] = answers.as_slice() else { panic!("{answers:?}") };
        assert_eq!((rejected.seq, rejected.code()), (18, RejectCode::Invalid));
    }

    // The frames do fire events in an attempt that stands.
    let fired = events(&rest, &undisturbed.run_id).await;
    let expected = [
        "segment.started",
        "numeric.nonfinite",
        "numeric.nonfinite",
        "window.restarted",
        "run.lossy",
        "window.restarted",
        "window.restarted",
        "window.restarted",
    ];
    let mut fired = types_of(&fired);
    let mut expected = expected.to_vec();
    fired.sort_unstable();
    expected.sort_unstable();
    assert_eq!(fired, expected);
    assert_eq!(events(&rest, &old.run_id).await, before, "nothing was added");

    // Everything else is as if nothing had been rewound.
    for path in ["steps?segment=1", "readings/edge?segment=1"] {
        let late = rows(&rest, &old.run_id, path).await;
        let mut comparable = rows(&rest, &undisturbed.run_id, path).await;
        // The two runs got them at different times.
        for (row, late) in comparable.iter_mut().zip(&late) {
            if let Some(received_at) = row.get_mut("received_at") {
                *received_at = late["received_at"].clone();
            }
        }
        assert_eq!(late, comparable, "{path}");
    }
    let late = rows(&rest, &old.run_id, "steps?segment=1").await;
    assert_eq!(steps_of(&late)[10..], [11, 12, 14, 19, 20, 22]);
    assert_eq!(late[10]["nonfinite"], json!({ "loss": "NaN" }));
    assert_eq!(late[10]["nonfinite_payloads"].as_array().map(Vec::len), Some(1));
    let about = rest.get(&format!("/api/v1/runs/{}", old.run_id)).await;
    let counters = &about["counters"];
    assert_eq!((&counters["steps"], &counters["nonfinite"]), (&json!(16 + 5), &json!(2)));
    assert_eq!((&counters["dropped"], &counters["rejected"]), (&json!(2), &json!(1)));
    assert_eq!((&about["last_step"], &about["state"]), (&json!(10), &json!("running")));
}

/// Small enough that a test sees it work.
const CHECK_EVERY_MS: u64 = 10;

async fn restless() -> TestServer {
    TestServer::start_with(|config| config.liveness.check_every_ms = CHECK_EVERY_MS).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_superseded_attempt_that_lost_its_old_frames_fires_nothing_either() {
    let server = restless().await;
    let rest = server.rest();
    let mut peer = Peer::connect(&server.url()).await;
    // What comes first behind the frames that are missing: a good frame, an invalid one, lost ones.
    let firsts = [
        client_message::Message::Frames(v1::FrameBatch { frames: vec![frame(21, 21)] }),
        client_message::Message::Frames(v1::FrameBatch {
            frames: vec![Frame { learning_rate: Some(-1.0), ..frame(21, 21) }],
        }),
        client_message::Message::Dropped(Dropped { from_seq: 21, to_seq: 21, first_step: 21, last_step: 21 }),
    ];
    for (what, first) in ["a frame", "an invalid frame", "lost frames"].into_iter().zip(firsts) {
        let old = open_request(spec());
        let (mut stream, _) = peer.open(&old).await.expect("opened");
        stream.frames((1..=20).map(|seq| frame(seq, seq)).collect()).await;
        assert_eq!(stream.acknowledged(20).await, []);
        let new = next_attempt(&old, Some((&old, 10)));
        let (mut new_stream, _) = peer.open(&new).await.expect("opened");
        new_stream.frames(vec![frame(1, 11)]).await;
        assert_eq!(new_stream.acknowledged(1).await, []);
        let before = events(&rest, &old.run_id).await;
        drop(stream);

        let (mut stream, _) = open_released(&mut peer, &old).await;
        stream.send(first).await;
        stream.frames((22..=25).map(|seq| frame(seq, seq)).collect()).await;
        stream.acknowledged(25).await;
        assert_eq!(events(&rest, &old.run_id).await, before, "{what} behind missing ones");
        let late = rows(&rest, &old.run_id, "readings/edge?segment=1&from_step=22").await;
        assert_eq!(steps_of(&late), [22, 23, 24, 25], "{what}");
        assert_eq!(late.last().expect("a reading")["rows"], 3, "its windows started again");
    }
}

const ATTEMPTS: u64 = 7;
/// How far one attempt goes before the next begins, this far behind the start of the one before.
const EARLY_STEPS: u64 = 30;
const BACK_TO: u64 = 10;
const LATE_STEPS: u64 = 20;

/// Two groups, the second of which is submitted every third step.
fn two_groups() -> v1::StreamSpec {
    v1::StreamSpec { groups: vec![group_spec("fast"), group_spec("slow")], window_lengths: vec![3, 5], ..spec() }
}

/// The frame of an attempt: what it holds depends on attempt and step, and from the fifth late step on it is a spike.
fn frame_of(attempt: u64, seq: u64) -> Frame {
    let step = attempt * BACK_TO + seq;
    let scale = if seq > EARLY_STEPS + 4 { 1e3 } else { 1.0 };
    let row = |group: u64| -> Vec<f32> {
        let phase = step * 64 + 10_000 * attempt + 100_000 * group;
        (0..64).map(|column| scale * ((phase + column) as f32 * 0.7).sin()).collect()
    };
    let mut payloads = vec![payload_f32(0, step - 1, &row(0))];
    if step.is_multiple_of(3) {
        payloads.push(payload_f32(1, step - 3, &row(1)));
    }
    Frame { payloads, ..frame(seq, step) }
}

/// Readings as they are apart from the number of their segment.
async fn readings(rest: &Rest, run_id: &str, segment: u64) -> Vec<Value> {
    let mut readings = Vec::new();
    for (group, window) in [("fast", 3), ("fast", 5), ("slow", 3), ("slow", 5)] {
        let path = format!("readings/edge?segment={segment}&group={group}&window={window}");
        readings.extend(rows(rest, run_id, &path).await);
    }
    for reading in &mut readings {
        assert_eq!(reading["segment"], segment);
        reading.as_object_mut().expect("an object").remove("segment");
    }
    readings
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_frames_behind_released_windows_give_the_same_bits() {
    let server = restless().await;
    let rest = server.rest();
    let mut peer = Peer::connect(&server.url()).await;
    // The job goes back six times in a row.
    let mut requests: Vec<OpenRunRequest> = Vec::new();
    let mut streams = Vec::new();
    for attempt in 0..ATTEMPTS {
        let request = match requests.last() {
            None => open_request(two_groups()),
            Some(last) => next_attempt(last, Some((last, attempt * BACK_TO))),
        };
        let (mut stream, opened) = peer.open(&request).await.expect("opened");
        assert_eq!((u64::from(opened.segment), opened.committed_seq), (attempt + 1, 0));
        stream.frames((1..=EARLY_STEPS).map(|seq| frame_of(attempt, seq)).collect()).await;
        assert_eq!(stream.acknowledged(EARLY_STEPS).await, []);
        requests.push(request);
        streams.push(stream);
    }
    let run_id = requests[0].run_id.clone();
    let newest_stream = streams.pop();
    drop(streams);
    let before = events(&rest, &run_id).await;
    assert!(types_of(&before).contains(&"segment.started"));

    for (attempt, request) in (0..ATTEMPTS - 1).zip(&requests) {
        let (mut stream, opened) = open_released(&mut peer, request).await;
        assert_eq!(opened.committed_seq, EARLY_STEPS, "nothing was lost");
        assert!(opened.resend_from_seq > 1, "no more is asked for than windows hold");
        let resent = opened.resend_from_seq..=EARLY_STEPS + LATE_STEPS;
        stream.frames(resent.map(|seq| frame_of(attempt, seq)).collect()).await;
        assert_eq!(stream.acknowledged(EARLY_STEPS + LATE_STEPS).await, []);
        // Connected or not: the next attempt is released all the same.
        drop(stream);
    }
    assert_eq!(events(&rest, &run_id).await, before, "nothing was added");

    for attempt in 0..ATTEMPTS - 1 {
        let undisturbed = open_request(two_groups());
        let (mut stream, _) = peer.open(&undisturbed).await.expect("opened");
        stream.frames((1..=EARLY_STEPS + LATE_STEPS).map(|seq| frame_of(attempt, seq)).collect()).await;
        assert_eq!(stream.acknowledged(EARLY_STEPS + LATE_STEPS).await, []);
        let fired = events(&rest, &undisturbed.run_id).await;
        assert!(types_of(&fired).contains(&"update.spike"), "the late frames would fire something");
        let want = readings(&rest, &undisturbed.run_id, 1).await;
        let submitted = (EARLY_STEPS + LATE_STEPS) + (EARLY_STEPS + LATE_STEPS) / 3;
        assert!(want.len() as u64 >= 2 * submitted, "{} readings in two windows", want.len());
        assert_eq!(readings(&rest, &run_id, attempt + 1).await, want, "attempt {attempt}");
    }
    let newest = rest.get(&format!("/api/v1/runs/{run_id}")).await;
    let steps = ATTEMPTS * EARLY_STEPS + (ATTEMPTS - 1) * LATE_STEPS;
    assert_eq!(newest["counters"]["steps"], steps);
    assert_eq!(newest["last_step"], (ATTEMPTS - 1) * BACK_TO + EARLY_STEPS);
    drop(newest_stream);
}
