//! A spool: frames on disk until the server has acknowledged them, so that they outlive the process that made them.
//!
//! With [`RunBuilder::spool`](crate::RunBuilder::spool) the uploader writes every frame to disk before it sends it. What
//! the server acknowledges is deleted; what is left when a process ends, however it ends, is found by [`scan`] and sent
//! by [`SpooledAttempt::deliver`]. Doing that twice is harmless: a frame is the same bytes under the same sequence number,
//! and the server says up to where it has them.
//!
//! ```text
//! <dir>/<run id>/<started at, µs>-<attempt id>-<shard>/
//!     attempt            how the attempt is opened, and the server that it was meant for
//!     000000000001.log   frames from this sequence number on; a file of a few MiB
//!     acked              how far the server has acknowledged them
//!     lock               held by the process that writes or delivers them
//! ```
//!
//! > **Invariant: the disk holds all that was taken and is not settled, as long as it takes it.** A frame is appended
//! > before it is sent, and a file is deleted only behind the acknowledgement of all that is in it, or when a limit asks
//! > for it, which is counted.

mod acked;
mod before;
mod buffer;
mod deliver;
mod disk;
mod folder;
mod lock;
mod log;
mod reader;
mod record;
mod scan;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use deliver::{DeliverError, Delivered, Destination, Progress};
pub use scan::{SpooledAttempt, scan};

pub(crate) use buffer::SpooledBuffer;
#[cfg(test)]
pub(crate) use deliver::left_behind;

use crate::error::OpenError;

/// What an attempt may take on disk unless another amount is given.
pub const DEFAULT_MAX_BYTES: u64 = 1 << 30;
/// How old an unsent frame may become unless another age is given.
pub const DEFAULT_MAX_AGE: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// Where frames are kept on disk, and how many. See [`RunBuilder::spool`](crate::RunBuilder::spool).
#[derive(Clone, Debug)]
#[must_use = "a spool is nothing until it is given to a builder"]
pub struct Spool {
    dir: PathBuf,
    max_bytes: u64,
    max_age: Duration,
}

impl Spool {
    /// A spool in a folder, which any number of runs may share and which need not be there yet.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), max_bytes: DEFAULT_MAX_BYTES, max_age: DEFAULT_MAX_AGE }
    }

    /// What an attempt of a shard may take on disk, at least the builder's `buffer_bytes`. Over it the oldest frames that
    /// were never sent are given up, an eighth at a time, and counted as dropped. Default [`DEFAULT_MAX_BYTES`].
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// How old a frame may become that was never sent before it is given up likewise. Default [`DEFAULT_MAX_AGE`].
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = age;
        self
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn check(&self, buffer_bytes: usize) -> Result<(), OpenError> {
        if self.dir.as_os_str().is_empty() {
            return Err(OpenError::argument("spool", "its folder has no name"));
        }
        if self.max_bytes < buffer_bytes as u64 {
            let problem = format!("max_bytes {} is below buffer_bytes, {buffer_bytes}", self.max_bytes);
            return Err(OpenError::argument("spool", problem));
        }
        if self.max_age.is_zero() {
            return Err(OpenError::argument("spool", "max_age is zero"));
        }
        Ok(())
    }
}

/// The spool of one run.
#[derive(Clone, Debug)]
pub(crate) struct RunSpool {
    spool: Spool,
    /// Where the frames are to go.
    server: String,
    /// Every write fails.
    #[cfg(test)]
    pub(crate) broken: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

impl RunSpool {
    pub(crate) fn new(spool: Spool, server: String) -> Self {
        Self {
            spool,
            server,
            #[cfg(test)]
            broken: std::sync::Arc::default(),
        }
    }
}
