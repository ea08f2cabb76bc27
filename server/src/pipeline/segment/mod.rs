//! The owner's view of one attempt: its shards, their sequences, its windows, and what follows them.

mod assembly;
mod events;
mod joined;
mod refill;
mod sent;
mod settle;
mod shard;

use std::{collections::BTreeSet, sync::Arc};

use gradwatch_spectral::{
    detectors::{DetectorConfig, Regime},
    window::WindowError,
};
use gradwatch_store::{EventRow, Reading, RunCommit, RunState, Segment, ShardMark, StepRow, StreamKey};

use self::{
    assembly::{Assembler, Next},
    refill::Refill,
    shard::Kept,
};
pub(crate) use self::{events::ShardEvent, joined::Part, shard::Shard};
use super::{
    budget::Permit,
    faults::Suspect,
    followed::{ScalarFollower, StreamFollower},
    frame::{Item, Rejection},
    group_stream::{GroupStream, Place},
    sketches::OpenBlocks,
};
use crate::config::Config;

/// What becomes of an item when it comes.
#[derive(Debug)]
pub(crate) enum Taken {
    /// It stands in its place and will be settled.
    New,
    /// It was settled before and only fills a window again.
    Refilled,
    /// It was taken in before.
    Known,
    /// There is no room for it yet: it will be asked for again.
    TooFarAhead,
    /// There is a hole before it: the client has to send again from this seq.
    Hole { from_seq: u64 },
}

/// What an owner does at one moment, and for which transaction.
pub(crate) struct Turn<'a> {
    pub(crate) now_us: i64,
    /// A shard that has brought nothing since then is not waited for any longer.
    pub(crate) overdue_before_us: Option<i64>,
    /// Up to which step the attempt is live, if it is at all.
    pub(crate) live_to_step: Option<u64>,
    /// The commit is to hold one step at most, so that a fault shows which step it is about.
    pub(crate) one_step: bool,
    pub(crate) commit: &'a mut RunCommit,
}

impl Turn<'_> {
    fn is_live(&self, step: Option<u64>) -> bool {
        self.live_to_step.is_some_and(|last| step.is_none_or(|step| step <= last))
    }

    /// Records an event, unless it is one of a superseded attempt's late frames: they are kept in their own segment and
    /// fire nothing. What befalls shards is recorded all the same, because the next owner reads it back.
    fn tell(&mut self, event: EventRow) {
        if self.is_live(event.step) {
            self.commit.events.push(event);
        }
    }
}

/// What a turn brought besides what is in its commit.
#[derive(Debug, Default)]
pub(crate) struct Advanced {
    /// Steps of the live line.
    pub(crate) live_steps: u32,
    /// A shard was lost.
    pub(crate) lost: bool,
    /// With their shards.
    pub(crate) rejections: Vec<(u32, Rejection)>,
    /// Memory of what needs none any more.
    pub(crate) permits: Vec<Permit>,
}

/// One attempt, held by the owner of its run.
#[derive(Debug)]
pub(crate) struct SegmentOwner {
    pub(crate) segment: Arc<Segment>,
    shards: Vec<Shard>,
    assembler: Assembler,
    refill: Option<Refill>,
    last_step: Option<u64>,
    /// By group, then kind, in the order of the spec.
    streams: Vec<GroupStream>,
    /// By group, then kind, then window: `window_lengths.len()` for each of `streams`.
    followers: Vec<StreamFollower>,
    scalars: ScalarFollower,
    /// By stream.
    sketches: OpenBlocks,
    /// What held NaN or infinity in the last frame, so that a stretch of them is one event.
    non_finite: BTreeSet<String>,
    has_steps: bool,
    max_scalar_names: usize,
    suspect: Arc<Suspect>,
    /// Steps that cannot be worked on.
    poisoned: BTreeSet<u64>,
}

