//! Promise 2: nothing is stored twice, however often and however cut frames are sent again, and all of them arrive.

use std::net::SocketAddr;

use gradwatch_proto::v1::{self, Frame, client_message, server_message::Message};
use gradwatch_tests::{
    Backend, PATIENCE, Peer, PeerStream, Rest, TestServer, any_port, frame, next_attempt, on_both_backends,
    open_request, spec,
};
use http::Method;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};
use tonic::Code;
use tonic_types::StatusExt;

on_both_backends!(frames_at_or_below_the_mark_are_counted_and_dropped, overlapping_batches_are_cut_at_the_mark,);

fn batch(from_seq: u64, to_seq: u64) -> Vec<Frame> {
    (from_seq..=to_seq).map(|seq| frame(seq, seq)).collect()
}

/// A counter of the server.
async fn counter(rest: &Rest, name: &str) -> u64 {
    let (_, text) = rest.call(Method::GET, "/metrics", "").await;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().expect("a number")
}

/// Asserts that a run has steps and readings 1 to `last_step` once each in one segment, with the seqs that brought them,
/// and that nothing was ever to be stored twice.
async fn assert_stored_once(rest: &Rest, run_id: &str, last_step: u64) {
    let run = format!("/api/v1/runs/{run_id}");
    let steps = rest.all(&format!("{run}/steps?segment=all")).await;
    let readings = rest.all(&format!("{run}/readings/edge?segment=all")).await;
    for rows in [&steps, &readings] {
        let found: Vec<u64> = rows.iter().map(|row| row["step"].as_u64().expect("a step")).collect();
        assert_eq!(found, (1..=last_step).collect::<Vec<u64>>());
    }
    for step in &steps {
        assert_eq!(step["seqs"][0], step["step"].to_string(), "{step}");
    }
    for (reading, nth) in readings.iter().zip(1_u64..) {
        assert_eq!(reading["rows"], nth.min(3), "no window started again: {reading}");
    }
    let events = rest.all(&format!("{run}/events?types=segment.started,window.restarted,run.lossy&segment=all")).await;
    let types: Vec<&Value> = events.iter().map(|event| &event["type"]).collect();
    assert_eq!(types, ["segment.started"]);
    let counters = &rest.get(&run).await["counters"];
    assert_eq!((&counters["steps"], &counters["rejected"]), (&last_step.into(), &0.into()));
    assert_eq!(counter(rest, "gradwatch_unique_violations_total").await, 0);
}

async fn frames_at_or_below_the_mark_are_counted_and_dropped(backend: Backend) {
    let server = TestServer::start_on(backend).await;
    let rest = server.rest();
    let mut peer = Peer::connect(&server.url()).await;
    let request = open_request(spec());
    let (mut stream, _) = peer.open(&request).await.unwrap();
    stream.frames(batch(1, 20)).await;
    stream.acknowledged(20).await;
    let before = rest.all(&format!("/api/v1/runs/{}/steps", request.run_id)).await;

    // As they were, one by one, backwards, and as something else under the same seq.
    stream.frames(batch(1, 20)).await;
    for seq in (1..=20).rev() {
        stream.frames(vec![frame(seq, seq)]).await;
    }
    stream.frames((1..=20).map(|seq| frame(seq, 100 + seq)).collect()).await;
    // An invalid frame that was settled is not rejected again, and a stretch given up that was settled is not lost.
    stream.frames(vec![Frame { step: u64::MAX, ..frame(20, 20) }]).await;
    let dropped = v1::Dropped { from_seq: 5, to_seq: 20, first_step: 5, last_step: 20 };
    stream.send(client_message::Message::Dropped(dropped)).await;
    stream.frames(batch(21, 21)).await;
    assert_eq!(stream.acknowledged(21).await, []);

    assert_eq!(rest.all(&format!("/api/v1/runs/{}/steps?to_step=20", request.run_id)).await, before);
    assert_stored_once(&rest, &request.run_id, 21).await;
    let run = rest.get(&format!("/api/v1/runs/{}", request.run_id)).await;
    assert_eq!(run["counters"]["dropped"], 0);
    // 20 + 20 + 20 frames, the invalid one, the stretch.
    assert_eq!(counter(&rest, "gradwatch_frames_duplicate_total").await, 62);
    assert_eq!(counter(&rest, "gradwatch_frames_settled_total").await, 21);
    assert_eq!(counter(&rest, "gradwatch_readings_total").await, 21);
}

async fn overlapping_batches_are_cut_at_the_mark(backend: Backend) {
    let server = TestServer::start_on(backend).await;
    let rest = server.rest();
    let mut peer = Peer::connect(&server.url()).await;
    let request = open_request(spec());
    let (mut stream, _) = peer.open(&request).await.unwrap();
    let batches = [(1, 10), (5, 15), (1, 20), (20, 20), (20, 21), (3, 9), (2, 60), (60, 90)];
    for (from_seq, to_seq) in batches {
        stream.frames(batch(from_seq, to_seq)).await;
    }
    assert_eq!(stream.acknowledged(90).await, []);
    assert_stored_once(&rest, &request.run_id, 90).await;
    let sent: u64 = batches.iter().map(|(from_seq, to_seq)| to_seq + 1 - from_seq).sum();
    assert_eq!(counter(&rest, "gradwatch_frames_received_total").await, sent);
    assert_eq!(counter(&rest, "gradwatch_frames_duplicate_total").await, sent - 90);
}

