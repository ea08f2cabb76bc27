//! From what a training step says to the frame that travels: the sketches and their bases, for one attempt.

use std::collections::BTreeMap;
use std::collections::HashSet;

use gradwatch_proto::v1;
use gradwatch_spectral::encoding::{EncodedSketch, encode};
use gradwatch_spectral::sketch::Sketcher;

use crate::error::SubmitError;
use crate::frame::{Frame, GroupTensors};
use crate::spec::{Kind, Piece, Spec};
use crate::validate::{MAX_SCALARS_PER_FRAME, MAX_STEP, check_scalar_name};

/// Sketches of one attempt.
///
/// The update of a group is S(theta_t) − S(theta_base), both accumulated and subtracted in float64 and rounded once,
/// when encoded. The base is always the group's newest sketch, finite or not: parameters that hold NaN make the update
/// into them and the first one out of them non-finite, and nothing after that.
#[derive(Debug)]
pub(crate) struct Composer {
    sketcher: Sketcher,
    groups: Vec<GroupState>,
    /// S of the current step; swapped with the base after use.
    current: Vec<f64>,
    update: Vec<f64>,
}

#[derive(Debug, Default)]
struct GroupState {
    base: Option<Base>,
    last_gradient_step: Option<u64>,
}

#[derive(Debug)]
struct Base {
    step: u64,
    sketch: Vec<f64>,
}

/// A frame whose every name and length was checked.
#[derive(Debug)]
pub(crate) struct Checked<'a> {
    parameters: Vec<(usize, Values<'a>)>,
    gradients: Vec<(usize, Values<'a>)>,
    group_optimizers: Vec<v1::GroupOptimizer>,
    scalars: BTreeMap<String, f64>,
}

/// All values of one group.
#[derive(Debug)]
enum Values<'a> {
    Pieces(Vec<Piece<'a>>),
    /// Their sketch, made by the caller.
    Sketch(&'a [f64]),
}

/// Finds every mistake of a frame, before anything of it is taken.
pub(crate) fn check<'a>(spec: &Spec, step: u64, frame: &Frame<'a>) -> Result<Checked<'a>, SubmitError> {
    if step > MAX_STEP {
        return Err(SubmitError::StepTooLarge { step });
    }
    check_rates(frame.learning_rate, frame.weight_decay)?;
    if frame.scalars.len() > MAX_SCALARS_PER_FRAME {
        return Err(SubmitError::TooManyScalars { count: frame.scalars.len(), limit: MAX_SCALARS_PER_FRAME });
    }
    let mut scalars = BTreeMap::new();
    for &(name, value) in &frame.scalars {
        check_scalar_name(name)?;
        if scalars.insert(name.to_owned(), value).is_some() {
            return Err(SubmitError::Duplicate { what: "scalar", name: name.to_owned() });
        }
    }
    let mut seen = HashSet::new();
    let mut group_optimizers = Vec::with_capacity(frame.group_optimizers.len());
    for values in &frame.group_optimizers {
        let group = spec.group(values.group)?;
        if !seen.insert(group) {
            return Err(SubmitError::Duplicate { what: "optimizer values of group", name: values.group.to_owned() });
        }
        let (learning_rate, weight_decay) = (values.learning_rate, values.weight_decay);
        check_rates(learning_rate, weight_decay)?;
        group_optimizers.push(v1::GroupOptimizer { group: group as u32, learning_rate, weight_decay });
    }
    let mut parameters = check_tensors(spec, Kind::Update, "parameters of group", &frame.parameters)?;
    check_sketches(spec, &frame.sketches, &mut parameters)?;
    Ok(Checked {
        parameters,
        gradients: check_tensors(spec, Kind::Gradient, "gradient of group", &frame.gradients)?,
        group_optimizers,
        scalars,
    })
}

/// A rate that diverged to NaN is data; a negative one is a mistake.
fn check_rates(learning_rate: Option<f64>, weight_decay: Option<f64>) -> Result<(), SubmitError> {
    for (field, value) in [("learning_rate", learning_rate), ("weight_decay", weight_decay)] {
        if let Some(value) = value.filter(|value| *value < 0.0) {
            return Err(SubmitError::Negative { field, value: value.to_string() });
        }
    }
    Ok(())
}

