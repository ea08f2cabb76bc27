//! What a training step says: a [`Frame`] borrows everything until it is submitted.

use crate::edge_terms::EdgeTerms;
use crate::snapshot::{CascadeSnapshot, CurvatureSnapshot, DeadDirectionsSnapshot, LearningCellSnapshot, Snapshot};

/// All that is said about one step. Later calls add; nothing is checked before [`Run::submit`](crate::Run::submit).
#[derive(Clone, Debug, Default)]
#[must_use = "a frame says nothing until it is submitted"]
pub struct Frame<'a> {
    pub(crate) phase: u32,
    pub(crate) learning_rate: Option<f64>,
    pub(crate) weight_decay: Option<f64>,
    pub(crate) group_optimizers: Vec<GroupOptimizer<'a>>,
    pub(crate) scalars: Vec<(&'a str, f64)>,
    pub(crate) parameters: Vec<GroupTensors<'a>>,
    pub(crate) sketches: Vec<(&'a str, &'a [f64])>,
    pub(crate) gradients: Vec<GroupTensors<'a>>,
    /// By layer.
    pub(crate) snapshots: Vec<(&'a str, Snapshot<'a>)>,
    pub(crate) edge_terms: Vec<EdgeTerms<'a>>,
    pub(crate) predictions: Vec<Predictions<'a>>,
    pub(crate) happened: Vec<&'a str>,
}

#[derive(Clone, Debug)]
pub(crate) struct GroupOptimizer<'a> {
    pub(crate) group: &'a str,
    pub(crate) learning_rate: Option<f64>,
    pub(crate) weight_decay: Option<f64>,
}

#[derive(Clone, Debug)]
pub(crate) struct Predictions<'a> {
    pub(crate) probe: &'a str,
    pub(crate) values: &'a [f32],
    pub(crate) targets: &'a [f32],
}

#[derive(Clone, Debug)]
pub(crate) struct GroupTensors<'a> {
    pub(crate) group: &'a str,
    pub(crate) slices: Vec<TensorSlice<'a>>,
}

impl<'a> Frame<'a> {
    /// A frame that says nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A counter to raise when training enters a phase whose updates must not share a window with the last. Default 0.
    pub fn phase(mut self, phase: u32) -> Self {
        self.phase = phase;
        self
    }

    /// The learning rate of this step.
    pub fn learning_rate(mut self, learning_rate: f64) -> Self {
        self.learning_rate = Some(learning_rate);
        self
    }

