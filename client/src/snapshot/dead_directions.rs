//! Spectra of a layer's per-sample gradients and of its activations.

use gradwatch_proto::v1::{self, dead_directions_snapshot::Spectrum as WireSpectrum};
use gradwatch_spectral::dead_directions::{
    BatchKind, SampleError, eigenvalues, gram_of_gradients, remove_gauge, singular_values,
};

use super::{Fault, check_count, check_length, fault};
use crate::validate::MAX_STEP;

/// The widest layer whose Gram matrix may be sent itself.
const MAX_GRAM_WIDTH: usize = 1_024;

/// What n samples of one batch say of a layer: the spectrum of G = (1/n) Σ delta_i delta_iᵀ, delta_i the gradient of
/// sample i's *own* loss to the layer's pre-activation, and the singular values of the n × width matrix of activations.
///
/// Take the same samples every time, at least 100 × width of them.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a snapshot says nothing until its frame is submitted"]
pub struct DeadDirectionsSnapshot<'a> {
    source: Source<'a>,
    batch: BatchKind,
    is_float32: bool,
    gauge: Vec<&'a [f64]>,
    gauge_removed: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Source<'a> {
    Samples { activations: Reals<'a>, gradients: Reals<'a> },
    Spectra { spectrum: Spectrum<'a>, singular_values: &'a [f64], samples: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Spectrum<'a> {
    Eigenvalues(&'a [f64]),
    Gram(&'a [f64]),
}

/// Float32 or float64 values. What is computed of them is float64.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reals<'a> {
    /// Float32.
    F32(&'a [f32]),
    /// Float64.
    F64(&'a [f64]),
}

impl<'a> From<&'a [f32]> for Reals<'a> {
    fn from(values: &'a [f32]) -> Self {
        Self::F32(values)
    }
}

impl<'a> From<&'a [f64]> for Reals<'a> {
    fn from(values: &'a [f64]) -> Self {
        Self::F64(values)
    }
}

impl<'a> From<&'a Vec<f32>> for Reals<'a> {
    fn from(values: &'a Vec<f32>) -> Self {
        Self::F32(values)
    }
}

impl<'a> From<&'a Vec<f64>> for Reals<'a> {
    fn from(values: &'a Vec<f64>) -> Self {
        Self::F64(values)
    }
}

impl Reals<'_> {
    fn len(self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F64(values) => values.len(),
        }
    }

    fn gram(self, width: usize) -> Result<Vec<f64>, SampleError> {
        match self {
            Self::F32(values) => gram_of_gradients(values, width),
            Self::F64(values) => gram_of_gradients(values, width),
        }
    }

    fn singular_values(self, width: usize) -> Result<Vec<f64>, SampleError> {
        match self {
            Self::F32(values) => singular_values(values, width),
            Self::F64(values) => singular_values(values, width),
        }
    }
}

impl<'a> DeadDirectionsSnapshot<'a> {
    /// From n samples: activations and gradients, n × width each, row-major. Both decompositions are computed by
    /// [`Run::submit`](crate::Run::submit) when the snapshot is due, in time that grows as n · width²; a job that cannot
    /// spare it calls [`spectra`](crate::spectra) on another thread and gives what comes out.
    pub fn of_samples(activations: impl Into<Reals<'a>>, gradients: impl Into<Reals<'a>>, batch: BatchKind) -> Self {
        Self::new(Source::Samples { activations: activations.into(), gradients: gradients.into() }, batch)
    }

    /// From the eigenvalues of G, as many as the layer is wide, and the min(n, width) singular values of the activations,
    /// decreasing. `samples` is n.
    pub fn of_eigenvalues(eigenvalues: &'a [f64], singular_values: &'a [f64], samples: u64, batch: BatchKind) -> Self {
        let spectrum = Spectrum::Eigenvalues(eigenvalues);
        Self::new(Source::Spectra { spectrum, singular_values, samples }, batch)
    }

    /// The same with G itself, row-major, of a layer at most 1,024 wide.
    pub fn of_gram(gram: &'a [f64], singular_values: &'a [f64], samples: u64, batch: BatchKind) -> Self {
        Self::new(Source::Spectra { spectrum: Spectrum::Gram(gram), singular_values, samples }, batch)
    }

    fn new(source: Source<'a>, batch: BatchKind) -> Self {
        Self { source, batch, is_float32: false, gauge: Vec::new(), gauge_removed: 0 }
    }

    /// A direction of pre-activations that is dead by construction, to be projected out of the samples' G: the vector of
    /// ones at softmax logits, 1/g after a LayerNorm with scale g. Several must be orthogonal to each other.
    pub fn remove_gauge(mut self, direction: &'a [f64]) -> Self {
        self.gauge.push(direction);
        self
    }

