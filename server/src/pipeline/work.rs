//! What an owner is given to do.

use gradwatch_store::RunState;
use tokio::sync::oneshot;

use super::{budget::Permit, frame::Item, snapshots::ReadSnapshot};

/// A stream of one shard. `generation` tells it from an earlier one of the same shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamId {
    pub(crate) segment: u32,
    pub(crate) shard: u32,
    pub(crate) generation: u64,
}

/// Work that needs no I/O.
#[derive(Debug)]
pub(crate) enum Work {
    Items {
        at: StreamId,
        items: Vec<Item>,
        /// For all of them; items worked on alone share it.
        permit: Option<Permit>,
    },
    Heartbeat {
        at: StreamId,
    },
    /// `done` is told once the end is committed, and dropped when it cannot be.
    Finish {
        at: StreamId,
        outcome: RunState,
        last_seq: u64,
        done: oneshot::Sender<()>,
    },
    Close {
        outcome: RunState,
    },
    /// A new attempt was opened.
    GoOn,
    /// A snapshot of a layer has been read.
    Snapshot(Box<ReadSnapshot>),
    /// Judge the run's silence.
    Look {
        store_trouble_us: i64,
    },
}

impl Work {
    /// The same work, one item at a time.
    pub(crate) fn items_alone(self) -> Vec<Self> {
        let Self::Items { at, items, permit } = self else { return vec![self] };
        let alone = |item| Self::Items { at, items: vec![item], permit: permit.clone() };
        items.into_iter().map(alone).collect()
    }
}
