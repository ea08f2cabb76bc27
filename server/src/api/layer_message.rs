//! What a live stream says of a reading of a layer.

use std::collections::BTreeMap;

use gradwatch_spectral::layers::{FieldValue, LayerReading};
use gradwatch_store::LayerReadingRow;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::time::Time;
use crate::recorder::PublishedRun;

/// The data of a `layer_reading` message.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LayerReadingMessage {
    run_id: String,
    project: String,
    /// `cascade`, `curvature`, `dead_directions` or `learning_cell`.
    instrument: &'static str,
    layer: String,
    /// Whether the step was on the live line when it was committed.
    live: bool,
    step: u64,
    segment: u32,
    /// The client's clock at the step; null where the server does not remember it.
    wall_time: Option<Time>,
    /// The instrument's readings; null where undefined. `reason` says why.
    #[serde(flatten)]
    readings: BTreeMap<&'static str, Option<Value>>,
}

impl LayerReadingMessage {
    pub(crate) fn new(run: &PublishedRun, row: &LayerReadingRow, wall_time_us: Option<i64>) -> Self {
        Self {
            run_id: run.run_id.to_string(),
            project: run.project.to_string(),
            instrument: row.layer.instrument.as_str(),
            layer: row.layer.layer.clone(),
            live: run.is_live(row.segment, row.step),
            step: row.step,
            segment: row.segment,
            wall_time: wall_time_us.map(Time),
            readings: readings(&row.reading),
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        self.live
    }
}

fn readings(reading: &LayerReading) -> BTreeMap<&'static str, Option<Value>> {
    let names = reading.instrument().fields().iter().map(|field| field.name);
    names.zip(reading.values()).map(|(name, value)| (name, value.map(json))).collect()
}

fn json(value: FieldValue) -> Value {
    match value {
        FieldValue::Number(number) => number.into(),
        FieldValue::Count(count) => count.into(),
        FieldValue::Flag(flag) => flag.into(),
        FieldValue::Word(word) => word.into_owned().into(),
        FieldValue::List(numbers) => numbers.into(),
    }
}
