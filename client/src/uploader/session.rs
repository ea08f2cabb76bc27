//! One stream, from connecting to its end.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use gradwatch_proto::v1::{self, client_message, server_message, telemetry_client::TelemetryClient};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Endpoint;

use super::attempt::max_frame_bytes;
use super::interruption::{Interruption, quote};
use super::{End, Stopped, Uploader};
use crate::credentials::Authorization;

/// Messages between us and the connection; each is at most one batch.
const OUTGOING_MESSAGES: usize = 2;
/// For a server that says nothing of its limit.
const DEFAULT_MAX_MESSAGE_BYTES: usize = 4 << 20;
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(10);
const MIN_HEARTBEAT: Duration = Duration::from_millis(100);
const MAX_HEARTBEAT: Duration = Duration::from_secs(60);
/// How long a server may take to end its side once everything is settled and it was told that the run is over. Longer
/// than it takes to say that it could not record that.
const GOODBYE: Duration = Duration::from_secs(10);

/// Our side of a stream; dropping it ends the side.
type Outgoing = mpsc::Sender<v1::ClientMessage>;

/// The server's side of a stream, and where the stream stands.
struct Session {
    incoming: Streaming<v1::ServerMessage>,
    max_message_bytes: usize,
    /// The server has answered Open.
    opened: bool,
    finish_sent: bool,
    /// Silence after which we say that we are alive: half of what the server allows.
    heartbeat: Duration,
    last_sent: Instant,
    /// Whether the server has something to settle, and since when it has not moved its mark. Other messages do not
    /// count: a server that only chatters is as stuck as a silent one.
    owes_answer: bool,
    stuck_since: Instant,
}

impl Session {
    /// Declares the attempt unless that was done before, and opens a stream of it. `before` are attempts that it goes on
    /// with and that the server may not know.
    async fn open(
        endpoint: Endpoint,
        authorization: Authorization,
        before: Vec<v1::OpenRunRequest>,
        request: v1::OpenRunRequest,
        declared: &mut bool,
    ) -> Result<(Self, Outgoing), Interruption> {
        let attempt_id = request.attempt.as_ref().map(|attempt| attempt.attempt_id.clone()).unwrap_or_default();
        let open = v1::Open {
            run_id: request.run_id.clone(),
            attempt_id,
            shard: request.shard,
            writer_id: request.writer_id.clone(),
        };
        let channel = endpoint.connect().await.map_err(|error| Interruption::transport(&error))?;
        let mut client = TelemetryClient::with_interceptor(channel, authorization);
        if !*declared {
            for request in before {
                match client.open_run(request).await.map_err(Interruption::from) {
                    Ok(_) => {}
                    // The server says of the attempt itself what that means for it.
                    Err(Interruption::Refused { reason }) => {
                        tracing::debug!(reason, "an attempt that waits in the spool could not be declared");
                    }
                    // Without it the attempt would be refused, for good.
                    Err(interruption) => return Err(interruption),
                }
            }
            client.open_run(request).await?;
            *declared = true;
        }
        let (outgoing, messages) = mpsc::channel(OUTGOING_MESSAGES);
        // The channel is empty: this finds room.
        let _ = outgoing.try_send(wrap(client_message::Message::Open(open)));
        let response = client.stream_frames(ReceiverStream::new(messages)).await.map_err(Interruption::of_stream)?;
        let session = Self {
            incoming: response.into_inner(),
            max_message_bytes: DEFAULT_MAX_MESSAGE_BYTES,
            opened: false,
            finish_sent: false,
            heartbeat: DEFAULT_HEARTBEAT,
            last_sent: Instant::now(),
            owes_answer: true,
            stuck_since: Instant::now(),
        };
        Ok((session, outgoing))
    }
}

