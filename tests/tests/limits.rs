//! What a server refuses because it would cost too much: the product or the count is named, and nothing else suffers.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use gradwatch_proto::v1::{self, Frame, Kind, RejectCode, server_message::Message};
use gradwatch_tests::{
    PATIENCE, Peer, PeerStream, Rest, TestServer, frame, group_spec, next_attempt, open_request, spec, violated_field,
};
use http::Method;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// (segment, step) of what is stored of a run.
async fn places(rest: &Rest, run_id: &str, rows: &str) -> Vec<(u64, u64)> {
    let rows = rest.all(&format!("/api/v1/runs/{run_id}/{rows}?segment=all&limit=1000")).await;
    rows.iter().filter_map(|row| Some((row["segment"].as_u64()?, row["step"].as_u64()?))).collect()
}

fn frames(steps: std::ops::RangeInclusive<u64>) -> Vec<Frame> {
    steps.map(|step| frame(step, step)).collect()
}

/// A frame of seq = step with scalars of these names.
fn with_scalars(step: u64, names: &[&str]) -> Frame {
    Frame { scalars: names.iter().map(|name| ((*name).to_owned(), step as f64)).collect(), ..frame(step, step) }
}

/// What ends a stream; what comes before that does not matter.
async fn end(stream: &mut PeerStream) -> Status {
    loop {
        match stream.next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended without a status"),
            Err(status) => return status,
        }
    }
}

