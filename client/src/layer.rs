//! The layers that a run declares, and when a snapshot of each is due.

use std::collections::HashSet;

use gradwatch_proto::v1;
use gradwatch_spectral::layers::LayerInstrument;
use gradwatch_spectral::learning_cell::{Activation, MAX_WIDTH};

use crate::error::OpenError;
use crate::validate::check_name;

/// The steps between two snapshots of a layer unless others are given.
pub const DEFAULT_LAYER_INTERVAL: u64 = 1_000;
/// The widest layer whose spectrum a server reads.
const MAX_DEAD_DIRECTIONS_WIDTH: usize = 65_536;

/// What a layer is watched with, and how often: for [`RunBuilder::layer`](crate::RunBuilder::layer).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "nothing is watched before it is given to `RunBuilder::layer`"]
pub struct Layer {
    pub(crate) instrument: LayerInstrument,
    /// 0 where the instrument has none.
    pub(crate) width: usize,
    activation: Option<Activation>,
    pub(crate) interval: u64,
}

impl Layer {
    /// The cascade of a gradient: of any set of tensors. See [`CascadeSnapshot`](crate::CascadeSnapshot).
    pub fn cascade() -> Self {
        Self::new(LayerInstrument::Cascade)
    }

    /// Curvature along a matrix layer's gradient directions. See [`CurvatureSnapshot`](crate::CurvatureSnapshot).
    pub fn curvature() -> Self {
        Self::new(LayerInstrument::Curvature)
    }

    /// Dead directions of a layer of so many pre-activations, at most 65,536. See
    /// [`DeadDirectionsSnapshot`](crate::DeadDirectionsSnapshot).
    pub fn dead_directions(width: usize) -> Self {
        Self { width, ..Self::new(LayerInstrument::DeadDirections) }
    }

    /// The two-layer block f(x) = (1/N) Σ a_i act(w_i·x), w_i of length `width`, at most 1,024: longer ones are to be
    /// sketched, each by itself. See [`LearningCellSnapshot`](crate::LearningCellSnapshot).
    pub fn learning_cell(width: usize, activation: Activation) -> Self {
        Self { width, activation: Some(activation), ..Self::new(LayerInstrument::LearningCell) }
    }

    fn new(instrument: LayerInstrument) -> Self {
        Self { instrument, width: 0, activation: None, interval: DEFAULT_LAYER_INTERVAL }
    }

    /// The least number of steps between two snapshots. Those given in between are not looked at. Default
    /// [`DEFAULT_LAYER_INTERVAL`].
    pub fn every(mut self, steps: u64) -> Self {
        self.interval = steps;
        self
    }

    pub(crate) fn to_wire(self, name: &str) -> v1::Layer {
        let instrument = match self.instrument {
            LayerInstrument::Cascade => v1::LayerInstrument::Cascade,
            LayerInstrument::Curvature => v1::LayerInstrument::Curvature,
            LayerInstrument::DeadDirections => v1::LayerInstrument::DeadDirections,
            LayerInstrument::LearningCell => v1::LayerInstrument::LearningCell,
        };
        v1::Layer {
            name: name.to_owned(),
            instrument: instrument.into(),
            width: self.width as u32,
            activation: self.activation.map_or("", Activation::as_str).to_owned(),
        }
    }
}

pub(crate) fn check_layers(layers: &[(String, Layer)]) -> Result<(), OpenError> {
    let mut seen = HashSet::new();
    for (name, layer) in layers {
        let instrument = layer.instrument;
        let field = format!("layer {name:?}");
        check_name(&field, name)?;
        if !seen.insert((name, instrument)) {
            return Err(OpenError::argument(field, format!("was given twice for {instrument}")));
        }
        let max_width = match instrument {
            LayerInstrument::Cascade | LayerInstrument::Curvature => None,
            LayerInstrument::DeadDirections => Some(MAX_DEAD_DIRECTIONS_WIDTH),
            LayerInstrument::LearningCell => Some(MAX_WIDTH),
        };
        if let Some(max_width) = max_width.filter(|max_width| !(1..=*max_width).contains(&layer.width)) {
            let problem = format!("width {} is not between 1 and {max_width}, which {instrument} needs", layer.width);
            return Err(OpenError::argument(field, problem));
        }
        if layer.interval == 0 {
            return Err(OpenError::argument(field, "every 0 steps is no schedule"));
        }
    }
    Ok(())
}

/// When the snapshots of one attempt were taken.
#[derive(Debug)]
pub(crate) struct Schedule {
    /// By layer.
    last_steps: Vec<Option<u64>>,
}

impl Schedule {
    pub(crate) fn new(layers: usize) -> Self {
        Self { last_steps: vec![None; layers] }
    }

    /// A new attempt: every layer is due.
    pub(crate) fn reset(&mut self) {
        self.last_steps.fill(None);
    }

    /// Whether there is no snapshot of the layer yet, or its interval has passed.
    pub(crate) fn is_due(&self, layer: usize, interval: u64, step: u64) -> bool {
        self.last_steps[layer].is_none_or(|last| step.saturating_sub(last) >= interval)
    }

    pub(crate) fn taken(&mut self, layer: usize, step: u64) {
        self.last_steps[layer] = Some(step);
    }
}
