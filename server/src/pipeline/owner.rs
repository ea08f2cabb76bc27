//! The state of a run in the hands of its one owner. No locks, no I/O: commands go in, what is to be settled comes out.

mod settlement;
mod snapshots;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use gradwatch_proto::v1::{self, server_message};
use gradwatch_spectral::detectors::Regime;
use gradwatch_store::{AttemptId, EventRow, LayerKey, RunCommit, RunId, RunState, Segment, ShardMark, lineage};
use tokio::sync::oneshot;

use super::{
    budget::Permit,
    frame::{Item, Rejection},
    held::{Connection, Finish, Held, Link},
    liveness::Pulse,
    segment::{SegmentOwner, Shard, ShardEvent, Taken, Turn},
    sketches::KeptSketches,
    snapshots::{Backlog, KeptPredictions, LayerFollower},
    work::{StreamId, Work},
};
use crate::{
    config::Liveness,
    metrics::Metrics,
    recorder::{InFlight, Settlement},
};

/// How long a client may be away from an owner that has just begun, besides the time for which steps wait for a shard: it
/// had nobody to talk to before, and comes back when its backoff has run out. That is 30 s at most, and as much again for
/// the delay that a refusal asks for.
const RECONNECT_US: i64 = 60_000_000;

/// A run and everything its readings depend on.
#[derive(Debug)]
pub(crate) struct RunOwner {
    run_id: RunId,
    project: Arc<str>,
    owner_epoch: u64,
    began_us: i64,
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
    /// A commit holds one step at most.
    one_step: bool,
    /// There may be more to settle than the last commit was allowed to hold.
    held_back: bool,
    /// Settlements that are not committed yet.
    in_flight: InFlight,
    backlog: Backlog,
    /// By segment and layer, of what was read since this owner began.
    layer_followers: HashMap<(u32, LayerKey), LayerFollower>,
    /// Of the steps of the readings of layers in the commit in the making, in their order.
    layer_wall_times: Vec<Option<i64>>,
    predictions: KeptPredictions,
    sketches: KeptSketches,
    metrics: Arc<Metrics>,
    liveness: Liveness,
}

/// What an owner starts from.
#[derive(Debug)]
pub(crate) struct OwnerParts {
    pub(crate) run: gradwatch_store::Run,
    pub(crate) owner_epoch: u64,
    pub(crate) began_us: i64,
    pub(crate) segments: Vec<Segment>,
    pub(crate) scalar_names: Vec<String>,
    pub(crate) pulse: Pulse,
    pub(crate) backlog: Backlog,
    pub(crate) predictions: KeptPredictions,
    pub(crate) sketches: KeptSketches,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) liveness: Liveness,
}

impl RunOwner {
    pub(crate) fn new(parts: OwnerParts) -> Self {
        let mut owner = Self {
            run_id: parts.run.run_id,
            project: parts.run.project.into(),
            owner_epoch: parts.owner_epoch,
            began_us: parts.began_us,
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
            one_step: false,
            held_back: false,
            in_flight: InFlight::default(),
            backlog: parts.backlog,
            layer_followers: HashMap::new(),
            layer_wall_times: Vec::new(),
            predictions: parts.predictions,
            sketches: parts.sketches,
            metrics: parts.metrics,
            liveness: parts.liveness,
        };
        owner.set_segments(parts.segments);
        owner
    }

    pub(crate) fn owner_epoch(&self) -> u64 {
        self.owner_epoch
    }

