//! One stream of frames: what comes in is checked and handed over, what is settled is acknowledged.

use std::{sync::Arc, time::Duration};

use futures_util::Stream;
use gradwatch_proto::v1::{self, ClientMessage, ServerMessage, client_message, server_message};
use gradwatch_store::RunId;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{STEP_LIMIT, declaration, frames, run_state, text, wire_limits};
use crate::{
    access::{Caller, unauthenticated},
    clock,
    error::{Error, ErrorCode},
    metrics::Metrics,
    pipeline::{Item, Settled, Share, StreamOpen, StreamOpened},
    state::AppState,
};

/// Messages waiting for the client to read them.
const OUTBOX: usize = 64;
/// How long a client may take from connecting to its first message.
const FIRST_MESSAGE: Duration = Duration::from_secs(10);
/// What each row that a frame leads to, its step and its readings, costs while it is on its way.
pub(super) const ROW_BYTES: usize = 1_536;
/// How long a drained client is told to wait.
const RECONNECT_AFTER_MS: u64 = 1_000;

type Sender = mpsc::Sender<Result<ServerMessage, Status>>;

/// Answers the messages for the client; the stream lives in a task of its own until it is over.
pub(super) fn serve(
    state: AppState,
    caller: Caller,
    inbound: Streaming<ClientMessage>,
) -> impl Stream<Item = Result<ServerMessage, Status>> + Send {
    let (sender, receiver) = mpsc::channel(OUTBOX);
    tokio::spawn(async move {
        state.metrics.ingest_streams_opened.inc();
        if let Err(error) = Session::run(&state, &caller, inbound, &sender).await {
            tracing::debug!(%error, "frame stream closed");
            Metrics::count(&state.metrics.errors, error.code.label());
            // The client may have gone.
            let _ = sender.send(Err(error.into())).await;
        }
        state.metrics.ingest_streams_closed.inc();
    });
    ReceiverStream::new(receiver)
}

/// Why the inbound side ended.
enum Inbound {
    /// The client has said all it wants to.
    HalfClosed,
    /// The server is shutting down.
    Draining,
}

/// The job's own word of its end.
struct SaidFinish {
    last_seq: u64,
    /// Told once it is committed.
    committed: oneshot::Receiver<()>,
}

struct Session<'a> {
    state: &'a AppState,
    caller: &'a Caller,
    run_id: RunId,
    opened: &'a StreamOpened,
    share: Share,
}

