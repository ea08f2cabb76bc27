//! The peer: settles frames in order and answers as the protocol says, unless its script says otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use gradwatch_proto::v1::client_message::Message as FromClient;
use gradwatch_proto::v1::server_message::Message as ToClient;
use gradwatch_proto::v1::telemetry_server::{Telemetry, TelemetryServer};
use gradwatch_proto::v1::{self, OpenRunRequest, OpenRunResponse};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

/// What the peer does out of the ordinary.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// Frames are committed and acknowledged. Otherwise they are held, and lost with the stream.
    pub(crate) commits: bool,
    /// The stream breaks, once each, before these sequence numbers are committed.
    pub(crate) break_before: BTreeSet<u64>,
    /// The stream breaks, once each, after these were committed and before the acknowledgement.
    pub(crate) break_after: BTreeSet<u64>,
    /// The run is deleted, and the stream breaks, before these sequence numbers are committed.
    pub(crate) delete_before: BTreeSet<u64>,
    /// A frame that gets lost, once each, and is asked for again.
    pub(crate) lose: BTreeSet<u64>,
    /// Frames found invalid.
    pub(crate) reject: BTreeSet<u64>,
    /// The server goes away, once each, after these.
    pub(crate) drain_after: BTreeSet<u64>,
    /// Frames below the mark that it keeps asking the client to keep.
    pub(crate) keep: u64,
    /// Frames below the mark that it wants again when a stream opens.
    pub(crate) refill: u64,
    /// The answer to OpenRun.
    pub(crate) refuse_open: Option<Status>,
    /// What it says right after Opened, or instead of it.
    pub(crate) lie: Option<Lie>,
    pub(crate) max_message_bytes: u64,
    pub(crate) heartbeat_ms: u64,
}

/// Something that no honest server says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Lie {
    AckBeyondSent,
    KeepBeyondAck,
    OpenedBeyondSent,
    OpenedBelowAcknowledged,
    ResendBeyondSent,
    ResendForever,
    RejectBeyondSent,
    OpenedTwice,
    AckBeforeOpened,
    EmptyMessage,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            commits: true,
            break_before: BTreeSet::new(),
            break_after: BTreeSet::new(),
            delete_before: BTreeSet::new(),
            lose: BTreeSet::new(),
            reject: BTreeSet::new(),
            drain_after: BTreeSet::new(),
            keep: 0,
            refill: 0,
            refuse_open: None,
            lie: None,
            max_message_bytes: 16 << 20,
            heartbeat_ms: 1000,
        }
    }
}

/// What the peer knows of one attempt.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attempt {
    pub(crate) request: OpenRunRequest,
    pub(crate) committed_seq: u64,
    /// In order of settlement.
    pub(crate) frames: Vec<v1::Frame>,
    pub(crate) dropped: Vec<v1::Dropped>,
    /// Sequence numbers that refilled windows, one list a stream.
    pub(crate) refills: Vec<Vec<u64>>,
    /// Snapshots in frames that only refilled windows.
    pub(crate) refilled_snapshots: usize,
    pub(crate) finish: Option<v1::Finish>,
    pub(crate) streams: usize,
    pub(crate) heartbeats: usize,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    /// By attempt id.
    pub(crate) attempts: BTreeMap<String, Attempt>,
    /// Attempt ids in the order of their first opening.
    pub(crate) order: Vec<String>,
    /// Calls of OpenRun.
    pub(crate) opens: usize,
    /// Streams of any attempt, known or not.
    pub(crate) streams: usize,
    /// What the client did against the protocol.
    pub(crate) faults: Vec<String>,
    /// The longest message, in bytes.
    pub(crate) longest_message_bytes: usize,
}

impl State {
    /// The attempt that was opened as number `n`.
    pub(crate) fn attempt(&self, n: usize) -> &Attempt {
        &self.attempts[&self.order[n]]
    }
}

#[derive(Clone)]
struct Service {
    state: Arc<Mutex<State>>,
    script: Arc<watch::Sender<Script>>,
}

