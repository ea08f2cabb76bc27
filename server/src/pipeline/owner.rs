//! The state of a run in the hands of its one owner. No locks, no I/O: commands go in, what is to be settled comes out.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use gradwatch_proto::v1::{self, server_message};
use gradwatch_spectral::detectors::Regime;
use gradwatch_store::{AttemptId, EventRow, RunCommit, RunCounters, RunId, RunPatch, RunState, Segment, lineage};
use tokio::sync::oneshot;

use super::{
    budget::Permit,
    frame::{Item, Rejection},
    held::{Connection, Finish, Held},
    liveness::Pulse,
    segment::{Accepted, SegmentOwner},
};
use crate::{
    config::Liveness,
    metrics::Metrics,
    recorder::{MarkAdvance, Settlement},
};

/// Work that needs no I/O.
#[derive(Debug)]
pub(crate) enum Work {
    Items {
        segment: u32,
        generation: u64,
        items: Vec<Item>,
        permit: Permit,
    },
    Heartbeat {
        segment: u32,
        generation: u64,
    },
    /// `done` is told once the end is committed, and dropped when it cannot be.
    Finish {
        segment: u32,
        generation: u64,
        outcome: RunState,
        last_seq: u64,
        done: oneshot::Sender<()>,
    },
    Close {
        outcome: RunState,
    },
    /// A new attempt was opened.
    GoOn,
    /// Judge the run's silence.
    Look {
        store_trouble_us: i64,
    },
}

/// A run and everything its readings depend on.
#[derive(Debug)]
pub(crate) struct RunOwner {
    run_id: RunId,
    project: Arc<str>,
    owner_epoch: u64,
    /// How many commits this owner has handed over.
    commits: u64,
    state: RunState,
    regime: Regime,
    scalar_names: BTreeSet<String>,
    segments: Vec<Segment>,
    live_to_step: Arc<BTreeMap<u32, u64>>,
    attempts: BTreeMap<u32, Held>,
    pulse: Pulse,
    last_seen_us: i64,
    /// Who waits for the end that the present batch of work brought.
    finished: Vec<oneshot::Sender<()>>,
    metrics: Arc<Metrics>,
    liveness: Liveness,
}

/// What an owner starts from.
#[derive(Debug)]
pub(crate) struct OwnerParts {
    pub(crate) run: gradwatch_store::Run,
    pub(crate) owner_epoch: u64,
    pub(crate) segments: Vec<Segment>,
    pub(crate) scalar_names: Vec<String>,
    pub(crate) pulse: Pulse,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) liveness: Liveness,
}

impl RunOwner {
    pub(crate) fn new(parts: OwnerParts) -> Self {
        let mut owner = Self {
            run_id: parts.run.run_id,
            project: parts.run.project.into(),
            owner_epoch: parts.owner_epoch,
            commits: 0,
            state: parts.run.state,
            regime: parts.run.regime,
            scalar_names: parts.scalar_names.into_iter().collect(),
            segments: Vec::new(),
            live_to_step: Arc::default(),
            attempts: BTreeMap::new(),
            pulse: parts.pulse,
            last_seen_us: parts.run.last_seen_us,
            finished: Vec::new(),
            metrics: parts.metrics,
            liveness: parts.liveness,
        };
        owner.set_segments(parts.segments);
        owner
    }

    pub(crate) fn owner_epoch(&self) -> u64 {
        self.owner_epoch
    }

    /// Takes note of the run's segments; true when there is a newer one than before. What is live follows from them.
    pub(crate) fn set_segments(&mut self, segments: Vec<Segment>) -> bool {
        let live = lineage::live(&segments, 0, u64::MAX);
        self.live_to_step = Arc::new(live.iter().map(|range| (range.segment, range.to_step)).collect());
        let before = self.newest_segment();
        self.segments = segments;
        self.newest_segment() != before
    }

    /// Whether an attempt is among the segments known.
    pub(crate) fn knows(&self, attempt_id: AttemptId) -> bool {
        self.segments.iter().any(|segment| segment.attempt_id == attempt_id)
    }

    pub(crate) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    pub(crate) fn attempt(&self, segment: u32) -> Option<&SegmentOwner> {
        self.attempts.get(&segment).map(|held| &held.owner)
    }

    pub(crate) fn insert(&mut self, owner: SegmentOwner) {
        let held = Held { owner, connection: None, asked_for: None, finish: None };
        self.attempts.insert(held.owner.segment.segment, held);
    }

    /// Gives an attempt a connection; an earlier one of the same writer is closed by this.
    pub(crate) fn connect(&mut self, segment: u32, connection: Connection, now_us: i64) {
        self.pulse.heard(now_us);
        if let Some(held) = self.attempts.get_mut(&segment) {
            held.connection = Some(connection);
            held.asked_for = None;
        }
    }

