//! What an evaluator is given, read from the store a portion at a time.

use gradwatch_rules::evaluator::{Change, EventInput, Inputs, RunEvaluator, StepInput};
use gradwatch_store::{Event, RunId, Store, StoreError, ValuesQuery, ValuesRow, ValuesSource, lineage::SegmentRange};

use super::line::{Line, Place};

/// The most steps read, evaluated and committed at once.
pub(crate) const CHUNK_STEPS: usize = 4_096;
/// The most values, and evaluations, of them.
const CHUNK_VALUES: usize = 1 << 22;

/// How many steps are given to an evaluator at once.
///
/// Invariant: bounded memory, however many rules look at however many groups: what is read of a step grows with the
/// columns, what it brings with the machines.
pub(crate) fn steps_at_once(evaluator: &RunEvaluator) -> usize {
    limit(width(evaluator.inputs()) + evaluator.machines())
}

fn limit(values_of_a_step: usize) -> usize {
    (CHUNK_VALUES / values_of_a_step.max(1)).clamp(1, CHUNK_STEPS)
}

/// Some steps of the live line of a run, with all that an evaluator wants of them.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// Steps and the server's times of them.
    steps: Vec<(Place, i64)>,
    /// Values of a step.
    width: usize,
    /// Step by step.
    values: Vec<Option<f64>>,
    /// In the order in which they are told.
    events: Vec<PlacedEvent>,
    /// There are more steps in the ranges.
    pub(crate) more: bool,
}

#[derive(Debug)]
struct PlacedEvent {
    /// The step that it is told with, or, when it is told alone, before.
    index: usize,
    /// It happened at the step. Otherwise it happened between two steps, or was noticed later than the step it names.
    with_step: bool,
    event: Event,
}

impl Chunk {
    /// Reads the first `limit` steps of `ranges`.
    ///
    /// Invariant: nothing is half seen. Steps come first, and of everything else no more than up to the last of them; a
    /// step, its readings and its events were committed together.
    pub(crate) async fn read(
        store: &dyn Store,
        run_id: RunId,
        inputs: &Inputs,
        ranges: Vec<SegmentRange>,
        limit: usize,
    ) -> Result<Self, StoreError> {
        let width = width(inputs);
        let mut chunk = Self { steps: Vec::new(), width, values: Vec::new(), events: Vec::new(), more: false };
        if ranges.is_empty() {
            return Ok(chunk);
        }
        let source = ValuesSource::Steps(inputs.scalars.clone());
        let query = ValuesQuery { run_id, source, ranges, backwards: false, limit };
        let steps = store.values(&query).await?;
        let Some(last) = steps.last() else { return Ok(chunk) };
        chunk.more = steps.len() >= limit;
        let ranges = cut(query.ranges, (last.segment, last.step));
        chunk.values = vec![None; steps.len() * width];
        chunk.steps = steps.iter().map(|row| ((row.segment, row.step), row.received_at_us)).collect();
        chunk.fill(&steps, width - inputs.scalars.len());
        let mut column = 0;
        for (source, columns) in sources(inputs) {
            let query = ValuesQuery { run_id, source, ranges: ranges.clone(), backwards: false, limit };
            chunk.fill(&store.values(&query).await?, column);
            column += columns;
        }
        Ok(chunk)
    }

    /// Puts rows, which come in the order of the steps, into their columns.
    fn fill(&mut self, rows: &[ValuesRow], column: usize) {
        let mut index = 0;
        for row in rows {
            let place = (row.segment, row.step);
            // Rows are among the steps, in the same order. One that is not there belongs to nothing that was settled.
            let Some(found) = self.steps[index..].iter().position(|(step, _)| *step == place) else { continue };
            index += found;
            let start = index * self.width + column;
            self.values[start..start + row.values.len()].copy_from_slice(&row.values);
        }
    }

    /// The first step.
    pub(crate) fn first(&self) -> Option<Place> {
        self.steps.first().map(|(place, _)| *place)
    }

    /// The last step.
    pub(crate) fn last(&self) -> Option<Place> {
        self.steps.last().map(|(place, _)| *place)
    }

    pub(crate) fn len(&self) -> usize {
        self.steps.len()
    }

