//! Resident memory of a server under clients that never wait for an acknowledgement, while its disk takes everything,
//! and while it takes nothing.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use gradwatch_proto::v1::{
    self, ClientMessage, OpenRunRequest, ServerMessage, client_message::Message, server_message,
    telemetry_client::TelemetryClient,
};
use gradwatch_tests::{Rest, limit_file_bytes};
use serde::Serialize;
use serde_json::json;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

use crate::{
    content::{Content, WINDOW},
    database::Database,
    load::{Load, Pace, open, open_request},
    machine::Machine,
    process::Server,
    report, usage, verify,
};

const RUNS: usize = 64;
const CONNECTIONS: usize = 8;
const BATCH: u64 = 64;
const DIM: usize = 4_096;
/// Beyond the limit: the transport's own buffers, SQLite's cache, and what the allocator cannot give back.
const OVERHEAD: f64 = 1.25;

/// Resident memory under clients that never wait
#[derive(Debug, Serialize, clap::Args)]
pub(crate) struct Memory {
    /// Seconds of flood; the disk takes nothing in the third quarter
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// The server's memory limit
    #[arg(long, default_value_t = 512 << 20)]
    memory_limit_bytes: u64,
    /// Print JSON instead of a line
    #[arg(long)]
    #[serde(skip)]
    json: bool,
}

#[derive(Default)]
struct Counts {
    sent: AtomicU64,
    refused: AtomicU64,
}

impl Memory {
    pub(crate) async fn run(self) -> Result<()> {
        let machine = Machine::look(&std::env::temp_dir())?;
        let content = Arc::new(Content::new(DIM));
        let data_dir = tempfile::tempdir()?;
        let mut settings: BTreeMap<&str, String> = Database::Sqlite.settings()?;
        settings.insert("GRADWATCH_MEMORY_LIMIT_BYTES", self.memory_limit_bytes.to_string());
        let server = Server::gradwatch(data_dir.path(), &settings)?;
        let counts = Arc::new(Counts::default());
        let settled = self.flood(&server, &content, &counts).await?;

        let peak_bytes = usage::peak_resident_bytes(server.pid())?;
        let windows_bytes = (RUNS * (WINDOW + 1) * DIM * size_of::<f32>()) as u64;
        let allowed_bytes = (self.memory_limit_bytes as f64 * OVERHEAD) as u64 + windows_bytes;
        let normal = Load {
            runs: 8,
            connections: 2,
            pace: Pace::FramesPerSecond(1_000.0),
            batch_frames: 16,
            warm_up_s: 1.0,
            seconds: 5.0,
            max_frames_per_run: None,
        };
        let served = normal.send(&server.url(), &content, &[]).await?;
        verify::check(&server.url(), &content, &served.runs).await?;
        let results = json!({
            "peak_resident_bytes": peak_bytes,
            "allowed_bytes": allowed_bytes,
            "resident_bytes_afterwards": usage::resident_bytes(server.pid())?,
            "windows_bytes": windows_bytes,
            "frames_sent": counts.sent.load(Ordering::Relaxed),
            "frames_settled": settled,
            "streams_refused": counts.refused.load(Ordering::Relaxed),
            "afterwards_p99_ms": served.latency_us.value_at_quantile(0.99) as f64 / 1e3,
        });
        server.stop()?;
        if !self.json {
            println!("{results:#}");
        }
        report::write("memory", &machine, &self, &results, self.json)?;
        ensure!(peak_bytes <= allowed_bytes, "{peak_bytes} bytes are resident; {allowed_bytes} are allowed");
        Ok(())
    }

    /// Floods a server; answers how many frames it has settled.
    async fn flood(&self, server: &Server, content: &Arc<Content>, counts: &Arc<Counts>) -> Result<u64> {
        let mut peers = Vec::new();
        for _ in 0..CONNECTIONS {
            peers.push(TelemetryClient::connect(server.url()).await?);
        }
        // All are opened before the flood: OpenRun would wait behind its commits.
        let mut clients = Vec::new();
        for number in 0..RUNS {
            let mut peer = peers[number % CONNECTIONS].clone();
            let request = open_request(number, content.spec());
            peer.open_run(request.clone()).await?;
            clients.push(Client { peer, request, number, content: Arc::clone(content), counts: Arc::clone(counts) });
        }
        let end = Instant::now() + Duration::from_secs_f64(self.seconds);
        let mut clients: JoinSet<_> = clients.into_iter().map(|client| client.run(end)).collect();
        tokio::time::sleep(Duration::from_secs_f64(self.seconds / 2.0)).await;
        limit_file_bytes(server.pid(), Some(0));
        tokio::time::sleep(Duration::from_secs_f64(self.seconds / 4.0)).await;
        limit_file_bytes(server.pid(), None);
        while let Some(ended) = clients.join_next().await {
            ended??;
        }
        let (_, metrics) = Rest::new(&server.url()).call(http::Method::GET, "/metrics", "").await;
        let settled = metrics.lines().find_map(|line| line.strip_prefix("gradwatch_frames_settled_total "));
        Ok(settled.context("frames_settled is counted")?.parse()?)
    }
}

/// A client that sends whatever the connection takes, and comes back when it is refused.
struct Client {
    peer: TelemetryClient<Channel>,
    request: OpenRunRequest,
    number: usize,
    content: Arc<Content>,
    counts: Arc<Counts>,
}

impl Client {
    async fn run(mut self, end: Instant) -> Result<()> {
        while Instant::now() < end {
            let Err(status) = self.stream(end).await else { continue };
            let delay = match status.code() {
                Code::ResourceExhausted => {
                    self.counts.refused.fetch_add(1, Ordering::Relaxed);
                    status.get_details_retry_info().and_then(|info| info.retry_delay).context("no RetryInfo")?
                }
                _ => bail!("{status:?}"),
            };
            tokio::time::sleep(delay).await;
        }
        Ok(())
    }

    /// One stream, until the time is over or it is refused.
    async fn stream(&mut self, end: Instant) -> Result<(), Status> {
        let (sender, receiver) = mpsc::channel(2);
        let closed = |_| Status::internal("the stream is gone");
        sender.send(open(&self.request)).await.map_err(closed)?;
        let mut inbound = self.peer.stream_frames(ReceiverStream::new(receiver)).await?.into_inner();
        let Some(ServerMessage { message: Some(server_message::Message::Opened(opened)) }) = inbound.message().await?
        else {
            return Err(Status::internal("a stream does not begin with Opened"));
        };
        let send = async {
            let mut next = opened.resend_from_seq;
            while Instant::now() < end {
                let frames = (next..next + BATCH).map(|seq| self.content.frame(self.number, seq)).collect();
                let message = ClientMessage { message: Some(Message::Frames(v1::FrameBatch { frames })) };
                // What the server says to a stream that it ends is heard below.
                if sender.send(message).await.is_err() {
                    break;
                }
                next += BATCH;
                self.counts.sent.fetch_add(BATCH, Ordering::Relaxed);
            }
            drop(sender);
        };
        let receive = async {
            while inbound.message().await?.is_some() {}
            Ok(())
        };
        let ((), heard) = tokio::join!(send, receive);
        heard
    }
}
