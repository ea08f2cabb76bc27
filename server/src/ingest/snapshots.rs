//! Snapshots of layers, as far as they can be checked without being read: whose they are and how long. What is in
//! them is no fault of a frame: the instrument says why it cannot read it.

use gradwatch_proto::v1::{self, RejectCode, dead_directions_snapshot::Spectrum, snapshot::Body};
use gradwatch_spectral::layers::LayerInstrument;
use gradwatch_store::{LayerSpec, StreamSpec};
use prost::Message;

use super::{
    STEP_LIMIT,
    frames::{Fault, fault},
};
use crate::pipeline::LayerSnapshot;

/// Magnitudes in a window of the cascade instrument, binary16 each.
const WINDOW_BYTES: usize = 4_096 * 2;
const MAX_WINDOWS: usize = 64;
const MAX_WHOLE: usize = 1_048_576;
const MAX_DIRECTIONS: usize = 4_096;
const MAX_FACTOR_EIGENVALUES: usize = 65_536;
/// The widest layer whose Gram matrix may be sent itself.
const MAX_GRAM_WIDTH: usize = 1_024;
const MAX_NEURONS: usize = 8_192;

/// Checks a frame's snapshots.
pub(super) fn snapshots(wire: Vec<v1::Snapshot>, spec: &StreamSpec) -> Result<Vec<LayerSnapshot>, Fault> {
    let mut seen = vec![false; spec.layers.len()];
    let mut snapshots = Vec::with_capacity(wire.len());
    for (index, snapshot) in wire.into_iter().enumerate() {
        let layer = usize::try_from(snapshot.layer).unwrap_or(usize::MAX);
        let (Some(seen), Some(declared)) = (seen.get_mut(layer), spec.layers.get(layer)) else {
            let count = spec.layers.len();
            let message = format!("{} is not the index of one of {count} layers", snapshot.layer);
            return fault(RejectCode::SpecMismatch, format!("snapshots[{index}].layer"), message);
        };
        if std::mem::replace(seen, true) {
            let message = format!("a second snapshot of layer {layer}");
            return fault(RejectCode::Invalid, format!("snapshots[{index}].layer"), message);
        }
        Checker { index, layer: declared }.check(snapshot.body.as_ref())?;
        // Bytes of its own: the message it came in need not stay as long as it waits.
        snapshots.push(LayerSnapshot { layer, payload: snapshot.encode_to_vec() });
    }
    Ok(snapshots)
}

struct Checker<'a> {
    index: usize,
    layer: &'a LayerSpec,
}

