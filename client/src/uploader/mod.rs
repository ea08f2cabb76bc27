//! The thread that delivers frames: takes what training hands over, connects, streams, and starts again.

mod attempt;
mod backlog;
mod backoff;
mod interruption;
mod session;
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
use backlog::Backlog;
use backoff::Backoff;
use interruption::Interruption;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
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

struct Uploader {
    endpoint: Endpoint,
    authorization: Authorization,
    request: v1::OpenRunRequest,
    stall_timeout: Duration,
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
        let endpoint = delivery
            .endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        Self {
            endpoint,
            authorization: delivery.authorization,
            request: delivery.request,
            stall_timeout: delivery.stall_timeout,
            messages,
            backlog: Backlog::new(delivery.buffer_bytes, shared.clone()),
            shared,
            backoff: Backoff::default(),
            continues: delivery.continues,
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
    }

    /// Works through the attempts, in order, until the run is over.
    async fn deliver_all(&mut self) -> Result<(), Stopped> {
        loop {
            let is_last = !self.backlog.has_next();
            match self.backlog.front() {
                None => self.wait_for_message().await?,
                Some(front) if !is_last && (front.is_refused() || front.is_delivered()) => self.backlog.pop(),
                Some(front) if !front.has_what_is_settled() => self.wait_for_message().await?,
                Some(front) if front.is_refused() => match self.closing {
                    Some(_) => return Ok(()),
                    None => self.wait_for_message().await?,
                },
                Some(_) => match self.session().await? {
                    End::Delivered if self.backlog.has_next() => self.backlog.pop(),
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
                tracing::error!(reason, attempt_id = front.header.attempt_id, "server refused the attempt");
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
            let pause = sleep_until(end);
            tokio::select! {
                () = pause => break,
                message = self.messages.recv(), if self.closing.is_none() => self.take(message),
                () = stop(self.closing) => return Err(Stopped),
            }
        }
        Ok(())
    }

    /// Runs something that knows nothing of us, and keeps taking frames over meanwhile.
    async fn meanwhile<F: Future>(&mut self, work: F) -> Result<F::Output, Stopped> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                output = &mut work => return Ok(output),
                message = self.messages.recv(), if self.closing.is_none() => self.take(message),
                () = stop(self.closing) => return Err(Stopped),
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
            Some(Message::Attempt(header)) => self.backlog.begin(header, self.continues.take()),
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
        self.closing = Some(Closing { outcome, deadline });
    }
}

/// Ends at the deadline of a closing run.
async fn stop(closing: Option<Closing>) {
    match closing {
        Some(closing) => sleep_until(closing.deadline).await,
        None => std::future::pending().await,
    }
}
