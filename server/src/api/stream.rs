//! `stream`: what is committed, as it is committed, by server-sent events.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Extension,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response, Sse, sse},
};
use futures_util::{Stream, StreamExt, stream};
use gradwatch_store::RunId;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use utoipa::IntoParams;

use super::{
    message::{self, Filter, MessageType},
    openapi::Problems,
    params::{FromParams, Params, Query},
    refusal::Answer,
    selection::SegmentChoice,
};
use crate::{
    access::Caller,
    error::{Error, ErrorCode},
    metrics::Metrics,
    recorder::{Hub, Publication, Resume},
    state::AppState,
};

/// A silent stream says something this often, so that proxies keep it and dead listeners are noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// When a listener that lost its connection should come back.
const RECONNECT: Duration = Duration::from_secs(2);

/// How many more streams may be opened.
#[derive(Clone, Debug)]
pub(crate) struct Slots(pub(crate) Arc<Semaphore>);

impl Slots {
    /// Takes the place of one more stream.
    pub(super) fn take(&self, metrics: &Arc<Metrics>) -> Result<Slot, Error> {
        let permit = Arc::clone(&self.0).try_acquire_owned().map_err(|_| {
            let error = Error::new(ErrorCode::ResourceExhausted, "as many streams are open as api.max_streams allows");
            error.retry_after(Duration::from_secs(5))
        })?;
        Ok(Slot::new(permit, Arc::clone(metrics)))
    }
}

/// What to listen to.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct StreamQuery {
    /// Only of this project.
    #[param(value_type = Option<String>)]
    project: Option<String>,
    /// Only of these runs; repeated or separated by commas.
    #[param(value_type = Option<Vec<String>>, rename = "run")]
    runs: Vec<RunId>,
    /// Only messages of these types: `reading`, `layer_reading`, `event`, `run`; repeated or separated by commas.
    #[param(value_type = Option<Vec<String>>)]
    types: Vec<MessageType>,
    /// `live` (what no later attempt rewound) or `all`.
    #[param(value_type = Option<String>, default = "live")]
    segment: SegmentChoice,
    /// As the header `Last-Event-ID`, which wins over it: goes on behind this commit.
    #[param(value_type = Option<String>)]
    last_event_id: Option<u64>,
}

impl FromParams for StreamQuery {
    fn from_params(params: &mut Params) -> Result<Self, Error> {
        let segment = params.parsed("segment")?.unwrap_or(SegmentChoice::Live);
        if let SegmentChoice::One(_) = segment {
            return Err(Error::invalid("segment", "must be live or all"));
        }
        let run =
            |text: String| text.parse().map_err(|error| Error::invalid("run", format!("{text:?} is no UUID: {error}")));
        let message_type = |text: String| text.parse().map_err(|error: String| Error::invalid("types", error));
        Ok(Self {
            project: params.project()?,
            runs: params.list("run")?.into_iter().map(run).collect::<Result<_, _>>()?,
            types: params.list("types")?.into_iter().map(message_type).collect::<Result<_, _>>()?,
            segment,
            last_event_id: params.parsed("last_event_id")?,
        })
    }
}

/// Streams readings, events and changes of runs as they are committed. The id of a message is the commit sequence;
/// `Last-Event-ID` goes on behind it. A `reset` message says that something was missed and the present state must be
/// read again; a `drain` message that the server shuts down.
#[utoipa::path(get, operation_id = "listen", path = "/api/v1/stream", tag = "events",
    params(StreamQuery, ("Last-Event-ID" = Option<String>, Header, description = "Goes on behind this commit")),
    responses((status = 200, body = String, content_type = "text/event-stream"), Problems))]