impl Checker<'_> {
    fn check(&self, body: Option<&Body>) -> Result<(), Fault> {
        let width = self.layer.width.map_or(0, |width| width as usize);
        match (body, self.layer.instrument) {
            (Some(Body::Cascade(it)), LayerInstrument::Cascade) => self.cascade(it),
            (Some(Body::Curvature(it)), LayerInstrument::Curvature) => self.curvature(it),
            (Some(Body::DeadDirections(it)), LayerInstrument::DeadDirections) => self.dead_directions(it, width),
            (Some(Body::LearningCell(it)), LayerInstrument::LearningCell) => self.learning_cell(it, width),
            (Some(_), instrument) => {
                let message = format!("layer {:?} was declared for {instrument}", self.layer.name);
                fault(RejectCode::SpecMismatch, format!("snapshots[{}].body", self.index), message)
            }
            (None, _) => {
                let message = "is missing, or of a kind this server does not know";
                fault(RejectCode::Invalid, format!("snapshots[{}].body", self.index), message)
            }
        }
    }

    fn fault<T>(&self, code: RejectCode, name: &str, message: String) -> Result<T, Fault> {
        let instrument = self.layer.instrument;
        fault(code, format!("snapshots[{}].{instrument}.{name}", self.index), message)
    }

    /// How many values of `size` bytes there are.
    fn values(&self, name: &str, bytes: usize, size: usize, limit: usize) -> Result<usize, Fault> {
        if !bytes.is_multiple_of(size) {
            return self.fault(RejectCode::Invalid, name, format!("{bytes} bytes are no multiple of {size}"));
        }
        self.at_most(name, bytes / size, limit)
    }

    fn at_most(&self, name: &str, count: usize, limit: usize) -> Result<usize, Fault> {
        if count > limit {
            return self.fault(RejectCode::Limit, name, format!("{count} of them; the limit is {limit}"));
        }
        Ok(count)
    }

    /// As many values as something else says. `code` tells whether that is the spec.
    fn exactly(&self, code: RejectCode, name: &str, count: usize, expected: usize, of: &str) -> Result<(), Fault> {
        if count == expected {
            return Ok(());
        }
        self.fault(code, name, format!("{count} values; {of} needs {expected}"))
    }

    fn cascade(&self, snapshot: &v1::CascadeSnapshot) -> Result<(), Fault> {
        self.values("windows_f16", snapshot.windows_f16.len(), WINDOW_BYTES, MAX_WINDOWS)?;
        match &snapshot.whole {
            Some(v1::cascade_snapshot::Whole::WholeF32(bytes)) => {
                self.values("whole_f32", bytes.len(), 4, MAX_WHOLE)?;
            }
            Some(v1::cascade_snapshot::Whole::WholeFraction(fraction)) if fraction.sites >= STEP_LIMIT => {
                let message = format!("{} is not below 2^53", fraction.sites);
                return self.fault(RejectCode::Invalid, "whole_fraction.sites", message);
            }
            Some(v1::cascade_snapshot::Whole::WholeFraction(_)) | None => {}
        }
        Ok(())
    }

    fn curvature(&self, snapshot: &v1::CurvatureSnapshot) -> Result<(), Fault> {
        let directions = self.at_most("sigma", snapshot.sigma.len(), MAX_DIRECTIONS)?;
        let as_sigma = |name: &str, count: usize| self.exactly(RejectCode::Invalid, name, count, directions, "sigma");
        as_sigma("curvature", snapshot.curvature.len())?;
        let Some(kronecker) = &snapshot.kronecker else { return Ok(()) };
        as_sigma("kronecker.output_factor", kronecker.output_factor.len())?;
        as_sigma("kronecker.input_factor", kronecker.input_factor.len())?;
        let (output, input) = (&kronecker.output_eigenvalues, &kronecker.input_eigenvalues);
        self.at_most("kronecker.output_eigenvalues", output.len(), MAX_FACTOR_EIGENVALUES)?;
        self.at_most("kronecker.input_eigenvalues", input.len(), MAX_FACTOR_EIGENVALUES)?;
        if !kronecker.sum_of_products.is_empty() {
            as_sigma("kronecker.sum_of_products", kronecker.sum_of_products.len())?;
        }
        Ok(())
    }

    fn dead_directions(&self, snapshot: &v1::DeadDirectionsSnapshot, width: usize) -> Result<(), Fault> {
        let of_width = |name: &str, count: usize, expected: usize| {
            self.exactly(RejectCode::SpecMismatch, name, count, expected, &format!("width {width}"))
        };
        match &snapshot.spectrum {
            Some(Spectrum::Eigenvalues(eigenvalues)) if !eigenvalues.values.is_empty() => {
                of_width("eigenvalues", eigenvalues.values.len(), width)?;
            }
            Some(Spectrum::Gram(_)) if width > MAX_GRAM_WIDTH => {
                let message = format!("width {width} is over {MAX_GRAM_WIDTH}: send eigenvalues");
                return self.fault(RejectCode::Limit, "gram", message);
            }
            Some(Spectrum::Gram(gram)) if !gram.values.is_empty() => {
                of_width("gram", gram.values.len(), width * width)?;
            }
            Some(_) => {}
            None => return self.fault(RejectCode::Invalid, "spectrum", "is missing".into()),
        }
        if snapshot.samples >= STEP_LIMIT {
            let message = format!("{} is not below 2^53", snapshot.samples);
            return self.fault(RejectCode::Invalid, "samples", message);
        }
        if !snapshot.singular_values.is_empty() {
            let count = usize::try_from(snapshot.samples).unwrap_or(usize::MAX).min(width);
            let of = format!("the smaller of samples ({}) and width ({width})", snapshot.samples);
            self.exactly(RejectCode::Invalid, "singular_values", snapshot.singular_values.len(), count, &of)?;
        }
        if snapshot.batch() == v1::BatchKind::Unspecified {
            let message = "must be BATCH_KIND_TRAIN or BATCH_KIND_HELD_OUT".to_owned();
            return self.fault(RejectCode::Invalid, "batch", message);
        }
        Ok(())
    }

    fn learning_cell(&self, snapshot: &v1::LearningCellSnapshot, width: usize) -> Result<(), Fault> {
        let neurons = self.values("outer_f32", snapshot.outer_f32.len(), 4, MAX_NEURONS)?;
        let weights = self.values("inner_f32", snapshot.inner_f32.len(), 4, MAX_NEURONS * width)?;
        let of = format!("{neurons} neurons of width {width}");
        self.exactly(RejectCode::Invalid, "inner_f32", weights, neurons * width, &of)?;
        let inputs = self.values("probe_inputs_f32", snapshot.probe_inputs_f32.len(), 4 * width, usize::MAX)?;
        let targets = self.values("probe_targets_f32", snapshot.probe_targets_f32.len(), 4, usize::MAX)?;
        if targets > 0 {
            let of = format!("a probe batch of {inputs} inputs");
            self.exactly(RejectCode::Invalid, "probe_targets_f32", targets, inputs, &of)?;
        }
        Ok(())
    }
}
