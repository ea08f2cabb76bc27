//! One run of the load generator.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use gradwatch_proto::v1::{
    self, ClientMessage, OpenRunRequest, ServerMessage, client_message::Message, server_message,
    telemetry_client::TelemetryClient,
};
use hdrhistogram::Histogram;
use tokio::{
    sync::{mpsc, watch},
    time::sleep_until,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};
use uuid::Uuid;

use super::{Load, Pace, Times};
use crate::content::Content;

/// A run, by its number in the load and its id.
#[derive(Clone, Debug)]
pub(crate) struct RunId {
    pub(crate) number: usize,
    pub(crate) run_id: String,
}

/// What one run sent.
pub(super) struct Run {
    pub(super) run_id: RunId,
    pub(super) frames: u64,
    /// Within the measured time.
    pub(super) acknowledged: u64,
    pub(super) latency_us: Histogram<u64>,
}

/// A new run.
pub(crate) fn open_request(number: usize, spec: v1::StreamSpec) -> OpenRunRequest {
    OpenRunRequest {
        run_id: Uuid::new_v4().to_string(),
        project: format!("project-{}", number % 4),
        name: format!("run-{number}"),
        labels: [("team".to_owned(), format!("team-{}", number % 8)), ("seed".to_owned(), number.to_string())].into(),
        attempt: Some(v1::Attempt {
            attempt_id: Uuid::new_v4().to_string(),
            started_at_us: 1_700_000_000_000_000,
            resumes: None,
            unrelated: false,
        }),
        shard: 0,
        shard_count: 1,
        writer_id: Uuid::new_v4().to_string(),
        spec: Some(spec),
        ..OpenRunRequest::default()
    }
}

/// How a run ends: one of four fails.
fn outcome(number: usize) -> v1::Outcome {
    if number % 4 == 3 { v1::Outcome::Failed } else { v1::Outcome::Finished }
}

/// The first message of a run's stream.
pub(crate) fn open(request: &OpenRunRequest) -> ClientMessage {
    let open = v1::Open {
        run_id: request.run_id.clone(),
        attempt_id: request.attempt.as_ref().map(|it| it.attempt_id.clone()).unwrap_or_default(),
        shard: request.shard,
        writer_id: request.writer_id.clone(),
    };
    ClientMessage { message: Some(Message::Open(open)) }
}

/// What sender and receiver of a run share.
struct Shared {
    /// When each frame that is not acknowledged was due, oldest first.
    due: Mutex<VecDeque<Instant>>,
    acknowledged: watch::Sender<u64>,
}

impl Shared {
    fn due(&self) -> std::sync::MutexGuard<'_, VecDeque<Instant>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends the frames of one run until the time is over, then the word of its end, and waits for all acknowledgements.
pub(super) async fn send(
    mut peer: TelemetryClient<Channel>,
    request: OpenRunRequest,
    number: usize,
    load: Load,
    content: Arc<Content>,
    times: Times,
) -> Result<Run> {
    let (sender, receiver) = mpsc::channel(2);
    sender.send(open(&request)).await?;
    let mut inbound = peer.stream_frames(ReceiverStream::new(receiver)).await?.into_inner();
    ensure!(
        matches!(next(&mut inbound).await?, Some(server_message::Message::Opened(_))),
        "a stream does not begin with Opened"
    );
    let shared = Shared { due: Mutex::default(), acknowledged: watch::Sender::new(0) };
    let sending = Sending { sender, shared: &shared, number, load: &load, content: &content, times };
    let (frames, (acknowledged, latency_us)) = tokio::try_join!(sending.run(), receive(inbound, &shared, times))?;
    ensure!(*shared.acknowledged.borrow() == frames, "the stream ended before everything was acknowledged");
    Ok(Run { run_id: RunId { number, run_id: request.run_id }, frames, acknowledged, latency_us })
}

struct Sending<'a> {
    sender: mpsc::Sender<ClientMessage>,
    shared: &'a Shared,
    number: usize,
    load: &'a Load,
    content: &'a Content,
    times: Times,
}

impl Sending<'_> {
    /// Answers the number of frames sent.
    async fn run(self) -> Result<u64> {
        let mut acknowledged = self.shared.acknowledged.subscribe();
        let most = self.load.max_frames_per_run.unwrap_or(u64::MAX);
        let mut sent = 0;
        sleep_until(self.times.start.into()).await;
        while sent < most {
            match self.load.pace {
                Pace::InFlight(limit) => acknowledged.wait_for(|&seq| sent < seq + limit).await.map(drop)?,
                Pace::FramesPerSecond(_) => sleep_until(self.due(sent + 1, self.times.start).into()).await,
            }
            let now = Instant::now();
            if now >= self.times.end {
                break;
            }
            let room = match self.load.pace {
                Pace::InFlight(limit) => *acknowledged.borrow() + limit - sent,
                Pace::FramesPerSecond(_) => u64::MAX,
            };
            let room = room.min(self.load.batch_frames as u64).min(most - sent);
            let seqs: Vec<u64> = (sent + 1..=sent + room).take_while(|&seq| self.due(seq, now) <= now).collect();
            sent += seqs.len() as u64;
            self.shared.due().extend(seqs.iter().map(|&seq| self.due(seq, now)));
            let frames = seqs.into_iter().map(|seq| self.content.frame(self.number, seq)).collect();
            self.say(Message::Frames(v1::FrameBatch { frames })).await?;
        }
        acknowledged.wait_for(|&seq| seq >= sent).await?;
        self.say(Message::Finish(v1::Finish { outcome: outcome(self.number).into(), last_seq: sent })).await?;
        Ok(sent)
    }

    /// When a frame is due. Runs take turns, so that their frames are spread evenly.
    fn due(&self, seq: u64, now: Instant) -> Instant {
        match self.load.pace {
            Pace::InFlight(_) => now,
            Pace::FramesPerSecond(rate) => {
                let turn = self.number as f64 / self.load.runs as f64;
                let period_s = self.load.runs as f64 / rate;
                self.times.start + Duration::from_secs_f64(period_s * (seq as f64 - 1.0 + turn))
            }
        }
    }

    async fn say(&self, message: Message) -> Result<()> {
        Ok(self.sender.send(ClientMessage { message: Some(message) }).await?)
    }
}

/// Takes in acknowledgements until the server ends the stream; answers how many fell into the measured time, and how
/// long they took.
async fn receive(
    mut inbound: Streaming<ServerMessage>,
    shared: &Shared,
    times: Times,
) -> Result<(u64, Histogram<u64>)> {
    let mut latency_us = Histogram::new(3)?;
    let (mut settled, mut counted) = (0, 0);
    while let Some(message) = next(&mut inbound).await? {
        let server_message::Message::Ack(ack) = message else { bail!("{message:?}") };
        let now = Instant::now();
        let measured = (times.measured..times.end).contains(&now);
        {
            let mut due = shared.due();
            while settled < ack.committed_seq {
                let Some(at) = due.pop_front() else { bail!("{ack:?}, but only {settled} frames were sent") };
                settled += 1;
                if measured {
                    counted += 1;
                    latency_us.record(u64::try_from((now - at).as_micros())?)?;
                }
            }
        }
        shared.acknowledged.send_replace(settled);
    }
    Ok((counted, latency_us))
}

pub(crate) async fn next(inbound: &mut Streaming<ServerMessage>) -> Result<Option<server_message::Message>> {
    match inbound.message().await? {
        Some(ServerMessage { message: Some(message) }) => Ok(Some(message)),
        Some(ServerMessage { message: None }) => bail!("an empty message"),
        None => Ok(None),
    }
}
