//! Reads the live line of a run from its beginning, piece by piece.

use gradwatch_rules::evaluator::Inputs;
use gradwatch_store::{
    EventQuery, EventRow, RunId, Store, StoreError, ValuesQuery, ValuesRow, ValuesSource, lineage::SegmentRange,
};

use super::chunk::{Chunk, Rows};

/// Values held at once, over all sources of a piece: bounds the memory of one reader.
const CHUNK_VALUES: usize = 1 << 18;
/// Steps of a piece at most, and at least.
const CHUNK_STEPS: (usize, usize) = (64, 8_192);
/// Events read at once.
const EVENTS: usize = 1_000;

/// Reads a live line.
#[derive(Debug)]
pub(crate) struct LineReader {
    run_id: RunId,
    inputs: Inputs,
    line: Vec<SegmentRange>,
    /// What of it is still to be read.
    rest: Vec<SegmentRange>,
    chunk_steps: usize,
}

impl LineReader {
    /// For the live line, or the beginning of it up to a step that matters.
    pub(crate) fn new(run_id: RunId, inputs: Inputs, line: Vec<SegmentRange>) -> Self {
        let metrics = inputs.streams.iter().map(|(_, names)| names.len() + 1);
        let fields = inputs.layers.iter().map(|(_, names)| names.len() + 1);
        let per_step = metrics.chain(fields).sum::<usize>() + inputs.scalars.len() + 1;
        let (least, most) = CHUNK_STEPS;
        Self { run_id, inputs, rest: line.clone(), line, chunk_steps: (CHUNK_VALUES / per_step).clamp(least, most) }
    }

    /// The next piece; `None` behind the last.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn next(&mut self, store: &dyn Store) -> Result<Option<Chunk>, StoreError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let steps = self
            .values(store, ValuesSource::Steps(self.inputs.scalars.clone()), self.rest.clone(), self.chunk_steps)
            .await?;
        let last = steps.last().filter(|_| steps.len() == self.chunk_steps).map(|row| (row.segment, row.step));
        // Without a last step this is the end, and events behind it are all that is left.
        let (ranges, rest) = last.map_or_else(|| (self.rest.clone(), Vec::new()), |last| split(&self.rest, last));
        let mut readings = Vec::with_capacity(self.inputs.streams.len() + self.inputs.layers.len());
        for (stream, metrics) in &self.inputs.streams {
            let source = ValuesSource::Stream(stream.clone(), metrics.clone());
            readings.push(self.values(store, source, ranges.clone(), steps.len()).await?);
        }
        for (layer, fields) in &self.inputs.layers {
            let source = ValuesSource::Layer(layer.clone(), fields.clone());
            readings.push(self.values(store, source, ranges.clone(), steps.len()).await?);
        }
        let events = self.events(store, &ranges).await?;
        self.rest = rest;
        Ok(Some(Chunk::new(&self.line, &self.inputs, Rows { steps, readings, events })))
    }

    async fn values(
        &self,
        store: &dyn Store,
        source: ValuesSource,
        ranges: Vec<SegmentRange>,
        limit: usize,
    ) -> Result<Vec<ValuesRow>, StoreError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        store.values(&ValuesQuery { run_id: self.run_id, source, ranges, backwards: false, limit }).await
    }

    async fn events(&self, store: &dyn Store, ranges: &[SegmentRange]) -> Result<Vec<EventRow>, StoreError> {
        let mut query = EventQuery {
            run_id: Some(self.run_id),
            project: None,
            types: Vec::new(),
            group: None,
            ranges: Some(ranges.to_vec()),
            after: None,
            newest_first: false,
            limit: EVENTS,
        };
        // An event without a step belongs to its segment whole; it stands at its beginning, and is told there once.
        let begins = |event: &EventRow| {
            let range = ranges.iter().find(|range| range.segment == event.segment);
            event.step.is_some() || range.is_some_and(|range| range.from_step == 0)
        };
        let mut events = Vec::new();
        loop {
            let page = store.events(&query).await?;
            query.after = page.items.last().map(|event| event.event_id);
            events.extend(page.items.into_iter().map(|event| event.row).filter(begins));
            if !page.more {
                return Ok(events);
            }
        }
    }
}

/// The ranges up to a step of one of them, and behind it.
fn split(ranges: &[SegmentRange], (segment, step): (u32, u64)) -> (Vec<SegmentRange>, Vec<SegmentRange>) {
    let at = ranges.iter().position(|range| range.segment == segment).unwrap_or(ranges.len());
    let mut before = ranges[..(at + 1).min(ranges.len())].to_vec();
    let mut behind = ranges[at.min(ranges.len())..].to_vec();
    if let Some(last) = before.last_mut().filter(|range| range.segment == segment) {
        last.to_step = step;
    }
    if let Some(first) = behind.first_mut().filter(|range| range.segment == segment) {
        first.from_step = step.saturating_add(1);
    }
    behind.retain(|range| range.from_step <= range.to_step);
    (before, behind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(segment: u32, from_step: u64, to_step: u64) -> SegmentRange {
        SegmentRange { segment, from_step, to_step }
    }

    #[test]
    fn a_line_is_split_behind_a_step() {
        let line = [range(2, 0, 50), range(1, 0, u64::MAX)];
        let whole = (vec![range(2, 0, 20)], vec![range(2, 21, 50), range(1, 0, u64::MAX)]);
        assert_eq!(split(&line, (2, 20)), whole);
        assert_eq!(split(&line, (2, 50)), (vec![range(2, 0, 50)], vec![range(1, 0, u64::MAX)]));
        let second = (vec![range(2, 0, 50), range(1, 0, 7)], vec![range(1, 8, u64::MAX)]);
        assert_eq!(split(&line, (1, 7)), second);
    }
}
