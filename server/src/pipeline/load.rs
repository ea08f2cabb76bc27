//! Brings the state of a run back from what is committed.

use gradwatch_store::{
    FollowerSnapshot, LIVE_ANALYSIS, ReadingQuery, RunId, Segment, ShardMark, StepQuery, StepRow, Store, StoreError,
    StreamKey, lineage, lineage::SegmentRange,
};

use super::{Shared, liveness, segment::SegmentOwner};
use crate::error::Error;

/// Rows read, and followed on the numeric pool, at a time.
const PAGE: usize = 1_000;

/// Takes up an attempt where its last owner left it. Invariant (promise 3): detectors and rollups come back to the
/// same bits, from their last saved state and the readings stored behind it; windows come back from the frames that
/// the client sends again.
pub(super) async fn segment_owner(
    shared: &Shared,
    run_id: RunId,
    segment: Segment,
    mark: &ShardMark,
) -> Result<SegmentOwner, Error> {
    let (number, last_step) = (segment.segment, segment.last_step);
    let mut owner = SegmentOwner::new(segment, mark, &shared.config).map_err(Error::internal)?;
    // An attempt without steps has nothing to bring back.
    let Some(last_step) = last_step else { return Ok(owner) };
    let snapshots = shared.store.follower_snapshots(run_id, number).await?;
    let loading = Loading { shared, run_id, segment: number, last_step, snapshots };
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
        let mut from_step = match self.snapshot(Some(&stream)) {
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
        let mut from_step = match self.snapshot(None) {
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

    fn snapshot(&self, stream: Option<&StreamKey>) -> Option<&FollowerSnapshot> {
        self.snapshots.iter().find(|it| it.stream.as_ref() == stream)
    }

    fn ranges(&self, from_step: u64) -> Vec<SegmentRange> {
        vec![SegmentRange { segment: self.segment, from_step, to_step: self.last_step }]
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
