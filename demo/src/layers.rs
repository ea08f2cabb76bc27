//! What the layer instruments said of the runs: readings as the server answers them, and a table of the telling ones.

use std::fmt;

use gradwatch_spectral::layers::LayerInstrument;
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use gradwatch_rest::RestError;

use crate::{
    RunReport,
    rest::Rest,
    streamed::{BLOCK, GRADIENT, MATRICES, UNITS},
};

/// The table has a column for each reading at a multiple of so many epochs.
const COLUMN_EVERY: u64 = 100;

/// A reading of a layer: its `step`, and every field of its instrument as the server answers it.
pub type Reading = Map<String, Value>;

/// All readings of one layer by one instrument.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerReadings {
    /// `cascade`, `curvature`, `dead_directions` or `learning_cell`.
    pub instrument: &'static str,
    /// The layer's name.
    pub layer: &'static str,
    /// In the order of steps.
    pub readings: Vec<Reading>,
}

impl LayerReadings {
    pub(crate) async fn read(
        rest: &Rest,
        run_id: Uuid,
        instrument: LayerInstrument,
        layer: &'static str,
    ) -> Result<Self, RestError> {
        let instrument = instrument.as_str();
        let path = format!("/api/v1/runs/{run_id}/readings/{instrument}?layer={layer}&limit=1000");
        let mut readings: Vec<Reading> = rest.all(&path).await?;
        for reading in &mut readings {
            // The same in all of them, or of the clock.
            reading.retain(|key, _| !["segment", "layer", "wall_time"].contains(&key.as_str()));
        }
        Ok(Self { instrument, layer, readings })
    }

    /// What is said of a step.
    pub(crate) fn at(&self, step: u64) -> Option<&Reading> {
        self.readings.iter().find(|reading| step_of(reading) == Some(step))
    }

    /// The values of a metric, with their steps, where it has one.
    pub(crate) fn values(&self, metric: &str) -> impl Iterator<Item = (u64, f64)> {
        self.readings.iter().filter_map(move |reading| Some((step_of(reading)?, reading.get(metric)?.as_f64()?)))
    }

    /// Whether a reading raises this flag.
    pub(crate) fn has_flag(&self, flag: &str) -> bool {
        self.readings.iter().any(|reading| reading.get(flag).and_then(Value::as_bool) == Some(true))
    }

    /// Why values are missing, each reason once.
    pub(crate) fn reasons(&self) -> Vec<&str> {
        let mut reasons: Vec<&str> =
            self.readings.iter().filter_map(|reading| reading.get("reason")?.as_str()).collect();
        reasons.sort_unstable();
        reasons.dedup();
        reasons
    }
}

fn step_of(reading: &Reading) -> Option<u64> {
    reading.get("step")?.as_u64()
}

/// What is watched of the addition runs, and what the table shows of it: title, then metrics with their decimals.
type Shown = (LayerInstrument, &'static str, &'static str, &'static [(&'static str, usize)]);
const EXPONENT: &[(&str, usize)] = &[("exponent", 2), ("transfer_error", 3), ("transfer_null", 3)];
const SHOWN: [Shown; 5] = [
    (LayerInstrument::Cascade, GRADIENT, "gradient of W and V", &[("phi", 3), ("nest_dimension", 3)]),
    (LayerInstrument::Curvature, MATRICES[0], "W", EXPONENT),
    (LayerInstrument::Curvature, MATRICES[1], "V", EXPONENT),
    (LayerInstrument::DeadDirections, UNITS, "256 hidden units", &[("count_gap", 0), ("rank", 0), ("logdet", 0)]),
    (LayerInstrument::LearningCell, BLOCK, "block of answer 0", &[("path_norm", 2), ("active_atoms", 0)]),
];

/// Everything that the layer instruments say of a run.
pub(crate) async fn read_all(rest: &Rest, run_id: Uuid) -> Result<Vec<LayerReadings>, RestError> {
    let mut layers = Vec::with_capacity(SHOWN.len());
    for (instrument, layer, ..) in SHOWN {
        layers.push(LayerReadings::read(rest, run_id, instrument, layer).await?);
    }
    Ok(layers)
}

/// Runs below each other, epochs beside each other.
pub(crate) struct LayerTable<'a>(pub(crate) &'a [RunReport]);

impl fmt::Display for LayerTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let epochs = self.columns();
        write!(f, "{:<34}epoch", "layer instruments")?;
        epochs.iter().try_for_each(|epoch| write!(f, "{epoch:>8}"))?;
        writeln!(f)?;
        for (index, (instrument, _, title, metrics)) in SHOWN.iter().enumerate() {
            writeln!(f, "  {instrument}: {title}{}", self.reasons(index))?;
            for (metric, decimals) in *metrics {
                for (row, run) in self.0.iter().enumerate() {
                    let label = if row == 0 { metric } else { "" };
                    write!(f, "    {label:<20}{:>15}", run.name)?;
                    for epoch in &epochs {
                        let reading = run.layers.get(index).and_then(|layer| layer.at(*epoch));
                        let value = reading.and_then(|reading| reading.get(*metric)?.as_f64());
                        let text = value.map_or("-".to_owned(), |value| format!("{value:.decimals$}"));
                        write!(f, "{text:>8}")?;
                    }
                    writeln!(f)?;
                }
            }
        }
        Ok(())
    }
}

impl LayerTable<'_> {
    fn columns(&self) -> Vec<u64> {
        let layers = self.0.iter().flat_map(|run| &run.layers);
        let steps = layers.flat_map(|layer| &layer.readings).filter_map(step_of);
        let mut columns: Vec<u64> = steps.filter(|step| step.is_multiple_of(COLUMN_EVERY)).collect();
        columns.sort_unstable();
        columns.dedup();
        columns
    }

    /// Why values are missing in some of the rows.
    fn reasons(&self, index: usize) -> String {
        let mut reasons: Vec<&str> =
            self.0.iter().filter_map(|run| run.layers.get(index)).flat_map(LayerReadings::reasons).collect();
        reasons.sort_unstable();
        reasons.dedup();
        if reasons.is_empty() { String::new() } else { format!("  ({})", reasons.join(", ")) }
    }
}
