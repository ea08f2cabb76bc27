//! Rows of windows that are kept, so that readings can be computed again with other windows.
//!
//! ```text
//! settled row ─► OpenBlocks ─► the commit that settles it ─► KeptSketches: what makes room for it
//! ```

mod kept;
mod open;
mod row;

pub(crate) use self::{
    kept::KeptSketches,
    open::OpenBlocks,
    row::{KeptRow, NewRow, UnreadableRows, decode_rows},
};

/// Rows of the longest block, and those that are deleted together.
pub(crate) const BLOCK_ROWS: u32 = 64;
