//! Where frames wait for the server: one buffer per attempt, in memory, or with a [spool](crate::spool) on disk.

mod memory;
#[cfg(test)]
mod tests;

pub(crate) use memory::MemoryBuffer;

use bytes::Bytes;

/// What an entry costs beside its bytes: its place in the queue, the headers of its allocations, and the marks that the
/// uploader keeps of frames under way. Frames that carry a few scalars only would otherwise not be bounded.
pub(crate) const ENTRY_OVERHEAD_BYTES: usize = 256;

/// One place in the sequence: a frame, or the stretch of frames that had to be given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A frame as it goes on the wire: the bytes of its rows, and behind them what is attached to it. That is needed
    /// once only: a frame that is settled has none.
    Frame { seq: u64, step: u64, bytes: Bytes, attached: Bytes },
    /// Frames that are no more.
    Dropped(Stretch),
}

/// A contiguous stretch of given-up frames; bounds are inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) from_seq: u64,
    pub(crate) to_seq: u64,
    pub(crate) first_step: u64,
    pub(crate) last_step: u64,
}

impl Entry {
    pub(crate) fn first_seq(&self) -> u64 {
        match self {
            Self::Frame { seq, .. } => *seq,
            Self::Dropped(stretch) => stretch.from_seq,
        }
    }

    pub(crate) fn last_seq(&self) -> u64 {
        match self {
            Self::Frame { seq, .. } => *seq,
            Self::Dropped(stretch) => stretch.to_seq,
        }
    }

    /// Bytes of memory that the entry stands for.
    pub(crate) fn cost_bytes(&self) -> usize {
        match self {
            Self::Frame { bytes, attached, .. } => bytes.len() + attached.len() + ENTRY_OVERHEAD_BYTES,
            Self::Dropped(_) => ENTRY_OVERHEAD_BYTES,
        }
    }

    /// Frames that the entry still holds: 1 or 0.
    pub(crate) fn frames(&self) -> u64 {
        match self {
            Self::Frame { .. } => 1,
            Self::Dropped(_) => 0,
        }
    }

    /// Forgets what is attached.
    pub(crate) fn detach(&mut self) {
        if let Self::Frame { attached, .. } = self {
            *attached = Bytes::new();
        }
    }

    /// What of it is not before `seq`. Of a stretch, `first_step` stays that of the whole.
    pub(crate) fn from(self, seq: u64) -> Option<Self> {
        match self {
            entry if entry.last_seq() < seq => None,
            Self::Dropped(stretch) => Some(Self::Dropped(Stretch { from_seq: stretch.from_seq.max(seq), ..stretch })),
            entry => Some(entry),
        }
    }

    /// The place of the entry, without its content.
    pub(crate) fn stretch(&self) -> Stretch {
        match self {
            Self::Frame { seq, step, .. } => {
                Stretch { from_seq: *seq, to_seq: *seq, first_step: *step, last_step: *step }
            }
            Self::Dropped(stretch) => *stretch,
        }
    }
}

impl Stretch {
    /// Grows by the stretch that follows.
    pub(crate) fn extend(&mut self, next: Stretch) {
        debug_assert_eq!(self.to_seq + 1, next.from_seq, "stretches are adjacent");
        self.to_seq = next.to_seq;
        self.last_step = next.last_step;
    }
}

/// Bytes by what may be done with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Settled, kept only to refill the windows of a restarted server.
    pub(crate) kept_bytes: usize,
    /// Sent at least once, not settled: the server may have them.
    pub(crate) in_flight_bytes: usize,
    /// Never sent.
    pub(crate) unsent_bytes: usize,
}

impl Usage {
    pub(crate) fn total_bytes(&self) -> usize {
        self.kept_bytes + self.in_flight_bytes + self.unsent_bytes
    }
}

/// Frames of one attempt in sequence, between three marks: kept | in flight | unsent.
///
/// Invariant: entries are contiguous, from the oldest one held to the last one appended; every sequence number in
/// between belongs to exactly one entry. What is not settled is never released, only replaced by the stretch that
/// says so, and only while it was never sent (or cannot be sent at all).
pub(crate) trait Buffer: Send {
    /// Adds the next entry. It starts where the last one ended. Returns the number of frames lost for it.
    fn append(&mut self, entry: Entry) -> u64;

    /// The entry that holds `seq`, or the oldest one if that is gone already. None past the end, or past what is in
    /// memory: see [`Buffer::refill`].
    fn read_from(&self, seq: u64) -> Option<&Entry>;

    /// Brings entries to memory that are to be sent next, a bounded number of bytes.
    fn refill(&mut self) {}

    /// Everything up to `seq` was sent at least once.
    fn mark_sent(&mut self, seq: u64);

    /// Everything up to `seq`, all of it sent, is settled, and what was attached to it forgotten. Returns the number of
    /// frames this settled for the first time.
    fn settle(&mut self, seq: u64) -> u64;

    /// Forgets settled entries below `seq`; what is not settled stays.
    fn release_below(&mut self, seq: u64);

    /// Forgets the oldest settled entries until no more than `kept_bytes` of them are left.
    fn release_kept_above(&mut self, kept_bytes: usize);

    /// Gives up one contiguous stretch of the oldest unsent entries: one at least, then until it covers
    /// `at_least_bytes`. Returns the number of frames lost.
    fn drop_unsent(&mut self, at_least_bytes: usize) -> u64;

    /// Gives up the one unsettled frame `seq`. Returns the number of frames lost: 1, or 0 if it is no such frame.
    fn drop_frame(&mut self, seq: u64) -> u64;

    /// The server wants nothing of it.
    fn refuse(&mut self);

    /// Whether entries outlive the process, so that another one may deliver them: at another time, or from a copy meanwhile.
    fn outlives_process(&self) -> bool {
        false
    }

    /// Nothing more is appended, and the run ended with this outcome. Whether that outlives the process.
    fn finish(&mut self, _outcome: i32) -> bool {
        false
    }

    /// The process lets go of it before everything is delivered. Whether the run's end outlives the process.
    fn leave(&mut self) -> bool {
        false
    }

    /// Everything is delivered.
    fn remove(&mut self) {}

    /// Where the bytes of memory are.
    fn usage(&self) -> Usage;
}