    pub(crate) fn project(&self) -> &str {
        &self.project
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

    /// Holds an attempt that was loaded. Its shards get time to find back to an owner that has just begun.
    pub(crate) fn insert(&mut self, mut owner: SegmentOwner) {
        owner.expect_back(self.began_us.saturating_add(RECONNECT_US));
        let order = lineage::order(&self.segments);
        let segment = owner.segment.segment;
        for later in order.iter().skip_while(|it| **it != segment).skip(1) {
            let Some(held) = self.attempts.get(later) else { continue };
            let connected = (0..).zip(&held.links).filter(|(_, link)| link.connection.is_some());
            let gone: Vec<u32> =
                connected.map(|(shard, _)| shard).filter(|&it| same_process(&owner, &held.owner, it)).collect();
            gone.into_iter().for_each(|shard| owner.leave(shard));
        }
        self.attempts.insert(owner.segment.segment, Held::new(owner));
    }

    /// A process has opened a shard of an attempt that is held.
    pub(crate) fn open_shard(&mut self, segment: u32, mark: &ShardMark) {
        if let Some(held) = self.attempts.get_mut(&segment) {
            held.owner.open_shard(mark);
        }
    }

    /// Gives a shard a connection; an earlier one of the same writer is closed by this.
    ///
    /// Invariant: a process opens an attempt only when all that it sent of its earlier ones is settled. So nobody waits in
    /// those for a shard that has gone on, and steps that only others of them had reached are settled at the next look. What
    /// a process that was killed had not sent may still come from its spool, whatever others have begun since.
    pub(crate) fn connect(&mut self, segment: u32, shard: u32, connection: Connection, now_us: i64) {
        self.pulse.heard(now_us);
        for earlier in lineage::order(&self.segments).into_iter().take_while(|it| *it != segment) {
            let (Some(now), Some(before)) = (self.attempt(segment), self.attempt(earlier)) else { continue };
            let has_gone_on = same_process(before, now, shard);
            if let Some(held) = self.attempts.get_mut(&earlier).filter(|_| has_gone_on) {
                held.owner.leave(shard);
            }
        }
        if let Some(held) = self.attempts.get_mut(&segment) {
            held.owner.came_back(shard, now_us);
        }
        if let Some(link) = self.link(segment, shard) {
            link.connection = Some(connection);
            link.asked_for = None;
        }
    }

    /// Takes the connection away, if it is still this one; answers the last seq that is settled or on its way there.
    pub(crate) fn disconnect(&mut self, at: StreamId) -> u64 {
        if let Some(link) = self.link(at.segment, at.shard).filter(|link| link.is(at.generation)) {
            link.connection = None;
        }
        self.settled_seq(at.segment, at.shard)
    }

    fn link(&mut self, segment: u32, shard: u32) -> Option<&mut Link> {
        self.attempts.get_mut(&segment)?.links.get_mut(shard as usize)
    }

    fn settled_seq(&self, segment: u32, shard: u32) -> u64 {
        self.attempt(segment).and_then(|owner| owner.shard(shard)).map_or(0, Shard::settled_seq)
    }

    /// Nothing is connected, on its way, or expected: the owner can let go of the run.
    pub(crate) fn is_idle(&self) -> bool {
        !matches!(self.state, RunState::Running | RunState::Stalled)
            && self.attempts.values().all(Held::is_quiet)
            && self.in_flight.is_none()
            && self.backlog.is_empty()
    }

    /// There may be more to settle, which the next look does: the last commit was to hold one step at most.
    pub(crate) fn is_held_back(&self) -> bool {
        self.held_back
    }

    /// Does a batch of work; answers what it settles, if anything. With `one_step` that is one step at most.
    pub(crate) fn work(&mut self, batch: Vec<Work>, one_step: bool, now_us: i64) -> Option<Settlement> {
        self.one_step = one_step;
        let mut commit = RunCommit::new(self.run_id, self.owner_epoch);
        let mut permits = Vec::new();
        let mut live_steps = 0;
        for work in batch {
            match work {
                Work::Items { at, items, permit } => {
                    self.pulse.heard(now_us);
                    let before_seq = self.take(at, items, now_us, &mut commit);
                    live_steps += self.advance(at.segment, now_us, None, &mut commit, &mut permits);
                    permits.extend(permit.and_then(|permit| self.keep(at, before_seq, permit)));
                }
                Work::Heartbeat { at } => {
                    if self.is_connected(at) {
                        self.pulse.heard(now_us);
                    }
                }
                Work::Finish { at, outcome, last_seq, done } => {
                    if self.is_connected(at)
                        && let Some(link) = self.link(at.segment, at.shard)
                    {
                        link.finish = Some(Finish { outcome, last_seq, done });
                    }
                    live_steps += self.advance(at.segment, now_us, None, &mut commit, &mut permits);
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
                Work::Snapshot(read) => self.take_reading(*read, now_us, &mut commit),
                Work::Look { store_trouble_us } => {
                    live_steps += self.settle_overdue(now_us, store_trouble_us, &mut commit, &mut permits);
                    self.look(now_us, store_trouble_us, &mut commit);
                    self.release_superseded();
                    self.release_layer_followers();
                }
            }
        }
        if live_steps > 0 {
            self.pulse.stepped(now_us, live_steps);
        }
        self.attempts.values_mut().for_each(|held| held.owner.move_marks(&mut commit));
        self.admit(&mut commit);
        self.held_back = one_step && !commit.steps.is_empty();
        self.note_changes(now_us, &mut commit);
        self.settlement(commit, permits)
    }

    fn is_connected(&self, at: StreamId) -> bool {
        let link = self.attempts.get(&at.segment).and_then(|held| held.links.get(at.shard as usize));
        link.is_some_and(|link| link.is(at.generation))
    }

    /// Takes in what a stream brings; answers the last seq that had been taken in before.
    fn take(&mut self, at: StreamId, items: Vec<Item>, now_us: i64, commit: &mut RunCommit) -> u64 {
        let frames: u64 = items.iter().map(|item| item.last_seq() - item.first_seq() + 1).sum();
        self.metrics.frames_received.inc_by(frames);
        let connected = self.is_connected(at);
        let live_to_step = self.live_to_step.get(&at.segment).copied();
        let Some(held) = self.attempts.get_mut(&at.segment).filter(|_| connected) else { return 0 };
        let before_seq = held.owner.shard(at.shard).map_or(0, Shard::came_to_seq);
        let mut turn = Turn { now_us, overdue_before_us: None, live_to_step, one_step: self.one_step, commit };
        for item in items {
            let link = &mut held.links[at.shard as usize];
            match held.owner.take(at.shard, item, &mut turn) {
                Taken::New => link.asked_for = None,
                Taken::Refilled => {
                    link.asked_for = None;
                    self.metrics.frames_refilled.inc();
                }
                Taken::Known => {
                    self.metrics.frames_duplicate.inc();
                }
                Taken::TooFarAhead => {}
                Taken::Hole { from_seq } => link.ask_for(from_seq),
            }
        }
        before_seq
    }

    /// Settles what an attempt has ready; answers how many steps of the live line that were.
    fn advance(
        &mut self,
        segment: u32,
        now_us: i64,
        overdue_before_us: Option<i64>,
        commit: &mut RunCommit,
        permits: &mut Vec<Permit>,
    ) -> u32 {
        let live_to_step = self.live_to_step.get(&segment).copied();
        let mut live_steps = 0;
        loop {
            let Some(held) = self.attempts.get_mut(&segment) else { return live_steps };
            let mut turn = Turn { now_us, overdue_before_us, live_to_step, one_step: self.one_step, commit };
            let advanced = held.owner.advance(&mut turn);
            for (shard, rejection) in advanced.rejections {
                self.metrics.frames_rejected.inc();
                tracing::debug!(run_id = %self.run_id, shard, seq = rejection.seq, field = rejection.field, "frame rejected");
                held.links[shard as usize].send(rejected(rejection));
            }
            permits.extend(advanced.permits);
            // A superseded attempt's late frames say nothing about the run as it is now.
            if advanced.live_steps > 0 && matches!(self.state, RunState::Stalled | RunState::Crashed) {
                self.set_state(RunState::Running, commit);
            }
            live_steps += advanced.live_steps;
            // A shard that is over brings no more steps, so that others need not wait for it.
            if !self.finish(segment, advanced.lost, now_us, commit) {
                break;
            }
        }
        // A shard that was too far ahead of the others is asked again once they have followed.
        if let Some(Held { owner, links }) = self.attempts.get_mut(&segment) {
            for (shard, link) in (0..).zip(links) {
                if let Some(from_seq) = owner.ask_again(shard) {
                    link.ask_for(from_seq);
                }
            }
        }
        live_steps
    }

    /// Keeps the memory of what a stream has just brought for as long as any of it waits; answers it otherwise.
    fn keep(&mut self, at: StreamId, before_seq: u64, permit: Permit) -> Option<Permit> {
        if !self.is_connected(at) {
            return Some(permit);
        }
        match self.attempts.get_mut(&at.segment) {
            Some(held) => held.owner.keep(at.shard, before_seq, permit),
            None => Some(permit),
        }
    }

    /// Settles steps without the shards that were waited for long enough. While the store was in trouble (last at
    /// `store_trouble_us`) it was we who could not listen, so the waiting counts from then.
    fn settle_overdue(
        &mut self,
        now_us: i64,
        store_trouble_us: i64,
        commit: &mut RunCommit,
        permits: &mut Vec<Permit>,
    ) -> u32 {
        let timeout_us = i64::try_from(self.liveness.assembly_timeout_s.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
        let overdue_before_us = (now_us - store_trouble_us >= timeout_us).then(|| now_us.saturating_sub(timeout_us));
        let segments: Vec<u32> = self.attempts.keys().copied().collect();
        segments.into_iter().map(|segment| self.advance(segment, now_us, overdue_before_us, commit, permits)).sum()
    }

    /// A shard's word of its end takes effect once everything before it is on its way into a commit, and the run has
    /// ended once all shards have that are not lost; `lost` says that one was just now. True when a shard ended by this.
    fn finish(&mut self, segment: u32, lost: bool, now_us: i64, commit: &mut RunCommit) -> bool {
        let newest = self.newest_segment() == Some(segment);
        let Some(Held { owner, links }) = self.attempts.get_mut(&segment) else { return false };
        let mut ended = false;
        for (number, link) in (0..).zip(links) {
            let Some(shard) = owner.shard(number) else { continue };
            let settled_seq = shard.settled_seq();
            let Some(Finish { outcome, done, .. }) = link.finish.take_if(|it| settled_seq >= it.last_seq) else {
                continue;
            };
            let is_news = owner.segment.shard_count > 1 && shard.outcome() != Some(outcome);
            if is_news {
                commit.events.push(owner.shard_event(ShardEvent::Finished(outcome), number, now_us));
            }
            owner.end(number, outcome);
            ended = true;
            if newest || is_news {
                self.finished.push(done);
            } else {
                // A superseded attempt's end changes nothing of the run. Whoever waits for it may have left.
                let _ = done.send(());
            }
        }
        let outcome = owner.outcome().filter(|_| newest);
        if ended && newest {
            // Also when it is the same: `done` has to wait for a commit behind the one that said so first.
            self.state = outcome.unwrap_or(self.state);
            commit.patch.state = Some(self.state);
        } else if let Some(outcome) = outcome.filter(|_| lost) {
            // Nobody else is waited for.
            self.set_state(outcome, commit);
        }
        ended
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
}

/// Whether one process writes a shard of two attempts.
fn same_process(left: &SegmentOwner, right: &SegmentOwner, shard: u32) -> bool {
    let writer = |owner: &SegmentOwner| owner.shard(shard).and_then(|shard| shard.writer_id.clone());
    writer(left).is_some() && writer(left) == writer(right)
}

fn rejected(rejection: Rejection) -> server_message::Message {
    server_message::Message::Rejected(v1::Rejected {
        seq: rejection.seq,
        code: rejection.code.into(),
        field: rejection.field,
        message: rejection.message,
    })
}
