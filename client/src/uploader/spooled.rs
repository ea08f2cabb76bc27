//! Delivering what another process left in a spool.

use std::sync::Arc;
use std::time::Duration;

use gradwatch_proto::v1;
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::Instant;

use super::attempt::Attempt;
use super::backlog::Backlog;
use super::{Closing, Connection, Stopped, Uploader};
use crate::buffer::Buffer;
use crate::shared::Shared;

/// An attempt that nothing is added to any more.
pub(crate) struct SpooledDelivery {
    pub(crate) request: v1::OpenRunRequest,
    pub(crate) buffer: Box<dyn Buffer>,
    pub(crate) buffer_bytes: usize,
    /// The server is known to have settled everything up to here.
    pub(crate) settled_seq: u64,
    pub(crate) last_seq: u64,
    /// The server is known to have had the attempt. It is then not made anew: see `Attempt::declared`.
    pub(crate) declared: bool,
    /// How the run ended, if it did.
    pub(crate) outcome: Option<i32>,
}

/// Whoever waits for a delivery gives it up before that.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

impl SpooledDelivery {
    /// Delivers all of it, however long that takes. Whether nothing is left: otherwise the server refused it.
    pub(crate) async fn run(self, connection: Connection, shared: Arc<Shared>) -> bool {
        let (_, messages) = unbounded_channel();
        let outcome = self.outcome.and_then(|outcome| v1::Outcome::try_from(outcome).ok());
        let mut uploader = Uploader::of(connection, self.backlog(&shared), messages, shared);
        let deadline = Instant::now() + FOREVER;
        uploader.closing = Some(Closing { outcome, deadline, away_deadline: deadline });
        let _: Result<(), Stopped> = uploader.deliver_all().await;
        uploader.let_go()
    }

    /// The attempt alone.
    pub(super) fn backlog(self, shared: &Arc<Shared>) -> Backlog {
        let Self { request, buffer, buffer_bytes, settled_seq, last_seq, declared, .. } = self;
        let mut attempt =
            Attempt::left_behind(request, buffer, settled_seq, last_seq, shared.clone(), buffer_bytes / 4);
        if declared {
            attempt.declare();
        }
        Backlog::of(attempt, buffer_bytes, shared.clone())
    }
}