impl Uploader {
    /// Opens the front attempt and delivers it, until the stream breaks or nothing is left to do.
    pub(super) async fn session(&mut self) -> Result<End, Stopped> {
        let Some(front) = self.backlog.front() else { return Ok(End::Delivered) };
        let (request, mut declared) = (front.request.clone(), front.is_declared());
        let (endpoint, authorization) = (self.connection.endpoint.clone(), self.connection.authorization.clone());
        let before = self.backlog.undeclared_before_front();
        let open = Session::open(endpoint, authorization, before, request, &mut declared);
        let opened = self.meanwhile(timeout(self.connection.stall_timeout, open)).await?;
        // The front attempt is still the same: meanwhile, attempts only join behind it.
        if let Some(front) = self.backlog.front_mut().filter(|_| declared) {
            front.declare();
        }
        let end = match opened {
            Ok(Ok((session, outgoing))) => self.converse(session, outgoing).await,
            Ok(Err(interruption)) => Ok(End::Interrupted(interruption)),
            Err(_) => Ok(End::Interrupted(Interruption::disconnected("the server did not open a stream"))),
        };
        self.shared.connected.store(false, Relaxed);
        end
    }

    async fn converse(&mut self, mut session: Session, outgoing: Outgoing) -> Result<End, Stopped> {
        loop {
            let Some(front) = self.backlog.front_mut() else { return Ok(End::Delivered) };
            front.refill();
            let Some(front) = self.backlog.front() else { return Ok(End::Delivered) };
            let outcome = self.closing.and_then(|closing| closing.outcome).filter(|_| !self.backlog.has_next());
            if session.opened && front.is_delivered() {
                match outcome {
                    None => return Ok(End::Delivered),
                    Some(_) if session.finish_sent => return self.say_goodbye(session, outgoing).await,
                    Some(_) => {}
                }
            }
            let finish_due = outcome.filter(|_| front.is_sent() && !session.finish_sent);
            let can_send = session.opened && (front.can_send() || finish_due.is_some());
            let owes_answer = !session.opened || front.awaits_answer();
            if owes_answer && !session.owes_answer {
                session.stuck_since = Instant::now();
            }
            session.owes_answer = owes_answer;
            let stop = self.stop();
            tokio::select! {
                message = session.incoming.message() => match message {
                    Ok(Some(v1::ServerMessage { message: Some(message) })) => {
                        if let Err(interruption) = self.receive(&mut session, message) {
                            return Ok(End::Interrupted(interruption));
                        }
                    }
                    Ok(Some(v1::ServerMessage { message: None })) => {
                        return Ok(End::Interrupted(Interruption::protocol("a message of an unknown kind")));
                    }
                    Ok(None) => {
                        return Ok(End::Interrupted(Interruption::disconnected("the server ended the stream")));
                    }
                    Err(status) => return Ok(End::Interrupted(Interruption::of_stream(status))),
                },
                message = self.messages.recv(), if self.closing.is_none() => self.take(message),
                permit = outgoing.reserve(), if can_send => {
                    let Ok(permit) = permit else {
                        return Ok(End::Interrupted(Interruption::disconnected("the connection is gone")));
                    };
                    session.last_sent = Instant::now();
                    let Some(front) = self.backlog.front_mut() else { continue };
                    if let Some(message) = front.next_message(session.max_message_bytes) {
                        permit.send(wrap(message));
                    } else if let Some(outcome) = finish_due {
                        let finish = v1::Finish { outcome: outcome.into(), last_seq: front.last_seq() };
                        permit.send(wrap(client_message::Message::Finish(finish)));
                        session.finish_sent = true;
                        self.finish_sent = true;
                    }
                    self.backlog.publish();
                }
                () = sleep_until(session.last_sent + session.heartbeat), if session.opened => {
                    // A full channel means that something is on its way already.
                    let _ = outgoing.try_send(wrap(client_message::Message::Heartbeat(v1::Heartbeat {})));
                    session.last_sent = Instant::now();
                }
                () = sleep_until(session.stuck_since + self.connection.stall_timeout), if owes_answer => {
                    return Ok(End::Interrupted(Interruption::disconnected("the server stopped acknowledging frames")));
                }
                () = stop => return Err(Stopped),
            }
        }
    }

