//! Layers of the run with a rewind, and their readings.

use std::{iter, ops::RangeInclusive};

use gradwatch_spectral::{
    layers::{FieldInfo, FieldType, FieldValue, LayerInstrument, LayerReading, Reason},
    learning_cell::Activation,
};
use gradwatch_store::{EventRow, LayerKey, LayerReadingRow, LayerSpec, PendingSnapshot, SnapshotKey};
use serde_json::json;

use super::fixture::{Api, FIRST, SECOND, empty_commit, run_id};

/// A snapshot is sent every so many steps.
pub(super) const EVERY: u64 = 50;
/// A name that a line of CSV has to quote.
pub(super) const QUOTED: &str = "blocks, \"0\"";

/// (instrument, name) as segment 2 declares them.
pub(super) const LAYERS: [(LayerInstrument, &str); 5] = [
    (LayerInstrument::Cascade, "all"),
    (LayerInstrument::Cascade, QUOTED),
    (LayerInstrument::Curvature, "fc1"),
    (LayerInstrument::DeadDirections, "fc1"),
    (LayerInstrument::LearningCell, "head"),
];
/// Segment 1 declares this one as well, first of all.
pub(super) const EARLY: (LayerInstrument, &str) = (LayerInstrument::Cascade, "early");

/// What an attempt declares.
pub(super) fn layers(attempt: u64) -> Vec<LayerSpec> {
    let early = (attempt == 1).then_some(EARLY);
    let spec = |(instrument, name): (LayerInstrument, &str)| LayerSpec {
        name: name.into(),
        instrument,
        width: match instrument {
            LayerInstrument::DeadDirections => Some(128),
            LayerInstrument::LearningCell => Some(32),
            LayerInstrument::Cascade | LayerInstrument::Curvature => None,
        },
        activation: (instrument == LayerInstrument::LearningCell).then_some(Activation::Tanh),
    };
    early.into_iter().chain(LAYERS).map(spec).collect()
}

/// The layers of a segment.
pub(super) fn keys(segment: u32) -> Vec<LayerKey> {
    layers(u64::from(segment)).iter().map(LayerSpec::key).collect()
}

/// A made-up reading: every field is undefined now and then, and everything but the reason at every fifth snapshot.
pub(super) fn layer_reading(key: &LayerKey, segment: u32, step: u64) -> LayerReading {
    let number = step / EVERY;
    if number.is_multiple_of(5) {
        return LayerReading::refused(key.instrument, Reason::Skipped);
    }
    let seed = number + u64::from(segment) + key.layer.len() as u64;
    let fields = iter::zip(0.., key.instrument.fields());
    let values = fields.map(|(place, field)| (!(number + place).is_multiple_of(7)).then(|| made(field, seed + place)));
    LayerReading::from_values(key.instrument, values).expect("values of their fields' types")
}

fn made(field: &FieldInfo, seed: u64) -> FieldValue {
    match field.field_type {
        FieldType::Number => FieldValue::Number((seed as f64 * 0.37).sin() * 1e3),
        FieldType::Count => FieldValue::Count(seed % 13),
        FieldType::Flag => FieldValue::Flag(seed.is_multiple_of(2)),
        FieldType::Word => FieldValue::Word(field.words[seed as usize % field.words.len()].into()),
        FieldType::List => FieldValue::List((1..=1 + seed % 3).map(|n| 1.0 / (n + seed) as f64).collect()),
    }
}

/// The steps of a segment at which there are snapshots.
pub(super) fn snapshot_steps(segment: u32) -> impl Iterator<Item = u64> {
    let steps: RangeInclusive<u64> = if segment == 1 { FIRST } else { SECOND };
    steps.filter(|step| step.is_multiple_of(EVERY))
}

impl Api {
    /// [`Self::with_run`], with readings of its layers, snapshots that wait, and what a detector said.
    pub(super) async fn with_layers() -> Self {
        let api = Self::with_run().await;
        let store = &*api.state.store;
        let epoch = store.take_ownership(run_id(1)).await.unwrap().owner_epoch;
        let mut commit = empty_commit(1, epoch);
        for segment in [1, 2] {
            for layer in keys(segment) {
                commit.layer_readings.extend(snapshot_steps(segment).map(|step| LayerReadingRow {
                    reading: layer_reading(&layer, segment, step),
                    layer: layer.clone(),
                    segment,
                    step,
                }));
            }
        }
        let layer = LayerKey { instrument: LayerInstrument::DeadDirections, layer: "fc1".into() };
        commit.snapshots = [(1, 1_999), (2, 2_998), (2, 2_999)]
            .map(|(segment, step)| PendingSnapshot {
                key: SnapshotKey { segment, step, layer: layer.clone() },
                payload: vec![1, 2, 3],
            })
            .into();
        let evidence = json!({"instrument": "curvature", "reading": "curvature.exponent"});
        commit.events = vec![EventRow {
            group: Some("fc1".into()),
            ..EventRow::new("curvature.shift", 2, Some(2_000), 1_700_000_000_000_000, evidence)
        }];
        store.commit(&[commit]).await.unwrap();
        api
    }
}
