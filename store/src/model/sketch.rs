//! Rows of windows, kept so that readings can be computed again.

use super::segment::Kind;

/// One (group, kind) of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SketchStream {
    /// The segment.
    pub segment: u32,
    /// Group name.
    pub group: String,
    /// Kind.
    pub kind: Kind,
}

/// Rows of a stream that one commit settled, by ascending step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SketchBlock {
    /// Which stream.
    pub stream: SketchStream,
    /// The step of its first row.
    pub first_step: u64,
    /// The step of its last row.
    pub last_step: u64,
    /// Number of rows.
    pub rows: u32,
    /// The rows; opaque to the store.
    pub payload: Vec<u8>,
}

/// A block without its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SketchBlockInfo {
    /// The step of its first row.
    pub first_step: u64,
    /// The step of its last row.
    pub last_step: u64,
    /// Number of rows.
    pub rows: u32,
    /// Length of the payload.
    pub bytes: u64,
}

/// Neighbouring blocks of a stream, taken together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SketchExtent {
    /// Which stream.
    pub stream: SketchStream,
    /// The first step of the last block among them.
    pub last_block: u64,
    /// Number of rows.
    pub rows: u64,
    /// Length of their payloads.
    pub bytes: u64,
}
