//! Brings the state of a run back from what is committed.

use gradwatch_spectral::detectors::DetectorConfig;
use gradwatch_store::{
    LIVE_ANALYSIS, ReadingQuery, RunId, Segment, ShardMark, StepQuery, Store, StoreError, lineage::SegmentRange,
};

use super::segment::SegmentOwner;
use crate::error::Error;

/// Rows read at a time.
const PAGE: usize = 1_000;

/// Takes up an attempt where its last owner left it. Invariant (promise 3): detectors and rollups come back to the
/// same bits, from their last saved state and the readings stored behind it; windows come back from the frames that
/// the client sends again.
pub(super) async fn segment_owner(
    store: &dyn Store,
    run_id: RunId,
    segment: Segment,
    mark: &ShardMark,
    config: &DetectorConfig,
) -> Result<SegmentOwner, Error> {
    let (number, last_step) = (segment.segment, segment.last_step);
    let mut owner = SegmentOwner::new(segment, mark, config).map_err(Error::internal)?;
    // An attempt without steps has nothing to bring back.
    let Some(last_step) = last_step else { return Ok(owner) };
    let snapshots = store.follower_snapshots(run_id, number).await?;

    for index in 0..owner.followers_mut().len() {
        let follower = &mut owner.followers_mut()[index];
        let stream = follower.stream().clone();
        let saved = snapshots.iter().find(|it| it.stream.as_ref() == Some(&stream));
        let mut from_step = saved.filter(|it| follower.restore(&it.state)).map_or(0, |it| it.step + 1);
        loop {
            let query = ReadingQuery {
                run_id,
                analysis: LIVE_ANALYSIS.to_owned(),
                stream: stream.clone(),
                ranges: vec![SegmentRange { segment: number, from_step, to_step: last_step }],
                limit: PAGE,
            };
            let page = store.readings(&query).await?;
            for reading in page.items {
                from_step = reading.row.step + 1;
                SegmentOwner::replay(&mut owner.followers_mut()[index], reading);
            }
            if !page.more {
                break;
            }
        }
    }
    scalars(store, run_id, number, last_step, &snapshots, &mut owner).await?;
    Ok(owner)
}

async fn scalars(
    store: &dyn Store,
    run_id: RunId,
    segment: u32,
    last_step: u64,
    snapshots: &[gradwatch_store::FollowerSnapshot],
    owner: &mut SegmentOwner,
) -> Result<(), StoreError> {
    let saved = snapshots.iter().find(|it| it.stream.is_none());
    let mut from_step = saved.filter(|it| owner.scalars_mut().restore(&it.state)).map_or(0, |it| it.step + 1);
    loop {
        let ranges = vec![SegmentRange { segment, from_step, to_step: last_step }];
        let page = store.steps(&StepQuery { run_id, ranges, limit: PAGE }).await?;
        for step in page.items {
            from_step = step.step + 1;
            owner.scalars_mut().follow(step.step, &step.scalars);
        }
        if !page.more {
            break;
        }
    }
    let ranges = vec![SegmentRange { segment, from_step: last_step, to_step: last_step }];
    let last = store.steps(&StepQuery { run_id, ranges, limit: 1 }).await?;
    if let Some(step) = last.items.first() {
        owner.restore_last_step(step);
    }
    Ok(())
}
