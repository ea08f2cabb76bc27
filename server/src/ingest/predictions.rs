//! What a job says besides its updates: predictions on probe batches, and what happened.

use std::collections::HashSet;

use gradwatch_proto::v1::{self, RejectCode};

use super::{
    frames::{Fault, SHOWN_CHARS, fault},
    text,
};
use crate::pipeline::Prediction;

/// Probe batches at one step.
const MAX_PROBES: usize = 64;
/// Outputs on one probe batch.
const MAX_PREDICTIONS: usize = 65_536;
/// Things that happen at one step, and the longest name of one.
const MAX_HAPPENED: usize = 16;
const MAX_HAPPENED_BYTES: usize = 64;

/// Checks a frame's predictions.
pub(super) fn predictions(wire: &[v1::Predictions], max_name_bytes: usize) -> Result<Vec<Prediction>, Fault> {
    if wire.len() > MAX_PROBES {
        let message = format!("{} probe batches; the limit is {MAX_PROBES} a frame", wire.len());
        return fault(RejectCode::Limit, "predictions", message);
    }
    let mut probes = HashSet::new();
    let mut predictions = Vec::with_capacity(wire.len());
    for (index, prediction) in wire.iter().enumerate() {
        let field = |name: &str| format!("predictions[{index}].{name}");
        if let Err(message) = text::name(&prediction.probe, max_name_bytes) {
            return fault(RejectCode::Invalid, field("probe"), message);
        }
        if !probes.insert(&prediction.probe) {
            let message = format!("{:?} comes twice", prediction.probe);
            return fault(RejectCode::Invalid, field("probe"), message);
        }
        let values = floats(&field("values_f32"), &prediction.values_f32)?;
        let targets = floats(&field("targets_f32"), &prediction.targets_f32)?;
        if values.is_empty() {
            return fault(RejectCode::Invalid, field("values_f32"), "holds no values");
        }
        if !targets.is_empty() && targets.len() != values.len() {
            let message = format!("{} targets of {} values", targets.len(), values.len());
            return fault(RejectCode::Invalid, field("targets_f32"), message);
        }
        predictions.push(Prediction { probe: prediction.probe.clone(), values, targets });
    }
    Ok(predictions)
}

/// Runs are compared by these, so that they have to be numbers.
fn floats(field: &str, bytes: &[u8]) -> Result<Vec<f32>, Fault> {
    let (chunks, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return fault(RejectCode::Invalid, field, format!("{} bytes are no multiple of 4", bytes.len()));
    }
    if chunks.len() > MAX_PREDICTIONS {
        let message = format!("{} values; the limit is {MAX_PREDICTIONS}", chunks.len());
        return fault(RejectCode::Limit, field, message);
    }
    let values: Vec<f32> = chunks.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => fault(RejectCode::Invalid, field, format!("value {index} is {}, not finite", values[index])),
        None => Ok(values),
    }
}

/// Checks the names of what happened.
pub(super) fn happened(names: Vec<String>) -> Result<Vec<String>, Fault> {
    if names.len() > MAX_HAPPENED {
        let message = format!("{} names; the limit is {MAX_HAPPENED} a frame", names.len());
        return fault(RejectCode::Limit, "happened", message);
    }
    let mut seen = HashSet::new();
    for (index, name) in names.iter().enumerate() {
        let field = format!("happened[{index}]");
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if !(1..=MAX_HAPPENED_BYTES).contains(&name.len()) || !name.bytes().all(is_plain) {
            let shown: String = name.chars().take(SHOWN_CHARS).collect();
            let message = format!(
                "{shown:?} is not made of 1 to {MAX_HAPPENED_BYTES} lower-case letters, digits and underscores"
            );
            return fault(RejectCode::Invalid, field, message);
        }
        if !seen.insert(name) {
            return fault(RejectCode::Invalid, field, format!("{name:?} comes twice"));
        }
    }
    Ok(names)
}