impl Session<'_> {
    async fn run(
        state: &AppState,
        caller: &Caller,
        mut inbound: Streaming<ClientMessage>,
        sender: &Sender,
    ) -> Result<(), Error> {
        let first = tokio::select! {
            () = state.draining.cancelled() => return Ok(()),
            first = timeout(FIRST_MESSAGE, next(&mut inbound, state)) => first,
        };
        let open = match first {
            Ok(message) => first_message(message?)?,
            // The network or we may be slow; a client that takes this for its own fault would never come back.
            Err(_) => return Err(unavailable("no Open came in time; reconnect")),
        };
        let run_id = declaration::run_id(&open.run_id)?;
        let attempt_id = declaration::attempt_id("attempt_id", &open.attempt_id)?;
        text::name(&open.writer_id, state.config.limits.max_name_bytes)
            .map_err(|message| Error::invalid("writer_id", message))?;
        caller.run(&*state.store, run_id).await?;
        let (outbox, messages) = mpsc::channel(OUTBOX);
        let open = StreamOpen { attempt_id, shard: open.shard, writer_id: open.writer_id, outbox };
        let opened = state.pipeline.open_stream(run_id, open).await?;
        let settled = *opened.settled.borrow();
        let greeting = server_message::Message::Opened(v1::Opened {
            segment: opened.id.segment,
            committed_seq: settled.committed_seq,
            // Of the same instant as committed_seq: frames settled meanwhile need not come again.
            resend_from_seq: opened.refill_from_seq.unwrap_or(settled.committed_seq + 1),
            limits: Some(wire_limits(&state.config.limits)),
            server_time_us: clock::now_us(),
            heartbeat_ms: state.config.liveness.heartbeat_ms,
        });
        if send(sender, greeting).await.is_err() {
            state.pipeline.disconnect(run_id, &opened).await;
            return Ok(());
        }
        let session = Session { state, caller, run_id, opened: &opened, share: state.pipeline.budget.share() };
        let mut writer = Writer { sender, messages, held: None, settled: opened.settled.clone(), told: settled };
        // Both sides at once: acknowledgements go out while the inbound side waits for memory.
        let mut finish = None;
        let ended = tokio::select! {
            ended = session.read(&mut inbound, &mut finish) => ended,
            gone = writer.run() => Err(gone),
            () = Arc::clone(&state.access).ended(caller.clone()) => {
                Err(unauthenticated("the token has expired or was revoked"))
            }
        };
        let accepted_seq = state.pipeline.disconnect(run_id, &opened).await;
        match ended {
            Ok(end) => {
                writer.settle(accepted_seq, finish, state.config.shutdown_deadline() / 2).await?;
                if matches!(end, Inbound::Draining) {
                    let drain = v1::Drain { reconnect_after_ms: RECONNECT_AFTER_MS };
                    // The client may have gone.
                    let _ = send(sender, server_message::Message::Drain(drain)).await;
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Takes in what comes.
    async fn read(
        &self,
        inbound: &mut Streaming<ClientMessage>,
        finish: &mut Option<SaidFinish>,
    ) -> Result<Inbound, Error> {
        loop {
            let message = tokio::select! {
                () = self.state.draining.cancelled() => return Ok(Inbound::Draining),
                message = next(inbound, self.state) => message?,
            };
            let Some(message) = message else { return Ok(Inbound::HalfClosed) };
            match message {
                client_message::Message::Open(_) => {
                    return Err(Error::invalid("message", "a second Open on one stream"));
                }
                client_message::Message::Frames(batch) => self.frames(batch).await?,
                client_message::Message::Dropped(dropped) => self.dropped(dropped).await?,
                client_message::Message::Heartbeat(_) => {
                    self.state.pipeline.heartbeat(self.run_id, self.opened).await?;
                }
                client_message::Message::Finish(message) => {
                    let outcome = run_state(message.outcome())?;
                    let last_seq = message.last_seq;
                    let committed = self.state.pipeline.finish(self.run_id, self.opened, outcome, last_seq).await?;
                    *finish = Some(SaidFinish { last_seq, committed });
                }
            }
        }
    }

    async fn frames(&self, batch: v1::FrameBatch) -> Result<(), Error> {
        let limits = &self.state.config.limits;
        if batch.frames.len() > limits.max_frames_per_message {
            let message = format!("{} frames; the limit is {}", batch.frames.len(), limits.max_frames_per_message);
            return Err(Error::invalid("frames", message));
        }
        if let Some(index) = batch.frames.iter().position(|frame| frame.seq == 0 || frame.seq >= STEP_LIMIT) {
            return Err(Error::invalid(format!("frames[{index}].seq"), "starts from 1 and stays below 2^53"));
        }
        self.caller.allowance().frames(prost::Message::encoded_len(&batch)).await?;
        // Handed over in parts that fit the stream's share, so that what is reserved is what it takes: small payloads
        // lead to rows many times their size.
        let windows = self.opened.spec.window_lengths.len();
        let (mut items, mut bytes) = (Vec::new(), 0);
        for frame in batch.frames {
            // Snapshots and predictions are copied out of the message, which stays as long as any frame of it does.
            let mut copied: usize = frame.snapshots.iter().map(prost::Message::encoded_len).sum::<usize>()
                + frame.predictions.iter().map(prost::Message::encoded_len).sum::<usize>();
            // So are sketches that are kept, which are no longer than their parts together.
            if self.state.config.keep_sketches > 0 {
                copied += frame.payloads.iter().map(prost::Message::encoded_len).sum::<usize>();
            }
            let rows = 1 + frame.payloads.len() * windows + frame.snapshots.len() + frame.predictions.len();
            let frame_bytes = prost::Message::encoded_len(&frame) + copied + ROW_BYTES * rows;
            if !items.is_empty() && bytes + frame_bytes > self.share.part_bytes() {
                self.hand_over(std::mem::take(&mut items), bytes).await?;
                bytes = 0;
            }
            bytes += frame_bytes;
            items.push(frames::item(frame, &self.opened.spec, limits));
        }
        self.hand_over(items, bytes).await
    }

    /// Waits for memory, then gives items to the run's owner.
    async fn hand_over(&self, items: Vec<Item>, bytes: usize) -> Result<(), Error> {
        let permit = self.state.pipeline.budget.reserve(&self.share, bytes).await?;
        self.state.pipeline.items(self.run_id, self.opened, items, permit).await
    }

    async fn dropped(&self, dropped: v1::Dropped) -> Result<(), Error> {
        let v1::Dropped { from_seq, to_seq, first_step, last_step } = dropped;
        if from_seq == 0 || to_seq < from_seq || to_seq >= STEP_LIMIT {
            return Err(Error::invalid("dropped.to_seq", format!("{from_seq} to {to_seq} is not a stretch of frames")));
        }
        if last_step < first_step || last_step >= STEP_LIMIT {
            return Err(Error::invalid(
                "dropped.last_step",
                format!("{first_step} to {last_step} is not a stretch of steps"),
            ));
        }
        self.hand_over(vec![Item::Dropped { from_seq, to_seq, first_step, last_step }], ROW_BYTES).await
    }
}

/// The outbound side.
struct Writer<'a> {
    sender: &'a Sender,
    messages: mpsc::Receiver<ServerMessage>,
    /// A message that was taken and not sent yet.
    held: Option<ServerMessage>,
    settled: tokio::sync::watch::Receiver<Settled>,
    told: Settled,
}

impl Writer<'_> {
    /// Passes on messages and acknowledges what is settled, until the owner or the client is gone.
    async fn run(&mut self) -> Error {
        let gone = || unavailable("the stream was taken over, or the run changed hands; reconnect");
        loop {
            let sent = tokio::select! {
                // A rejection goes out before the acknowledgement that passes it, or its frame would look settled.
                biased;
                message = self.messages.recv() => match message {
                    Some(message) => {
                        self.held = Some(message);
                        self.pass_on().await
                    }
                    None => return gone(),
                },
                changed = self.settled.changed() => match changed {
                    Ok(()) => self.acknowledge().await,
                    Err(_) => return gone(),
                },
            };
            if sent.is_err() {
                return unavailable("the client has gone");
            }
        }
    }

    /// Sends the messages that wait. What is taken is held until there is room for it: this future may be dropped.
    async fn pass_on(&mut self) -> Result<(), ()> {
        loop {
            if self.held.is_none() {
                self.held = self.messages.try_recv().ok();
            }
            if self.held.is_none() {
                return Ok(());
            }
            let room = self.sender.reserve().await.map_err(|_| ())?;
            if let Some(message) = self.held.take() {
                room.send(Ok(message));
            }
        }
    }

    async fn acknowledge(&mut self) -> Result<(), ()> {
        let settled = *self.settled.borrow_and_update();
        self.pass_on().await?;
        if settled != self.told {
            let Settled { committed_seq, keep_from_seq } = settled;
            send(self.sender, server_message::Message::Ack(v1::Ack { committed_seq, keep_from_seq })).await?;
            // Only now: this future may be dropped while it waits for room.
            self.told = settled;
        }
        Ok(())
    }

    /// Waits until everything taken in is settled and says so, and until the word of the end, if there was one, is
    /// committed. What is not settled by then stays the client's.
    ///
    /// # Errors
    /// The word of the end is not committed, or something before it is not: to a client that has said it, the end of the
    /// stream without an error means that it was heard, so it has to be said again. A word can be committed although
    /// frames before it are not, when the commit that held them failed for good.
    async fn settle(
        &mut self,
        accepted_seq: Option<u64>,
        finish: Option<SaidFinish>,
        patience: Duration,
    ) -> Result<(), Error> {
        let deadline = Instant::now() + patience;
        while let Some(accepted) = accepted_seq
            && self.settled.borrow().committed_seq < accepted
        {
            match timeout_at(deadline, self.settled.changed()).await {
                Ok(Ok(())) => {}
                _ => break,
            }
        }
        let heard = match finish {
            Some(SaidFinish { last_seq, committed }) => {
                matches!(timeout_at(deadline, committed).await, Ok(Ok(())))
                    && self.settled.borrow().committed_seq >= last_seq
            }
            None => true,
        };
        // The client may have gone.
        let _ = self.acknowledge().await;
        if heard { Ok(()) } else { Err(unavailable("the end of the run is not recorded yet; say it again")) }
    }
}

async fn send(sender: &Sender, message: server_message::Message) -> Result<(), ()> {
    sender.send(Ok(ServerMessage { message: Some(message) })).await.map_err(|_| ())
}

async fn next(
    inbound: &mut Streaming<ClientMessage>,
    state: &AppState,
) -> Result<Option<client_message::Message>, Error> {
    match inbound.message().await {
        Ok(None) => Ok(None),
        Ok(Some(ClientMessage { message: Some(message) })) => Ok(Some(message)),
        Ok(Some(ClientMessage { message: None })) => {
            Err(Error::invalid("message", "is empty, or of a kind this server does not know"))
        }
        Err(status) if status.code() == tonic::Code::OutOfRange => {
            let limit = state.config.limits.max_message_bytes;
            Err(Error::invalid("message", format!("larger than max_message_bytes ({limit})")))
        }
        Err(status) if status.code() == tonic::Code::Internal => {
            Err(Error::invalid("message", format!("cannot be decoded: {}", status.message())))
        }
        Err(status) => Err(unavailable(status.message())),
    }
}

fn unavailable(message: &str) -> Error {
    Error::new(ErrorCode::Unavailable, message).retry_after(Duration::from_secs(1))
}

fn first_message(message: Option<client_message::Message>) -> Result<v1::Open, Error> {
    match message {
        Some(client_message::Message::Open(open)) => Ok(open),
        _ => Err(Error::invalid("message", "the first message of a stream is Open")),
    }
}
