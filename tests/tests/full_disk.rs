//! A disk that is full: what was acknowledged is there, and everything goes on once there is room, without a restart.

use std::time::Duration;

use gradwatch_proto::v1::{OpenRunRequest, server_message::Message};
use gradwatch_test_postgres::{Cluster, ClusterOptions};
use gradwatch_tests::{
    Backend, Peer, PeerStream, Rest, ServerProcess, SmallDisk, any_port, frame, on_both_backends, open_request, spec,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::timeout;

/// How large a file may become, or how much room is left: the write-ahead log, or a table, gets there within some
/// hundred frames, in the middle of a transaction.
const ROOM_BYTES: u64 = 1 << 20;
/// Frames in a message.
const BATCH: u64 = 16;
/// How long to look for acknowledgements between two messages.
const GLANCE: Duration = Duration::from_millis(5);

/// Where a server keeps its data, and what it may run out of there.
enum Disk {
    /// SQLite; no file may grow.
    Limited(TempDir),
    /// PostgreSQL on a disk of its own, which is unmounted last.
    Small { data_dir: TempDir, cluster: Box<Cluster>, disk: SmallDisk },
}

impl Disk {
    fn new(backend: Backend) -> Self {
        let data_dir = tempfile::tempdir().expect("a temporary directory");
        match backend {
            Backend::Sqlite => Self::Limited(data_dir),
            Backend::Postgres => {
                let disk = SmallDisk::mount(256);
                // A log that stays small, so that it is the tables that find no room.
                let settings = vec![("max_wal_size".to_owned(), "64MB".to_owned())];
                let parent = Some(disk.path().to_owned());
                let cluster = Cluster::start_as(&ClusterOptions { settings, parent }).expect("a cluster");
                cluster.create_database("gradwatch", None).expect("a database");
                Self::Small { data_dir, cluster: Box::new(cluster), disk }
            }
        }
    }

    fn start(&self) -> ServerProcess {
        match self {
            Self::Limited(data_dir) => ServerProcess::start(data_dir.path(), any_port()),
            Self::Small { data_dir, cluster, .. } => {
                let url = cluster.url("gradwatch");
                ServerProcess::start_with(data_dir.path(), any_port(), &[("DATABASE_URL", &url)])
            }
        }
    }

    fn fill(&self, server: &ServerProcess) {
        match self {
            Self::Limited(_) => server.limit_file_bytes(Some(ROOM_BYTES)),
            Self::Small { disk, .. } => disk.fill(ROOM_BYTES),
        }
    }

    fn free(&self, server: &ServerProcess) {
        match self {
            Self::Limited(_) => server.limit_file_bytes(None),
            Self::Small { disk, .. } => disk.free(),
        }
    }

    /// SIGKILL to everything while there is no room, and a start once there is.
    fn kill_and_start(&mut self, server: &mut ServerProcess) -> ServerProcess {
        server.kill();
        if let Self::Small { cluster, disk, .. } = self {
            cluster.kill_9().expect("the database is killed");
            disk.free();
            cluster.start_again().expect("the database starts again");
        }
        self.start()
    }
}

/// A server whose disk is full, in the middle of a run.
struct Full {
    server: ServerProcess,
    disk: Disk,
    request: OpenRunRequest,
    stream: PeerStream,
    sent: u64,
    acknowledged: u64,
}

impl Full {
    async fn reach(backend: Backend) -> Self {
        let disk = Disk::new(backend);
        let server = disk.start();
        let mut peer = Peer::connect(&server.url()).await;
        let request = open_request(spec());
        let (stream, _) = peer.open(&request).await.expect("opened");
        let mut full = Self { server, disk, request, stream, sent: 0, acknowledged: 0 };
        full.send().await;
        full.stream.acknowledged(BATCH).await;
        full.acknowledged = BATCH;
        full.disk.fill(&full.server);
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

on_both_backends!(
    everything_goes_on_once_there_is_room_without_a_restart,
    what_was_acknowledged_outlives_a_kill_on_a_full_disk,
);

async fn everything_goes_on_once_there_is_room_without_a_restart(backend: Backend) {
    let mut full = Full::reach(backend).await;
    full.disk.free(&full.server);
    assert_eq!(full.stream.acknowledged(full.sent).await, []);
    full.send().await;
    assert_eq!(full.stream.acknowledged(full.sent).await, []);
    assert_stored(&Rest::new(&full.server.url()), &full.request, full.sent).await;

    full.server.kill();
    let server = full.disk.start();
    assert_stored(&Rest::new(&server.url()), &full.request, full.sent).await;
}

async fn what_was_acknowledged_outlives_a_kill_on_a_full_disk(backend: Backend) {
    let mut full = Full::reach(backend).await;
    let server = full.disk.kill_and_start(&mut full.server);
    let mut peer = Peer::connect(&server.url()).await;
    let (mut stream, opened) = peer.open_stream(&full.request).await.expect("opened again");
    assert!(opened.committed_seq >= full.acknowledged, "{} < {}", opened.committed_seq, full.acknowledged);
    let rest = Rest::new(&server.url());
    assert_stored(&rest, &full.request, opened.committed_seq).await;

    stream.frames((opened.resend_from_seq..=full.sent).map(|seq| frame(seq, seq)).collect()).await;
    assert_eq!(stream.acknowledged(full.sent).await, []);
    assert_stored(&rest, &full.request, full.sent).await;
}
