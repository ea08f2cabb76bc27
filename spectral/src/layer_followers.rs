//! What depends on the earlier readings of a layer: readings that compare, and detectors.

use serde::{Deserialize, Serialize};

use crate::{
    cascade::CascadeReading,
    dead_directions,
    detectors::{
        CountChange, Detection, Detector, DetectorConfig, ExponentShift, Finding, Quantity, Shift, ShiftConfig,
    },
    layers::{LayerInstrument, LayerReading},
    learning_cell,
};

/// Follows the readings of one (segment, instrument, layer).
///
/// Invariant: a pure function of the reading sequence. A state that was serialised and read back continues with the same
/// bits, under the configuration it was made with, which is part of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerFollowers {
    config: DetectorConfig,
    state: State,
}

/// What is kept of the readings of one instrument.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum State {
    /// On the heap: three pasts of up to 256 readings are far larger than what the others keep.
    Cascade(Box<CascadeShifts>),
    Curvature(ExponentShift),
    DeadDirections {
        history: dead_directions::History,
        count: CountChange,
    },
    LearningCell(learning_cell::History),
}

impl LayerFollowers {
    /// Followers of a layer's readings. `config` is taken as valid, see [`DetectorConfig::validate`].
    pub fn new(instrument: LayerInstrument, config: &DetectorConfig) -> Self {
        let state = match instrument {
            LayerInstrument::Cascade => State::Cascade(Box::default()),
            LayerInstrument::Curvature => State::Curvature(ExponentShift::default()),
            LayerInstrument::DeadDirections => {
                State::DeadDirections { history: dead_directions::History::default(), count: CountChange::default() }
            }
            LayerInstrument::LearningCell => State::LearningCell(learning_cell::History::default()),
        };
        Self { config: config.clone(), state }
    }

    /// Takes in the reading at an optimizer step: fills what it says only by comparing, and answers what the detectors
    /// say, in a fixed order. A value that a reading lacks (it was skipped or refused, or the value is undefined) is as if
    /// there had been no reading: it neither counts nor breaks a row of readings. So is a reading of another instrument.
    pub fn follow(&mut self, step: u64, reading: &mut LayerReading) -> Vec<Detection> {
        let config = &self.config;
        let mut findings = Vec::new();
        match (&mut self.state, reading) {
            (State::Cascade(shifts), LayerReading::Cascade(reading)) => {
                shifts.see(reading, &config.cascade, &mut findings);
            }
            (State::Curvature(shift), LayerReading::Curvature(reading)) => {
                findings.extend(shift.see(reading, &config.curvature));
            }
            (State::DeadDirections { history, count }, LayerReading::DeadDirections(reading)) => {
                history.complete(reading);
                findings.extend(count.see(reading, &config.dead_directions));
            }
            (State::LearningCell(history), LayerReading::LearningCell(reading)) => history.complete(reading),
            _ => {}
        }
        findings.into_iter().map(|finding| finding.into_detection(step, None, None)).collect()
    }
}

/// State of `cascade.shift` \[ours\]: phi, nest_dimension and branching, each against its own past.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct CascadeShifts {
    phi: Shift,
    nest_dimension: Shift,
    branching: Shift,
}

impl CascadeShifts {
    fn see(&mut self, reading: &CascadeReading, config: &ShiftConfig, findings: &mut Vec<Finding>) {
        let rule = config.rule();
        let quantities = [
            (&mut self.phi, reading.phi, "cascade.phi"),
            (&mut self.nest_dimension, reading.nest_dimension, "cascade.nest_dimension"),
            (&mut self.branching, reading.branching, "cascade.branching"),
        ];
        for (shift, value, name) in quantities {
            let what =
                Quantity { reading: name, quantity: name, rose: Detector::CascadeShift, fell: Detector::CascadeShift };
            findings.extend(value.and_then(|x| shift.see(x, what, &rule)));
        }
    }
}
