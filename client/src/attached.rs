//! What a step says beside its updates: snapshots of layers, predictions, terms of the edge, and what happened.

use std::collections::HashSet;

use bytes::Bytes;
use gradwatch_proto::v1;
use prost::Message as _;

use crate::edge_terms;
use crate::error::SubmitError;
use crate::frame::Frame;
use crate::layer::Schedule;
use crate::snapshot::float_bytes;
use crate::spec::Spec;
use crate::validate::name_problem;

/// Probe batches at one step.
const MAX_PROBES: usize = 64;
/// Values of one probe batch.
const MAX_PREDICTIONS: usize = 65_536;
/// Names of what happened at one step, and the longest.
const MAX_HAPPENED: usize = 16;
const MAX_HAPPENED_BYTES: usize = 64;

/// A frame's content that the server needs once only. The rest, its rows, it may ask for again after a restart.
///
/// Invariant: encoded apart from the rest. Behind the rest's bytes it makes one frame, as messages of protocol buffers do
/// when they are put together.
#[derive(Debug, Default)]
pub(crate) struct Attached {
    pub(crate) bytes: Bytes,
    /// The layers that it holds snapshots of.
    pub(crate) layers: Vec<usize>,
    /// The words for its largest part.
    pub(crate) largest: Option<String>,
}

impl Attached {
    /// Checks all of it, then reads the snapshots that are due; when training went back (`anew`), all are.
    pub(crate) fn of(
        spec: &Spec,
        schedule: &Schedule,
        step: u64,
        anew: bool,
        frame: &Frame<'_>,
    ) -> Result<Self, SubmitError> {
        let layers = check_snapshots(spec, frame)?;
        let mut wire = v1::Frame {
            edge_terms: edge_terms::to_wire(spec, &frame.edge_terms)?,
            predictions: predictions(frame)?,
            happened: happened(&frame.happened)?,
            ..v1::Frame::default()
        };
        let mut attached = Self::default();
        for ((_, snapshot), layer) in frame.snapshots.iter().zip(layers) {
            let declared = &spec.layers[layer].1;
            if anew || schedule.is_due(layer, declared.interval, step) {
                let wire_snapshot = v1::Snapshot { layer: layer as u32, body: Some(snapshot.to_wire(declared)) };
                wire.snapshots.push(wire_snapshot);
                attached.layers.push(layer);
            }
        }
        attached.largest = largest(spec, &wire);
        attached.bytes = wire.encode_to_vec().into();
        Ok(attached)
    }
}

/// The index of each snapshot's layer.
fn check_snapshots(spec: &Spec, frame: &Frame<'_>) -> Result<Vec<usize>, SubmitError> {
    let mut layers = Vec::with_capacity(frame.snapshots.len());
    for (name, snapshot) in &frame.snapshots {
        let instrument = snapshot.instrument();
        let layer = spec.layer(instrument, name)?;
        if layers.contains(&layer) {
            return Err(SubmitError::Duplicate { what: snapshot.words(), name: (*name).to_owned() });
        }
        snapshot.check(&spec.layers[layer].1).map_err(|fault| SubmitError::Snapshot {
            layer: (*name).to_owned(),
            instrument,
            field: fault.field,
            problem: fault.problem,
        })?;
        layers.push(layer);
    }
    Ok(layers)
}

/// The words for the largest snapshot or predictions.
fn largest(spec: &Spec, wire: &v1::Frame) -> Option<String> {
    let snapshot = wire.snapshots.iter().max_by_key(|snapshot| snapshot.encoded_len());
    let predictions = wire.predictions.iter().max_by_key(|predictions| predictions.encoded_len());
    if predictions.map_or(0, |it| it.encoded_len()) > snapshot.map_or(0, |it| it.encoded_len()) {
        return predictions.map(|predictions| format!("the predictions on probe {:?}", predictions.probe));
    }
    snapshot.map(|snapshot| {
        let (name, layer) = &spec.layers[snapshot.layer as usize];
        format!("the {} snapshot of layer {name:?}", layer.instrument)
    })
}

/// Runs are compared by predictions, so that they have to be numbers.
fn predictions(frame: &Frame<'_>) -> Result<Vec<v1::Predictions>, SubmitError> {
    let mut probes = HashSet::new();
    let mut wire = Vec::with_capacity(frame.predictions.len());
    for predictions in &frame.predictions {
        let probe = predictions.probe;
        let fault = |problem| SubmitError::Predictions { probe: probe.chars().take(64).collect(), problem };
        if let Some(problem) = name_problem(probe) {
            return Err(fault(format!("its name {problem}")));
        }
        if wire.len() == MAX_PROBES {
            return Err(fault(format!("there are more than {MAX_PROBES} probes in one frame")));
        }
        if !probes.insert(probe) {
            return Err(SubmitError::Duplicate { what: "predictions on probe", name: probe.to_owned() });
        }
        let (values, targets) = (predictions.values, predictions.targets);
        if !(1..=MAX_PREDICTIONS).contains(&values.len()) {
            return Err(fault(format!("{} values, at least 1 and at most {MAX_PREDICTIONS}", values.len())));
        }
        if !targets.is_empty() && targets.len() != values.len() {
            return Err(fault(format!("{} targets of {} values", targets.len(), values.len())));
        }
        for (what, numbers) in [("value", values), ("target", targets)] {
            if let Some(i) = numbers.iter().position(|number| !number.is_finite()) {
                return Err(fault(format!("{what} {i} is {}, not finite", numbers[i])));
            }
        }
        wire.push(v1::Predictions {
            probe: probe.to_owned(),
            values_f32: float_bytes(values),
            targets_f32: float_bytes(targets),
        });
    }
    Ok(wire)
}

fn happened(names: &[&str]) -> Result<Vec<String>, SubmitError> {
    if names.len() > MAX_HAPPENED {
        return Err(SubmitError::TooManyHappened { count: names.len(), limit: MAX_HAPPENED });
    }
    for (i, name) in names.iter().enumerate() {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if !(1..=MAX_HAPPENED_BYTES).contains(&name.len()) || !name.bytes().all(is_plain) {
            return Err(SubmitError::Happened { name: name.chars().take(64).collect() });
        }
        if names[..i].contains(name) {
            return Err(SubmitError::Duplicate { what: "happened:", name: (*name).to_owned() });
        }
    }
    Ok(names.iter().map(|name| (*name).to_owned()).collect())
}
