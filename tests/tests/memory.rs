//! Clients that send more than the store takes: memory stays bounded, they are told to wait, and nothing is lost.

use std::time::Duration;

use bytes::Bytes;
use gradwatch_proto::v1::{
    Encoding, Frame, Kind, OpenRunRequest, Payload, SketchF16, StreamSpec, payload::Body, server_message::Message,
};
use gradwatch_tests::{Peer, PeerStream, Rest, ServerProcess, any_port, frame, open_request, spec};
use tonic::{Code, Status};
use tonic_types::StatusExt;

const MEMORY_LIMIT_BYTES: u64 = 32 << 20;
/// Beyond the limit: the transport's own buffers, and what the allocator cannot give back.
const OVERHEAD: f64 = 1.25;
/// Of runs of each sort. A stream may hold a quarter of the memory, so that these have room for less than half.
const STREAMS_EACH: usize = 4;
const BATCH: u64 = 64;

/// Runs that differ in what fills the memory.
#[derive(Clone, Copy)]
enum Sort {
    /// The sketches.
    LargeFrames,
    /// The rows that small sketches lead to.
    ManyFrames,
}

impl Sort {
    fn spec(self) -> StreamSpec {
        match self {
            Self::LargeFrames => StreamSpec { sketch_dim: 4_096, encoding: Encoding::F16.into(), ..spec() },
            Self::ManyFrames => spec(),
        }
    }

    fn frame(self, seq: u64) -> Frame {
        let small = frame(seq, seq);
        match self {
            Self::LargeFrames => {
                let values: Vec<u8> = (0..4_096_u64).flat_map(|column| half(seq * 7 + column).to_le_bytes()).collect();
                let body = Body::SketchF16(SketchF16 { scale: 1e-6, values: Bytes::from(values) });
                let payload = Payload { group: 0, kind: Kind::Update.into(), base_step: seq - 1, body: Some(body) };
                Frame { payloads: vec![payload], ..small }
            }
            Self::ManyFrames => small,
        }
    }

    /// More than two shares of the memory.
    fn frames(self) -> u64 {
        match self {
            Self::LargeFrames => 1_536,
            Self::ManyFrames => 4_992,
        }
    }
}

/// The bits of some positive binary16 between 1 and 2.
fn half(of: u64) -> u16 {
    0x3c00 + (of.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54) as u16
}

async fn send(stream: &PeerStream, sort: Sort, from_seq: u64) {
    let mut next = from_seq;
    while next <= sort.frames() {
        let last = sort.frames().min(next + BATCH - 1);
        stream.frames((next..=last).map(|seq| sort.frame(seq)).collect()).await;
        next = last + 1;
    }
}

/// Reads until everything is acknowledged, or the stream is refused.
async fn settled(stream: &mut PeerStream, last_seq: u64) -> Result<(), Status> {
    loop {
        match stream.next().await? {
            Some(Message::Ack(ack)) if ack.committed_seq >= last_seq => return Ok(()),
            Some(Message::Ack(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// That there is no memory left, and the delay that the client is told to wait.
fn retry_delay(status: &Status) -> Duration {
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(status.message().contains("memory_limit_bytes"), "{status:?}");
    status.get_details_retry_info().and_then(|info| info.retry_delay).expect("RetryInfo with a delay")
}

/// Delivers what is missing of a run, waiting when told to.
async fn deliver(peer: &mut Peer, request: &OpenRunRequest, sort: Sort) {
    loop {
        let (mut stream, opened) = peer.open_stream(request).await.expect("opened again");
        send(&stream, sort, opened.committed_seq + 1).await;
        match settled(&mut stream, sort.frames()).await {
            Ok(()) => return,
            Err(status) => tokio::time::sleep(retry_delay(&status)).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_stands_still_costs_bounded_memory_and_nothing_is_lost() {
    let data_dir = tempfile::tempdir().expect("a temporary directory");
    let memory_limit_bytes = MEMORY_LIMIT_BYTES.to_string();
    // The limit has to hold some of the largest messages.
    let settings = [
        ("GRADWATCH_MEMORY_LIMIT_BYTES", memory_limit_bytes.as_str()),
        ("GRADWATCH_LIMITS__MAX_MESSAGE_BYTES", "4194304"),
    ];
    let server = ServerProcess::start_with(data_dir.path(), any_port(), &settings);
    let rest = Rest::new(&server.url());
    let mut runs: Vec<(Peer, OpenRunRequest, Sort, PeerStream)> = Vec::new();
    for sort in [Sort::LargeFrames, Sort::ManyFrames].repeat(STREAMS_EACH) {
        // Streams of one connection: the windows of others would be memory of the transport.
        let mut peer = match runs.last() {
            Some((peer, ..)) => peer.clone(),
            None => Peer::connect(&server.url()).await,
        };
        let request = open_request(sort.spec());
        let (stream, _) = peer.open(&request).await.expect("opened");
        stream.frames(vec![sort.frame(1)]).await;
        runs.push((peer, request, sort, stream));
    }
    for (.., stream) in &mut runs {
        stream.acknowledged(1).await;
    }
    let before = server.peak_resident_bytes();

    server.limit_file_bytes(Some(0));
    for (_, _, sort, stream) in &runs {
        send(stream, *sort, 2).await;
    }
    for (_, _, sort, stream) in &mut runs {
        let refused = settled(stream, sort.frames()).await.expect_err("more than there is memory for");
        assert!(retry_delay(&refused) > Duration::ZERO);
    }
    let grown = server.peak_resident_bytes() - before;
    let allowed = (MEMORY_LIMIT_BYTES as f64 * OVERHEAD) as u64;
    assert!(grown <= allowed, "{grown} bytes more than before; {allowed} are allowed");
    assert!(grown > MEMORY_LIMIT_BYTES / 4, "{grown} bytes: this test has filled nothing");

    server.limit_file_bytes(None);
    for (mut peer, request, sort, stream) in runs {
        drop(stream);
        deliver(&mut peer, &request, sort).await;
        let run = rest.get(&format!("/api/v1/runs/{}", request.run_id)).await;
        assert_eq!(run["counters"]["steps"], sort.frames());
        assert_eq!(run["counters"]["dropped"], 0);
    }
}