    /// The weight decay of this step.
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.weight_decay = Some(weight_decay);
        self
    }

    /// Learning rate and weight decay of one group, where they differ from the frame's.
    pub fn group_optimizer(
        mut self,
        group: &'a str,
        learning_rate: impl Into<Option<f64>>,
        weight_decay: impl Into<Option<f64>>,
    ) -> Self {
        self.group_optimizers.push(GroupOptimizer {
            group,
            learning_rate: learning_rate.into(),
            weight_decay: weight_decay.into(),
        });
        self
    }

    /// A number to store and chart, such as the loss. NaN and infinity are sent as they are.
    pub fn scalar(mut self, name: &'a str, value: f64) -> Self {
        self.scalars.push((name, value));
        self
    }

    /// The parameters of a group after this step, every tensor of it or, of a shard, what it owns: `(name, values)` or
    /// `(name, offset, values)`, row-major. What travels is the sketch of their change since the group's previous parameters.
    pub fn parameters<T>(mut self, group: &'a str, tensors: impl IntoIterator<Item = T>) -> Self
    where
        T: Into<TensorSlice<'a>>,
    {
        self.parameters.push(GroupTensors { group, slices: tensors.into_iter().map(Into::into).collect() });
        self
    }

    /// The same as [`Frame::parameters`], sketched by the caller: for parameters that are not at hand as float32, or not
    /// all at once. `sketch` is that of every tensor of the group, in the declared order, by
    /// [`Run::sketcher`](crate::Run::sketcher) in float64.
    pub fn sketched_parameters(mut self, group: &'a str, sketch: &'a [f64]) -> Self {
        self.sketches.push((group, sketch));
        self
    }

    /// The gradient of a group at this step, shaped like [`Frame::parameters`]. Needs
    /// [`Kind::Gradient`](crate::Kind::Gradient) among the run's kinds. One at step 0 is not sent: a row needs an
    /// earlier step to start from.
    pub fn gradient<T>(mut self, group: &'a str, tensors: impl IntoIterator<Item = T>) -> Self
    where
        T: Into<TensorSlice<'a>>,
    {
        self.gradients.push(GroupTensors { group, slices: tensors.into_iter().map(Into::into).collect() });
        self
    }

    /// A snapshot of a layer declared with [`Layer::cascade`](crate::Layer::cascade). Like every snapshot it is looked at
    /// only when it is due, see [`Run::snapshot_due`](crate::Run::snapshot_due). Of several shards one is enough to send
    /// it: the lowest that does is taken.
    pub fn cascade(mut self, layer: &'a str, snapshot: CascadeSnapshot<'a>) -> Self {
        self.snapshots.push((layer, Snapshot::Cascade(snapshot)));
        self
    }

    /// A snapshot of a layer declared with [`Layer::curvature`](crate::Layer::curvature), see [`Frame::cascade`].
    pub fn curvature(mut self, layer: &'a str, snapshot: CurvatureSnapshot<'a>) -> Self {
        self.snapshots.push((layer, Snapshot::Curvature(snapshot)));
        self
    }

    /// A snapshot of a layer declared with [`Layer::dead_directions`](crate::Layer::dead_directions), see
    /// [`Frame::cascade`].
    pub fn dead_directions(mut self, layer: &'a str, snapshot: DeadDirectionsSnapshot<'a>) -> Self {
        self.snapshots.push((layer, Snapshot::DeadDirections(snapshot)));
        self
    }

    /// A snapshot of a layer declared with [`Layer::learning_cell`](crate::Layer::learning_cell), see
    /// [`Frame::cascade`].
    pub fn learning_cell(mut self, layer: &'a str, snapshot: LearningCellSnapshot<'a>) -> Self {
        self.snapshots.push((layer, Snapshot::LearningCell(snapshot)));
        self
    }

    /// What only the job can know about the edge of a window, once for each group, kind and window.
    pub fn edge_terms(mut self, terms: EdgeTerms<'a>) -> Self {
        self.edge_terms.push(terms);
        self
    }

    /// The model's outputs on a probe batch that is the same for all runs that are to be compared, at most 65,536 of
    /// them, and what they should be (or nothing: empty). All must be finite.
    pub fn predictions(mut self, probe: &'a str, values: &'a [f32], targets: &'a [f32]) -> Self {
        self.predictions.push(Predictions { probe, values, targets });
        self
    }

    /// Something that happened at this step, for aligning runs on it: lower-case letters, digits and underscores, such as
    /// `solved`.
    pub fn happened(mut self, name: &'a str) -> Self {
        self.happened.push(name);
        self
    }
}

/// A contiguous piece of a flattened tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TensorSlice<'a> {
    /// The tensor's name.
    pub name: &'a str,
    /// Flat index of `values[0]` in the whole tensor.
    pub offset: u64,
    /// The values, row-major.
    pub values: &'a [f32],
}

impl<'a, V: AsRef<[f32]> + ?Sized> From<(&'a str, &'a V)> for TensorSlice<'a> {
    fn from((name, values): (&'a str, &'a V)) -> Self {
        Self { name, offset: 0, values: values.as_ref() }
    }
}

impl<'a, V: AsRef<[f32]> + ?Sized> From<&(&'a str, &'a V)> for TensorSlice<'a> {
    fn from(&(name, values): &(&'a str, &'a V)) -> Self {
        Self { name, offset: 0, values: values.as_ref() }
    }
}

impl<'a, V: AsRef<[f32]> + ?Sized> From<(&'a str, u64, &'a V)> for TensorSlice<'a> {
    fn from((name, offset, values): (&'a str, u64, &'a V)) -> Self {
        Self { name, offset, values: values.as_ref() }
    }
}

impl<'a, V: AsRef<[f32]> + ?Sized> From<&(&'a str, u64, &'a V)> for TensorSlice<'a> {
    fn from(&(name, offset, values): &(&'a str, u64, &'a V)) -> Self {
        Self { name, offset, values: values.as_ref() }
    }
}
