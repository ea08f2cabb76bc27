//! The owner's view of one attempt: its sequence, its windows, and what follows them.

mod events;
mod refill;
mod settle;

use std::{collections::BTreeSet, sync::Arc};

use gradwatch_spectral::{detectors::Regime, window::WindowError};
use gradwatch_store::{MarkMove, Reading, RunCommit, Segment, ShardMark, StepRow, StreamKey};

use self::refill::Refill;
use super::{
    followed::{ScalarFollower, StreamFollower},
    frame::{Item, Rejection},
    group_stream::GroupStream,
    mark::Mark,
};
use crate::config::Config;

/// What an item came to.
#[derive(Debug)]
pub(crate) enum Accepted {
    /// It is in the commit.
    Settling,
    /// It is in the commit as a count only; the client is told why.
    Rejected(Rejection),
    /// It was settled before and only fills a window again.
    Refilled,
    /// It was settled before.
    Known,
    /// There is a hole before it: the client has to send again from this seq.
    Hole { from_seq: u64 },
}

/// One attempt, held by the owner of its run.
#[derive(Debug)]
pub(crate) struct SegmentOwner {
    pub(crate) segment: Arc<Segment>,
    pub(crate) mark: Arc<Mark>,
    pub(crate) writer_id: String,
    next_seq: u64,
    refill: Option<Refill>,
    last_step: Option<u64>,
    /// By group, then kind, in the order of the spec.
    streams: Vec<GroupStream>,
    /// By group, then kind, then window: `window_lengths.len()` for each of `streams`.
    followers: Vec<StreamFollower>,
    scalars: ScalarFollower,
    /// What held NaN or infinity in the last frame, so that a stretch of them is one event.
    non_finite: BTreeSet<String>,
    has_steps: bool,
    max_scalar_names: usize,
}

impl SegmentOwner {
    /// Takes up an attempt where `mark` says it stands.
    pub(crate) fn new(segment: Segment, mark: &ShardMark, config: &Config) -> Result<Self, WindowError> {
        let spec = &segment.spec;
        let mut streams = Vec::new();
        let mut followers = Vec::new();
        for (index, group) in spec.groups.iter().enumerate() {
            for &kind in &spec.kinds {
                streams.push(GroupStream::new(spec, index, kind)?);
                for (position, &window) in spec.window_lengths.iter().enumerate() {
                    let stream = StreamKey { group: group.name.clone(), kind, window };
                    followers.push(StreamFollower::new(segment.segment, stream, &config.detectors, position == 0));
                }
            }
        }
        let (committed, keep_from) = (mark.committed_seq, mark.keep_from_seq);
        let refill = (0 < keep_from && keep_from <= committed).then_some(Refill {
            next_seq: keep_from,
            until_seq: committed,
            last_step: None,
            missing: None,
        });
        Ok(Self {
            mark: Arc::new(Mark::new(committed, keep_from)),
            writer_id: mark.writer_id.clone(),
            next_seq: committed + 1,
            refill,
            last_step: segment.last_step,
            streams,
            followers,
            scalars: ScalarFollower::new(segment.segment),
            non_finite: BTreeSet::new(),
            has_steps: segment.last_step.is_some(),
            max_scalar_names: config.limits.max_scalar_names,
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

    /// Remembers what the last recorded step held, so that a stretch of non-finite values goes on being one event.
    pub(crate) fn restore_last_step(&mut self, step: &StepRow) {
        self.non_finite = settle::non_finite_names(step);
    }

    /// Its last step, settled or on its way there.
    pub(crate) fn last_step(&self) -> Option<u64> {
        self.last_step
    }

    /// The last seq that was taken in, settled or on its way there.
    pub(crate) fn accepted_seq(&self) -> u64 {
        self.next_seq - 1
    }

    /// The first settled frame that its windows still need again, if they do.
    pub(crate) fn refill_from_seq(&self) -> Option<u64> {
        self.refill.map(|refill| refill.next_seq)
    }

    /// The most severe regime of its streams.
    pub(crate) fn regime(&self) -> Regime {
        self.followers.iter().map(StreamFollower::regime).max().unwrap_or(Regime::Warming)
    }

    /// The oldest frame that any window needs.
    fn keep_from_seq(&self) -> u64 {
        self.streams.iter().filter_map(GroupStream::keep_from_seq).min().unwrap_or(self.next_seq)
    }

    /// Takes in an item. What it settles goes into `commit`; events do only when `live`: a superseded attempt's late
    /// frames are kept in their own segment and fire nothing.
    ///
    /// Invariant (promises 1 and 2): items enter a commit in the order of their seq, without holes and once. Anything
    /// at or below the last accepted seq is dropped without looking at history.
    pub(crate) fn accept(&mut self, item: Item, live: bool, now_us: i64, commit: &mut RunCommit) -> Accepted {
        let events = commit.events.len();
        let accepted = self.take_in(item, now_us, commit);
        if !live {
            commit.events.truncate(events);
        }
        accepted
    }

    fn take_in(&mut self, item: Item, now_us: i64, commit: &mut RunCommit) -> Accepted {
        if let Some(mut refill) = self.refill
            && item.last_seq() >= refill.next_seq
        {
            if item.last_seq() <= refill.until_seq {
                if item.first_seq() > refill.next_seq {
                    refill.miss(item.first_seq() - 1);
                    // Rows before a gap and rows behind it are no window.
                    self.streams.iter_mut().for_each(GroupStream::forget);
                }
                self.refill(&item, refill, now_us, commit);
                return Accepted::Refilled;
            }
            // The last of them are missing: no window can go on.
            refill.miss(refill.until_seq);
            self.refill = None;
            (0..self.streams.len()).for_each(|index| self.lose_window(index, refill.missing, now_us, commit));
        }
        if item.last_seq() < self.next_seq {
            return Accepted::Known;
        }
        if item.first_seq() > self.next_seq {
            return Accepted::Hole { from_seq: self.next_seq };
        }
        let before = self.accepted_seq();
        let last_seq = item.last_seq();
        let accepted = match item {
            Item::Frame(frame) => match self.settle(&frame, now_us, commit) {
                Ok(()) => Accepted::Settling,
                Err(rejection) => Accepted::Rejected(rejection),
            },
            Item::Rejected(rejection) => Accepted::Rejected(rejection),
            Item::Dropped { to_seq, first_step, last_step, .. } => {
                let frames = to_seq + 1 - self.next_seq;
                commit.patch.counters.dropped += frames;
                let evidence = serde_json::json!({
                    "from_seq": self.next_seq.to_string(),
                    "to_seq": to_seq.to_string(),
                    "frames": frames.to_string(),
                    "first_step": first_step,
                    "last_step": last_step,
                });
                commit.events.push(self.event("run.lossy", Some(first_step), now_us, evidence));
                Accepted::Settling
            }
        };
        if let Accepted::Rejected(_) = &accepted {
            commit.patch.counters.rejected += 1;
        }
        self.next_seq = last_seq + 1;
        self.move_mark(before, commit);
        accepted
    }

    fn move_mark(&self, from_seq: u64, commit: &mut RunCommit) {
        let (segment, to_seq, keep_from_seq) = (self.segment.segment, self.accepted_seq(), self.keep_from_seq());
        match commit.marks.iter_mut().find(|mark| mark.segment == segment && mark.shard == 0) {
            Some(mark) => {
                mark.to_seq = to_seq;
                mark.keep_from_seq = keep_from_seq;
            }
            None => commit.marks.push(MarkMove { segment, shard: 0, from_seq, to_seq, keep_from_seq }),
        }
    }
}
