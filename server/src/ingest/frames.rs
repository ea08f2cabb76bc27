//! From wire frames to domain frames. Every check that needs nothing but the frame, the attempt's spec and the limits
//! is made here, before anything is queued.

use std::collections::{BTreeMap, HashSet};

use gradwatch_proto::v1::{self, RejectCode, payload};
use gradwatch_spectral::encoding::NonFiniteCounts;
use gradwatch_store::{Encoding, Kind, StreamSpec};

use super::{
    STEP_LIMIT,
    edge_terms::edge_terms,
    predictions::{happened, predictions},
    snapshots::snapshots,
    text,
};
use crate::{
    config::Limits,
    pipeline::{Body, Frame, Item, Payload, Rejection},
};

/// How much of a name that is too long an answer repeats.
pub(super) const SHOWN_CHARS: usize = 64;

/// Turns a wire frame into an item. An invalid frame becomes a rejection that keeps its place in the sequence.
pub(super) fn item(frame: v1::Frame, spec: &StreamSpec, limits: &Limits) -> Item {
    let seq = frame.seq;
    match (Checker { spec, limits }).frame(frame) {
        Ok(frame) => Item::Frame(frame),
        Err(fault) => Item::Rejected(Rejection { seq, code: fault.code, field: fault.field, message: fault.message }),
    }
}

/// Why a frame is refused.
pub(super) struct Fault {
    code: RejectCode,
    field: String,
    message: String,
}

pub(super) fn fault<T>(code: RejectCode, field: impl Into<String>, message: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { code, field: field.into(), message: message.into() })
}

struct Checker<'a> {
    spec: &'a StreamSpec,
    limits: &'a Limits,
}