    /// Nothing is to be told.
    pub(crate) fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.events.is_empty()
    }

    /// Puts events, in the order of their recording, where they belong among the steps.
    ///
    /// Invariant: what happens at a step is told with it, also when the step is evaluated long afterwards. What is noticed
    /// behind a step (`run.*`) is told between that step and the next, as it would have been when it happened.
    pub(crate) fn place(&mut self, events: Vec<Event>, line: &Line) {
        for event in events {
            let (index, with_step) = match event.row.step.map(|step| (event.row.segment, step)) {
                // Its segment had no step yet.
                None => {
                    let rank = line.rank((event.row.segment, 0));
                    (self.steps.partition_point(|(step, _)| line.rank(*step) < rank), false)
                }
                Some(place) => {
                    let rank = line.rank(place);
                    let index = self.steps.partition_point(|(step, _)| line.rank(*step) < rank);
                    let exact = self.steps.get(index).is_some_and(|(step, _)| *step == place);
                    match is_noticed_later(&event.row.event_type) {
                        true => (index + usize::from(exact), false),
                        false => (index, exact),
                    }
                }
            };
            self.events.push(PlacedEvent { index, with_step, event });
        }
        self.events.sort_by_key(|placed| (placed.index, placed.with_step));
    }

    /// Values of its steps, each in the order of [`Inputs`].
    pub(crate) fn values(&self) -> impl Iterator<Item = &[Option<f64>]> {
        // A step without any would have no width.
        self.values.chunks(self.width.max(1))
    }

    /// Gives everything to an evaluator, in order.
    pub(crate) fn advance(&self, evaluator: &mut RunEvaluator, changes: &mut Vec<Change>) {
        let mut events = self.events.iter().peekable();
        for index in 0..=self.steps.len() {
            let mut happened = Vec::new();
            while let Some(placed) = events.next_if(|placed| placed.index == index && !placed.with_step) {
                evaluator.happened(placed.event.row.segment, &event_input(&placed.event), changes);
            }
            let Some(&((segment, step), received_at_us)) = self.steps.get(index) else { break };
            while let Some(placed) = events.next_if(|placed| placed.index == index) {
                happened.push(event_input(&placed.event));
            }
            let values = &self.values[index * self.width..(index + 1) * self.width];
            evaluator.advance(&StepInput { segment, step, received_at_us, values, events: &happened }, changes);
        }
    }
}

/// Values of a step.
pub(super) fn width(inputs: &Inputs) -> usize {
    sources(inputs).map(|(_, columns)| columns).sum::<usize>() + inputs.scalars.len()
}

/// Where values come from besides the steps' own rows, and how many each has, in the order of the columns.
pub(super) fn sources(inputs: &Inputs) -> impl Iterator<Item = (ValuesSource, usize)> + '_ {
    let streams = inputs.streams.iter();
    let streams = streams.map(|(key, metrics)| (ValuesSource::Stream(key.clone(), metrics.clone()), metrics.len()));
    let layers = inputs.layers.iter();
    streams.chain(layers.map(|(key, fields)| (ValuesSource::Layer(key.clone(), fields.clone()), fields.len())))
}

/// Told by the server's clock, not by a step: the step it names is the last one there was.
fn is_noticed_later(event_type: &str) -> bool {
    event_type.starts_with("run.")
}

fn event_input(event: &Event) -> EventInput<'_> {
    let row = &event.row;
    EventInput {
        event_type: &row.event_type,
        group: row.group.as_deref(),
        kind: row.kind,
        window: row.window,
        from: row.from.as_deref(),
        to: row.to.as_deref(),
        at_us: row.at_us,
    }
}

/// Ranges up to a place in one of them, which is included.
fn cut(mut ranges: Vec<SegmentRange>, (segment, step): Place) -> Vec<SegmentRange> {
    if let Some(index) = ranges.iter().position(|range| range.segment == segment) {
        ranges.truncate(index + 1);
        ranges[index].to_step = ranges[index].to_step.min(step);
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_at_once_are_fewer_where_each_brings_more() {
        assert_eq!([limit(0), limit(1), limit(100)], [CHUNK_STEPS; 3]);
        for values in [1_500, 32_000, 1 << 22, usize::MAX] {
            let steps = limit(values);
            assert!((1..=CHUNK_STEPS).contains(&steps), "{steps}");
            assert!(steps == 1 || steps * values <= CHUNK_VALUES, "{steps} steps of {values} values");
        }
    }
}