pub(crate) struct Peer {
    service: Service,
    address: SocketAddr,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Peer {
    pub(crate) fn start(script: Script) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), script)
    }

    pub(crate) fn start_at(address: SocketAddr, script: Script) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let guard = runtime.enter();
        let incoming = TcpIncoming::bind(address).unwrap().with_nodelay(Some(true));
        drop(guard);
        let address = incoming.local_addr().unwrap();
        let service = Service { state: Arc::default(), script: Arc::new(watch::Sender::new(script)) };
        let server = TelemetryServer::new(service.clone()).max_decoding_message_size(64 << 20);
        runtime.spawn(Server::builder().add_service(server).serve_with_incoming(incoming));
        Self { service, address, runtime: Some(runtime) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.service.state.lock().unwrap()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Script)) {
        self.service.script.send_modify(change);
    }

    /// The attempt opened as number `n`, checked: the client kept the protocol, and every sequence number was settled
    /// once, in order.
    #[track_caller]
    pub(crate) fn checked_attempt(&self, n: usize) -> Attempt {
        let state = self.state();
        assert_eq!(state.faults, [""; 0]);
        let attempt = state.attempt(n).clone();
        let mut seqs: Vec<(u64, u64)> = attempt.frames.iter().map(|frame| (frame.seq, frame.seq)).collect();
        seqs.extend(attempt.dropped.iter().map(|dropped| (dropped.from_seq, dropped.to_seq)));
        seqs.sort_unstable();
        let mut expected = 1;
        for (from, to) in seqs {
            assert_eq!(from, expected, "settled once, without a hole");
            expected = to + 1;
        }
        assert_eq!(attempt.committed_seq, expected - 1);
        assert!(attempt.frames.is_sorted_by_key(|frame| frame.seq));
        assert!(attempt.frames.is_sorted_by(|a, b| a.step < b.step));
        attempt
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[tonic::async_trait]
impl Telemetry for Service {
    type StreamFramesStream = ReceiverStream<Result<v1::ServerMessage, Status>>;

    async fn open_run(&self, request: Request<OpenRunRequest>) -> Result<Response<OpenRunResponse>, Status> {
        let request = request.into_inner();
        let script = self.script.borrow().clone();
        let mut state = self.state.lock().unwrap();
        state.opens += 1;
        if let Some(status) = script.refuse_open {
            return Err(status);
        }
        let id = request.attempt.as_ref().unwrap().attempt_id.clone();
        if !state.attempts.contains_key(&id) {
            state.order.push(id.clone());
            state.attempts.insert(id.clone(), Attempt { request: request.clone(), ..Attempt::default() });
        }
        if undated(&state.attempts[&id].request) != undated(&request) {
            state.faults.push("OpenRun changed".to_owned());
        }
        let segment = state.order.iter().position(|other| *other == id).unwrap() as u32;
        Ok(Response::new(OpenRunResponse { segment, limits: Some(limits(&script)) }))
    }

    async fn stream_frames(
        &self,
        request: Request<Streaming<v1::ClientMessage>>,
    ) -> Result<Response<Self::StreamFramesStream>, Status> {
        let (answers, stream) = mpsc::channel(1000);
        let service = self.clone();
        tokio::spawn(async move {
            let answer = answers.clone();
            if let Err(status) = service.converse(request.into_inner(), answers).await {
                let _ = answer.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn close_run(&self, _: Request<v1::CloseRunRequest>) -> Result<Response<v1::CloseRunResponse>, Status> {
        Err(Status::unimplemented("not part of this peer"))
    }
}

/// Another process that goes on with an attempt starts at another time.
fn undated(request: &OpenRunRequest) -> OpenRunRequest {
    let attempt = request.attempt.clone().map(|attempt| v1::Attempt { started_at_us: 0, ..attempt });
    OpenRunRequest { attempt, ..request.clone() }
}

type Answers = mpsc::Sender<Result<v1::ServerMessage, Status>>;

async fn say(answers: &Answers, message: ToClient) {
    let _ = answers.send(Ok(v1::ServerMessage { message: Some(message) })).await;
}

fn limits(script: &Script) -> v1::Limits {
    v1::Limits { max_message_bytes: script.max_message_bytes, ..v1::Limits::default() }
}

fn broken() -> Status {
    Status::unavailable("broken by the script")
}

/// One thing to settle.
enum Item {
    Frame(v1::Frame),
    Dropped(v1::Dropped),
}

impl Item {
    fn bounds(&self) -> (u64, u64) {
        match self {
            Self::Frame(frame) => (frame.seq, frame.seq),
            Self::Dropped(dropped) => (dropped.from_seq, dropped.to_seq),
        }
    }
}

/// What a stream may send next: what follows, or once per Resend something older.
#[derive(Debug, Default)]
struct Cursor {
    next_seq: Option<u64>,
    resends: u32,
}

impl Cursor {
    fn moves_to(&mut self, from_seq: u64, to_seq: u64) -> bool {
        let next_seq = self.next_seq.replace(to_seq + 1).unwrap_or(from_seq);
        let goes_back = from_seq < next_seq && self.resends > 0;
        self.resends -= u32::from(goes_back);
        goes_back || from_seq == next_seq
    }
}

impl Service {
    fn with<T>(&self, id: &str, act: impl FnOnce(&mut Attempt) -> T) -> T {
        act(self.state.lock().unwrap().attempts.get_mut(id).unwrap())
    }

    fn fault(&self, fault: String) {
        self.state.lock().unwrap().faults.push(fault);
    }

    async fn converse(&self, mut incoming: Streaming<v1::ClientMessage>, answers: Answers) -> Result<(), Status> {
        let Some(v1::ClientMessage { message: Some(FromClient::Open(open)) }) = incoming.message().await? else {
            self.fault("the first message is not Open".to_owned());
            return Err(Status::invalid_argument("Open"));
        };
        let id = open.attempt_id;
        let mut script = self.script.subscribe();
        let now = script.borrow_and_update().clone();
        let committed_seq = {
            let mut state = self.state.lock().unwrap();
            state.streams += 1;
            let Some(attempt) = state.attempts.get_mut(&id) else {
                return Err(Status::not_found("no such run"));
            };
            attempt.streams += 1;
            attempt.refills.push(Vec::new());
            attempt.committed_seq
        };
        let segment = self.state.lock().unwrap().order.iter().position(|other| *other == id).unwrap() as u32;
        let opened = v1::Opened {
            segment,
            committed_seq: match now.lie {
                Some(Lie::OpenedBeyondSent) => 1 << 40,
                Some(Lie::OpenedBelowAcknowledged) => committed_seq - 1,
                _ => committed_seq,
            },
            resend_from_seq: (committed_seq + 1).saturating_sub(now.refill).max(1),
            limits: Some(limits(&now)),
            server_time_us: 0,
            heartbeat_ms: now.heartbeat_ms,
        };
        if let Some(lie) = now.lie {
            return lie_about(lie, opened, committed_seq, incoming, &answers).await;
        }
        say(&answers, ToClient::Opened(opened)).await;

        let mut cursor = Cursor::default();
        let mut held = Vec::new();
        loop {
            tokio::select! {
                message = incoming.message() => {
                    let Some(message) = message? else { return Ok(()) };
                    self.note_length(&message);
                    match message.message {
                        Some(FromClient::Frames(batch)) => {
                            for frame in batch.frames {
                                self.receive(&id, Item::Frame(frame), &mut cursor, &mut held, &answers).await?;
                            }
                        }
                        Some(FromClient::Dropped(dropped)) => {
                            self.receive(&id, Item::Dropped(dropped), &mut cursor, &mut held, &answers).await?;
                        }
                        Some(FromClient::Heartbeat(_)) => self.with(&id, |attempt| attempt.heartbeats += 1),
                        Some(FromClient::Finish(finish)) => self.with(&id, |attempt| attempt.finish = Some(finish)),
                        other => self.fault(format!("{other:?} after Open")),
                    }
                }
                _ = script.changed() => {}
            }
            self.commit(&id, &mut held, &answers).await?;
        }
    }

    fn note_length(&self, message: &v1::ClientMessage) {
        let mut state = self.state.lock().unwrap();
        state.longest_message_bytes = state.longest_message_bytes.max(prost::Message::encoded_len(message));
    }

    async fn receive(
        &self,
        id: &str,
        item: Item,
        cursor: &mut Cursor,
        held: &mut Vec<Item>,
        answers: &Answers,
    ) -> Result<(), Status> {
        let (from_seq, to_seq) = item.bounds();
        let committed_seq = self.with(id, |attempt| attempt.committed_seq);
        if !cursor.moves_to(from_seq, to_seq) {
            self.fault(format!("seq {from_seq} does not follow on {cursor:?}"));
        }
        if to_seq <= committed_seq {
            let snapshots = if let Item::Frame(frame) = &item { frame.snapshots.len() } else { 0 };
            self.with(id, |attempt| {
                attempt.refills.last_mut().unwrap().push(from_seq);
                attempt.refilled_snapshots += snapshots;
            });
            return Ok(());
        }
        if self.once(from_seq, |script| &mut script.lose) {
            held.retain(|item| item.bounds().1 < from_seq);
            cursor.resends += 1;
            say(answers, ToClient::Resend(v1::Resend { from_seq })).await;
            return Ok(());
        }
        let next_seq = held.last().map_or(committed_seq, |item| item.bounds().1) + 1;
        if from_seq > next_seq {
            // After a hole, until the resent frames arrive.
            return Ok(());
        }
        if from_seq == next_seq {
            held.push(item);
        }
        Ok(())
    }

    async fn commit(&self, id: &str, held: &mut Vec<Item>, answers: &Answers) -> Result<(), Status> {
        if !self.script.borrow().commits || held.is_empty() {
            return Ok(());
        }
        for item in held.drain(..) {
            let (_, seq) = item.bounds();
            if self.once(seq, |script| &mut script.break_before) {
                return Err(broken());
            }
            if self.once(seq, |script| &mut script.delete_before) {
                let mut state = self.state.lock().unwrap();
                state.attempts.clear();
                state.order.clear();
                return Err(broken());
            }
            if self.script.borrow().reject.contains(&seq) {
                let code = v1::RejectCode::Invalid.into();
                let (field, message) = ("scalars".to_owned(), "not liked".to_owned());
                say(answers, ToClient::Rejected(v1::Rejected { seq, code, field, message })).await;
            }
            if self.once(seq, |script| &mut script.drain_after) {
                say(answers, ToClient::Drain(v1::Drain { reconnect_after_ms: 1 })).await;
                return Ok(());
            }
            self.with(id, |attempt| {
                attempt.committed_seq = seq;
                match item {
                    Item::Frame(frame) => attempt.frames.push(frame),
                    Item::Dropped(dropped) => attempt.dropped.push(dropped),
                }
            });
            if self.once(seq, |script| &mut script.break_after) {
                return Err(broken());
            }
            let keep_from_seq = (seq + 1).saturating_sub(self.script.borrow().keep).max(1);
            say(answers, ToClient::Ack(v1::Ack { committed_seq: seq, keep_from_seq })).await;
        }
        Ok(())
    }

    /// Whether the script has something for this number, which it then has no more.
    fn once(&self, seq: u64, set: impl FnOnce(&mut Script) -> &mut BTreeSet<u64>) -> bool {
        let mut found = false;
        self.script.send_if_modified(|script| {
            found = set(script).remove(&seq);
            false
        });
        found
    }
}

async fn lie_about(
    lie: Lie,
    opened: v1::Opened,
    committed_seq: u64,
    mut incoming: Streaming<v1::ClientMessage>,
    answers: &Answers,
) -> Result<(), Status> {
    let ack = |committed_seq, keep_from_seq| ToClient::Ack(v1::Ack { committed_seq, keep_from_seq });
    if lie != Lie::AckBeforeOpened {
        say(answers, ToClient::Opened(opened)).await;
    }
    match lie {
        Lie::AckBeyondSent => say(answers, ack(1 << 40, 1)).await,
        Lie::KeepBeyondAck => say(answers, ack(committed_seq, u64::MAX)).await,
        Lie::OpenedBeyondSent | Lie::OpenedBelowAcknowledged => {}
        Lie::ResendBeyondSent => say(answers, ToClient::Resend(v1::Resend { from_seq: u64::MAX })).await,
        Lie::ResendForever => {
            while incoming.message().await?.is_some() {
                say(answers, ToClient::Resend(v1::Resend { from_seq: 1 })).await;
            }
        }
        Lie::RejectBeyondSent => {
            say(answers, ToClient::Rejected(v1::Rejected { seq: u64::MAX, ..v1::Rejected::default() })).await;
        }
        Lie::OpenedTwice => say(answers, ToClient::Opened(opened)).await,
        Lie::AckBeforeOpened => say(answers, ack(0, 1)).await,
        Lie::EmptyMessage => {
            let _ = answers.send(Ok(v1::ServerMessage { message: None })).await;
        }
    }
    // The client is the one who leaves.
    answers.closed().await;
    Ok(())
}
