//! What the task that owns a run is told, and what it answers.

use std::sync::Arc;

use gradwatch_proto::v1::ServerMessage;
use gradwatch_store::{AttemptId, RunState, StreamSpec};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    faults::StepId,
    mark::Settled,
    work::{StreamId, Work},
};
use crate::error::Error;

/// What a run's owner is told.
#[derive(Debug)]
pub(super) enum Command {
    Open {
        open: StreamOpen,
        reply: oneshot::Sender<Result<StreamOpened, Error>>,
    },
    /// A stream has ended; answers the last seq of its shard that is settled or on its way there.
    Disconnect {
        at: StreamId,
        reply: oneshot::Sender<u64>,
    },
    Work(Work),
    /// Ends the run from outside; answered once that is committed.
    CloseRun {
        outcome: RunState,
        reply: oneshot::Sender<()>,
    },
    /// The run has a new attempt.
    SegmentsChanged,
    /// Commits of this owner fail for good.
    Lost {
        owner_epoch: u64,
        refused: Option<StepId>,
    },
    /// The run is being deleted.
    Forget,
}

/// A stream that wants to begin.
#[derive(Clone, Debug)]
pub(crate) struct StreamOpen {
    pub(crate) attempt_id: AttemptId,
    pub(crate) shard: u32,
    pub(crate) writer_id: String,
    pub(crate) outbox: mpsc::Sender<ServerMessage>,
}

/// What a stream begins with.
#[derive(Debug)]
pub(crate) struct StreamOpened {
    pub(crate) id: StreamId,
    pub(crate) spec: Arc<StreamSpec>,
    /// Settled frames from here on fill windows again. None: the client begins behind what is settled.
    pub(crate) refill_from_seq: Option<u64>,
    pub(crate) settled: watch::Receiver<Settled>,
}
