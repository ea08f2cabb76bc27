//! How long acknowledgements of updates take while snapshots of layers wait to be read, beside how long they take when
//! none do.

use std::{sync::Arc, time::Instant};

use anyhow::{Result, bail, ensure};
use gradwatch_proto::v1::{
    self, ClientMessage, OpenRunRequest, client_message::Message, server_message, telemetry_client::TelemetryClient,
};
use gradwatch_tests::Rest;
use http::Method;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

use crate::{
    content::Content,
    database::Database,
    load,
    machine::Machine,
    process::Server,
    report::{self, median},
};

/// What is required: with a thousand snapshots waiting an acknowledgement takes at most so many times as long.
const REQUIRED_RATIO: f64 = 1.5;
/// Magnitudes in a window of the cascade instrument.
const WINDOW: usize = 4_096;
/// Snapshots in a message.
const BATCH: usize = 16;

/// Acknowledgements of updates while snapshots of layers wait
#[derive(Debug, Serialize, clap::Args)]
pub(crate) struct Snapshots {
    /// Snapshots that wait
    #[arg(long, default_value_t = 1_000)]
    snapshots: u64,
    /// Windows of 4,096 values in each
    #[arg(long, default_value_t = 64)]
    windows: usize,
    /// Updates that are timed, with and without them
    #[arg(long, default_value_t = 200)]
    frames: u64,
    /// Repetitions, each on a new server; the medians are printed
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// d
    #[arg(long, default_value_t = 4_096)]
    dim: usize,
    /// Leave out those that are not named, such as `sqlite`
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Print JSON instead of a table
    #[arg(long)]
    #[serde(skip)]
    json: bool,
}

/// One stream.
struct Stream {
    sender: mpsc::Sender<ClientMessage>,
    inbound: Streaming<v1::ServerMessage>,
}

/// Medians of one round.
struct Round {
    quiet_ms: f64,
    waiting_ms: f64,
    /// Bytes of snapshots that still waited when the last update was timed.
    left_bytes: u64,
}

impl Snapshots {
    pub(crate) async fn run(self, databases: &[Database]) -> Result<()> {
        let machine = Machine::look(&std::env::temp_dir())?;
        let content = Arc::new(Content::new(self.dim));
        let mut results = Vec::new();
        for database in databases {
            if !self.only.is_empty() && !self.only.iter().any(|only| only == database.name()) {
                continue;
            }
            let mut rounds = Vec::new();
            for round in 0..self.rounds {
                let measured = self.round(database, &content).await?;
                eprintln!(
                    "{} round {}: {:.2} ms, with snapshots waiting {:.2} ms ({} bytes left)",
                    database.name(),
                    round + 1,
                    measured.quiet_ms,
                    measured.waiting_ms,
                    measured.left_bytes
                );
                ensure!(measured.left_bytes > 0, "all snapshots were read too soon: ask for more with --snapshots");
                rounds.push(measured);
            }
            results.push(result(database.name(), &rounds));
        }
        if !self.json {
            print(&results);
        }
        report::write("snapshots", &machine, &self, &results, self.json)
    }

    async fn round(&self, database: &Database, content: &Content) -> Result<Round> {
        let data_dir = tempfile::tempdir()?;
        let mut settings = database.settings()?;
        settings.insert("GRADWATCH_LIMITS__MAX_BACKLOG_BYTES", (1_u64 << 32).to_string());
        let server = Server::gradwatch(data_dir.path(), &settings)?;
        let mut peer = TelemetryClient::connect(server.url()).await?;
        let mut updates = Stream::open(&mut peer, 0, content.spec()).await?;
        // Fills the window, so that both parts read it.
        updates.time(content, 1, 32).await?;
        let mut quiet = updates.time(content, 33, self.frames).await?;
        self.queue(&mut peer, content).await?;
        let mut waiting = updates.time(content, 33 + self.frames, self.frames).await?;
        let left_bytes = waiting_bytes(&server.url()).await?;
        server.stop()?;
        Ok(Round { quiet_ms: median(&mut quiet), waiting_ms: median(&mut waiting), left_bytes })
    }

