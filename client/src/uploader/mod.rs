//! The thread that delivers frames: takes what training hands over, connects, streams, and starts again.

mod attempt;
mod backlog;
mod backoff;
mod interruption;
mod session;
mod spooled;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

use gradwatch_proto::v1;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep_until};
use tonic::transport::Endpoint;

use crate::buffer::Entry;
use crate::builder::Delivery;
use crate::credentials::Authorization;
use crate::handover::Message;
use crate::repeatable::Continuation;
use crate::shared::Shared;
use attempt::Attempt;
use backlog::Backlog;
use backoff::Backoff;
use interruption::Interruption;

pub(crate) use spooled::SpooledDelivery;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// How long a closing run waits for a server that is away, when everything is in a spool.
const AWAY_PATIENCE: Duration = Duration::from_secs(5);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Starts the thread. Gives the queue to hand frames over by, and a channel that closes when the thread has ended.
pub(crate) fn start(delivery: Delivery, shared: Arc<Shared>) -> io::Result<(UnboundedSender<Message>, Receiver<()>)> {
    let (sender, messages) = unbounded_channel();
    let (ended_sender, ended) = std::sync::mpsc::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let uploader = Uploader::new(delivery, messages, shared);
    thread::Builder::new().name("gradwatch".to_owned()).spawn(move || {
        let _ended_sender = ended_sender;
        runtime.block_on(uploader.run());
        // A name look-up that hangs must not hold the thread.
        runtime.shutdown_background();
    })?;
    Ok((sender, ended))
}

/// How a server is talked to.
pub(crate) struct Connection {
    endpoint: Endpoint,
    authorization: Authorization,
    stall_timeout: Duration,
}

impl Connection {
    pub(crate) fn new(endpoint: Endpoint, authorization: Authorization, stall_timeout: Duration) -> Self {
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        Self { endpoint, authorization, stall_timeout }
    }
}

struct Uploader {
    connection: Connection,
    offline: bool,
    messages: UnboundedReceiver<Message>,
    backlog: Backlog,
    shared: Arc<Shared>,
    backoff: Backoff,
    /// Where the first attempt goes on, until it has begun.
    continues: Option<Continuation>,
    closing: Option<Closing>,
    /// The run's end was sent at least once, after everything else.
    finish_sent: bool,
    /// Codes of rejections that were logged.
    logged_codes: Vec<v1::RejectCode>,
    /// Whether the log says that the server is away.
    logged_absence: bool,
}

/// The run is over.
#[derive(Clone, Copy, Debug)]
struct Closing {
    /// None when nobody closed the run.
    outcome: Option<v1::Outcome>,
    deadline: Instant,
    /// The deadline while there is no connection.
    away_deadline: Instant,
}

/// The deadline has passed.
struct Stopped;

/// How a session ended.
enum End {
    /// The front attempt is settled to its end, and the run goes on with the next or stops.
    Delivered,
    /// The server knows that the run is over.
    Finished,
    Interrupted(Interruption),
}

impl Uploader {
    fn new(delivery: Delivery, messages: UnboundedReceiver<Message>, shared: Arc<Shared>) -> Self {
        let backlog = Backlog::new(delivery.buffer_bytes, delivery.spool, !delivery.offline, shared.clone());
        Self {
            offline: delivery.offline,
            continues: delivery.continues,
            ..Self::of(delivery.connection, backlog, messages, shared)
        }
    }

    fn of(connection: Connection, backlog: Backlog, messages: UnboundedReceiver<Message>, shared: Arc<Shared>) -> Self {
        Self {
            connection,
            offline: false,
            messages,
            backlog,
            shared,
            backoff: Backoff::default(),
            continues: None,
            closing: None,
            finish_sent: false,
            logged_codes: Vec::new(),
            logged_absence: false,
        }
    }

    async fn run(mut self) {
        // Stopped only says why the loop ended: the counters hold all that is to be reported.
        let _: Result<(), Stopped> = self.deliver_all().await;
        self.shared.connected.store(false, Relaxed);
        self.let_go();
    }

    /// Nothing more will be delivered. What was is removed from the spool, and the rest waits there.
    fn let_go(&mut self) -> bool {
        let is_told =
            self.closing.is_some_and(|closing| closing.outcome.is_none()) || self.shared.finished.load(Relaxed);
        let is_last = !self.backlog.has_next();
        let is_over = is_told && is_last && self.backlog.front().is_some_and(Attempt::is_delivered);
        match self.backlog.front_mut().filter(|_| is_over) {
            Some(front) => front.remove(),
            None => self.shared.end_spooled.store(self.backlog.leave(), Relaxed),
        }
        is_over
    }

    /// Works through the attempts, in order, until the run is over.
    async fn deliver_all(&mut self) -> Result<(), Stopped> {
        loop {
            let is_last = !self.backlog.has_next();
            match self.backlog.front() {
                None => self.wait_for_message().await?,
                Some(_) if self.offline => self.wait_for_message().await?,
                Some(front) if !is_last && (front.is_refused() || front.is_delivered()) => self.pop(),
                Some(front) if !front.has_what_is_settled() => self.wait_for_message().await?,
                Some(front) if front.is_refused() => match self.closing {
                    Some(_) => return Ok(()),
                    None => self.wait_for_message().await?,
                },
                Some(_) => match self.session().await? {
                    End::Delivered if self.backlog.has_next() => self.pop(),
                    End::Delivered => return Ok(()),
                    End::Finished => {
                        self.shared.finished.store(true, Relaxed);
                        return Ok(());
                    }
                    End::Interrupted(interruption) => {
                        if self.interrupted(interruption).await? {
                            return Ok(());
                        }
                    }
                },
            }
        }
    }