    /// Such directions that the caller has projected out before.
    pub fn gauge_removed(mut self, directions: u32) -> Self {
        self.gauge_removed = directions;
        self
    }

    /// The caller computed the spectrum in float32: its small values are rounding noise.
    pub fn float32(mut self) -> Self {
        self.is_float32 = true;
        self
    }

    pub(super) fn check(&self, width: usize) -> Result<(), Fault> {
        match self.source {
            Source::Samples { activations, gradients } => {
                if self.is_float32 {
                    return fault("float32", "spectra of samples are computed in float64");
                }
                for (field, values) in [("activations", activations), ("gradients", gradients)] {
                    check_count(field, values.len(), usize::MAX)?;
                    if !values.len().is_multiple_of(width) {
                        return fault(field, format!("{} values are not whole rows of {width}", values.len()));
                    }
                }
                let samples = activations.len() / width;
                let of = format!("a batch of {samples} samples");
                check_length("gradients", gradients.len(), activations.len(), &of)?;
                for direction in &self.gauge {
                    check_length("gauge", direction.len(), width, &format!("width {width}"))?;
                    if direction.iter().all(|entry| *entry == 0.0) {
                        return fault("gauge", "a direction is 0");
                    }
                }
            }
            Source::Spectra { spectrum, singular_values, samples } => {
                if !self.gauge.is_empty() {
                    return fault("gauge", "a direction can be removed from samples only");
                }
                if !(1..=MAX_STEP).contains(&samples) {
                    return fault("samples", format!("{samples} is not between 1 and 2^53"));
                }
                let of = format!("width {width}");
                match spectrum {
                    Spectrum::Eigenvalues(values) => check_length("eigenvalues", values.len(), width, &of)?,
                    Spectrum::Gram(_) if width > MAX_GRAM_WIDTH => {
                        return fault("gram", format!("{of} is over {MAX_GRAM_WIDTH}: send eigenvalues"));
                    }
                    Spectrum::Gram(values) => check_length("gram", values.len(), width * width, &of)?,
                }
                let expected = usize::try_from(samples).unwrap_or(usize::MAX).min(width);
                let of = format!("the smaller of samples ({samples}) and width ({width})");
                check_length("singular_values", singular_values.len(), expected, &of)?;
            }
        }
        if self.all_gauge_removed() >= width {
            let removed = self.all_gauge_removed();
            return fault("gauge_removed", format!("{removed} directions leave none of width {width}"));
        }
        Ok(())
    }

    fn all_gauge_removed(&self) -> usize {
        self.gauge.len().saturating_add(self.gauge_removed as usize)
    }

    pub(super) fn to_wire(&self, width: usize) -> v1::DeadDirectionsSnapshot {
        let doubles = |values| v1::Doubles { values };
        let (spectrum, singular_values, samples) = match self.source {
            Source::Samples { activations, gradients } => {
                // Samples that are not finite, or whose squares are not, have no spectrum: NaN says so.
                let none = |count| move |_| vec![f64::NAN; count];
                let samples = activations.len() / width;
                let eigenvalues = self.eigenvalues(gradients, width).unwrap_or_else(none(width));
                let singular_values = activations.singular_values(width).unwrap_or_else(none(samples.min(width)));
                (WireSpectrum::Eigenvalues(doubles(eigenvalues)), singular_values, samples as u64)
            }
            Source::Spectra { spectrum, singular_values, samples } => {
                let spectrum = match spectrum {
                    Spectrum::Eigenvalues(values) => WireSpectrum::Eigenvalues(doubles(values.to_vec())),
                    Spectrum::Gram(values) => WireSpectrum::Gram(doubles(values.to_vec())),
                };
                (spectrum, singular_values.to_vec(), samples)
            }
        };
        let batch = match self.batch {
            BatchKind::Train => v1::BatchKind::Train,
            BatchKind::HeldOut => v1::BatchKind::HeldOut,
        };
        v1::DeadDirectionsSnapshot {
            spectrum: Some(spectrum),
            singular_values,
            samples,
            batch: batch.into(),
            is_float32: self.is_float32,
            // Below the width, which is at most 65,536: checked.
            gauge_removed: self.all_gauge_removed() as u32,
        }
    }

    fn eigenvalues(&self, gradients: Reals<'_>, width: usize) -> Result<Vec<f64>, SampleError> {
        let mut gram = gradients.gram(width)?;
        for direction in &self.gauge {
            remove_gauge(&mut gram, direction)?;
        }
        eigenvalues(&gram, width)
    }
}
