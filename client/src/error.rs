//! What a user can do wrong. Nothing here ever comes from the network.

use std::sync::Arc;
use std::time::Duration;

use gradwatch_spectral::layers::LayerInstrument;

use crate::spec::Kind;

/// Why a run was not opened: an argument, named by the builder's method, or the machine has no thread to give.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenError {
    /// An argument of the builder is missing or outside its range.
    #[error("{field}: {problem}")]
    Argument {
        /// The builder's method at fault, such as `group "hidden": tensor "W"`.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The buffer does not hold what a restarted server may ask for again.
    #[error(
        "buffer_bytes: {given} is too small; {needed} holds the longest window four times ({rows} frames of up to \
         {frame_bytes} bytes each)"
    )]
    BufferTooSmall {
        /// The argument.
        given: usize,
        /// The least that is accepted: 4 × (longest window + 1) × frame size.
        needed: usize,
        /// The longest window + 1.
        rows: usize,
        /// Bytes of one frame with a payload for every group and kind.
        frame_bytes: usize,
    },
    /// The uploader's thread or its runtime could not be started.
    #[error("the uploader could not be started")]
    Uploader(#[source] Arc<std::io::Error>),
}

impl OpenError {
    pub(crate) fn argument(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Argument { field: field.into(), problem: problem.into() }
    }
}