impl SegmentOwner {
    /// Takes up an attempt where `marks` say it stands.
    pub(crate) fn new(
        segment: Segment,
        marks: &[ShardMark],
        config: &Config,
        detectors: &DetectorConfig,
        suspect: Arc<Suspect>,
        poisoned: BTreeSet<u64>,
    ) -> Result<Self, WindowError> {
        let spec = &segment.spec;
        let mut streams = Vec::new();
        let mut followers = Vec::new();
        for (index, group) in spec.groups.iter().enumerate() {
            for &kind in &spec.kinds {
                streams.push(GroupStream::new(spec, index, kind)?);
                for (position, &window) in spec.window_lengths.iter().enumerate() {
                    let stream = StreamKey { group: group.name.clone(), kind, window };
                    followers.push(StreamFollower::new(segment.segment, stream, detectors, position == 0));
                }
            }
        }
        let mut shards: Vec<Shard> = (0..segment.shard_count).map(|_| Shard::unopened()).collect();
        for mark in marks {
            if let Some(shard) = shards.get_mut(mark.shard as usize) {
                *shard = Shard::opened(mark);
            }
        }
        let resumed_step = segment.resumes.map(|resumes| resumes.step);
        Ok(Self {
            shards,
            assembler: Assembler::new(segment.shard_count, segment.last_step.max(resumed_step)),
            refill: None,
            last_step: segment.last_step,
            sketches: OpenBlocks::new(streams.len(), config.keep_sketches > 0),
            streams,
            followers,
            scalars: ScalarFollower::new(segment.segment),
            non_finite: BTreeSet::new(),
            has_steps: segment.last_step.is_some(),
            max_scalar_names: config.limits.max_scalar_names,
            suspect,
            poisoned,
            segment: Arc::new(segment),
        })
    }

    /// Its streams, window by window.
    pub(crate) fn streams(&self) -> Vec<&StreamKey> {
        self.followers.iter().map(StreamFollower::stream).collect()
    }

    /// Continues what follows a stream from a saved state; false when it cannot be used.
    pub(crate) fn restore_stream(&mut self, index: usize, state: &[u8]) -> bool {
        self.followers[index].restore(state)
    }

    /// Follows a stored reading again.
    pub(crate) fn replay_reading(&mut self, index: usize, reading: Reading) {
        let mut edge = reading.row.edge;
        self.followers[index].follow(reading.row.step, &mut edge);
    }

    /// Continues what follows the scalars from a saved state; false when it cannot be used.
    pub(crate) fn restore_scalars(&mut self, state: &[u8]) -> bool {
        self.scalars.restore(state)
    }

    /// Follows a stored step's scalars again.
    pub(crate) fn replay_scalars(&mut self, step: &StepRow) {
        self.scalars.follow(step.step, &step.scalars);
    }

    /// Remembers what the last recorded step held, so that a stretch of non-finite values, or of incomplete steps, goes on
    /// being one event. Windows that a refill brings back know for themselves.
    pub(crate) fn restore_last_step(&mut self, step: &StepRow) {
        if !step.complete {
            self.streams.iter_mut().for_each(GroupStream::go_on_leaving_out);
        }
        self.non_finite = settle::non_finite_names(step);
    }

    /// Remembers what befell a shard.
    pub(crate) fn restore_shard(&mut self, shard: u32, event: ShardEvent) {
        match event {
            ShardEvent::Lost => self.assembler.lose(shard),
            ShardEvent::Returned => {
                self.assembler.find(shard);
            }
            ShardEvent::Finished(outcome) => self.end(shard, outcome),
        }
    }

    /// One of its shards. Shards are numbered below the count that the attempt declares.
    pub(crate) fn shard(&self, shard: u32) -> Option<&Shard> {
        self.shards.get(shard as usize)
    }

    /// A process has opened a shard that nobody had opened before.
    pub(crate) fn open_shard(&mut self, mark: &ShardMark) {
        if let Some(shard) = self.shards.get_mut(mark.shard as usize).filter(|shard| shard.writer_id.is_none()) {
            *shard = Shard::opened(mark);
        }
    }

    /// Shards that were opened before this owner began are missed from `until_us` on at the earliest, unless they connect.
    pub(crate) fn expect_back(&mut self, until_us: i64) {
        for (number, _) in (0..).zip(&self.shards).filter(|(_, shard)| shard.writer_id.is_some()) {
            self.assembler.expect_back(number, until_us);
        }
    }

    /// A shard has connected.
    pub(crate) fn came_back(&mut self, shard: u32, now_us: i64) {
        self.assembler.came_back(shard, now_us);
    }

    /// A shard has gone on to a later attempt, and brings nothing more of this one.
    pub(crate) fn leave(&mut self, shard: u32) {
        // One shard alone waits for nobody.
        if self.segment.shard_count > 1 && shard < self.segment.shard_count {
            self.assembler.leave(shard);
        }
    }

    /// A shard's process says how it has ended, behind everything that it had to bring.
    pub(crate) fn end(&mut self, shard: u32, outcome: RunState) {
        self.shards[shard as usize].outcome = Some(outcome);
        self.assembler.end(shard);
    }