    fn receive(&mut self, session: &mut Session, message: server_message::Message) -> Result<(), Interruption> {
        use server_message::Message;
        if session.opened == matches!(message, Message::Opened(_)) {
            return Err(Interruption::protocol("Opened is not the first message, or not the only one"));
        }
        // A session has a front attempt from its beginning to its end.
        let Some(front) = self.backlog.front_mut() else { return Ok(()) };
        let fault = |fault| Interruption::protocol(fault);
        match message {
            Message::Opened(opened) if opened.committed_seq < front.settled_seq() => {
                // They are not here any more either: coming again cannot bring them back.
                return Err(Interruption::refused(format!(
                    "the server has lost acknowledged frames: it has {} of {}; was its data restored or deleted?",
                    opened.committed_seq,
                    front.settled_seq()
                )));
            }
            Message::Opened(opened) => {
                front.on_opened(&opened).map_err(fault)?;
                session.opened = true;
                session.stuck_since = Instant::now();
                session.heartbeat = heartbeat(opened.heartbeat_ms);
                if let Some(max_message_bytes) = max_message_bytes(opened.limits.as_ref()) {
                    session.max_message_bytes = max_message_bytes;
                }
                self.shared.max_frame_bytes.store(max_frame_bytes(session.max_message_bytes), Relaxed);
                self.shared.set_segment(opened.segment);
                self.shared.connected.store(true, Relaxed);
                self.shared.interrupt(None);
                tracing::info!(
                    segment = opened.segment,
                    committed_seq = opened.committed_seq,
                    resend_from_seq = opened.resend_from_seq,
                    "connected"
                );
                self.logged_absence = false;
            }
            Message::Ack(ack) => {
                // Only progress proves a server: one that opens and breaks again is met with growing delays.
                if front.on_ack(&ack).map_err(fault)? {
                    self.backoff.reset();
                    session.stuck_since = Instant::now();
                }
            }
            Message::Resend(resend) => front.on_resend(&resend).map_err(fault)?,
            Message::Rejected(rejected) => {
                if front.on_rejected(rejected.seq).map_err(fault)? {
                    self.note_rejection(&rejected);
                }
            }
            Message::Drain(drain) => {
                return Err(Interruption::drained(Duration::from_millis(drain.reconnect_after_ms)));
            }
        }
        self.backlog.publish();
        Ok(())
    }

    fn note_rejection(&mut self, rejected: &v1::Rejected) {
        let code = rejected.code();
        let (field, message) = (quote(&rejected.field), quote(&rejected.message));
        self.shared.quote_rejection(format!("frame {}: {field}: {message} ({})", rejected.seq, code.as_str_name()));
        if !self.logged_codes.contains(&code) {
            tracing::warn!(code = code.as_str_name(), seq = rejected.seq, field, message, "server rejected a frame");
            self.logged_codes.push(code);
        }
    }

    /// Everything is settled and the server was told that the run is over: ends our side and waits for its own, so
    /// that a process which exits now takes nothing with it that is still on its way.
    async fn say_goodbye(&mut self, session: Session, outgoing: Outgoing) -> Result<End, Stopped> {
        let mut incoming = session.incoming;
        drop(outgoing);
        let goodbye = timeout(GOODBYE, async {
            while let Some(message) = incoming.message().await.map_err(Interruption::of_stream)? {
                if let Some(server_message::Message::Drain(drain)) = message.message {
                    // It may have left before it read that the run is over.
                    return Err(Interruption::drained(Duration::from_millis(drain.reconnect_after_ms)));
                }
            }
            Ok(())
        });
        match self.meanwhile(goodbye).await? {
            Ok(Err(interruption)) => Ok(End::Interrupted(interruption)),
            // A server that keeps its side open has had the time to read ours.
            Ok(Ok(())) | Err(_) => Ok(End::Finished),
        }
    }
}

fn wrap(message: client_message::Message) -> v1::ClientMessage {
    v1::ClientMessage { message: Some(message) }
}

fn max_message_bytes(limits: Option<&v1::Limits>) -> Option<usize> {
    limits.map(|limits| limits.max_message_bytes).filter(|&bytes| bytes > 0).map(|bytes| {
        // More than our address space is no limit.
        usize::try_from(bytes).unwrap_or(usize::MAX)
    })
}

fn heartbeat(heartbeat_ms: u64) -> Duration {
    match heartbeat_ms {
        0 => DEFAULT_HEARTBEAT,
        ms => (Duration::from_millis(ms) / 2).clamp(MIN_HEARTBEAT, MAX_HEARTBEAT),
    }
}
