//! How far the server has acknowledged an attempt.

use std::fs;
use std::io;
use std::path::Path;

use super::record::{ACKED, seal, take_u64, unseal};

const FILE: &str = "acked";

/// Invariant: never ahead of the server. It may be behind, by a second or by all of it where a machine lost power: then
/// more is sent than is needed. That it is there at all says that the server knew the attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Acked {
    /// Everything up to here is settled.
    pub(super) settled_seq: u64,
    /// The step of that.
    pub(super) settled_step: u64,
    /// The oldest frame that the server could need again.
    pub(super) keep_from_seq: u64,
}

impl Acked {
    /// None when it is not there or was damaged.
    pub(super) fn read(folder: &Path) -> Option<Self> {
        let file = fs::read(folder.join(FILE)).ok()?;
        let mut rest = unseal(ACKED, &file)?;
        let (settled_seq, settled_step) = (take_u64(&mut rest)?, take_u64(&mut rest)?);
        let keep_from_seq = take_u64(&mut rest)?;
        rest.is_empty().then_some(Self { settled_seq, settled_step, keep_from_seq })
    }

    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        let numbers = [self.settled_seq, self.settled_step, self.keep_from_seq].map(u64::to_le_bytes);
        super::folder::replace(&folder.join(FILE), &seal(ACKED, &numbers.each_ref().map(|number| &number[..])))
    }

    /// Forgets it; it may not be there.
    pub(super) fn remove(folder: &Path) {
        let _ = fs::remove_file(folder.join(FILE));
    }
}