    /// Takes the connection away, if it is still this one; answers the last seq taken in.
    pub(crate) fn disconnect(&mut self, segment: u32, generation: u64) -> u64 {
        let Some(held) = self.attempts.get_mut(&segment) else { return 0 };
        if held.connection.as_ref().is_some_and(|connection| connection.generation == generation) {
            held.connection = None;
        }
        held.owner.accepted_seq()
    }

    /// Nothing is connected, on its way, or expected: the owner can let go of the run.
    pub(crate) fn is_idle(&self) -> bool {
        !matches!(self.state, RunState::Running | RunState::Stalled) && self.attempts.values().all(Held::is_quiet)
    }

    /// Does a batch of work; answers what it settles, if anything.
    pub(crate) fn work(&mut self, batch: Vec<Work>, now_us: i64) -> Option<Settlement> {
        let mut commit = RunCommit::new(self.run_id, self.owner_epoch);
        let mut permits = Vec::new();
        let mut live_steps = 0;
        for work in batch {
            match work {
                Work::Items { segment, generation, items, permit } => {
                    self.pulse.heard(now_us);
                    for item in items {
                        live_steps += u32::from(self.accept(segment, generation, item, now_us, &mut commit));
                    }
                    permits.push(permit);
                }
                Work::Heartbeat { segment, generation } => {
                    if self.is_connected(segment, generation) {
                        self.pulse.heard(now_us);
                    }
                }
                Work::Finish { segment, generation, outcome, last_seq, done } => {
                    if self.is_connected(segment, generation)
                        && let Some(held) = self.attempts.get_mut(&segment)
                    {
                        held.finish = Some(Finish { outcome, last_seq, done });
                    }
                    self.finish(segment, &mut commit);
                }
                // Both also when the state is the same: another may still be on its way to the store, and whoever waits
                // for this one has to wait behind it.
                Work::Close { outcome } => {
                    self.state = outcome;
                    commit.patch.state = Some(outcome);
                }
                Work::GoOn => {
                    self.state = RunState::Running;
                    commit.patch.state = Some(RunState::Running);
                    self.pulse.begin(now_us);
                }
                Work::Look { store_trouble_us } => {
                    self.look(now_us, store_trouble_us, &mut commit);
                    self.release_superseded();
                }
            }
        }
        if live_steps > 0 {
            self.pulse.stepped(now_us, live_steps);
        }
        self.note_changes(now_us, &mut commit);
        self.settlement(commit, permits)
    }

    fn is_connected(&self, segment: u32, generation: u64) -> bool {
        let connection = self.attempts.get(&segment).and_then(|held| held.connection.as_ref());
        connection.is_some_and(|connection| connection.generation == generation)
    }

    /// Takes in an item; true when it was a step of the live line.
    fn accept(&mut self, segment: u32, generation: u64, item: Item, now_us: i64, commit: &mut RunCommit) -> bool {
        self.metrics.frames_received.inc_by(item.last_seq() - item.first_seq() + 1);
        if !self.is_connected(segment, generation) {
            return false;
        }
        let live = self.live_to_step.get(&segment).is_some_and(|&last| match &item {
            Item::Frame(frame) => frame.step <= last,
            Item::Dropped { first_step, .. } => *first_step <= last,
            // Its step is not known for sure; it would come behind the attempt's last.
            Item::Rejected(_) => self.segment_last_step(segment).is_none_or(|step| step <= last),
        });
        let live_frame = live && matches!(item, Item::Frame(_));
        let Some(held) = self.attempts.get_mut(&segment) else { return false };
        let mut live_step = false;
        match held.owner.accept(item, live, now_us, commit) {
            Accepted::Settling => {
                held.asked_for = None;
                // A superseded attempt's late frames say nothing about the run as it is now.
                live_step = live_frame;
                if live_step && matches!(self.state, RunState::Stalled | RunState::Crashed) {
                    self.set_state(RunState::Running, commit);
                }
            }
            Accepted::Rejected(rejection) => {
                held.asked_for = None;
                self.metrics.frames_rejected.inc();
                tracing::debug!(run_id = %self.run_id, seq = rejection.seq, field = rejection.field, "frame rejected");
                held.send(rejected(rejection));
            }
            Accepted::Refilled => {
                self.metrics.frames_refilled.inc();
            }
            Accepted::Known => {
                self.metrics.frames_duplicate.inc();
            }
            Accepted::Hole { from_seq } => {
                if held.asked_for != Some(from_seq)
                    && held.send(server_message::Message::Resend(v1::Resend { from_seq }))
                {
                    held.asked_for = Some(from_seq);
                }
            }
        }
        self.finish(segment, commit);
        live_step
    }

