//! The weights of a two-layer block.

use gradwatch_proto::v1;
use gradwatch_spectral::learning_cell::{MAX_NEURONS, MAX_PROBE, MAX_PROBE_FEATURES};

use super::{Fault, check_count, check_length, fault, float_bytes};

/// A two-layer block f(x) = (1/N) Σ a_i act(w_i·x). Inputs are taken as whitened Gaussian unless a probe batch is given.
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use = "a snapshot says nothing until its frame is submitted"]
pub struct LearningCellSnapshot<'a> {
    outer: &'a [f32],
    inner: &'a [f32],
    probe_inputs: &'a [f32],
    probe_targets: &'a [f32],
}

impl<'a> LearningCellSnapshot<'a> {
    /// a_i, N of them, at most 8,192, and w_i, N × width, row-major.
    pub fn new(outer: &'a [f32], inner: &'a [f32]) -> Self {
        Self { outer, inner, probe_inputs: &[], probe_targets: &[] }
    }

    /// Inputs to evaluate features on, n × width, row-major, and the n targets that f should give (or none: empty). n is at
    /// most 4,096, and n · N at most 16,777,216.
    pub fn probe(mut self, inputs: &'a [f32], targets: &'a [f32]) -> Self {
        (self.probe_inputs, self.probe_targets) = (inputs, targets);
        self
    }

    pub(super) fn check(&self, width: usize) -> Result<(), Fault> {
        let neurons = self.outer.len();
        check_count("outer", neurons, MAX_NEURONS)?;
        check_length("inner", self.inner.len(), neurons * width, &format!("{neurons} neurons of width {width}"))?;
        let values = self.probe_inputs.len();
        if !values.is_multiple_of(width) {
            return fault("probe_inputs", format!("{values} values are not whole rows of {width}"));
        }
        let inputs = values / width;
        if inputs > MAX_PROBE {
            return fault("probe_inputs", format!("{inputs} inputs, at most {MAX_PROBE}"));
        }
        if inputs * neurons > MAX_PROBE_FEATURES {
            let problem = format!("{inputs} inputs for {neurons} neurons, at most {MAX_PROBE_FEATURES} together");
            return fault("probe_inputs", problem);
        }
        if !self.probe_targets.is_empty() {
            check_length("probe_targets", self.probe_targets.len(), inputs, &format!("a probe of {inputs} inputs"))?;
        }
        Ok(())
    }

    pub(super) fn to_wire(self) -> v1::LearningCellSnapshot {
        v1::LearningCellSnapshot {
            outer_f32: float_bytes(self.outer),
            inner_f32: float_bytes(self.inner),
            probe_inputs_f32: float_bytes(self.probe_inputs),
            probe_targets_f32: float_bytes(self.probe_targets),
        }
    }
}
