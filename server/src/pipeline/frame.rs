//! What ingest hands over: frames in domain terms, checked as far as a frame alone can be checked.

use std::collections::BTreeMap;

use bytes::Bytes;
use gradwatch_proto::v1::RejectCode;
use gradwatch_spectral::{edge::EdgeTerms, encoding::NonFiniteCounts};
use gradwatch_store::Kind;

/// One place in a shard's sequence.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Frame(Frame),
    /// A frame that is invalid by itself. It keeps its place: the mark passes it in order.
    Rejected(Rejection),
    /// Stands for the frames that the client gave up.
    Dropped {
        from_seq: u64,
        to_seq: u64,
        first_step: u64,
        last_step: u64,
    },
}

impl Item {
    /// The first seq it stands for.
    pub(crate) fn first_seq(&self) -> u64 {
        match self {
            Self::Frame(frame) => frame.seq,
            Self::Rejected(rejection) => rejection.seq,
            Self::Dropped { from_seq, .. } => *from_seq,
        }
    }

    /// The last seq it stands for.
    pub(crate) fn last_seq(&self) -> u64 {
        match self {
            Self::Dropped { to_seq, .. } => *to_seq,
            _ => self.first_seq(),
        }
    }
}

/// A valid frame.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) seq: u64,
    pub(crate) step: u64,
    pub(crate) wall_time_us: i64,
    pub(crate) phase: u32,
    pub(crate) learning_rate: Option<f64>,
    pub(crate) weight_decay: Option<f64>,
    /// Learning rates that differ from the frame's, by group index.
    pub(crate) group_learning_rates: BTreeMap<usize, f64>,
    /// Weight decays likewise.
    pub(crate) group_weight_decays: BTreeMap<usize, f64>,
    pub(crate) scalars: BTreeMap<String, f64>,
    pub(crate) payloads: Vec<Payload>,
    pub(crate) snapshots: Vec<LayerSnapshot>,
    pub(crate) predictions: Vec<Prediction>,
    /// Each window at most once.
    pub(crate) edge_terms: Vec<(TermsOf, EdgeTerms)>,
    /// Names of what happened at the step.
    pub(crate) happened: Vec<String>,
}

/// Which window edge terms are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TermsOf {
    /// Index into the groups of the spec.
    pub(crate) group: usize,
    pub(crate) kind: Kind,
    /// W.
    pub(crate) window: usize,
}

/// A snapshot of a layer as it came, to be read later.
#[derive(Clone, Debug)]
pub(crate) struct LayerSnapshot {
    /// Index into the layers of the spec.
    pub(crate) layer: usize,
    /// A `v1::Snapshot` that was checked.
    pub(crate) payload: Vec<u8>,
}

/// What a model says on one probe batch; finite.
#[derive(Clone, Debug)]
pub(crate) struct Prediction {
    pub(crate) probe: String,
    pub(crate) values: Vec<f32>,
    /// As many, or none.
    pub(crate) targets: Vec<f32>,
}

/// One group's sketch.
#[derive(Clone, Debug)]
pub(crate) struct Payload {
    pub(crate) group: usize,
    pub(crate) kind: Kind,
    pub(crate) base_step: u64,
    pub(crate) body: Body,
}

/// The sketch as it came: bytes are slices of the received message.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    F32(Bytes),
    F16 { scale: f32, values: Bytes },
    NonFinite(NonFiniteCounts),
}

/// Why a frame is refused.
#[derive(Clone, Debug)]
pub(crate) struct Rejection {
    pub(crate) seq: u64,
    pub(crate) code: RejectCode,
    pub(crate) field: String,
    pub(crate) message: String,
}
