//! How a run ends: closed with an outcome, let go of, or dropped.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use gradwatch_proto::v1;

use super::{Run, WAIT_INTERVAL};
use crate::builder::MAX_TIMEOUT;
use crate::handover::Message;
use crate::status::CloseReport;

/// How long the uploader may go on after a run is dropped without being closed.
const DROP_FLUSH: Duration = Duration::from_secs(2);
/// How long the uploader may go on at the close timeout to bring the spool in order.
const SPOOL_LET_GO: Duration = Duration::from_secs(2);

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did what it was to do.
    Finished,
    /// It failed.
    Failed,
    /// It was stopped by its scheduler and may come back.
    Preempted,
}

impl Outcome {
    fn to_wire(self) -> v1::Outcome {
        match self {
            Self::Finished => v1::Outcome::Finished,
            Self::Failed => v1::Outcome::Failed,
            Self::Preempted => v1::Outcome::Preempted,
        }
    }

    pub(crate) fn from_wire(outcome: i32) -> Option<Self> {
        match v1::Outcome::try_from(outcome).ok()? {
            v1::Outcome::Unspecified => None,
            v1::Outcome::Finished => Some(Self::Finished),
            v1::Outcome::Failed => Some(Self::Failed),
            v1::Outcome::Preempted => Some(Self::Preempted),
        }
    }
}

impl Run {
    /// Another limit to how long [`Run::close`] waits.
    #[must_use]
    pub fn with_close_timeout(mut self, timeout: Duration) -> Self {
        self.close_timeout = timeout.min(MAX_TIMEOUT);
        self
    }

    /// Ends the run as finished: delivers what is left, up to the close timeout, and says what was not delivered. With a
    /// spool that waits there, and the run's end too: for a server that is away nobody waits longer than 5 s then, and offline for
    /// nothing.
    pub fn close(self) -> CloseReport {
        self.close_with(Outcome::Finished)
    }

    /// Ends the run with an outcome, see [`Run::close`].
    pub fn close_with(mut self, outcome: Outcome) -> CloseReport {
        self.closed = true;
        let outcome = outcome.to_wire();
        let deadline = Instant::now() + self.close_timeout;
        // Nobody to tell means nobody to wait for either: an uploader that has ended, for whatever reason, has dropped
        // its end of both channels. Otherwise it ends when it is done, and at the deadline at the latest.
        let _ = self.handover.end(Message::Finish { outcome, deadline });
        let let_go = if self.spool_dir.is_some() { SPOOL_LET_GO } else { Duration::ZERO };
        let _ = self.uploader_ended.recv_timeout(self.close_timeout + let_go);
        self.report(Instant::now() >= deadline)
    }

    /// Lets the run go without saying that the job is over, for whoever does not know how it ends: delivers what is left, up
    /// to `timeout`. The server will notice the silence.
    pub fn abandon(mut self, timeout: Duration) {
        self.closed = true;
        let timeout = timeout.min(MAX_TIMEOUT);
        // As for `close`.
        let _ = self.handover.end(Message::Stop { deadline: Instant::now() + timeout });
        let _ = self.uploader_ended.recv_timeout(timeout);
    }

    fn report(&self, timed_out: bool) -> CloseReport {
        let status = self.shared.status();
        let words = self.shared.words();
        let unsettled = status.submitted.saturating_sub(status.settled + status.dropped + status.rejected);
        // Rejected frames are on disk until the server's mark has passed them.
        let spooled = status.spooled.min(unsettled);
        let undelivered = unsettled - spooled;
        let finished = self.shared.finished.load(Relaxed);
        let incomplete = unsettled > 0 || !finished;
        let end_spooled = !finished && self.shared.end_spooled.load(Relaxed);
        let spool_dir = self.spool_dir.clone().filter(|_| spooled > 0 || end_spooled);
        let reason = words.refusal.or_else(|| {
            if self.offline {
                let lacks = undelivered > 0 || !end_spooled;
                return words.spool_problem.filter(|_| lacks);
            }
            let cause = words.interruption.unwrap_or_else(|| "the server did not answer in time".to_owned());
            let waited = if timed_out { format!(" within {:?}", self.close_timeout) } else { String::new() };
            incomplete.then(|| format!("the run's end was not confirmed{waited}: {cause}"))
        });
        CloseReport {
            submitted: status.submitted,
            settled: status.settled,
            dropped: status.dropped,
            rejected: status.rejected,
            spooled,
            undelivered,
            spool_dir,
            reason,
            rejections: words.rejections.into(),
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if !self.closed {
            let deadline = Instant::now() + DROP_FLUSH;
            // An uploader that has ended needs no telling.
            let _ = self.handover.end(Message::Stop { deadline });
            let is_waited_for = self.spool_dir.is_some() && self.process_id == std::process::id();
            while is_waited_for && !self.shared.stopping.load(Relaxed) && Instant::now() < deadline {
                if self.uploader_ended.recv_timeout(WAIT_INTERVAL) != Err(RecvTimeoutError::Timeout) {
                    break;
                }
            }
        }
    }
}
