//! One shard of an attempt in its owner's hands: its place in its own sequence, and the memory it holds.

use std::{collections::VecDeque, sync::Arc};

use gradwatch_store::{MarkMove, RunState, ShardMark};

use crate::pipeline::{budget::Permit, mark::Mark};

/// Invariant: `settled_seq` ≤ `next_seq` − 1, and what lies between waits for other shards. Only what is settled moves
/// the mark.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) mark: Arc<Mark>,
    /// None before its process has opened it.
    pub(crate) writer_id: Option<String>,
    /// How its process says it has ended.
    pub(super) outcome: Option<RunState>,
    /// The next seq to be taken in.
    pub(super) next_seq: u64,
    /// Was settled when this owner began: what comes again up to here only fills windows.
    pub(super) refill_to_seq: u64,
    /// Settled frames that the client no longer had, first and last.
    pub(super) missing: Option<(u64, u64)>,
    /// Its last step in a commit of this owner.
    pub(super) last_step: Option<u64>,
    /// Everything up to here is done with.
    done_seq: u64,
    /// Where the mark stands that the commit in the making will move.
    moves_from_seq: Option<u64>,
    /// The last seq of each batch that is not done with, and its memory. A batch's frames are slices of one message,
    /// which stays as long as any of them does.
    batches: VecDeque<(u64, Permit)>,
    taken_back: TakenBack,
}

/// Whether what it brought was taken back for lack of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TakenBack {
    No,
    /// It has to be asked for again.
    ToBeAskedFor,
    AskedFor,
}

/// What becomes of a batch's memory.
#[derive(Debug)]
pub(super) enum Kept {
    /// Some of its frames wait, and it with them.
    Waiting,
    /// None of its frames waits.
    Done(Permit),
    /// There is no room for frames to wait: those behind `before_seq` are as if they had not come.
    TakenBack(Permit),
}

impl Shard {
    /// A shard that nobody has opened yet.
    pub(super) fn unopened() -> Self {
        Self::new(None, 0, 0)
    }

    pub(super) fn opened(mark: &ShardMark) -> Self {
        Self::new(Some(mark.writer_id.clone()), mark.committed_seq, mark.keep_from_seq)
    }

    fn new(writer_id: Option<String>, committed_seq: u64, keep_from_seq: u64) -> Self {
        Self {
            mark: Arc::new(Mark::new(committed_seq, keep_from_seq)),
            writer_id,
            outcome: None,
            next_seq: committed_seq + 1,
            refill_to_seq: committed_seq,
            missing: None,
            last_step: None,
            done_seq: committed_seq,
            moves_from_seq: None,
            batches: VecDeque::new(),
            taken_back: TakenBack::No,
        }
    }

    /// Settled frames have to come again from `seq` on.
    pub(super) fn refill_from(&mut self, seq: u64) {
        self.next_seq = seq;
        self.done_seq = seq - 1;
    }

    /// The last seq that was taken in, by this owner or an earlier one.
    fn taken_seq(&self) -> u64 {
        (self.next_seq - 1).max(self.refill_to_seq)
    }

    /// The last seq that came, settled frames that come again included.
    pub(crate) fn came_to_seq(&self) -> u64 {
        self.next_seq - 1
    }

    /// Everything up to here is settled or on its way into a commit.
    pub(crate) fn settled_seq(&self) -> u64 {
        self.done_seq.max(self.refill_to_seq)
    }

    /// Nothing of it waits or is on its way.
    pub(crate) fn is_quiet(&self) -> bool {
        let settled_seq = self.settled_seq();
        self.mark.settled().committed_seq == settled_seq && self.taken_seq() == settled_seq
    }

    /// How its process says it has ended, if it has.
    pub(crate) fn outcome(&self) -> Option<RunState> {
        self.outcome
    }

    pub(super) fn is_refilling(&self) -> bool {
        self.next_seq <= self.refill_to_seq
    }

    /// Gets to a seq behind a hole, if the hole is one of settled frames that the client no longer has.
    pub(super) fn skip_to(&mut self, seq: u64) -> bool {
        if self.is_refilling() && self.taken_back == TakenBack::No {
            let to_seq = (seq - 1).min(self.refill_to_seq);
            let from_seq = self.missing.map_or(self.next_seq, |(from_seq, _)| from_seq);
            self.missing = Some((from_seq, to_seq));
            self.next_seq = to_seq + 1;
        }
        seq == self.next_seq
    }

    /// Everything up to `seq` is in the commit in the making, or was settled before and is in its windows again.
    pub(super) fn done(&mut self, seq: u64) {
        if seq > self.refill_to_seq {
            self.moves_from_seq.get_or_insert(self.done_seq.max(self.refill_to_seq));
        }
        self.done_seq = self.done_seq.max(seq);
    }

    /// What the commit in the making does to its mark.
    pub(super) fn mark_move(&mut self, segment: u32, shard: u32, kept_seq: Option<u64>) -> Option<MarkMove> {
        let from_seq = self.moves_from_seq.take()?;
        let to_seq = self.settled_seq();
        Some(MarkMove { segment, shard, from_seq, to_seq, keep_from_seq: kept_seq.unwrap_or(to_seq + 1) })
    }

    /// Takes in what comes next, up to `last_seq`.
    pub(super) fn take(&mut self, last_seq: u64) {
        self.next_seq = last_seq + 1;
        self.taken_back = TakenBack::No;
    }

    /// Keeps the memory of a batch, whose frames were taken in behind `before_seq`, for those of them that wait.
    ///
    /// Invariant: no two shards can wait for each other's memory. What a shard brings first is always kept, so that the
    /// step it belongs to can become whole; what it brings ahead of that is kept while there is room. All of it counts
    /// against the room as far as there is any.
    pub(super) fn keep(&mut self, before_seq: u64, permit: Permit) -> Kept {
        let last_seq = self.next_seq - 1;
        if last_seq <= before_seq || self.done_seq >= last_seq {
            return Kept::Done(permit);
        }
        let room = permit.may_wait();
        if self.batches.is_empty() || room {
            self.batches.push_back((last_seq, permit));
            return Kept::Waiting;
        }
        self.next_seq = before_seq + 1;
        self.taken_back = TakenBack::ToBeAskedFor;
        Kept::TakenBack(permit)
    }

    /// Memory of batches that are done with.
    pub(super) fn release(&mut self, permits: &mut Vec<Permit>) {
        while self.batches.front().is_some_and(|(last_seq, _)| *last_seq <= self.done_seq) {
            permits.extend(self.batches.pop_front().map(|(_, permit)| permit));
        }
    }

    /// What it brought was taken back, and is not asked for again before there is room.
    pub(super) fn will_ask_again(&self) -> bool {
        self.taken_back == TakenBack::ToBeAskedFor
    }

    /// Where to ask again for what was taken back, once nothing is ahead of it.
    pub(super) fn ask_again(&mut self) -> Option<u64> {
        if self.taken_back != TakenBack::ToBeAskedFor || !self.batches.is_empty() {
            return None;
        }
        self.taken_back = TakenBack::AskedFor;
        Some(self.next_seq)
    }
}