    /// Another run sends snapshots, which are acknowledged.
    async fn queue(&self, peer: &mut TelemetryClient<Channel>, content: &Content) -> Result<()> {
        let layer =
            v1::Layer { name: "all".into(), instrument: v1::LayerInstrument::Cascade.into(), ..v1::Layer::default() };
        let mut stream = Stream::open(peer, 1, v1::StreamSpec { layers: vec![layer], ..content.spec() }).await?;
        // Below 1.0, from a thousandth on.
        let halves = (0..self.windows * WINDOW).map(|index| 0x1400 + ((index * 7_919) % 0x2700) as u16);
        let windows_f16: bytes::Bytes = halves.flat_map(u16::to_le_bytes).collect::<Vec<u8>>().into();
        let cascade = v1::CascadeSnapshot { windows_f16, whole: None };
        let snapshot = v1::Snapshot { layer: 0, body: Some(v1::snapshot::Body::Cascade(cascade)) };
        let frame = |seq| v1::Frame { seq, step: seq, snapshots: vec![snapshot.clone()], ..v1::Frame::default() };
        let seqs: Vec<u64> = (1..=self.snapshots).collect();
        for seqs in seqs.chunks(BATCH) {
            stream.say(Message::Frames(v1::FrameBatch { frames: seqs.iter().copied().map(frame).collect() })).await?;
        }
        stream.acknowledged(self.snapshots).await
    }
}

impl Stream {
    async fn open(peer: &mut TelemetryClient<Channel>, number: usize, spec: v1::StreamSpec) -> Result<Self> {
        let request: OpenRunRequest = load::open_request(number, spec);
        peer.open_run(request.clone()).await?;
        let (sender, receiver) = mpsc::channel(2);
        sender.send(load::open(&request)).await?;
        let mut inbound = peer.stream_frames(ReceiverStream::new(receiver)).await?.into_inner();
        match inbound.message().await?.and_then(|message| message.message) {
            Some(server_message::Message::Opened(_)) => Ok(Self { sender, inbound }),
            other => bail!("a stream begins with {other:?}"),
        }
    }

    async fn say(&self, message: Message) -> Result<()> {
        Ok(self.sender.send(ClientMessage { message: Some(message) }).await?)
    }

    async fn acknowledged(&mut self, seq: u64) -> Result<()> {
        loop {
            match self.inbound.message().await?.and_then(|message| message.message) {
                Some(server_message::Message::Ack(ack)) if ack.committed_seq >= seq => return Ok(()),
                Some(server_message::Message::Ack(_)) => {}
                other => bail!("{other:?} instead of an acknowledgement"),
            }
        }
    }

    /// Sends updates one by one, each behind the acknowledgement of the last; answers how many milliseconds each took.
    async fn time(&mut self, content: &Content, from_seq: u64, count: u64) -> Result<Vec<f64>> {
        let mut took_ms = Vec::new();
        for seq in from_seq..from_seq + count {
            let frames = vec![content.frame(0, seq)];
            let sent = Instant::now();
            self.say(Message::Frames(v1::FrameBatch { frames })).await?;
            self.acknowledged(seq).await?;
            took_ms.push(sent.elapsed().as_secs_f64() * 1e3);
        }
        Ok(took_ms)
    }
}

/// Bytes of snapshots that wait, as the server counts them.
async fn waiting_bytes(url: &str) -> Result<u64> {
    let (_, metrics) = Rest::new(url).call(Method::GET, "/metrics", "").await;
    let counter = |name: &str| metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    let queued = counter("gradwatch_snapshot_bytes_queued_total ");
    let done = counter("gradwatch_snapshot_bytes_done_total ");
    let (Some(queued), Some(done)) = (queued, done) else { bail!("no counters of snapshots in {metrics}") };
    Ok(queued - done)
}

fn result(database: &str, rounds: &[Round]) -> Value {
    let of = |value: fn(&Round) -> f64| median(&mut rounds.iter().map(value).collect::<Vec<_>>());
    json!({
        "server": database,
        "ack_p50_quiet_ms": of(|round| round.quiet_ms),
        "ack_p50_waiting_ms": of(|round| round.waiting_ms),
        "ratio": of(|round| round.waiting_ms / round.quiet_ms),
    })
}

fn print(results: &[Value]) {
    println!("required of each backend: a ratio of at most {REQUIRED_RATIO}");
    println!("{:>12} {:>14} {:>18} {:>8}", "server", "p50 quiet ms", "p50 waiting ms", "ratio");
    for result in results {
        let number = |name: &str| result[name].as_f64().unwrap_or(f64::NAN);
        println!(
            "{:>12} {:>14.2} {:>18.2} {:>8.2}",
            result["server"].as_str().unwrap_or_default(),
            number("ack_p50_quiet_ms"),
            number("ack_p50_waiting_ms"),
            number("ratio")
        );
    }
}