impl Checker<'_> {
    fn frame(&self, frame: v1::Frame) -> Result<Frame, Fault> {
        if frame.step >= STEP_LIMIT {
            return fault(RejectCode::Invalid, "step", format!("{} is not below 2^53", frame.step));
        }
        let learning_rate = rate("learning_rate", frame.learning_rate)?;
        let weight_decay = rate("weight_decay", frame.weight_decay)?;
        let (mut group_learning_rates, mut group_weight_decays) = (BTreeMap::new(), BTreeMap::new());
        for (index, optimizer) in frame.group_optimizers.iter().enumerate() {
            let group = group_index(&format!("group_optimizers[{index}].group"), optimizer.group, self.spec)?;
            if let Some(omega) = rate(&format!("group_optimizers[{index}].weight_decay"), optimizer.weight_decay)? {
                group_weight_decays.insert(group, omega);
            }
            if let Some(eta) = rate(&format!("group_optimizers[{index}].learning_rate"), optimizer.learning_rate)? {
                group_learning_rates.insert(group, eta);
            }
        }
        self.scalars(&frame.scalars)?;
        let mut seen = HashSet::new();
        let mut payloads = Vec::with_capacity(frame.payloads.len());
        for (index, payload) in frame.payloads.into_iter().enumerate() {
            let payload = self.payload(index, frame.step, payload)?;
            if !seen.insert((payload.group, payload.kind)) {
                return fault(
                    RejectCode::Invalid,
                    format!("payloads[{index}]"),
                    format!("a second {} payload of group {}", payload.kind.as_str(), payload.group),
                );
            }
            payloads.push(payload);
        }
        let snapshots = snapshots(frame.snapshots, self.spec)?;
        let predictions = predictions(&frame.predictions, self.limits.max_name_bytes)?;
        let edge_terms = edge_terms(&frame.edge_terms, self.spec)?;
        let happened = happened(frame.happened)?;
        Ok(Frame {
            seq: frame.seq,
            step: frame.step,
            wall_time_us: frame.wall_time_us,
            phase: frame.phase,
            learning_rate,
            weight_decay,
            group_learning_rates,
            group_weight_decays,
            scalars: frame.scalars,
            payloads,
            snapshots,
            predictions,
            edge_terms,
            happened,
        })
    }

    fn scalars(&self, scalars: &BTreeMap<String, f64>) -> Result<(), Fault> {
        let limit = self.limits.max_scalars_per_frame;
        if scalars.len() > limit {
            return fault(RejectCode::Limit, "scalars", format!("{} scalars; the limit is {limit}", scalars.len()));
        }
        for name in scalars.keys() {
            if let Err(message) = text::name(name, self.limits.max_name_bytes) {
                let shown: String = name.chars().take(SHOWN_CHARS).collect();
                return fault(RejectCode::Invalid, format!("scalars[{shown:?}]"), message);
            }
        }
        Ok(())
    }

    fn payload(&self, index: usize, step: u64, payload: v1::Payload) -> Result<Payload, Fault> {
        let field = |name: &str| format!("payloads[{index}].{name}");
        let group = group_index(&field("group"), payload.group, self.spec)?;
        let kind = declared_kind(&field("kind"), payload.kind(), self.spec)?;
        if payload.base_step >= step {
            return fault(
                RejectCode::Invalid,
                field("base_step"),
                format!("{} is not below the frame's step {step}", payload.base_step),
            );
        }
        let dim = self.spec.sketch_dim;
        let length = |name: &str, found: usize, expected: usize| {
            if found == expected {
                return Ok(());
            }
            let message = format!("{found} bytes; sketch_dim {dim} needs {expected}");
            fault(RejectCode::SpecMismatch, field(name), message)
        };
        let encoding = |name: &str, encoding: Encoding| {
            if self.spec.encoding == encoding {
                return Ok(());
            }
            fault(RejectCode::SpecMismatch, field(name), "not the encoding that the stream spec declares")
        };
        let body = match payload.body {
            Some(payload::Body::SketchF32(bytes)) => {
                encoding("sketch_f32", Encoding::F32)?;
                length("sketch_f32", bytes.len(), 4 * dim)?;
                Body::F32(bytes)
            }
            Some(payload::Body::SketchF16(sketch)) => {
                encoding("sketch_f16", Encoding::F16)?;
                length("sketch_f16.values", sketch.values.len(), 2 * dim)?;
                if !(sketch.scale.is_finite() && sketch.scale >= 0.0) {
                    let message = format!("{} is not a finite, non-negative scale", sketch.scale);
                    return fault(RejectCode::Invalid, field("sketch_f16.scale"), message);
                }
                Body::F16 { scale: sketch.scale, values: sketch.values }
            }
            Some(payload::Body::NonFinite(counts)) => {
                let total = counts
                    .nan
                    .checked_add(counts.positive_infinity)
                    .and_then(|total| total.checked_add(counts.negative_infinity));
                if !matches!(total, Some(total) if total > 0 && total <= dim as u64) {
                    let message = format!("the counts must add up to between 1 and sketch_dim ({dim})");
                    return fault(RejectCode::Invalid, field("non_finite"), message);
                }
                Body::NonFinite(NonFiniteCounts {
                    nan: counts.nan,
                    positive_infinity: counts.positive_infinity,
                    negative_infinity: counts.negative_infinity,
                })
            }
            None => {
                return fault(RejectCode::Invalid, field("body"), "is missing, or of a kind this server does not know");
            }
        };
        Ok(Payload { group, kind, base_step: payload.base_step, body })
    }
}

/// An index into the declared groups.
pub(super) fn group_index(field: &str, group: u32, spec: &StreamSpec) -> Result<usize, Fault> {
    let groups = spec.groups.len();
    match usize::try_from(group) {
        Ok(index) if index < groups => Ok(index),
        _ => fault(RejectCode::SpecMismatch, field, format!("{group} is not the index of one of {groups} groups")),
    }
}

/// One of the declared kinds.
pub(super) fn declared_kind(field: &str, kind: v1::Kind, spec: &StreamSpec) -> Result<Kind, Fault> {
    let kind = match kind {
        v1::Kind::Update => Kind::Update,
        v1::Kind::Gradient => Kind::Gradient,
        v1::Kind::Unspecified => {
            return fault(RejectCode::Invalid, field, "must be KIND_UPDATE or KIND_GRADIENT");
        }
    };
    if spec.kinds.contains(&kind) {
        return Ok(kind);
    }
    fault(RejectCode::SpecMismatch, field, format!("{} was not declared", kind.as_str()))
}

/// A learning rate or weight decay. One that is NaN or infinite is stored as what it is: such a job is worth watching.
fn rate(field: &str, value: Option<f64>) -> Result<Option<f64>, Fault> {
    match value {
        Some(value) if value < 0.0 => fault(RejectCode::Invalid, field, format!("{value} is negative")),
        value => Ok(value),
    }
}