/// Why a submission was refused. Nothing of it was taken: no sequence number, no base, no scalar.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The step does not fit the protocol.
    #[error("step: {step} is not below 2^53")]
    StepTooLarge {
        /// The step.
        step: u64,
    },
    /// A learning rate or weight decay is negative.
    #[error("{field}: {value} is negative")]
    Negative {
        /// `learning_rate` or `weight_decay`.
        field: &'static str,
        /// The value, as text.
        value: String,
    },
    /// A scalar's name is empty, too long or holds a control character.
    #[error("scalar {name:?}: {problem}")]
    ScalarName {
        /// The name, shortened.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A frame carries more scalars than the protocol has room for.
    #[error("scalars: {count} in one frame, at most {limit}")]
    TooManyScalars {
        /// Number of scalars in the frame.
        count: usize,
        /// The most that is accepted.
        limit: usize,
    },
    /// A name was given twice in one frame.
    #[error("{what} {name:?} was given twice in one frame")]
    Duplicate {
        /// What has the name, such as `scalar` or `parameters of group`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The group was not declared when the run was opened.
    #[error("group {group:?} was not declared when the run was opened")]
    UnknownGroup {
        /// The group's name.
        group: String,
    },
    /// The kind was not declared when the run was opened.
    #[error("kind {kind} was not declared when the run was opened")]
    UndeclaredKind {
        /// The kind.
        kind: Kind,
    },
    /// The group has no such tensor.
    #[error("group {group:?} has no tensor {tensor:?}")]
    UnknownTensor {
        /// The group's name.
        group: String,
        /// The tensor's name.
        tensor: String,
    },
    /// Nothing was given of one of the group's tensors.
    #[error("group {group:?}: tensor {tensor:?} is missing")]
    MissingTensor {
        /// The group's name.
        group: String,
        /// The tensor's name.
        tensor: String,
    },
    /// The slices of a tensor do not cover it exactly once.
    #[error("group {group:?}: tensor {tensor:?} has {elements} elements; what was given {problem} element {at}")]
    Coverage {
        /// The group's name.
        group: String,
        /// The tensor's name.
        tensor: String,
        /// The declared number of elements.
        elements: u64,
        /// `lacks`, `repeats` or `goes past`.
        problem: &'static str,
        /// Flat index of the first element at fault; for `goes past` that of the last declared one.
        at: u64,
    },
    /// A sketch made by the caller is not that of the run.
    #[error("group {group:?}: its sketch has {actual} entries, the run's have {expected}")]
    SketchLength {
        /// The group's name.
        group: String,
        /// Entries given.
        actual: usize,
        /// d, the size of the run's sketches.
        expected: usize,
    },
    /// The layer was not declared for this instrument when the run was opened.
    #[error("layer {layer:?} was not declared for {instrument} when the run was opened{}", declared_for(.declared))]
    UnknownLayer {
        /// The layer's name.
        layer: String,
        /// The instrument that the snapshot is for.
        instrument: LayerInstrument,
        /// What a layer of this name was declared for.
        declared: Vec<LayerInstrument>,
    },
    /// A part of a snapshot is empty, too long, or does not fit the others.
    #[error("layer {layer:?}: {instrument}.{field}: {problem}")]
    Snapshot {
        /// The layer's name.
        layer: String,
        /// The instrument that the snapshot is for.
        instrument: LayerInstrument,
        /// The part at fault, such as `sigma`.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A frame is too large because of a snapshot or predictions.
    #[error("{largest} makes the frame too large: {bytes} bytes, at most {limit} ({limited_by})")]
    SnapshotTooLarge {
        /// The largest part of the frame, such as `the cascade snapshot of layer "all"`.
        largest: String,
        /// The most the frame may take, encoded.
        bytes: usize,
        /// The most that is accepted.
        limit: usize,
        /// What sets the limit.
        limited_by: &'static str,
    },
    /// Predictions on a probe batch are unnamed, too many, or not finite.
    #[error("predictions on probe {probe:?}: {problem}")]
    Predictions {
        /// The probe batch's name, shortened.
        probe: String,
        /// What is wrong with them.
        problem: String,
    },
    /// Terms of the edge do not fit the run's windows.
    #[error("edge_terms of group {group:?}: {problem}")]
    EdgeTerms {
        /// The group's name.
        group: String,
        /// What is wrong with them.
        problem: String,
    },
    /// The name of something that happened is none.
    #[error("happened: {name:?} is not made of 1 to 64 lower-case letters, digits and underscores")]
    Happened {
        /// The name, shortened.
        name: String,
    },
    /// More happened at one step than the protocol has room for.
    #[error("happened: {count} names in one frame, at most {limit}")]
    TooManyHappened {
        /// Names in the frame.
        count: usize,
        /// The most that is accepted.
        limit: usize,
    },
    /// The frame would take more than half the hand-over queue.
    #[error("the frame may take {bytes} bytes, at most {limit} (an eighth of buffer_bytes)")]
    FrameTooLarge {
        /// The most the frame may take, encoded.
        bytes: usize,
        /// The most that is accepted.
        limit: usize,
    },
    /// One of several shards went back by itself.
    #[error("step: {step} is not above the last one, {last_step}; shards go back together, by calling rewind_to first")]
    RewindAlone {
        /// The step.
        step: u64,
        /// The last one submitted, or resumed.
        last_step: u64,
    },
    /// Training went back more often than the uploader, cut off from its server, can hold apart.
    #[error("step: training went back {pending} times and the server has not seen those attempts yet")]
    TooManyRewinds {
        /// Attempts waiting for the server.
        pending: usize,
    },
    /// Groups that a run cannot have.
    #[error("{problem}")]
    Groups {
        /// What is wrong with them.
        problem: String,
    },
    /// No row would ever be due.
    #[error("update_interval: is zero")]
    ZeroInterval,
    /// The uploader's thread has ended.
    #[error("the run is closed")]
    Closed,
}

fn declared_for(declared: &[LayerInstrument]) -> String {
    let words: Vec<_> = declared.iter().map(|instrument| instrument.as_str()).collect();
    if words.is_empty() { String::new() } else { format!("; it was for {}", words.join(", ")) }
}

/// Why waiting for the server was given up. What it has acknowledged stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    /// The server wants nothing more of this attempt.
    #[error("{reason}")]
    Refused {
        /// The server's words.
        reason: String,
    },
    /// Nothing was acknowledged for as long as the caller was ready to wait.
    #[error("the server has acknowledged nothing for {patience:?}{}", .cause.as_ref().map(|cause| format!(": {cause}")).unwrap_or_default())]
    Stalled {
        /// How long that was.
        patience: Duration,
        /// Why the uploader is not connected, when it is not.
        cause: Option<String>,
    },
}
