//! Snapshots of layers, made in Python from CPU tensors. A snapshot owns what it holds, so that the tensors may change
//! afterwards; what is costly to compute of them is computed beside training.

use gradwatch_client::{
    Activation, BatchKind, CascadeSnapshot, CurvatureSnapshot, DeadDirectionsSnapshot, Frame, Layer, LayerInstrument,
    LearningCellSnapshot, Sketcher, TensorName, spectra::window_positions as positions_of,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::memory::{Reals, Values, slice};
use crate::spectra::{Samples, Spectra, SpectraLater};

/// Rows longer than this are sketched to it, each by itself: the longest that a server takes.
const LONGEST_ROW: usize = 1024;

/// A layer to be declared: name, instrument, width (0 where there is none), activation ("" where there is none), steps
/// between two snapshots.
pub(crate) type DeclaredLayer = (String, String, usize, String, u64);

pub(crate) fn layer((name, instrument, width, activation, every): DeclaredLayer) -> PyResult<(String, Layer)> {
    let layer = match instrument_of(&instrument)? {
        LayerInstrument::Cascade => Layer::cascade(),
        LayerInstrument::Curvature => Layer::curvature(),
        LayerInstrument::DeadDirections => Layer::dead_directions(width),
        LayerInstrument::LearningCell => Layer::learning_cell(width, activation_of(&activation)?),
    };
    Ok((name, layer.every(every)))
}

pub(crate) fn instrument_of(name: &str) -> PyResult<LayerInstrument> {
    LayerInstrument::ALL
        .iter()
        .copied()
        .find(|instrument| instrument.as_str() == name)
        .ok_or_else(|| PyValueError::new_err(format!("instrument: {name:?} is not known")))
}

fn activation_of(name: &str) -> PyResult<Activation> {
    name.parse().map_err(|_| PyValueError::new_err(format!("activation: {name:?} is not known")))
}

/// Fails for an activation that no server knows.
#[pyfunction]
pub(crate) fn check_activation(name: &str) -> PyResult<()> {
    activation_of(name).map(drop)
}

/// Where the windows of a gradient of `total` entries start, 4,096 entries each.
#[pyfunction]
pub(crate) fn window_positions(total: usize) -> PyResult<Vec<usize>> {
    positions_of(total).map_err(invalid)
}

/// One snapshot of one layer.
#[pyclass(module = "gradwatch._native", frozen)]
pub(crate) struct Snapshot {
    layer: String,
    body: Body,
}

enum Body {
    Windows(Vec<f32>),
    Gradient(Vec<Vec<f32>>),
    Curvature { sigma: Vec<f64>, curvature: Vec<f64> },
    DeadDirections { spectra: SpectraLater, samples: u64, batch: BatchKind, removed: u32 },
    LearningCell { outer: Vec<f32>, inner: Vec<f32>, probe: Option<(Vec<f32>, Vec<f32>)> },
}

#[pymethods]
impl Snapshot {
    /// The whole gradient: these float32 tensors, each row-major, with its windows if it is large enough for them.
    #[staticmethod]
    fn cascade(py: Python<'_>, layer: String, tensors: Vec<Values>) -> PyResult<Self> {
        py.detach(|| {
            let owned = tensors.iter().map(|tensor| tensor.as_slice().map(<[f32]>::to_vec)).collect::<PyResult<_>>()?;
            Ok(Self { layer, body: Body::Gradient(owned) })
        })
    }

    /// Windows of a gradient, cut where it lies, at `window_positions`.
    #[staticmethod]
    fn cascade_windows(layer: String, windows: Values) -> PyResult<Self> {
        Ok(Self { layer, body: Body::Windows(windows.as_slice()?.to_vec()) })
    }

    /// Singular values of the gradient and curvatures along its directions.
    #[staticmethod]
    fn curvature(layer: String, sigma: Vec<f64>, curvature: Vec<f64>) -> Self {
        Self { layer, body: Body::Curvature { sigma, curvature } }
    }

    /// Activations and per-sample gradients, n × width each; batch is "train" or "held_out". Both are decomposed on a thread
    /// beside, in time that grows as n · width².
    #[staticmethod]
    fn dead_directions(
        py: Python<'_>,
        layer: String,
        width: usize,
        activations: Reals,
        gradients: Reals,
        batch: &str,
        gauge: Vec<Vec<f64>>,
    ) -> PyResult<Self> {
        let invalid = |problem| Err(PyValueError::new_err(problem));
        let batch = match batch {
            "train" => BatchKind::Train,
            "held_out" => BatchKind::HeldOut,
            _ => return invalid(format!("batch: {batch:?} is neither train nor held_out")),
        };
        let values = activations.count();
        if width == 0 || values == 0 || !values.is_multiple_of(width) {
            return invalid(format!("activations: {values} values are not whole rows of {width}"));
        }
        if gradients.count() != values {
            return invalid(format!("gradients: {} values, the activations have {values}", gradients.count()));
        }
        for direction in &gauge {
            let is_direction = direction.iter().all(|entry| entry.is_finite()) && direction.iter().any(|it| *it != 0.0);
            if direction.len() != width || !is_direction {
                return invalid(format!("gauge: {} values are no direction of width {width}", direction.len()));
            }
        }
        let removed = gauge.len() as u32;
        let spectra = py.detach(|| {
            let (activations, gradients) = (samples(activations)?, samples(gradients)?);
            Ok::<_, PyErr>(SpectraLater::begin(activations, gradients, width, gauge))
        })?;
        let samples = (values / width) as u64;
        Ok(Self { layer, body: Body::DeadDirections { spectra, samples, batch, removed } })
    }

    /// The neurons of a two-layer block, and a probe batch of (inputs, targets). Rows longer than 1,024 values are sketched to
    /// as many.
    #[staticmethod]
    #[pyo3(signature = (layer, width, outer, inner, probe=None))]
    fn learning_cell(
        layer: String,
        width: usize,
        outer: Values,
        inner: Values,
        probe: Option<(Values, Values)>,
    ) -> PyResult<Self> {
        let owned = |values: Values| values.as_slice().map(<[f32]>::to_vec);
        let inner = if width > LONGEST_ROW { sketched_rows(inner.as_slice()?, width)? } else { owned(inner)? };
        let probe = probe.map(|(inputs, targets)| Ok::<_, PyErr>((owned(inputs)?, owned(targets)?))).transpose()?;
        Ok(Self { layer, body: Body::LearningCell { outer: owned(outer)?, inner, probe } })
    }

    /// Whether its frame need not wait any longer. Never waits.
    fn ready(&self) -> bool {
        match &self.body {
            Body::DeadDirections { spectra, .. } => spectra.is_ready(),
            _ => true,
        }
    }

    /// Whether a thread still works on it. It cannot be sent as long as that is so.
    fn is_computing(&self) -> bool {
        matches!(&self.body, Body::DeadDirections { spectra, .. } if spectra.computed().is_none())
    }

    /// Waits for it, 5 s at most.
    fn wait(&self, py: Python<'_>) {
        if let Body::DeadDirections { spectra, .. } = &self.body {
            py.detach(|| spectra.wait());
        }
    }
}

impl Snapshot {
    pub(crate) fn add_to<'a>(&'a self, frame: Frame<'a>) -> PyResult<Frame<'a>> {
        let layer = self.layer.as_str();
        Ok(match &self.body {
            Body::Windows(windows) => frame.cascade(layer, CascadeSnapshot::of_windows(windows)),
            Body::Gradient(tensors) => frame.cascade(layer, CascadeSnapshot::of_gradient(tensors).with_whole()),
            Body::Curvature { sigma, curvature } => frame.curvature(layer, CurvatureSnapshot::new(sigma, curvature)),
            Body::DeadDirections { spectra, samples, batch, removed } => {
                let Some(Spectra { eigenvalues, singular_values }) = spectra.computed() else {
                    let problem = format!("the spectra of layer {layer:?} are not computed yet");
                    return Err(PyValueError::new_err(problem));
                };
                let snapshot = DeadDirectionsSnapshot::of_eigenvalues(eigenvalues, singular_values, *samples, *batch);
                frame.dead_directions(layer, snapshot.gauge_removed(*removed))
            }
            Body::LearningCell { outer, inner, probe } => {
                let snapshot = LearningCellSnapshot::new(outer, inner);
                frame.learning_cell(
                    layer,
                    match probe {
                        None => snapshot,
                        Some((inputs, targets)) => snapshot.probe(inputs, targets),
                    },
                )
            }
        })
    }
}

fn samples(tensor: Reals) -> PyResult<Samples> {
    Ok(match tensor {
        Reals::F32(address, count) => Samples::F32(slice(address, count)?.to_vec()),
        Reals::F64(address, count) => Samples::F64(slice(address, count)?.to_vec()),
    })
}

/// One linear map for all rows, the same in every run: inner products of rows are kept in expectation.
fn sketched_rows(rows: &[f32], width: usize) -> PyResult<Vec<f32>> {
    let sketcher = Sketcher::new(LONGEST_ROW, 0).map_err(invalid)?;
    let mut sketched = vec![0.0; rows.len() / width * LONGEST_ROW];
    for (row, sketch) in rows.chunks_exact(width).zip(sketched.chunks_exact_mut(LONGEST_ROW)) {
        sketcher.add(sketch, TensorName::new("row"), 0, row).map_err(invalid)?;
    }
    Ok(sketched)
}

fn invalid(error: impl std::error::Error) -> PyErr {
    PyValueError::new_err(error.to_string())
}