    /// The next attempt's turn.
    fn pop(&mut self) {
        if let Some(front) = self.backlog.front_mut() {
            if front.is_delivered() {
                front.remove();
            } else {
                front.leave();
            }
        }
        self.backlog.pop();
    }

    /// Whether this ends the run.
    async fn interrupted(&mut self, interruption: Interruption) -> Result<bool, Stopped> {
        match interruption {
            Interruption::Drained { delay } => {
                tracing::info!(reconnect_after_ms = delay.as_millis() as u64, "server is going away");
                self.shared.interrupt(Some("the server is going away".to_owned()));
                self.pause(delay, false).await?;
            }
            Interruption::Disconnected { reason, retry_after } => {
                let own_delay = self.backoff.next_delay();
                let delay = retry_after.unwrap_or_default() + own_delay;
                let retry_in_ms = delay.as_millis() as u64;
                if self.logged_absence {
                    tracing::debug!(reason, retry_in_ms, "server still not available");
                } else {
                    tracing::warn!(reason, retry_in_ms, "server not available; frames are buffered");
                    self.logged_absence = true;
                    self.closing = self.closing.map(|closing| self.with_away_deadline(closing));
                }
                self.shared.interrupt(Some(reason));
                self.pause(delay, retry_after.is_none()).await?;
            }
            Interruption::Refused { reason } => {
                let is_last = !self.backlog.has_next();
                let Some(front) = self.backlog.front_mut() else { return Ok(false) };
                if self.finish_sent && front.is_delivered() && is_last {
                    // The run's end went through, and only the answer to it was lost.
                    self.shared.finished.store(true, Relaxed);
                    return Ok(true);
                }
                tracing::error!(reason, attempt_id = front.attempt_id(), "server refused the attempt");
                front.refuse();
                self.backlog.publish();
                self.shared.refuse(format!("refused by the server: {reason}"));
            }
        }
        Ok(false)
    }

    /// Waits, and keeps taking frames over meanwhile. The end of the run cuts a wait short that nobody asked for.
    async fn pause(&mut self, delay: Duration, cut_short_by_end: bool) -> Result<(), Stopped> {
        let was_closing = self.closing.is_some();
        let end = Instant::now() + delay;
        while Instant::now() < end && !(cut_short_by_end && self.closing.is_some() && !was_closing) {
            let (pause, stop) = (sleep_until(end), self.stop());
            tokio::select! {
                () = pause => break,
                message = self.messages.recv(), if self.closing.is_none() => self.take(message),
                () = stop => return Err(Stopped),
            }
        }
        Ok(())
    }

    /// Runs something that knows nothing of us, and keeps taking frames over meanwhile.
    async fn meanwhile<F: Future>(&mut self, work: F) -> Result<F::Output, Stopped> {
        tokio::pin!(work);
        loop {
            let stop = self.stop();
            tokio::select! {
                output = &mut work => return Ok(output),
                message = self.messages.recv(), if self.closing.is_none() => self.take(message),
                () = stop => return Err(Stopped),
            }
        }
    }

    async fn wait_for_message(&mut self) -> Result<(), Stopped> {
        if self.closing.is_some() {
            return Err(Stopped);
        }
        let message = self.messages.recv().await;
        self.take(message);
        Ok(())
    }

    fn take(&mut self, message: Option<Message>) {
        match message {
            Some(Message::Attempt(request)) => self.backlog.begin(*request, self.continues.take()),
            Some(Message::Entry(entry)) => {
                self.shared.queued_bytes.fetch_sub(entry.cost_bytes(), Relaxed);
                self.backlog.append(entry);
            }
            Some(Message::Lost(stretch)) => self.backlog.append(Entry::Dropped(stretch)),
            Some(Message::Finish { outcome, deadline }) => self.close(Some(outcome), deadline.into()),
            Some(Message::Stop { deadline }) => self.close(None, deadline.into()),
            // A run always says how it goes; without it nobody is left to deliver for.
            None => self.close(None, Instant::now()),
        }
    }

    fn close(&mut self, outcome: Option<v1::Outcome>, deadline: Instant) {
        self.backlog.complete();
        if let Some(outcome) = outcome {
            // Before anything else: the process may not live to see the deadline.
            self.shared.end_spooled.store(self.backlog.finish(outcome), Relaxed);
        }
        self.shared.stopping.store(true, Relaxed);
        self.closing = Some(self.with_away_deadline(Closing { outcome, deadline, away_deadline: deadline }));
    }

    /// Nobody waits long for a server that is away, if what it lacks waits in the spool, the run's end included.
    fn with_away_deadline(&self, closing: Closing) -> Closing {
        let status = self.shared.status();
        let unsettled = status.submitted.saturating_sub(status.settled + status.dropped + status.rejected);
        let waits_in_spool = self.shared.end_spooled.load(Relaxed) && unsettled <= status.spooled;
        let away_deadline =
            if waits_in_spool { closing.deadline.min(Instant::now() + AWAY_PATIENCE) } else { closing.deadline };
        Closing { away_deadline, ..closing }
    }

    /// Ends at the deadline of a closing run.
    fn stop(&self) -> impl Future<Output = ()> + use<> {
        let connected = self.shared.connected.load(Relaxed);
        let deadline = self.closing.map(|closing| if connected { closing.deadline } else { closing.away_deadline });
        async move {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        }
    }
}
