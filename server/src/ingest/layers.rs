//! The layers that a stream spec declares.

use std::collections::HashSet;

use gradwatch_proto::v1;
use gradwatch_spectral::{layers::LayerInstrument, learning_cell::Activation};
use gradwatch_store::LayerSpec;

use super::text;
use crate::{
    config::{Instruments, Limits},
    error::{Error, ErrorCode},
};

/// The widest layer whose spectrum can be read.
const MAX_DEAD_DIRECTIONS_WIDTH: u32 = 65_536;
/// The longest w_i of a learning cell.
const MAX_LEARNING_CELL_WIDTH: u32 = 1_024;

/// Checks the layers of a spec, for a project whose instruments these are.
pub(super) fn layers(
    wire: Vec<v1::Layer>,
    limits: &Limits,
    instruments: &Instruments,
) -> Result<Vec<LayerSpec>, Error> {
    if wire.len() > limits.max_layers {
        let message = format!("{} layers; the limit is {}", wire.len(), limits.max_layers);
        return Err(Error { field: Some("spec.layers".into()), ..Error::new(ErrorCode::TooLarge, message) });
    }
    let mut seen = HashSet::new();
    let mut layers = Vec::with_capacity(wire.len());
    for (index, layer) in wire.into_iter().enumerate() {
        let field = |name: &str| format!("spec.layers[{index}].{name}");
        text::name(&layer.name, limits.max_name_bytes).map_err(|message| Error::invalid(field("name"), message))?;
        let instrument = match layer.instrument() {
            v1::LayerInstrument::Cascade => LayerInstrument::Cascade,
            v1::LayerInstrument::Curvature => LayerInstrument::Curvature,
            v1::LayerInstrument::DeadDirections => LayerInstrument::DeadDirections,
            v1::LayerInstrument::LearningCell => LayerInstrument::LearningCell,
            v1::LayerInstrument::Unspecified => {
                let message = "must be the CASCADE, CURVATURE, DEAD_DIRECTIONS or LEARNING_CELL of LayerInstrument";
                return Err(Error::invalid(field("instrument"), message));
            }
        };
        if !instruments.is_on(instrument) {
            let message = format!("{instrument} is switched off for this project (instruments.{instrument})");
            return Err(Error::invalid(field("instrument"), message));
        }
        let width = width(instrument, layer.width).map_err(|message| Error::invalid(field("width"), message))?;
        let activation = activation(instrument, &layer.activation)
            .map_err(|message| Error::invalid(field("activation"), message))?;
        if !seen.insert((instrument, layer.name.clone())) {
            let message = format!("{:?} is declared twice for {instrument}", layer.name);
            return Err(Error::invalid(field("name"), message));
        }
        layers.push(LayerSpec { name: layer.name, instrument, width, activation });
    }
    Ok(layers)
}

fn width(instrument: LayerInstrument, width: u32) -> Result<Option<u32>, String> {
    let limit = match instrument {
        LayerInstrument::DeadDirections => MAX_DEAD_DIRECTIONS_WIDTH,
        LayerInstrument::LearningCell => MAX_LEARNING_CELL_WIDTH,
        LayerInstrument::Cascade | LayerInstrument::Curvature if width == 0 => return Ok(None),
        LayerInstrument::Cascade | LayerInstrument::Curvature => {
            return Err(format!("{width} is given, but {instrument} has no width: must be 0"));
        }
    };
    if (1..=limit).contains(&width) {
        return Ok(Some(width));
    }
    Err(format!("{width} is not between 1 and {limit}, which {instrument} needs"))
}

fn activation(instrument: LayerInstrument, name: &str) -> Result<Option<Activation>, String> {
    match instrument {
        LayerInstrument::LearningCell => name.parse().map(Some),
        _ if name.is_empty() => Ok(None),
        _ => Err(format!("is given, but {instrument} has none: must be empty")),
    }
}
