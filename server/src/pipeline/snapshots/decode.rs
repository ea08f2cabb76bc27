//! From a snapshot as it came to what the instrument says of it.

use gradwatch_proto::v1::{
    self, cascade_snapshot::Whole, dead_directions_snapshot::Spectrum as WireSpectrum, snapshot::Body,
};
use gradwatch_spectral::{
    cascade::{self, CascadeSnapshot, WholeGradient},
    curvature::{self, CurvatureSnapshot, Kronecker},
    dead_directions::{self, BatchKind, DeadDirectionsSnapshot, Spectrum},
    layers::{FieldValue, LayerInstrument, LayerReading, Reason},
    learning_cell::{self, LearningCellSnapshot, ProbeBatch},
};
use gradwatch_store::LayerSpec;
use half::f16;
use prost::Message;

/// Magnitudes in a window of the cascade instrument.
const WINDOW: usize = 4_096;

/// Reads a snapshot. What cannot be decoded was checked on its way in, so that it is a failure of ours.
pub(super) fn reading(layer: &LayerSpec, payload: &[u8]) -> LayerReading {
    let read = v1::Snapshot::decode(payload).ok().and_then(|snapshot| read(layer, snapshot.body?));
    read.filter(is_sound).unwrap_or_else(|| LayerReading::refused(layer.instrument, Reason::Failed))
}

/// Invariant: a reading can be stored: its numbers are finite and its counts fit a database's signed numbers.
pub(super) fn is_sound(reading: &LayerReading) -> bool {
    reading.values().iter().flatten().all(|value| match value {
        FieldValue::Number(number) => number.is_finite(),
        FieldValue::List(numbers) => numbers.iter().all(|number| number.is_finite()),
        FieldValue::Count(count) => i64::try_from(*count).is_ok(),
        FieldValue::Flag(_) | FieldValue::Word(_) => true,
    })
}

fn read(layer: &LayerSpec, body: Body) -> Option<LayerReading> {
    Some(match (body, layer.instrument) {
        (Body::Cascade(wire), LayerInstrument::Cascade) => LayerReading::Cascade(cascade::reading(&cascade(&wire)?)),
        (Body::Curvature(wire), LayerInstrument::Curvature) => {
            LayerReading::Curvature(curvature::reading(&curvature(wire)))
        }
        (Body::DeadDirections(wire), LayerInstrument::DeadDirections) => {
            LayerReading::DeadDirections(dead_directions::reading(&dead_directions(wire, layer.width?)?))
        }
        (Body::LearningCell(wire), LayerInstrument::LearningCell) => {
            LayerReading::LearningCell(learning_cell::reading(&learning_cell(&wire, layer)?))
        }
        _ => return None,
    })
}

fn cascade(wire: &v1::CascadeSnapshot) -> Option<CascadeSnapshot> {
    let (halves, []) = wire.windows_f16.as_chunks::<2>() else { return None };
    let windows = halves.chunks_exact(WINDOW);
    if !windows.remainder().is_empty() {
        return None;
    }
    let window = |halves: &[[u8; 2]]| halves.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f64()).collect();
    let whole = match &wire.whole {
        Some(Whole::WholeF32(bytes)) => {
            let entries = floats(bytes)?.into_iter().map(f64::from).collect();
            Some(WholeGradient::Entries(entries))
        }
        Some(Whole::WholeFraction(it)) => Some(WholeGradient::Fraction { sites: it.sites, phi: it.phi }),
        None => None,
    };
    Some(CascadeSnapshot { windows: windows.map(window).collect(), whole })
}

fn curvature(wire: v1::CurvatureSnapshot) -> CurvatureSnapshot {
    let kronecker = wire.kronecker.map(|it| Kronecker {
        output_factor: it.output_factor,
        input_factor: it.input_factor,
        output_eigenvalues: it.output_eigenvalues,
        input_eigenvalues: it.input_eigenvalues,
        sum_of_products: it.sum_of_products,
    });
    CurvatureSnapshot { sigma: wire.sigma, curvature: wire.curvature, kronecker }
}

fn dead_directions(wire: v1::DeadDirectionsSnapshot, width: u32) -> Option<DeadDirectionsSnapshot> {
    let batch = match wire.batch() {
        v1::BatchKind::Train => BatchKind::Train,
        v1::BatchKind::HeldOut => BatchKind::HeldOut,
        v1::BatchKind::Unspecified => return None,
    };
    Some(DeadDirectionsSnapshot {
        spectrum: match wire.spectrum? {
            WireSpectrum::Eigenvalues(it) => Spectrum::Eigenvalues(it.values),
            WireSpectrum::Gram(it) => Spectrum::Gram(it.values),
        },
        singular_values: wire.singular_values,
        samples: wire.samples,
        width,
        batch,
        is_float32: wire.is_float32,
        gauge_removed: wire.gauge_removed,
    })
}

fn learning_cell(wire: &v1::LearningCellSnapshot, layer: &LayerSpec) -> Option<LearningCellSnapshot> {
    let (inputs, targets) = (floats(&wire.probe_inputs_f32)?, floats(&wire.probe_targets_f32)?);
    Some(LearningCellSnapshot {
        outer: floats(&wire.outer_f32)?,
        inner: floats(&wire.inner_f32)?,
        width: layer.width? as usize,
        activation: layer.activation?,
        probe: (!inputs.is_empty()).then_some(ProbeBatch { inputs, targets }),
    })
}

fn floats(bytes: &[u8]) -> Option<Vec<f32>> {
    let (chunks, []) = bytes.as_chunks::<4>() else { return None };
    Some(chunks.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}
