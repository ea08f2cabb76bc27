//! An attempt in its owner's hands, and the streams that are connected to it now.

use gradwatch_proto::v1::{self, ServerMessage, server_message};
use gradwatch_store::RunState;
use tokio::sync::{mpsc, oneshot};

use super::segment::SegmentOwner;

/// A stream that is connected now.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Tells this connection from an earlier one of the same writer, whose last messages may still be on their way.
    pub(crate) generation: u64,
    /// Messages other than acknowledgements. Bounded; what does not fit is told by counters on the run anyway.
    pub(crate) outbox: mpsc::Sender<ServerMessage>,
}

/// An attempt with the connections of its shards.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) owner: SegmentOwner,
    /// By shard.
    pub(crate) links: Vec<Link>,
}

/// What connects one shard.
#[derive(Debug, Default)]
pub(crate) struct Link {
    pub(crate) connection: Option<Connection>,
    /// The hole that was last asked for, so that it is asked for once.
    pub(crate) asked_for: Option<u64>,
    pub(crate) finish: Option<Finish>,
}

/// A shard's word of its end, which waits for everything before it.
#[derive(Debug)]
pub(crate) struct Finish {
    pub(crate) outcome: RunState,
    pub(crate) last_seq: u64,
    pub(crate) done: oneshot::Sender<()>,
}

impl Held {
    pub(crate) fn new(owner: SegmentOwner) -> Self {
        let links = (0..owner.segment.shard_count).map(|_| Link::default()).collect();
        Self { owner, links }
    }

    /// Nothing of it is connected or on its way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.links.iter().all(|link| link.connection.is_none()) && self.owner.is_quiet()
    }
}

impl Link {
    pub(crate) fn is(&self, generation: u64) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.generation == generation)
    }

    /// Sends a message that nothing depends on; false when the client does not read and there is no room for it.
    pub(crate) fn send(&self, message: server_message::Message) -> bool {
        let message = ServerMessage { message: Some(message) };
        self.connection.as_ref().is_some_and(|connection| connection.outbox.try_send(message).is_ok())
    }

    /// Asks for a hole to be filled, once.
    pub(crate) fn ask_for(&mut self, from_seq: u64) {
        if self.asked_for != Some(from_seq) && self.send(server_message::Message::Resend(v1::Resend { from_seq })) {
            self.asked_for = Some(from_seq);
        }
    }
}