pub(crate) async fn listen(
    State(state): State<AppState>,
    caller: Caller,
    Extension(slots): Extension<Slots>,
    Query(query): Query<StreamQuery>,
    headers: HeaderMap,
) -> Answer<Response> {
    let after = last_event_id(&headers)?.or(query.last_event_id);
    let slot = slots.take(&state.metrics)?;
    let filter = Filter {
        project: query.project,
        runs: query.runs,
        types: query.types,
        live_only: query.segment == SegmentChoice::Live,
    };
    let ended = Box::pin(state.access.ended(caller));
    let listener = Listener::new(state.hub, state.draining, filter, after, slot).into_stream().take_until(ended);
    Ok(([("x-accel-buffering", "no")], Sse::new(listener)).into_response())
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Error> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    // A browser that never saw an id sends none, but some clients send an empty one.
    if text.is_empty() && value.is_empty() {
        return Ok(None);
    }
    let sequence =
        text.parse().map_err(|error| Error::invalid("last-event-id", format!("is no commit sequence: {error}")))?;
    Ok(Some(sequence))
}

/// Holds the place of one open stream, and counts it.
pub(super) struct Slot {
    _permit: OwnedSemaphorePermit,
    metrics: Arc<Metrics>,
}

impl Slot {
    fn new(permit: OwnedSemaphorePermit, metrics: Arc<Metrics>) -> Self {
        metrics.live_streams_opened.inc();
        Self { _permit: permit, metrics }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.metrics.live_streams_closed.inc();
    }
}

/// One open stream.
///
/// Invariant: it is driven by the connection's reads, and between two of them it holds no publication, only the messages
/// of one part of a commit. A listener that does not read stays at its place and is reset when that has left the hub's
/// ring, be it in the middle of a commit: that commit's id was not told then.
struct Listener {
    hub: Arc<Hub>,
    commits: watch::Receiver<u64>,
    draining: CancellationToken,
    filter: Filter,
    /// Messages to be sent.
    ready: VecDeque<sse::Event>,
    /// The newest message of the commit that is being sent, held back until it is known whether it is the last.
    held: Option<(MessageType, String)>,
    /// The last commit whose id the listener was told.
    told_seq: u64,
    /// The last commit looked at whole, and how many parts of the one behind it were.
    seen_seq: u64,
    seen_parts: usize,
    /// When something has to be said at the latest.
    silent_until: Instant,
    ended: bool,
    _slot: Slot,
}

impl Listener {
    fn new(hub: Arc<Hub>, draining: CancellationToken, filter: Filter, after: Option<u64>, slot: Slot) -> Self {
        let commits = hub.subscribe();
        let start = after.unwrap_or(*commits.borrow());
        let resume = hub.after(start, 0);
        let mut listener = Self {
            hub,
            commits,
            draining,
            filter,
            ready: VecDeque::new(),
            held: None,
            told_seq: start,
            seen_seq: start,
            seen_parts: 0,
            silent_until: Instant::now() + KEEP_ALIVE,
            ended: false,
            _slot: slot,
        };
        // Without data this is no message: it sets the listener's last event id and reconnection time, so that one who
        // loses the connection before the first message can resume too.
        let hello = sse::Event::default().retry(RECONNECT);
        match resume {
            Resume::Part { .. } | Resume::UpToDate => listener.ready.push_back(hello.id(start.to_string())),
            Resume::Reset { last_seq } => {
                listener.ready.push_back(hello);
                listener.reset("too_old", last_seq);
            }
        }
        listener
    }

    fn into_stream(self) -> impl Stream<Item = Result<sse::Event, Infallible>> + Send {
        stream::unfold(self, |mut listener| async move {
            let event = listener.next().await?;
            Some((Ok(event), listener))
        })
    }

    async fn next(&mut self) -> Option<sse::Event> {
        loop {
            if self.ended {
                return None;
            }
            if self.draining.is_cancelled() {
                // What is still to be sent is dropped: its commit's id was not told, so a resume gets it whole.
                self.ended = true;
                return Some(sse::Event::default().event("drain").retry(RECONNECT).data("{}"));
            }
            if let Some(event) = self.ready.pop_front() {
                self.silent_until = Instant::now() + KEEP_ALIVE;
                return Some(event);
            }
            // Asked here and not only while waiting: commits that the filter leaves out may come without a pause.
            if Instant::now() >= self.silent_until {
                let sign = self.sign_of_life();
                self.ready.push_back(sign);
                continue;
            }
            if self.advance() {
                continue;
            }
            tokio::select! {
                biased;
                () = self.draining.cancelled() => {}
                // The hub, which we hold, holds the other end: an error cannot be, and would otherwise spin here.
                woken = self.commits.changed() => self.ended = woken.is_err(),
                () = sleep_until(self.silent_until) => {}
            }
        }
    }