/// Waits until the server has closed a stream; answers the seq that it had acknowledged on it, if any.
async fn closed(stream: &mut PeerStream) -> Option<u64> {
    let mut acknowledged = None;
    loop {
        match stream.next().await {
            Ok(Some(Message::Ack(ack))) => acknowledged = Some(ack.committed_seq),
            Ok(other) => panic!("{other:?}"),
            Err(status) => {
                assert_eq!(status.code(), Code::Unavailable, "{status}");
                assert!(status.get_details_retry_info().is_some(), "{status:?}");
                return acknowledged;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_comes_again_takes_its_old_stream_over() {
    let server = TestServer::start().await;
    let rest = server.rest();
    let mut peer = Peer::connect(&server.url()).await;
    let request = open_request(spec());
    let (mut old, _) = peer.open(&request).await.unwrap();
    let mut last_seq = 0;
    for _ in 0..10 {
        // Not waited for: these may be in the air, taken in, or settled when the writer comes again.
        old.frames(batch(last_seq + 1, last_seq + 20)).await;
        let (mut new, opened) = peer.open_stream(&request).await.unwrap();
        assert!(opened.committed_seq <= last_seq + 20);
        assert_eq!(opened.resend_from_seq, opened.committed_seq + 1);
        let acknowledged = closed(&mut old).await;
        assert!(acknowledged.is_none_or(|seq| seq <= last_seq + 20));
        // What the old stream still says is nobody's.
        old.frames(batch(last_seq + 21, last_seq + 30)).await;
        // What Opened said to be settled is not acknowledged again.
        if opened.committed_seq < last_seq + 20 {
            new.frames(batch(opened.resend_from_seq, last_seq + 20)).await;
            assert_eq!(new.acknowledged(last_seq + 20).await, []);
        }
        last_seq += 20;
        old = new;
    }
    assert_stored_once(&rest, &request.run_id, last_seq).await;

    // The same on another attempt of the run: streams of different attempts do not close each other.
    let next = next_attempt(&request, Some((&request, last_seq)));
    let (mut next_stream, _) = peer.open(&next).await.unwrap();
    next_stream.frames(vec![frame(1, last_seq + 1)]).await;
    next_stream.acknowledged(1).await;
    old.frames(batch(last_seq + 1, last_seq + 1)).await;
    assert_eq!(old.acknowledged(last_seq + 1).await, []);
}

/// Passes a number of bytes on to a server, holds back the rest, and cuts the connection when told to.
struct CuttingProxy {
    address: SocketAddr,
    passing: JoinHandle<()>,
    cut: oneshot::Sender<()>,
}

impl CuttingProxy {
    async fn start(server: SocketAddr, cut_after_bytes: usize) -> Self {
        let listener = TcpListener::bind(any_port()).await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (say_cut, cut) = oneshot::channel();
        let passing = tokio::spawn(async move {
            let (client, _) = listener.accept().await.expect("a connection");
            let server = TcpStream::connect(server).await.expect("the server listens");
            let (mut client_reads, mut client_writes) = client.into_split();
            let (mut server_reads, mut server_writes) = server.into_split();
            let answers = tokio::spawn(async move { tokio::io::copy(&mut server_reads, &mut client_writes).await });
            let mut left = cut_after_bytes;
            let mut bytes = vec![0; 4_096];
            while left > 0 {
                let most = left.min(bytes.len());
                let count = client_reads.read(&mut bytes[..most]).await.expect("the client sends");
                assert!(count > 0, "the client sends more than {cut_after_bytes} bytes");
                server_writes.write_all(&bytes[..count]).await.expect("the server reads");
                left -= count;
            }
            // Whoever asked for the cut may have failed, which cuts too.
            let _ = cut.await;
            answers.abort();
        });
        Self { address, passing, cut: say_cut }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_cut_within_a_batch_loses_and_doubles_nothing() {
    let server = TestServer::start().await;
    let rest = server.rest();
    let mut peer = Peer::connect(&server.url()).await;
    let request = open_request(spec());
    peer.open_run(&request).await.unwrap();

    let mut arrived = 0;
    let mut last_seq = 0;
    // Three batches of 40 frames are about 12 kB each: cut in the first, in the second and in the last.
    for (cut_after_bytes, whole_batches) in [(3_000, 0), (7_777, 0), (16_000, 1), (20_001, 1), (33_333, 2)] {
        let proxy = CuttingProxy::start(server.address(), cut_after_bytes).await;
        let mut cut = Peer::connect(&format!("http://{}", proxy.address)).await;
        let (mut stream, opened) = cut.open_stream(&request).await.unwrap();
        assert_eq!(opened.committed_seq, arrived);
        last_seq = arrived + 120;
        // Whole batches are taken in, the one that is cut is not. Each waits for its acknowledgement: batches that wait
        // together may share a transport frame, and a part of one is nothing.
        for _ in 0..whole_batches {
            stream.frames(batch(arrived + 1, arrived + 40)).await;
            arrived += 40;
            assert_eq!(stream.acknowledged(arrived).await, []);
        }
        for first in (arrived + 1..=last_seq).step_by(40) {
            stream.frames(batch(first, first + 39)).await;
        }
        proxy.cut.send(()).expect("the proxy waits");
        timeout(PATIENCE, proxy.passing).await.expect("enough is sent").expect("the connection was cut");
        assert!(stream.next().await.is_err(), "the connection is gone");
    }
    let (mut stream, opened) = peer.open_stream(&request).await.unwrap();
    assert_eq!((opened.committed_seq, opened.resend_from_seq), (arrived, arrived + 1));
    // From the middle of a batch that had been settled.
    stream.frames(batch(arrived - 19, last_seq)).await;
    assert_eq!(stream.acknowledged(last_seq).await, []);
    assert_stored_once(&rest, &request.run_id, last_seq).await;
}
