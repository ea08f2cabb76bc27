//! Snapshots of layers: from an acknowledged snapshot, which waits in the store, to its reading.
//!
//! ```text
//! settled step ─► Backlog ─► Job (store, snapshot threads) ─► RunOwner ─► LayerFollower ─► the commit that ends it
//! ```

mod backlog;
mod decode;
mod follow;
mod job;
mod predictions;

pub(crate) use self::{
    backlog::Backlog,
    follow::LayerFollower,
    job::{Job, Outcome, ReadSnapshot},
    predictions::KeptPredictions,
};

/// What each row that is kept costs besides its bytes, so that many small ones are bounded as well.
const ROW_BYTES: u64 = 256;