    /// Takes what comes next from the hub; whether there was anything.
    fn advance(&mut self) -> bool {
        match self.hub.after(self.seen_seq, self.seen_parts) {
            Resume::Part { part, is_last } => self.take(&part, is_last),
            Resume::UpToDate => return false,
            Resume::Reset { last_seq } => self.reset("lagged", last_seq),
        }
        true
    }

    /// Queues the messages of a part of a commit. Only the last of a commit carries the id: a listener whose connection
    /// breaks between two of them then resumes behind the commit before, and gets this one whole. With the id on each,
    /// the rest of the commit would be lost.
    fn take(&mut self, part: &Publication, is_last: bool) {
        for message in message::messages(part, &self.filter) {
            if let Some(before) = self.held.replace(message) {
                self.ready.push_back(written(before));
            }
        }
        self.seen_parts += 1;
        if !is_last {
            return;
        }
        (self.seen_seq, self.seen_parts) = (part.commit_seq, 0);
        if let Some(last) = self.held.take() {
            self.ready.push_back(written(last).id(part.commit_seq.to_string()));
            self.told_seq = part.commit_seq;
        }
    }

    fn reset(&mut self, reason: &str, last_seq: u64) {
        self.held = None;
        self.told_seq = last_seq;
        (self.seen_seq, self.seen_parts) = (last_seq, 0);
        let data = format!(r#"{{"reason":"{reason}","commit_seq":"{last_seq}"}}"#);
        self.ready.push_back(sse::Event::default().event("reset").id(last_seq.to_string()).data(data));
    }

    /// A comment, or the id of the last commit when none of its messages passed the filter: otherwise a quiet listener
    /// would come back with an id so old that it is reset although it missed nothing.
    fn sign_of_life(&mut self) -> sse::Event {
        if self.told_seq < self.seen_seq {
            self.told_seq = self.seen_seq;
            sse::Event::default().id(self.told_seq.to_string())
        } else {
            sse::Event::default().comment("alive")
        }
    }
}

fn written((message_type, data): (MessageType, String)) -> sse::Event {
    sse::Event::default().event(message_type.as_str()).data(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A listener that wants nothing of what is published here.
    fn quiet_listener(hub: &Arc<Hub>) -> Listener {
        let filter = Filter { project: Some("other".into()), runs: Vec::new(), types: Vec::new(), live_only: true };
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let slot = Slot::new(permit, Arc::new(Metrics::new()));
        Listener::new(Arc::clone(hub), CancellationToken::new(), filter, None, slot)
    }

    #[tokio::test]
    async fn a_quiet_listener_is_told_how_far_it_is() {
        let hub = Arc::new(Hub::new(7, 1 << 20));
        let mut listener = quiet_listener(&hub);
        listener.next().await;
        hub.publish(Publication { commit_seq: 8, runs: Vec::new() });
        assert!(listener.advance());
        assert!(!listener.advance());
        assert!(listener.ready.is_empty());
        assert_eq!((listener.told_seq, listener.seen_seq), (7, 8));
        let _ = listener.sign_of_life();
        assert_eq!(listener.told_seq, 8);
    }

    #[tokio::test]
    async fn commits_without_a_pause_do_not_keep_a_quiet_listener_from_its_sign_of_life() {
        let hub = Arc::new(Hub::new(7, 1 << 20));
        let mut listener = quiet_listener(&hub);
        listener.next().await;
        for commit_seq in 8..=9 {
            hub.publish(Publication { commit_seq, runs: Vec::new() });
        }
        assert!(listener.advance());
        listener.silent_until = Instant::now();
        listener.next().await;
        // Said before the second commit was looked at.
        assert_eq!((listener.told_seq, listener.seen_seq), (8, 8));
        assert!(listener.silent_until > Instant::now());
    }
}