/// The rejections among messages, as (seq, code, field, message).
fn rejections(messages: Vec<Message>) -> Vec<(u64, RejectCode, String, String)> {
    let rejection = |message| match message {
        Message::Rejected(rejected) => (rejected.seq, rejected.code(), rejected.field, rejected.message),
        other => panic!("{other:?}"),
    };
    messages.into_iter().map(rejection).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_windows_than_allowed_are_refused_with_the_product() {
    let server = TestServer::start_with(|config| config.limits.max_windows = 8).await;
    let rest = server.rest();
    let mut peer = Peer::connect(&server.url()).await;
    let declared = |groups: usize, kinds: &[Kind], window_lengths: &[u32]| v1::StreamSpec {
        groups: (0..groups).map(|group| group_spec(&format!("group {group}"))).collect(),
        kinds: kinds.iter().map(|&kind| kind.into()).collect(),
        window_lengths: window_lengths.to_vec(),
        ..spec()
    };
    let both = [Kind::Update, Kind::Gradient];
    let too_many = [
        (declared(9, &both[..1], &[3]), "9 groups x 1 kinds x 1 window lengths = 9 windows; the limit is 8"),
        (declared(5, &both, &[3]), "5 groups x 2 kinds x 1 window lengths = 10 windows; the limit is 8"),
        (declared(3, &both[1..], &[3, 4, 5]), "3 groups x 1 kinds x 3 window lengths = 9 windows; the limit is 8"),
        (declared(3, &both, &[3, 4]), "3 groups x 2 kinds x 2 window lengths = 12 windows; the limit is 8"),
    ];
    for (spec, product) in too_many {
        let request = open_request(spec);
        let status = peer.open_run(&request).await.expect_err(product);
        assert_eq!((status.code(), violated_field(&status).as_deref()), (Code::InvalidArgument, Some("spec")));
        assert!(status.message().contains(product), "{status:?}");
        assert_eq!(rest.refused(&format!("/api/v1/runs/{}", request.run_id)).await.0, 404, "nothing of it is there");
    }
    for spec in [declared(8, &both[..1], &[3]), declared(2, &both, &[3, 4])] {
        let (mut stream, _) = peer.open(&open_request(spec)).await.expect("as many as are allowed");
        stream.frames(frames(1..=3)).await;
        assert_eq!(stream.acknowledged(3).await, []);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_frames_in_a_message_close_the_stream_and_lose_nothing_before_them() {
    let server = TestServer::start_with(|config| config.limits.max_frames_per_message = 4).await;
    let rest = server.rest();
    let mut peer = Peer::connect(&server.url()).await;
    let (request, bystander) = (open_request(spec()), open_request(spec()));
    let (mut other, _) = peer.open(&bystander).await.expect("opened");
    let (mut stream, _) = peer.open(&request).await.expect("opened");
    stream.frames(frames(1..=4)).await;
    assert_eq!(stream.acknowledged(4).await, [], "as many as are allowed");

    stream.frames(frames(5..=6)).await;
    stream.frames(frames(7..=11)).await;
    let status = end(&mut stream).await;
    assert_eq!((status.code(), violated_field(&status).as_deref()), (Code::InvalidArgument, Some("frames")));
    assert!(status.message().contains("5 frames; the limit is 4"), "{status:?}");

    let run = format!("/api/v1/runs/{}", request.run_id);
    rest.until(&run, "what came before", |run| run["last_step"] == 6).await;
    let (mut stream, opened) = peer.open_stream(&request).await.expect("opened again");
    assert_eq!((opened.committed_seq, opened.resend_from_seq), (6, 7));
    for from in [7, 11] {
        stream.frames(frames(from..=from + 3)).await;
    }
    assert_eq!(stream.acknowledged(14).await, []);
    let all: Vec<(u64, u64)> = (1..=14).map(|step| (1, step)).collect();
    assert_eq!(places(&rest, &request.run_id, "steps").await, all);
    assert_eq!(places(&rest, &request.run_id, "readings/edge").await, all);
    assert_eq!(rest.get(&run).await["counters"]["rejected"], 0);

    other.frames(frames(1..=4)).await;
    assert_eq!(other.acknowledged(4).await, [], "another run's stream goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scalar_names_beyond_the_limit_of_an_attempt_reject_their_frames_alone() {
    let server = TestServer::start_with(|config| config.limits.max_scalar_names = 3).await;
    let mut peer = Peer::connect(&server.url()).await;
    let request = open_request(spec());
    let run = format!("/api/v1/runs/{}", request.run_id);
    let (mut stream, _) = peer.open(&request).await.expect("opened");
    let sent = [
        with_scalars(1, &["a", "b"]),
        // Two names too many at once: neither is taken.
        with_scalars(2, &["c", "d"]),
        with_scalars(3, &["b", "c"]),
        with_scalars(4, &["a", "d"]),
        with_scalars(5, &["a", "b", "c"]),
        with_scalars(6, &[]),
    ];
    stream.frames(sent.to_vec()).await;
    let refusal = |seq| {
        let message = "the attempt would have 4 different scalars; the limit is 3";
        (seq, RejectCode::Limit, "scalars".to_owned(), message.to_owned())
    };
    assert_eq!(rejections(stream.acknowledged(6).await), [refusal(2), refusal(4)]);

    // Names are counted over a restart of the server as well.
    drop((stream, peer));
    let server = server.restart().await;
    let rest = server.rest();
    let mut peer = Peer::connect(&server.url()).await;
    let (mut stream, opened) = peer.open_stream(&request).await.expect("opened again");
    assert_eq!(opened.committed_seq, 6);
    let mut again: Vec<Frame> = sent.iter().filter(|frame| frame.seq >= opened.resend_from_seq).cloned().collect();
    again.extend([with_scalars(7, &["e"]), with_scalars(8, &["c"])]);
    stream.frames(again).await;
    assert_eq!(rejections(stream.acknowledged(8).await), [refusal(7)]);

    let taken: Vec<(u64, u64)> = [1, 3, 5, 6, 8].map(|step| (1, step)).to_vec();
    assert_eq!(places(&rest, &request.run_id, "steps").await, taken);
    assert_eq!(places(&rest, &request.run_id, "readings/edge").await, taken);
    let about = rest.get(&run).await;
    assert_eq!((&about["counters"]["rejected"], &about["counters"]["steps"]), (&json!(3), &json!(5)));
    assert_eq!(about["scalars"], json!(["a", "b", "c"]));
    // A rejected frame's row is a hole in its window.
    let restarted = rest.all(&format!("{run}/events?types=window.restarted")).await;
    let at: Vec<&Value> = restarted.iter().map(|event| &event["step"]).collect();
    assert_eq!(at, [3, 5, 8]);

    // Another attempt has names of its own.
    let next = next_attempt(&request, Some((&request, 8)));
    let (mut stream, _) = peer.open(&next).await.expect("opened");
    stream.frames(vec![Frame { seq: 1, ..with_scalars(9, &["d", "e"]) }]).await;
    assert_eq!(stream.acknowledged(1).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scalars_beyond_the_limit_of_a_frame_reject_it() {
    let server = TestServer::start_with(|config| config.limits.max_scalars_per_frame = 2).await;
    let rest = server.rest();
    let mut peer = Peer::connect(&server.url()).await;
    let request = open_request(spec());
    let (mut stream, opened) = peer.open(&request).await.expect("opened");
    assert_eq!(opened.limits.expect("limits").max_scalars_per_frame, 2);
    let sent = vec![with_scalars(1, &["a", "b"]), with_scalars(2, &["a", "b", "c"]), with_scalars(3, &["c", "d"])];
    stream.frames(sent).await;
    let message = "3 scalars; the limit is 2".to_owned();
    let refusal = (2, RejectCode::Limit, "scalars".to_owned(), message);
    assert_eq!(rejections(stream.acknowledged(3).await), [refusal]);
    assert_eq!(places(&rest, &request.run_id, "steps").await, [(1, 1), (1, 3)]);
    let about = rest.get(&format!("/api/v1/runs/{}", request.run_id)).await;
    assert_eq!((&about["counters"]["rejected"], &about["scalars"]), (&json!(1), &json!(["a", "b", "c", "d"])));
}

const MEMORY_BYTES: u64 = 4 << 16;
const STREAMS: usize = 24;
const LAST_SEQ: u64 = 240;
/// A batch takes most of what one stream may hold, which is a quarter of the memory.
const BATCH: usize = 16;

async fn in_flight_bytes(rest: &Rest) -> u64 {
    let (_, text) = rest.call(Method::GET, "/metrics", "").await;
    let line = text.lines().find_map(|line| line.strip_prefix("gradwatch_in_flight_bytes "));
    line.unwrap_or_else(|| panic!("no gauge in {text}")).parse().expect("a number of bytes, not below 0")
}

/// Pushes a whole run without waiting for an acknowledgement, again from the mark whenever it is refused; answers the
/// run's id.
async fn push(url: String) -> String {
    let mut peer = Peer::connect(&url).await;
    let request = open_request(spec());
    peer.open_run(&request).await.expect("opened");
    loop {
        let (mut stream, opened) = peer.open_stream(&request).await.expect("opened");
        let rest = frames(opened.resend_from_seq..=LAST_SEQ);
        for batch in rest.chunks(BATCH) {
            stream.frames(batch.to_vec()).await;
        }
        let status = loop {
            match stream.next().await {
                Ok(Some(Message::Ack(ack))) if ack.committed_seq == LAST_SEQ => return request.run_id,
                Ok(Some(Message::Ack(_))) => {}
                Err(status) => break status,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        let delay = status.get_details_retry_info().and_then(|info| info.retry_delay).expect("when to try again");
        drop(stream);
        sleep(delay).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_streams_share_little_memory_and_all_get_through() {
    let server = TestServer::start_with(|config| {
        config.limits.max_message_bytes = 1 << 16;
        config.memory_limit_bytes = MEMORY_BYTES as usize;
        // The gauge is asked for without a pause.
        config.access.requests_per_s = 0;
    })
    .await;
    let rest = server.rest();
    let (pushing, most) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
    let watch = tokio::spawn({
        let (rest, pushing, most) = (rest.clone(), Arc::clone(&pushing), Arc::clone(&most));
        async move {
            while pushing.load(Ordering::Relaxed) {
                most.fetch_max(in_flight_bytes(&rest).await, Ordering::Relaxed);
            }
        }
    });
    let jobs: Vec<_> = (0..STREAMS).map(|_| tokio::spawn(push(server.url()))).collect();
    let mut run_ids = Vec::new();
    for job in jobs {
        run_ids.push(timeout(2 * PATIENCE, job).await.expect("nobody starves").expect("no panic"));
    }
    pushing.store(false, Ordering::Relaxed);
    watch.await.expect("no panic");
    let most = most.load(Ordering::Relaxed);
    assert!(most <= MEMORY_BYTES, "{most} bytes were on their way at once; the limit is {MEMORY_BYTES}");

    // Every permit comes back.
    let emptied = async {
        while in_flight_bytes(&rest).await > 0 {
            sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, emptied).await.expect("memory that was taken is given back");
    let all: Vec<(u64, u64)> = (1..=LAST_SEQ).map(|step| (1, step)).collect();
    for run_id in run_ids {
        assert_eq!(places(&rest, &run_id, "steps").await, all);
        assert_eq!(places(&rest, &run_id, "readings/edge").await, all);
        let counters = rest.get(&format!("/api/v1/runs/{run_id}")).await["counters"].clone();
        assert_eq!((&counters["steps"], &counters["rejected"]), (&json!(LAST_SEQ), &json!(0)));
    }
    let (_, metrics) = rest.call(Method::GET, "/metrics", "").await;
    assert!(metrics.contains("\ngradwatch_unique_violations_total 0\n"), "{metrics}");
}
