//! A publication in parts of a bounded size, so that a listener turns little of a big commit into text at a time.

use std::{mem, sync::Arc};

use gradwatch_spectral::layers::FieldValue;
use gradwatch_store::{EventRow, LayerReadingRow, Reading, RunPatch};
use serde_json::Value;

use super::{Publication, PublishedRun};

/// A part is closed by the row that takes it over this size. Written as JSON it grows two- to threefold.
const PART_BYTES: usize = 65_536;

/// Splits a publication; returns its parts, at least one, and about how many bytes they take together.
///
/// Invariant: the rows of all parts in order are the rows of the publication in order, each once; a run's patch stands
/// behind the last of its rows.
pub(super) fn split(publication: Publication) -> (Vec<Arc<Publication>>, usize) {
    let mut splitter = Splitter { commit_seq: publication.commit_seq, ..Splitter::default() };
    for run in publication.runs {
        splitter.add(run);
    }
    splitter.close();
    (splitter.parts, splitter.bytes)
}

#[derive(Default)]
struct Splitter {
    commit_seq: u64,
    parts: Vec<Arc<Publication>>,
    bytes: usize,
    /// The runs of the part that is still open.
    open: Vec<PublishedRun>,
    open_bytes: usize,
}

impl Splitter {
    fn add(&mut self, run: PublishedRun) {
        let PublishedRun { run_id, project, live_to_step, readings, layer_readings, events, patch } = run;
        let beginning = || PublishedRun {
            run_id,
            project: Arc::clone(&project),
            live_to_step: Arc::clone(&live_to_step),
            readings: Vec::new(),
            layer_readings: Vec::new(),
            events: Vec::new(),
            patch: RunPatch::default(),
        };
        let mut begun = beginning();
        self.open_bytes += size_of::<PublishedRun>() + size_of::<(u32, u64)>() * live_to_step.len();
        for reading in readings {
            self.open_bytes += reading_bytes(&reading);
            begun.readings.push(reading);
            if self.open_bytes > PART_BYTES {
                self.push(mem::replace(&mut begun, beginning()));
                self.close();
            }
        }
        for (row, wall_time_us) in layer_readings {
            self.open_bytes += layer_reading_bytes(&row);
            begun.layer_readings.push((row, wall_time_us));
            if self.open_bytes > PART_BYTES {
                self.push(mem::replace(&mut begun, beginning()));
                self.close();
            }
        }
        for (event_id, event) in events {
            self.open_bytes += event_bytes(&event);
            begun.events.push((event_id, event));
            if self.open_bytes > PART_BYTES {
                self.push(mem::replace(&mut begun, beginning()));
                self.close();
            }
        }
        begun.patch = patch;
        self.push(begun);
        if self.open_bytes > PART_BYTES {
            self.close();
        }
    }

    fn push(&mut self, mut run: PublishedRun) {
        // Growing leaves room for up to as many rows again, which is counted nowhere.
        run.readings.shrink_to_fit();
        run.layer_readings.shrink_to_fit();
        run.events.shrink_to_fit();
        self.open.push(run);
    }

    fn close(&mut self) {
        let part = Publication { commit_seq: self.commit_seq, runs: mem::take(&mut self.open) };
        self.parts.push(Arc::new(part));
        self.bytes += size_of::<Publication>() + mem::take(&mut self.open_bytes);
    }
}

fn reading_bytes(reading: &Reading) -> usize {
    let row = &reading.row;
    let sigma = row.edge.sigma.as_ref().map_or(0, |sigma| size_of::<f64>() * sigma.capacity());
    size_of::<Reading>() + row.analysis.capacity() + row.stream.group.capacity() + sigma
}

fn layer_reading_bytes(row: &LayerReadingRow) -> usize {
    let listed = row.reading.values().into_iter().flatten().map(|value| match value {
        FieldValue::List(values) => size_of::<f64>() * values.len(),
        _ => 0,
    });
    size_of::<(LayerReadingRow, Option<i64>)>() + row.layer.layer.capacity() + listed.sum::<usize>()
}

fn event_bytes(event: &EventRow) -> usize {
    let optional = [&event.group, &event.from, &event.to];
    let texts = optional.into_iter().flatten().map(String::capacity).sum::<usize>();
    size_of::<(u64, EventRow)>() + event.event_type.capacity() + texts + json_bytes(&event.evidence)
}

/// What a JSON value owns, besides its own size. Its depth is bounded by the parser or the code that made it.
fn json_bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.capacity(),
        Value::Array(values) => values.iter().map(|value| size_of::<Value>() + json_bytes(value)).sum(),
        Value::Object(fields) => {
            let field =
                |(name, value): (&String, &Value)| size_of::<(String, Value)>() + name.len() + json_bytes(value);
            fields.iter().map(field).sum()
        }
    }
}
