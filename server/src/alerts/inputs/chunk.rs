//! A stretch of the live line, ready to be evaluated.

use gradwatch_rules::evaluator::{Change, EventInput, Inputs, RunEvaluator, StepInput};
use gradwatch_store::{EventRow, ValuesRow, lineage::SegmentRange};

/// What was read of the sources of [`Inputs`], each in the order of the line.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// Every step, with the scalars of [`Inputs::scalars`].
    pub(crate) steps: Vec<ValuesRow>,
    /// One for each of [`Inputs::streams`], then of [`Inputs::layers`].
    pub(crate) readings: Vec<Vec<ValuesRow>>,
    /// What happened, in the order of recording.
    pub(crate) events: Vec<EventRow>,
}

/// Where something stands on the live line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// The place of the segment on the line.
    attempt: usize,
    step: u64,
    /// Told when the step was settled long ago: behind all that is of the step itself.
    is_behind: bool,
}

/// Rows and events, in the order in which an evaluator sees them.
#[derive(Debug)]
pub(crate) struct Chunk {
    steps: Vec<(Place, ValuesRow)>,
    /// By source, with the number of values of a row.
    readings: Vec<(usize, Vec<(Place, ValuesRow)>)>,
    /// By place; those of one place in the order of recording.
    events: Vec<(Place, EventRow)>,
    width: usize,
}

impl Chunk {
    /// Of rows on a live line. What is not on it is left out.
    pub(crate) fn new(line: &[SegmentRange], inputs: &Inputs, rows: Rows) -> Self {
        let place = |segment: u32, step: u64, is_behind: bool| {
            let attempt = line.iter().position(|range| range.segment == segment)?;
            (step <= line[attempt].to_step).then_some(Place { attempt, step, is_behind })
        };
        let placed = |rows: Vec<ValuesRow>| -> Vec<(Place, ValuesRow)> {
            rows.into_iter().filter_map(|row| Some((place(row.segment, row.step, false)?, row))).collect()
        };
        let widths: Vec<usize> = inputs
            .streams
            .iter()
            .map(|(_, metrics)| metrics.len())
            .chain(inputs.layers.iter().map(|(_, fields)| fields.len()))
            .collect();
        let width = widths.iter().sum::<usize>() + inputs.scalars.len();
        let mut events: Vec<(Place, EventRow)> = rows
            .events
            .into_iter()
            .filter_map(|event| {
                // What has no step stands before the first.
                let is_behind = event.step.is_some() && is_told_behind(&event);
                Some((place(event.segment, event.step.unwrap_or(0), is_behind)?, event))
            })
            .collect();
        events.sort_by_key(|(place, _)| *place);
        Self {
            steps: placed(rows.steps),
            readings: widths.into_iter().zip(rows.readings.into_iter().map(placed)).collect(),
            events,
            width,
        }
    }

    /// How many steps it has.
    pub(crate) fn steps(&self) -> usize {
        self.steps.len()
    }

    /// Hands over step by step. An event that does not come with its step (the frames were dropped, or it was told behind it)
    /// is a step without values, received when it was told.
    pub(crate) fn for_each(&self, mut take: impl FnMut(&StepInput<'_>)) {
        let nothing = vec![None; self.width];
        let alone = |(place, event): &(Place, EventRow), take: &mut dyn FnMut(&StepInput<'_>)| {
            take(&StepInput {
                segment: event.segment,
                step: place.step,
                received_at_us: event.at_us,
                values: &nothing,
                events: &[event_input(event)],
            });
        };
        let mut values = Vec::with_capacity(self.width);
        let mut readings: Vec<&[(Place, ValuesRow)]> = self.readings.iter().map(|(_, rows)| rows.as_slice()).collect();
        let mut events = self.events.as_slice();
        let mut with_step = Vec::new();
        for (place, row) in &self.steps {
            let before = events.partition_point(|(at, _)| at < place);
            events[..before].iter().for_each(|event| alone(event, &mut take));
            events = &events[before..];
            let same = events.partition_point(|(at, _)| at == place);
            with_step.extend(events[..same].iter().map(|(_, event)| event_input(event)));
            events = &events[same..];

            values.clear();
            for ((width, _), rest) in self.readings.iter().zip(&mut readings) {
                *rest = &rest[rest.partition_point(|(at, _)| at < place)..];
                match rest.first().filter(|(at, _)| at == place) {
                    Some((_, reading)) => values.extend_from_slice(&reading.values),
                    None => values.extend_from_slice(&nothing[..*width]),
                }
            }
            values.extend_from_slice(&row.values);
            take(&StepInput {
                segment: row.segment,
                step: row.step,
                received_at_us: row.received_at_us,
                values: &values,
                events: &with_step,
            });
            with_step.clear();
        }
        events.iter().for_each(|event| alone(event, &mut take));
    }

    /// Evaluates all of it. Between two steps time has passed, which a rule about silence has to see.
    pub(crate) fn feed(&self, evaluator: &mut RunEvaluator, changes: &mut Vec<Change>) {
        self.for_each(|step| {
            evaluator.tick(step.received_at_us, changes);
            evaluator.advance(step, changes);
        });
    }
}

/// What is told of a run that had gone on for a while: its step is the last one before, and was evaluated without it.
fn is_told_behind(event: &EventRow) -> bool {
    matches!(
        event.event_type.as_str(),
        "run.crashed" | "run.stalled" | "run.shard_lost" | "run.shard_returned" | "run.shard_finished"
    ) || (event.event_type == "window.restarted" && event.evidence["reason"] == "refill")
}

fn event_input(event: &EventRow) -> EventInput<'_> {
    EventInput {
        event_type: &event.event_type,
        group: event.group.as_deref(),
        kind: event.kind,
        window: event.window,
        from: event.from.as_deref(),
        to: event.to.as_deref(),
        at_us: event.at_us,
    }
}

#[cfg(test)]
mod tests;
