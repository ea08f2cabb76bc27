//! Reads the live line of a run from its beginning to its end, piece by piece.

use gradwatch_rules::evaluator::{Inputs, RunEvaluator};
use gradwatch_store::{Event, EventQuery, RunId, Segment, Store, StoreError, lineage::SegmentRange};

use crate::alerts::evaluation::{
    input::{Chunk, steps_at_once},
    line::{Line, Place},
};

/// Events read at once.
const EVENTS: usize = 1_000;

/// Some steps of a line with what happened at and behind them.
pub(super) struct Piece {
    pub(super) chunk: Chunk,
}

/// Reads a line.
pub(super) struct LineReader {
    run_id: RunId,
    inputs: Inputs,
    /// Steps read at once.
    limit: usize,
    event_types: Vec<String>,
    line: Line,
    at: Option<Place>,
    /// Behind everything; none: nothing is left.
    end: Option<Place>,
}

impl LineReader {
    pub(super) fn new(run_id: RunId, evaluator: &RunEvaluator, event_types: Vec<String>, segments: &[Segment]) -> Self {
        let (inputs, limit) = (evaluator.inputs().clone(), steps_at_once(evaluator));
        let line = Line::new(segments);
        let end = line.newest().map(|segment| (segment, u64::MAX));
        Self { run_id, inputs, limit, event_types, line, at: None, end }
    }

    /// The next piece; none behind the last.
    pub(super) async fn next(&mut self, store: &dyn Store) -> Result<Option<Piece>, StoreError> {
        let Some(end) = self.end else { return Ok(None) };
        let after = self.at;
        let mut chunk =
            Chunk::read(store, self.run_id, &self.inputs, self.line.between(after, end), self.limit).await?;
        // Behind the last step there may still be events.
        let reached = chunk.last().filter(|_| chunk.more);
        if !self.event_types.is_empty() {
            let events = self.events(store, self.line.between(after, reached.unwrap_or(end))).await?;
            chunk.place(events, &self.line);
        }
        match reached {
            Some(reached) => self.at = Some(reached),
            None => self.end = None,
        }
        Ok(Some(Piece { chunk }))
    }

    async fn events(&self, store: &dyn Store, ranges: Vec<SegmentRange>) -> Result<Vec<Event>, StoreError> {
        // An event without a step belongs to its segment whole: it is met with each part of it, and told with the first.
        let begins = |event: &Event| {
            let range = ranges.iter().find(|range| range.segment == event.row.segment);
            event.row.step.is_some() || range.is_some_and(|range| range.from_step == 0)
        };
        let mut query = EventQuery {
            run_id: Some(self.run_id),
            project: None,
            types: self.event_types.clone(),
            group: None,
            ranges: Some(ranges.clone()),
            after: None,
            newest_first: false,
            limit: EVENTS,
        };
        let mut events = Vec::new();
        loop {
            let page = store.events(&query).await?;
            query.after = page.items.last().map(|event| event.event_id);
            events.extend(page.items.into_iter().filter(begins));
            if !page.more {
                return Ok(events);
            }
        }
    }
}
