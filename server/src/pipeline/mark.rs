//! How far one shard's frames are settled, as seen by the streams that acknowledge them.

use tokio::sync::watch;

/// What an acknowledgement says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settled {
    /// Every frame up to here is in a committed transaction.
    pub(crate) committed_seq: u64,
    /// The oldest frame that could be needed again.
    pub(crate) keep_from_seq: u64,
}

/// Invariant (promise 1): moved by the recorder only, after the transaction that holds the mark was committed. What a
/// stream acknowledges is what it reads here.
#[derive(Debug)]
pub(crate) struct Mark(watch::Sender<Settled>);

impl Mark {
    pub(crate) fn new(committed_seq: u64, keep_from_seq: u64) -> Self {
        Self(watch::Sender::new(Settled { committed_seq, keep_from_seq }))
    }

    pub(crate) fn settled(&self) -> Settled {
        *self.0.borrow()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Settled> {
        self.0.subscribe()
    }

    pub(crate) fn advance(&self, settled: Settled) {
        self.0.send_if_modified(|now| {
            let further = settled.committed_seq > now.committed_seq;
            if further {
                *now = settled;
            }
            further
        });
    }
}
