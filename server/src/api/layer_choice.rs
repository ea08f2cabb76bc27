//! Which layer of a run.

use gradwatch_spectral::layers::LayerInstrument;
use gradwatch_store::{LayerKey, Segment, lineage};
use utoipa::IntoParams;

use super::{
    params::{FromParams, Params},
    text,
};
use crate::error::Error;

/// An error names at most so many layers.
const NAMED: usize = 16;

/// Which layer.
#[derive(Clone, Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct LayerChoice {
    /// Of the layer instruments: a layer; by default the first that the newest attempt declares for the instrument.
    #[param(value_type = Option<String>)]
    pub(crate) layer: Option<String>,
}

impl FromParams for LayerChoice {
    fn from_params(params: &mut Params) -> Result<Self, Error> {
        Ok(Self { layer: params.one("layer")? })
    }
}

impl LayerChoice {
    /// The layer meant; none when none of the run's attempts declares it.
    pub(crate) fn find(&self, instrument: LayerInstrument, segments: &[Segment]) -> Option<LayerKey> {
        let mut names = declared(instrument, segments).into_iter();
        let name = match &self.layer {
            Some(layer) => names.find(|name| name == layer),
            None => names.next(),
        };
        name.map(|name| LayerKey { instrument, layer: name.to_owned() })
    }

    /// Says that the layer is found in none of the runs, and what is there instead.
    pub(crate) fn unknown<'a>(
        &self,
        instrument: LayerInstrument,
        runs: impl IntoIterator<Item = &'a [Segment]>,
    ) -> Error {
        let mut names: Vec<&str> = Vec::new();
        for name in runs.into_iter().flat_map(|segments| declared(instrument, segments)) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let message = match &self.layer {
            _ if names.is_empty() => format!("no layer is declared for {instrument}"),
            Some(layer) => {
                let near = text::did_you_mean(layer, &names);
                let more = match names.len().saturating_sub(NAMED) {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                names.truncate(NAMED);
                format!("no layer {layer:?} is declared for {instrument}; there are {}{more}{near}", names.join(", "))
            }
            // Where there is any, the first is found.
            None => format!("no layer was chosen for {instrument}"),
        };
        Error::invalid("layer", message)
    }
}

/// The layers that a run's attempts declare for an instrument: those of the newest attempt first, each in the order of
/// declaration.
fn declared(instrument: LayerInstrument, segments: &[Segment]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for number in lineage::order(segments).into_iter().rev() {
        let segment = segments.iter().find(|segment| segment.segment == number);
        for layer in segment.iter().flat_map(|segment| &segment.spec.layers) {
            if layer.instrument == instrument && !names.contains(&layer.name.as_str()) {
                names.push(&layer.name);
            }
        }
    }
    names
}