fn check_tensors<'a>(
    spec: &Spec,
    kind: Kind,
    what: &'static str,
    groups: &[GroupTensors<'a>],
) -> Result<Vec<(usize, Values<'a>)>, SubmitError> {
    if !groups.is_empty() && !spec.kinds.contains(&kind) {
        return Err(SubmitError::UndeclaredKind { kind });
    }
    let mut checked: Vec<(usize, Values<'a>)> = Vec::with_capacity(groups.len());
    for tensors in groups {
        let group = spec.group(tensors.group)?;
        if checked.iter().any(|(other, _)| *other == group) {
            return Err(SubmitError::Duplicate { what, name: tensors.group.to_owned() });
        }
        checked.push((group, Values::Pieces(spec.groups[group].resolve(&tensors.slices, spec.is_whole)?)));
    }
    Ok(checked)
}

/// Adds parameters that came as sketches to those that came as they are.
fn check_sketches<'a>(
    spec: &Spec,
    sketches: &[(&str, &'a [f64])],
    parameters: &mut Vec<(usize, Values<'a>)>,
) -> Result<(), SubmitError> {
    if !sketches.is_empty() && !spec.kinds.contains(&Kind::Update) {
        return Err(SubmitError::UndeclaredKind { kind: Kind::Update });
    }
    for &(name, sketch) in sketches {
        let group = spec.group(name)?;
        if parameters.iter().any(|(other, _)| *other == group) {
            return Err(SubmitError::Duplicate { what: "parameters of group", name: name.to_owned() });
        }
        if sketch.len() != spec.sketch_dim {
            let (actual, expected) = (sketch.len(), spec.sketch_dim);
            return Err(SubmitError::SketchLength { group: name.to_owned(), actual, expected });
        }
        parameters.push((group, Values::Sketch(sketch)));
    }
    Ok(())
}

impl Composer {
    pub(crate) fn new(sketcher: Sketcher, groups: usize) -> Self {
        let dim = sketcher.dim();
        let groups = (0..groups).map(|_| GroupState::default()).collect();
        Self { sketcher, groups, current: vec![0.0; dim], update: vec![0.0; dim] }
    }

    /// S.
    pub(crate) fn sketcher(&self) -> &Sketcher {
        &self.sketcher
    }

    /// A new attempt: bases are taken anew.
    pub(crate) fn reset(&mut self) {
        self.groups.fill_with(GroupState::default);
    }

    /// Whether parameters at `step` would be looked at: the group has no base yet, or the interval has passed.
    pub(crate) fn parameters_due(&self, spec: &Spec, group: usize, step: u64) -> bool {
        is_due(spec, self.groups[group].base.as_ref().map(|base| base.step), step)
    }

    /// The same for gradients.
    pub(crate) fn gradient_due(&self, spec: &Spec, group: usize, step: u64) -> bool {
        is_due(spec, self.groups[group].last_gradient_step, step)
    }

    /// The payloads of a step, in group order of the call: updates, then gradients.
    pub(crate) fn payloads(&mut self, spec: &Spec, step: u64, checked: &Checked<'_>) -> Vec<v1::Payload> {
        let mut payloads = Vec::with_capacity(checked.parameters.len() + checked.gradients.len());
        for (group, values) in &checked.parameters {
            if self.parameters_due(spec, *group, step) {
                payloads.extend(self.update(spec, *group, step, values));
            }
        }
        for (group, values) in &checked.gradients {
            if self.gradient_due(spec, *group, step) {
                payloads.extend(self.gradient(spec, *group, step, values));
            }
        }
        payloads
    }

    /// The next updates start from these parameters.
    pub(crate) fn set_base(&mut self, step: u64, checked: &Checked<'_>) {
        for (group, values) in &checked.parameters {
            self.sketch(values);
            self.groups[*group].base = Some(Base { step, sketch: self.current.clone() });
        }
    }

    /// None the first time: there is only a base then.
    fn update(&mut self, spec: &Spec, group: usize, step: u64, values: &Values<'_>) -> Option<v1::Payload> {
        self.sketch(values);
        let Some(base) = &mut self.groups[group].base else {
            self.groups[group].base = Some(Base { step, sketch: self.current.clone() });
            return None;
        };
        for ((update, current), base) in self.update.iter_mut().zip(&self.current).zip(&base.sketch) {
            *update = current - base;
        }
        std::mem::swap(&mut base.sketch, &mut self.current);
        let base_step = std::mem::replace(&mut base.step, step);
        Some(payload(group, Kind::Update, base_step, encode(&self.update, spec.encoding)))
    }

    /// None at step 0: a row needs an earlier step to start from.
    fn gradient(&mut self, spec: &Spec, group: usize, step: u64, values: &Values<'_>) -> Option<v1::Payload> {
        let last_step = self.groups[group].last_gradient_step.replace(step);
        if step == 0 {
            return None;
        }
        self.sketch(values);
        // The first gradient has no predecessor; one interval before it keeps the interval of the second.
        let base_step = last_step.unwrap_or(step.saturating_sub(spec.update_interval.into()));
        Some(payload(group, Kind::Gradient, base_step, encode(&self.current, spec.encoding)))
    }

    fn sketch(&mut self, values: &Values<'_>) {
        let pieces = match values {
            Values::Sketch(sketch) => return self.current.copy_from_slice(sketch),
            Values::Pieces(pieces) => pieces,
        };
        self.current.fill(0.0);
        for piece in pieces {
            self.sketcher
                .add(&mut self.current, piece.key, piece.offset, piece.values)
                .expect("the accumulator was made with the sketcher's length, and pieces lie inside their tensors");
        }
    }
}

fn is_due(spec: &Spec, last_step: Option<u64>, step: u64) -> bool {
    last_step.is_none_or(|last| step.saturating_sub(last) >= spec.update_interval.into())
}

fn payload(group: usize, kind: Kind, base_step: u64, sketch: EncodedSketch) -> v1::Payload {
    let body = match sketch {
        EncodedSketch::F32 { bytes } => v1::payload::Body::SketchF32(bytes.into()),
        EncodedSketch::F16 { scale, bytes } => {
            v1::payload::Body::SketchF16(v1::SketchF16 { scale, values: bytes.into() })
        }
        EncodedSketch::NonFinite(counts) => v1::payload::Body::NonFinite(v1::NonFinite {
            nan: counts.nan,
            positive_infinity: counts.positive_infinity,
            negative_infinity: counts.negative_infinity,
        }),
    };
    v1::Payload { group: group as u32, kind: kind.to_wire().into(), base_step, body: Some(body) }
}

impl Checked<'_> {
    /// The frame as it travels, except for its sequence number.
    pub(crate) fn into_wire(self, step: u64, frame: &Frame<'_>, payloads: Vec<v1::Payload>) -> v1::Frame {
        v1::Frame {
            seq: 0,
            step,
            wall_time_us: 0,
            phase: frame.phase,
            learning_rate: frame.learning_rate,
            weight_decay: frame.weight_decay,
            group_optimizers: self.group_optimizers,
            scalars: self.scalars,
            payloads,
            ..v1::Frame::default()
        }
    }
}
