//! Which process holds a folder.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;

use super::folder::Held;

const FILE: &str = "lock";

/// Folders that this process holds.
static HELD: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Held until it is dropped, and no longer than the process lives, however that ends.
///
/// Invariant: a forked child holds nothing. Children of a job, such as those that load its data, may outlive it, and would
/// keep its spool from being delivered. So this is a lock of `fcntl`, which is not inherited, and not one of `flock`, which
/// is. Such a lock belongs to the process: its threads are kept apart by `HELD`, and because closing the file anywhere in
/// the process ends it, the file of a folder in there is never opened a second time.
#[derive(Debug)]
pub(super) struct Lock {
    folder: PathBuf,
    /// None on a file system without locks.
    file: Option<File>,
}

impl Lock {
    /// Takes that of a folder that is there.
    pub(super) fn take(folder: &Path) -> Result<Self, Held> {
        let folder = fs::canonicalize(folder).map_err(Held::Failed)?;
        if !held().insert(folder.clone()) {
            return Err(Held::Live);
        }
        let mut lock = Self { folder, file: None };
        let file = File::options().create(true).truncate(false).write(true).open(lock.folder.join(FILE));
        let file = file.map_err(Held::Failed)?;
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => lock.file = Some(file),
            Err(Errno::AGAIN | Errno::ACCESS) => return Err(Held::Live),
            // Some file systems of clusters have no locks, and NFS has none without its lock service. Nothing then keeps two
            // processes apart but their users.
            Err(Errno::NOSYS | Errno::OPNOTSUPP | Errno::NOLCK) => {}
            Err(error) => return Err(Held::Failed(error.into())),
        }
        Ok(lock)
    }

    /// Whether somebody holds it.
    pub(super) fn is_taken(folder: &Path) -> bool {
        let Ok(folder) = fs::canonicalize(folder) else { return false };
        // Kept until the file is closed again, see above.
        let held = held();
        if held.contains(&folder) {
            return true;
        }
        // Never made here: a folder that is only looked at stays as it is.
        let Ok(file) = File::open(folder.join(FILE)) else { return false };
        matches!(fcntl_lock(&file, FlockOperation::NonBlockingLockShared), Err(Errno::AGAIN | Errno::ACCESS))
    }

    /// Removes the file; it may not be there.
    pub(super) fn remove_file(folder: &Path) -> io::Result<()> {
        fs::remove_file(folder.join(FILE))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.file = None;
        held().remove(&self.folder);
    }
}

fn held() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    // A set is whole after any panic.
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}
