//! A disk that is full: what was acknowledged is there, and everything goes on once there is room, without a restart.

use std::time::Duration;

use gradwatch_proto::v1::{OpenRunRequest, server_message::Message};
use gradwatch_tests::{Peer, PeerStream, Rest, ServerProcess, any_port, frame, open_request, spec};
use serde_json::Value;
use tokio::time::timeout;

/// How large a file may become: the write-ahead log gets there within a few hundred frames, in the middle of a
/// transaction.
const ROOM_BYTES: u64 = 1 << 20;
/// Frames in a message.
const BATCH: u64 = 16;
/// How long to look for acknowledgements between two messages.
const GLANCE: Duration = Duration::from_millis(5);

/// A server whose disk is full, in the middle of a run.
struct Full {
    data_dir: tempfile::TempDir,
    server: ServerProcess,
    request: OpenRunRequest,
    stream: PeerStream,
    sent: u64,
    acknowledged: u64,
}

impl Full {
    async fn reach() -> Self {
        let data_dir = tempfile::tempdir().expect("a temporary directory");
        let server = ServerProcess::start(data_dir.path(), any_port());
        let mut peer = Peer::connect(&server.url()).await;
        let request = open_request(spec());
        let (stream, _) = peer.open(&request).await.expect("opened");
        let mut full = Self { data_dir, server, request, stream, sent: 0, acknowledged: 0 };
        full.send().await;
        full.stream.acknowledged(BATCH).await;
        full.acknowledged = BATCH;
        full.server.limit_file_bytes(Some(ROOM_BYTES));
        let rest = Rest::new(&full.server.url());
        while failed_commits(&rest).await == 0 {
            full.send().await;
            full.glance().await;
        }
        // What comes while the disk is full is taken in and waits.
        for _ in 0..4 {
            full.send().await;
            full.glance().await;
        }
        assert!(full.acknowledged < full.sent, "everything was acknowledged although nothing could be written");
        full
    }

    async fn send(&mut self) {
        let frames = self.sent + 1..=self.sent + BATCH;
        self.sent += BATCH;
        self.stream.frames(frames.map(|seq| frame(seq, seq)).collect()).await;
    }

    /// Reads the acknowledgements that have come.
    async fn glance(&mut self) {
        while let Ok(message) = timeout(GLANCE, self.stream.next()).await {
            match message.expect("an open stream") {
                Some(Message::Ack(ack)) => self.acknowledged = ack.committed_seq,
                other => panic!("{other:?}"),
            }
        }
    }
}

/// How often the store could not take a commit.
async fn failed_commits(rest: &Rest) -> u64 {
    let (_, metrics) = rest.call(http::Method::GET, "/metrics", "").await;
    let failures = metrics.lines().filter(|line| line.starts_with("gradwatch_commit_failures_total{"));
    failures.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
}

/// Every step from 1 to `last` is stored once, with its reading.
async fn assert_stored(rest: &Rest, request: &OpenRunRequest, last: u64) {
    let run = format!("/api/v1/runs/{}", request.run_id);
    let steps = |rows: Vec<Value>| rows.iter().filter_map(|row| row["step"].as_u64()).collect::<Vec<_>>();
    let all: Vec<u64> = (1..=last).collect();
    assert_eq!(steps(rest.all(&format!("{run}/steps?limit=10000")).await), all);
    assert_eq!(steps(rest.all(&format!("{run}/readings/edge?limit=10000")).await), all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_goes_on_once_there_is_room_without_a_restart() {
    let mut full = Full::reach().await;
    full.server.limit_file_bytes(None);
    assert_eq!(full.stream.acknowledged(full.sent).await, []);
    full.send().await;
    assert_eq!(full.stream.acknowledged(full.sent).await, []);
    assert_stored(&Rest::new(&full.server.url()), &full.request, full.sent).await;

    full.server.kill();
    let server = ServerProcess::start(full.data_dir.path(), any_port());
    assert_stored(&Rest::new(&server.url()), &full.request, full.sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_outlives_a_kill_on_a_full_disk() {
    let mut full = Full::reach().await;
    full.server.kill();
    let server = ServerProcess::start(full.data_dir.path(), any_port());
    let mut peer = Peer::connect(&server.url()).await;
    let (mut stream, opened) = peer.open_stream(&full.request).await.expect("opened again");
    assert!(opened.committed_seq >= full.acknowledged, "{} < {}", opened.committed_seq, full.acknowledged);
    let rest = Rest::new(&server.url());
    assert_stored(&rest, &full.request, opened.committed_seq).await;

    stream.frames((opened.resend_from_seq..=full.sent).map(|seq| frame(seq, seq)).collect()).await;
    assert_eq!(stream.acknowledged(full.sent).await, []);
    assert_stored(&rest, &full.request, full.sent).await;
}