    /// An attempt's word of its end takes effect once everything before it is on its way into a commit.
    fn finish(&mut self, segment: u32, commit: &mut RunCommit) {
        let Some(held) = self.attempts.get_mut(&segment) else { return };
        let accepted_seq = held.owner.accepted_seq();
        let Some(Finish { outcome, done, .. }) = held.finish.take_if(|it| accepted_seq >= it.last_seq) else { return };
        if self.newest_segment() == Some(segment) {
            self.state = outcome;
            // Also when it is the same: `done` has to wait for a commit behind the one that said so first.
            commit.patch.state = Some(outcome);
            self.finished.push(done);
        } else {
            // A superseded attempt's end is heard and changes nothing. Whoever waits for it may have left.
            let _ = done.send(());
        }
    }

    fn newest_segment(&self) -> Option<u32> {
        lineage::order(&self.segments).last().copied()
    }

    fn set_state(&mut self, state: RunState, commit: &mut RunCommit) {
        if self.state != state {
            self.state = state;
            commit.patch.state = Some(state);
        }
    }

    /// Lets go of the windows of attempts that are over: a job that rewinds many times keeps the memory of one. Should
    /// late frames come, the attempt is loaded again.
    fn release_superseded(&mut self) {
        let newest = self.newest_segment();
        self.attempts.retain(|&segment, held| Some(segment) == newest || !held.is_quiet());
    }

    fn look(&mut self, now_us: i64, store_trouble_us: i64, commit: &mut RunCommit) {
        let silence = self.pulse.judge(self.state, now_us, store_trouble_us, &self.liveness);
        let Some((state, silent_us)) = silence else { return };
        let Some(newest) = self.newest_segment() else { return };
        let event_type = if state == RunState::Crashed { "run.crashed" } else { "run.stalled" };
        let evidence = serde_json::json!({ "silent_s": silent_us / 1_000_000 });
        commit.events.push(EventRow::new(event_type, newest, self.segment_last_step(newest), now_us, evidence));
        self.set_state(state, commit);
    }

    fn segment_last_step(&self, segment: u32) -> Option<u64> {
        match self.attempts.get(&segment) {
            Some(held) => held.owner.last_step(),
            None => self.segments.iter().find(|it| it.segment == segment).and_then(|it| it.last_step),
        }
    }

    /// Changes of the run's own row that follow from what happened.
    fn note_changes(&mut self, now_us: i64, commit: &mut RunCommit) {
        for step in &commit.steps {
            for name in step.scalars.keys() {
                if !self.scalar_names.contains(name) {
                    self.scalar_names.insert(name.clone());
                    commit.scalar_names.push(name.clone());
                }
            }
        }
        let newest = self.newest_segment().and_then(|newest| self.attempts.get(&newest));
        if let Some(regime) = newest.map(|held| held.owner.regime())
            && regime != self.regime
        {
            self.regime = regime;
            commit.patch.regime = Some(regime);
        }
        // Only the newest attempt says where the run stands.
        if commit.patch.last_step.is_some() {
            commit.patch.last_step = newest.and_then(|held| held.owner.last_step());
        }
        let heard_us = self.pulse.last_heard_us().unwrap_or(self.last_seen_us);
        // Heartbeats alone are written down no more often than it takes to tell a stall from a crash.
        let stale_us = i64::try_from(self.liveness.heartbeat_ms.saturating_mul(3_000)).unwrap_or(i64::MAX);
        let speaks = !commit.marks.is_empty() || commit.patch.state.is_some_and(|state| state != RunState::Crashed);
        if speaks || heard_us - self.last_seen_us > stale_us {
            self.last_seen_us = if speaks { now_us } else { heard_us };
            commit.patch.last_seen_us = Some(self.last_seen_us);
        }
    }

    /// Invariant: an owner's commits are numbered without a gap, so that one whose answer was lost never lands twice.
    fn settlement(&mut self, mut commit: RunCommit, permits: Vec<Permit>) -> Option<Settlement> {
        let empty = commit.marks.is_empty()
            && commit.events.is_empty()
            && commit.patch == RunPatch { counters: RunCounters::default(), ..RunPatch::default() };
        if empty {
            return None;
        }
        commit.after_commit = self.commits;
        self.commits += 1;
        commit.commit_number = self.commits;
        let advances = commit.marks.iter().filter_map(|mark| {
            let held = self.attempts.get(&mark.segment)?;
            Some(MarkAdvance {
                mark: Arc::clone(&held.owner.mark),
                committed_seq: mark.to_seq,
                keep_from_seq: mark.keep_from_seq,
            })
        });
        Some(Settlement {
            advances: advances.collect(),
            project: Arc::clone(&self.project),
            live_to_step: Arc::clone(&self.live_to_step),
            commit,
            permits,
            done: std::mem::take(&mut self.finished),
        })
    }
}

fn rejected(rejection: Rejection) -> server_message::Message {
    server_message::Message::Rejected(v1::Rejected {
        seq: rejection.seq,
        code: rejection.code.into(),
        field: rejection.field,
        message: rejection.message,
    })
}
