//! Reads events of a run.

use gradwatch_store::{Event, EventQuery, RunId, Store, StoreError, lineage::SegmentRange};

use super::{
    input::Chunk,
    line::{Line, Place},
};
use crate::{metrics::Metrics, pipeline::Pipeline};

/// Events read at once.
const EVENTS: usize = 1_000;

/// What a run is read with.
pub(super) struct Reader<'a> {
    pub(super) store: &'a dyn Store,
    pub(super) pipeline: &'a Pipeline,
    pub(super) metrics: &'a Metrics,
    pub(super) line: &'a Line,
}

impl Reader<'_> {
    /// Events of the live line behind one and up to another, oldest first, and the last that was looked at. `until`: only
    /// up to the first of a step behind this place. Invariant: what happened before all rules says nothing to them, and is
    /// not held in memory.
    pub(super) async fn events_behind(
        &self,
        run_id: RunId,
        (types, active_from_us): (&[String], i64),
        (after, through): (u64, u64),
        until: Option<Place>,
    ) -> Result<(Vec<Event>, u64), StoreError> {
        let (mut found, mut seen) = (Vec::new(), after);
        let last = until.map(|place| self.line.rank(place));
        loop {
            let page = self.store.events(&query(run_id, types, seen, None)).await?;
            for event in page.items {
                // Without a step it came before the first one of its segment.
                let place = (event.row.segment, event.row.step.unwrap_or(0));
                let is_live = self.line.holds(place);
                let is_behind = is_live && last.is_some_and(|last| self.line.rank(place) > last);
                if event.event_id > through || is_behind {
                    return Ok((found, seen));
                }
                seen = event.event_id;
                if is_live && event.row.at_us >= active_from_us {
                    found.push(event);
                }
            }
            if !page.more {
                return Ok((found, seen));
            }
        }
    }

    /// The events of the steps of a chunk.
    pub(super) async fn events_of_steps(
        &self,
        run_id: RunId,
        types: &[String],
        chunk: &Chunk,
    ) -> Result<Vec<Event>, StoreError> {
        let (Some(first), Some(last)) = (chunk.first(), chunk.last()) else { return Ok(Vec::new()) };
        let ranges = self.line.between(self.line.before(first), last);
        let (mut found, mut after) = (Vec::new(), 0);
        loop {
            let page = self.store.events(&query(run_id, types, after, Some(ranges.clone()))).await?;
            after = page.items.last().map_or(after, |event| event.event_id);
            found.extend(page.items);
            if !page.more {
                return Ok(found);
            }
        }
    }
}

pub(super) fn query(run_id: RunId, types: &[String], after: u64, ranges: Option<Vec<SegmentRange>>) -> EventQuery {
    EventQuery {
        run_id: Some(run_id),
        project: None,
        types: types.to_vec(),
        group: None,
        ranges,
        after: Some(after),
        newest_first: false,
        limit: EVENTS,
    }
}
