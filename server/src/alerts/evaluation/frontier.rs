//! How far a run is recorded, and how far its layers are read.

use gradwatch_store::{EventQuery, Run, RunId, Segment, Store, StoreError};

use super::{
    line::{Line, Place},
    reader::query,
};

/// How often two looks at a run may disagree before it is tried again later.
const LOOKS: usize = 20;

/// How far a run is recorded.
///
/// Invariant: the steps up to `at` and the events up to `event_id` were recorded by the same commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Frontier {
    pub(super) at: Option<Place>,
    pub(super) event_id: u64,
}

/// Reads a run, its segments, and how far it is recorded. None: it is gone.
pub(super) async fn look(
    store: &dyn Store,
    run_id: RunId,
) -> Result<Option<(Run, Vec<Segment>, Frontier)>, StoreError> {
    let newest = async || -> Result<u64, StoreError> {
        let query = EventQuery { after: None, newest_first: true, limit: 1, ..query(run_id, &[], 0, None) };
        Ok(store.events(&query).await?.items.first().map_or(0, |event| event.event_id))
    };
    let mut event_id = newest().await?;
    for _ in 0..LOOKS {
        let run = match store.run(run_id).await {
            Ok(run) => run,
            Err(StoreError::UnknownRun(_) | StoreError::RunDeleting(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let segments = store.segments(run_id).await?;
        // No event was recorded while the segments were read: what is known of both belongs together.
        let now = newest().await?;
        if now == event_id {
            let at = Line::new(&segments).end(&segments);
            return Ok(Some((run, segments, Frontier { at, event_id })));
        }
        event_id = now;
    }
    Err(StoreError::Unavailable(format!("run {run_id} changes faster than it can be read")))
}

/// How far readings of layers are complete: up to the step before the first snapshot of the live line that is still to be
/// read. And whether none is.
///
/// Invariant: a snapshot waits from the commit of its step to that of its reading. So asked behind the steps, and before
/// the readings are read, it either still waits or its reading is there.
pub(super) async fn before_pending(
    store: &dyn Store,
    run_id: RunId,
    line: &Line,
    through: Option<Place>,
) -> Result<(Option<Place>, bool), StoreError> {
    let pending = store.pending_snapshots(run_id).await?;
    let places = pending.into_iter().map(|(key, _)| (key.segment, key.step)).filter(|place| line.holds(*place));
    let first = places.min_by_key(|place| line.rank(*place));
    let Some(first) = first else { return Ok((through, true)) };
    let before = line.before(first);
    let bounded = match (before, through) {
        (Some(before), Some(through)) if line.rank(before) > line.rank(through) => Some(through),
        _ => before,
    };
    Ok((bounded, false))
}
