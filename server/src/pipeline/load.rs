//! Brings the state of a run back from what is committed.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use gradwatch_store::{
    Event, EventQuery, FollowerKey, FollowerSnapshot, LIVE_ANALYSIS, ReadingQuery, RunId, Segment, ShardMark,
    StepQuery, StepRow, Store, StoreError, lineage, lineage::SegmentRange,
};

use super::{
    Shared,
    faults::Suspect,
    liveness,
    segment::{SegmentOwner, ShardEvent},
};
use crate::error::Error;

/// Rows read, and followed on the numeric pool, at a time.
pub(super) const PAGE: usize = 1_000;
/// The most steps whose frames are asked for again. One group that was sent a few times and never again would otherwise
/// hold an attempt's whole history.
const MAX_REFILL_STEPS: usize = 16_384;
/// Steps stay below 2^53.
const LAST_STEP: u64 = (1 << 53) - 1;

/// Takes up an attempt where its last owner left it. Invariant (promise 3): detectors and rollups come back to the
/// same bits, from their last saved state and the readings stored behind it; windows come back from the frames that
/// the client sends again.
pub(super) async fn segment_owner(
    shared: &Shared,
    (run_id, project): (RunId, &str),
    segment: Segment,
    marks: &[ShardMark],
    suspect: Arc<Suspect>,
    poisoned: BTreeSet<u64>,
) -> Result<SegmentOwner, Error> {
    let (number, last_step, shard_count) = (segment.segment, segment.last_step, segment.shard_count);
    let update_interval = u64::from(segment.spec.update_interval);
    let detectors = shared.config.detectors_of(project).map_err(Error::internal)?;
    let owner = SegmentOwner::new(segment, marks, &shared.config, &detectors, suspect, poisoned);
    let mut owner = owner.map_err(Error::internal)?;
    // An attempt of one shard has no other to wait for, and none to lose.
    if shard_count > 1 {
        for event in shard_events(shared.store.as_ref(), run_id, number).await? {
            if let Some((shard, event)) = ShardEvent::read(&event.row).filter(|(shard, _)| *shard < shard_count) {
                owner.restore_shard(shard, event);
            }
        }
    }
    // An attempt without steps has nothing to bring back.
    let Some(last_step) = last_step else { return Ok(owner) };
    let snapshots = shared.store.follower_snapshots(run_id, number).await?;
    let loading = Loading { shared, run_id, segment: number, last_step, snapshots };
    let (steps, all) = loading.refill_steps(marks, update_interval).await?;
    owner.refill(&steps, all);
    for index in 0..owner.streams().len() {
        owner = loading.stream(owner, index).await?;
    }
    loading.scalars(owner).await
}

struct Loading<'a> {
    shared: &'a Shared,
    run_id: RunId,
    segment: u32,
    last_step: u64,
    snapshots: Vec<FollowerSnapshot>,
}