    /// How the attempt has ended, once every shard that is not lost has said that it has: the worst they say.
    pub(crate) fn outcome(&self) -> Option<RunState> {
        let going = (0..).zip(&self.shards).any(|(shard, it)| it.outcome.is_none() && !self.assembler.is_lost(shard));
        let badness = |outcome: &RunState| match outcome {
            RunState::Failed => 2,
            RunState::Preempted => 1,
            _ => 0,
        };
        self.shards.iter().filter_map(|shard| shard.outcome).max_by_key(badness).filter(|_| !going)
    }

    /// Its last step, settled or on its way there.
    pub(crate) fn last_step(&self) -> Option<u64> {
        self.last_step
    }

    /// Nothing of it waits or is on its way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.shards.iter().all(Shard::is_quiet)
    }

    /// The first settled frame of a shard that its windows still need again, if they do.
    pub(crate) fn refill_from_seq(&self, shard: u32) -> Option<u64> {
        self.shard(shard).filter(|shard| shard.is_refilling()).map(|shard| shard.next_seq)
    }

    /// The most severe regime of its streams.
    pub(crate) fn regime(&self) -> Regime {
        self.followers.iter().map(StreamFollower::regime).max().unwrap_or(Regime::Warming)
    }

    /// Takes in an item of a shard.
    ///
    /// Invariant (promises 1 and 2): a shard's items enter commits in the order of their seq, without holes and once.
    /// Anything at or below the last seq taken in is dropped without looking at history.
    pub(crate) fn take(&mut self, number: u32, mut item: Item, turn: &mut Turn<'_>) -> Taken {
        let shard = &mut self.shards[number as usize];
        if item.last_seq() < shard.next_seq {
            return Taken::Known;
        }
        if item.first_seq() > shard.next_seq && !shard.skip_to(item.first_seq()) {
            let from_seq = shard.next_seq;
            return if shard.will_ask_again() { Taken::TooFarAhead } else { Taken::Hole { from_seq } };
        }
        if let Item::Dropped { from_seq, .. } = &mut item {
            *from_seq = shard.next_seq;
        }
        let last_seq = item.last_seq();
        shard.take(last_seq);
        let refilled = last_seq <= shard.refill_to_seq;
        self.assembler.push(number, item, turn.now_us);
        if !refilled && self.assembler.find(number) {
            turn.commit.events.push(self.shard_event(ShardEvent::Returned, number, turn.now_us));
        }
        if refilled { Taken::Refilled } else { Taken::New }
    }

    /// Settles what can be settled.
    pub(crate) fn advance(&mut self, turn: &mut Turn<'_>) -> Advanced {
        let mut advanced = Advanced::default();
        if self.refill.is_none() || self.refill_next(turn) {
            while (!turn.one_step || turn.commit.steps.is_empty())
                && let Some(next) = self.assembler.next(turn.overdue_before_us)
            {
                match next {
                    Next::Pass { shard, item } => self.pass(shard, *item, turn, &mut advanced),
                    Next::Step(parts) => self.settle(parts, turn, &mut advanced),
                }
            }
        }
        turn.commit.patch.counters.rejected += advanced.rejections.len() as u64;
        self.shards.iter_mut().for_each(|shard| shard.release(&mut advanced.permits));
        advanced
    }

    /// Keeps the memory of a batch that was taken in behind `before_seq` for what of it waits; answers what is not
    /// needed.
    pub(crate) fn keep(&mut self, number: u32, before_seq: u64, permit: Permit) -> Option<Permit> {
        match self.shards[number as usize].keep(before_seq, permit) {
            Kept::Waiting => None,
            Kept::Done(permit) => Some(permit),
            Kept::TakenBack(permit) => {
                self.assembler.forget_behind(number, before_seq);
                Some(permit)
            }
        }
    }

    /// Where a shard has to begin again because what it brought was taken back for lack of memory.
    pub(crate) fn ask_again(&mut self, shard: u32) -> Option<u64> {
        self.shards[shard as usize].ask_again()
    }

    /// Puts the moves of its marks into a commit, with the rows that these settle.
    pub(crate) fn move_marks(&mut self, commit: &mut RunCommit) {
        self.sketches.flush(commit);
        // The oldest row that any window needs, of every shard the frame that it came from.
        let oldest = self.streams.iter().filter_map(GroupStream::oldest).min_by_key(|place| place.step);
        let kept = oldest.map(|place: &Place| Arc::clone(&place.seqs));
        for (number, shard) in (0..).zip(&mut self.shards) {
            let kept_seq = kept.as_ref().map(|seqs| seqs[number as usize]);
            commit.marks.extend(shard.mark_move(self.segment.segment, number, kept_seq));
        }
    }
}

#[cfg(test)]
mod tests;