impl Loading<'_> {
    async fn stream(&self, mut owner: SegmentOwner, index: usize) -> Result<SegmentOwner, Error> {
        let stream = owner.streams()[index].clone();
        let mut from_step = match self.snapshot(&FollowerKey::Stream(stream.clone())) {
            Some(saved) if owner.restore_stream(index, &saved.state) => saved.step + 1,
            _ => 0,
        };
        loop {
            let query = ReadingQuery {
                run_id: self.run_id,
                analysis: LIVE_ANALYSIS.to_owned(),
                stream: stream.clone(),
                ranges: self.ranges(from_step),
                limit: PAGE,
            };
            let page = self.shared.store.readings(&query).await?;
            from_step = page.items.last().map_or(from_step, |reading| reading.row.step + 1);
            let more = page.more;
            let follow = move || {
                page.items.into_iter().for_each(|reading| owner.replay_reading(index, reading));
                owner
            };
            owner = self.shared.pool.run(follow).await.map_err(|panicked| Error::internal(panicked.0))?;
            if !more {
                return Ok(owner);
            }
        }
    }

    async fn scalars(&self, mut owner: SegmentOwner) -> Result<SegmentOwner, Error> {
        let mut from_step = match self.snapshot(&FollowerKey::Scalars) {
            Some(saved) if owner.restore_scalars(&saved.state) => saved.step + 1,
            _ => 0,
        };
        loop {
            let query = StepQuery { run_id: self.run_id, ranges: self.ranges(from_step), limit: PAGE };
            let page = self.shared.store.steps(&query).await?;
            from_step = page.items.last().map_or(from_step, |step| step.step + 1);
            let more = page.more;
            let follow = move || {
                page.items.iter().for_each(|step| owner.replay_scalars(step));
                owner
            };
            owner = self.shared.pool.run(follow).await.map_err(|panicked| Error::internal(panicked.0))?;
            if !more {
                break;
            }
        }
        let last = StepQuery { run_id: self.run_id, ranges: self.ranges(self.last_step), limit: 1 };
        if let Some(step) = self.shared.store.steps(&last).await?.items.first() {
            owner.restore_last_step(step);
        }
        Ok(owner)
    }

    /// The settled steps whose frames the windows need again: those from which on no frame is older than the oldest that
    /// is kept. The mark of a shard that took no part in the last steps may name an older one than is needed. False when
    /// there are more of them than are asked for again.
    ///
    /// Invariant (promise 7): however long the history is, what is read of it is bounded. It is read newest first, in
    /// ranges that hold a page at most.
    async fn refill_steps(
        &self,
        marks: &[ShardMark],
        update_interval: u64,
    ) -> Result<(VecDeque<StepRow>, bool), Error> {
        let mut steps = VecDeque::new();
        let kept = |mark: &ShardMark| 0 < mark.keep_from_seq && mark.keep_from_seq <= mark.committed_seq;
        if !marks.iter().any(kept) {
            return Ok((steps, true));
        }
        let is_kept = |row: &StepRow| {
            marks.iter().all(|mark| {
                let seq = row.seqs.get(mark.shard as usize).copied().flatten();
                seq.is_none_or(|seq| seq >= mark.keep_from_seq)
            })
        };
        // Steps are found by number and not by seq, so how many a range holds is a guess, made better each time.
        let mut span = update_interval.saturating_mul(PAGE as u64);
        let mut to_step = self.last_step;
        loop {
            let from_step = to_step.saturating_sub(span);
            let ranges = vec![SegmentRange { segment: self.segment, from_step, to_step }];
            let page = self.shared.store.steps(&StepQuery { run_id: self.run_id, ranges, limit: PAGE }).await?;
            if page.more {
                span /= 2;
                continue;
            }
            if page.items.len() < PAGE / 2 {
                span = span.saturating_mul(2);
            }
            for row in page.items.into_iter().rev() {
                if !is_kept(&row) {
                    return Ok((steps, true));
                }
                if steps.len() == MAX_REFILL_STEPS {
                    return Ok((steps, false));
                }
                steps.push_front(row);
            }
            let Some(before) = from_step.checked_sub(1) else { return Ok((steps, true)) };
            to_step = before;
        }
    }

    fn snapshot(&self, key: &FollowerKey) -> Option<&FollowerSnapshot> {
        self.snapshots.iter().find(|it| it.key == *key)
    }

    fn ranges(&self, from_step: u64) -> Vec<SegmentRange> {
        vec![SegmentRange { segment: self.segment, from_step, to_step: self.last_step }]
    }
}

/// What befell the shards of an attempt, oldest first.
async fn shard_events(store: &dyn Store, run_id: RunId, segment: u32) -> Result<Vec<Event>, StoreError> {
    let mut events: Vec<Event> = Vec::new();
    loop {
        let query = EventQuery {
            run_id: Some(run_id),
            project: None,
            types: ShardEvent::TYPES.iter().map(ToString::to_string).collect(),
            group: None,
            ranges: Some(vec![SegmentRange { segment, from_step: 0, to_step: LAST_STEP }]),
            after: events.last().map(|event| event.event_id),
            newest_first: false,
            limit: PAGE,
        };
        let page = store.events(&query).await?;
        events.extend(page.items);
        if !page.more {
            return Ok(events);
        }
    }
}

/// The last steps of the newest attempt: they tell how fast the job steps.
pub(super) async fn rhythm(store: &dyn Store, run_id: RunId, segments: &[Segment]) -> Result<Vec<StepRow>, StoreError> {
    let newest = lineage::order(segments).last().copied();
    let Some(segment) = segments.iter().find(|segment| Some(segment.segment) == newest) else { return Ok(Vec::new()) };
    let Some(to_step) = segment.last_step else { return Ok(Vec::new()) };
    let span = u64::from(segment.spec.update_interval) * liveness::INTERVALS as u64;
    let ranges = vec![SegmentRange { segment: segment.segment, from_step: to_step.saturating_sub(span), to_step }];
    let page = store.steps(&StepQuery { run_id, ranges, limit: liveness::INTERVALS + 1 }).await?;
    Ok(page.items)
}
