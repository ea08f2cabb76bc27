//! The disk of one attempt: written to while it takes what it is given, and tried again while it does not.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use gradwatch_proto::v1;

use super::RunSpool;
use super::acked::Acked;
use super::folder::{Declaration, Folder};
use super::log::{Last, Log, LogFile};
use super::reader::{Read, Reader};
use super::record::{Finish, is_too_long};
use crate::buffer::Entry;
use crate::shared::Shared;

/// How long a disk that failed is left alone. Tests have no time.
const RETRY_INTERVAL: Duration = if cfg!(test) { Duration::ZERO } else { Duration::from_secs(1) };
/// How often `acked` is written at most.
const ACKED_INTERVAL: Duration = Duration::from_secs(1);

/// Invariant: nothing that goes wrong here reaches training. What is not written stays with the caller, in memory.
pub(super) struct Disk {
    shared: Arc<Shared>,
    /// How to make the folder; None when it is only read.
    origin: Option<Origin>,
    open: Option<Open>,
    retry_at: Option<Instant>,
    read_again_at: Option<Instant>,
    logged: bool,
    /// Somebody has deleted the folder.
    is_deleted: bool,
    acked: Acked,
    acked_at: Option<Instant>,
    /// Unsettled frames that are on disk, as counted in `shared`.
    frames: u64,
    /// Bytes on disk, as counted in `shared`.
    bytes: u64,
}

struct Origin {
    run: RunSpool,
    declaration: Declaration,
}

struct Open {
    folder: Folder,
    log: Log,
}

impl Disk {
    /// That of a new attempt.
    pub(super) fn create(run: RunSpool, request: v1::OpenRunRequest, shared: Arc<Shared>) -> Self {
        let declaration = Declaration { request, server: run.server.clone() };
        let mut disk = Self::new(Some(Origin { run, declaration }), None, Acked::default(), shared);
        let _ = disk.attempt(|disk| disk.opened().map(|_| ()));
        disk
    }

    /// That of an attempt that is only delivered, of which `frames` were not settled.
    pub(super) fn of_folder(folder: Folder, log: Log, acked: Acked, frames: u64, shared: Arc<Shared>) -> Self {
        shared.spooled.fetch_add(frames, Relaxed);
        let mut disk = Self { frames, ..Self::new(None, Some(Open { folder, log }), acked, shared) };
        disk.publish();
        disk
    }

    fn new(origin: Option<Origin>, open: Option<Open>, acked: Acked, shared: Arc<Shared>) -> Self {
        Self {
            shared,
            origin,
            open,
            retry_at: None,
            read_again_at: None,
            logged: false,
            is_deleted: false,
            acked,
            acked_at: None,
            frames: 0,
            bytes: 0,
        }
    }

    /// The last entry that it ever took.
    pub(super) fn last_seq(&self) -> u64 {
        self.open.as_ref().and_then(|open| open.log.last()).map_or(0, |last| last.seq)
    }

    /// Whether there is a point in trying to write.
    pub(super) fn may_try(&self) -> bool {
        self.retry_at.is_none_or(|at| Instant::now() >= at)
    }

    /// Tries again at once, whatever went wrong before.
    pub(super) fn try_now(&mut self) {
        self.retry_at = None;
    }

    /// Writes an entry. `loaded_seq` is how far frames were read back into memory: those up to there stay.
    pub(super) fn append(&mut self, entry: &Entry, loaded_seq: u64) -> bool {
        let written = self.attempt(|disk| {
            if is_too_long(entry) {
                return Err(io::Error::other("the frame is too long for a record"));
            }
            disk.make_again(loaded_seq)?;
            disk.make_room(entry.cost_bytes() as u64, loaded_seq)?;
            let Open { folder, log } = disk.opened()?;
            let begins_file = log.is_about_to_roll();
            log.append(entry)?;
            if begins_file && let Err(error) = folder.sync() {
                // As for the log.
                tracing::debug!(%error, "a folder of the spool is not synchronised");
            }
            Ok(())
        });
        if written {
            self.frames += entry.frames();
            self.shared.spooled.fetch_add(entry.frames(), Relaxed);
            self.publish();
        }
        written
    }

    /// Writes how the run ended. `loaded_seq` as for an entry.
    pub(super) fn finish(&mut self, finish: Finish, loaded_seq: u64) -> bool {
        let written = self.attempt(|disk| {
            disk.make_again(loaded_seq)?;
            disk.opened()?.log.finish(finish)
        });
        self.publish();
        written
    }

    /// Runs what may fail, and leaves the disk alone for a while when it does.
    fn attempt(&mut self, work: impl FnOnce(&mut Self) -> io::Result<()>) -> bool {
        #[cfg(test)]
        let work = |disk: &mut Self| if disk.is_broken() { Err(io::Error::other("broken")) } else { work(disk) };
        match work(self) {
            Ok(()) => {
                if self.retry_at.take().is_some() {
                    self.logged = false;
                    self.shared.spool_fails(None);
                }
                true
            }
            Err(error) => {
                self.failed(&error);
                false
            }
        }
    }

    #[cfg(test)]
    fn is_broken(&self) -> bool {
        self.origin.as_ref().is_some_and(|origin| origin.run.broken.load(Relaxed))
    }

    fn failed(&mut self, error: &io::Error) {
        let words = format!("the spool {}: {error}", self.place().display());
        let is_there = self.open.as_ref().is_none_or(|open| open.folder.path().exists());
        self.is_deleted |= error.kind() == io::ErrorKind::NotFound && !is_there;
        if !std::mem::replace(&mut self.logged, true) {
            tracing::warn!("{words}; frames are in memory only");
        }
        self.shared.spool_fails(Some(words));
        self.retry_at = Some(Instant::now() + RETRY_INTERVAL);
    }

    fn place(&self) -> PathBuf {
        match (&self.open, &self.origin) {
            (Some(open), _) => open.folder.path().to_owned(),
            (None, Some(origin)) => origin.run.spool.dir.clone(),
            (None, None) => PathBuf::new(),
        }
    }

    /// Makes the folder again that somebody has deleted. What was in there and not in memory is counted as lost.
    fn make_again(&mut self, loaded_seq: u64) -> io::Result<()> {
        let (Some(Origin { declaration, .. }), Some(Open { folder, log })) = (&self.origin, &mut self.open) else {
            return Ok(());
        };
        if !self.is_deleted {
            return Ok(());
        }
        folder.make(declaration)?;
        self.is_deleted = false;
        let deleted = log.deleted(|file| file.first_seq > loaded_seq);
        self.give_up(deleted.iter().map(|file| file.frames).sum());
        Ok(())
    }

    fn opened(&mut self) -> io::Result<&mut Open> {
        if self.open.is_none() {
            let Some(Origin { run, declaration }) = &self.origin else {
                return Err(io::Error::other("it is gone"));
            };
            let folder = Folder::create(&run.spool.dir, declaration)?;
            let log = Log::create(folder.path(), run.spool.max_bytes);
            self.open = Some(Open { folder, log });
        }
        self.open.as_mut().ok_or_else(|| io::Error::other("it is gone"))
    }

    /// Gives up the oldest files when a limit asks for it: first what is settled, then what was never read back into memory,
    /// and so was never sent.
    fn make_room(&mut self, record_bytes: u64, loaded_seq: u64) -> io::Result<()> {
        let Some(Origin { run, .. }) = &self.origin else { return Ok(()) };
        let (max_bytes, max_age, settled_seq) = (run.spool.max_bytes, run.spool.max_age, self.acked.settled_seq);
        let log = &mut self.opened()?.log;
        let mut given_up = Vec::new();
        let is_settled = |file: &LogFile| file.last_seq <= settled_seq;
        if log.is_about_to_roll() {
            let is_old = |file: &LogFile| file.written_at.elapsed() > max_age && file.first_seq > loaded_seq;
            given_up.extend(log.delete_files(|_| true, is_old));
        }
        if log.bytes() + record_bytes > max_bytes {
            let too_much = |bytes: u64| bytes + record_bytes > max_bytes;
            log.delete_files(too_much, is_settled);
            given_up.extend(log.delete_files(too_much, |file| file.first_seq > loaded_seq));
        }
        let is_full = log.bytes() + record_bytes > max_bytes;
        let frames = given_up.iter().filter(|file| !is_settled(file)).map(|file| file.frames).sum();
        self.give_up(frames);
        if is_full { Err(io::Error::other(format!("its limit of {max_bytes} bytes is reached"))) } else { Ok(()) }
    }

    /// So many unsettled frames are on disk no longer, and were never sent.
    fn give_up(&mut self, frames: u64) {
        if frames > 0 {
            tracing::warn!(frames, place = %self.place().display(), "the oldest frames of a spool were given up");
            self.shared.dropped.fetch_add(frames, Relaxed);
            self.forget_frames(frames);
        }
        self.publish();
    }

    /// So many unsettled frames count no longer as spooled.
    pub(super) fn forget_frames(&mut self, frames: u64) {
        let frames = frames.min(self.frames);
        self.frames -= frames;
        self.shared.spooled.fetch_sub(frames, Relaxed);
    }

    /// The entry behind `seq - 1`; None where nothing more is on disk, or it cannot be read at present.
    pub(super) fn read(&mut self, reader: &mut Reader, seq: u64) -> Option<Entry> {
        if self.read_again_at.is_some_and(|at| Instant::now() < at) {
            return None;
        }
        let open = self.open.as_mut()?;
        match reader.read(&mut open.log, seq) {
            Ok(read) => {
                if self.read_again_at.take().is_some() {
                    self.shared.spool_fails(None);
                }
                let Read { entry, lost_frames } = read?;
                self.give_up(lost_frames);
                Some(entry)
            }
            Err(error) => {
                let words = format!("the spool {} cannot be read: {error}", open.folder.path().display());
                if self.read_again_at.replace(Instant::now() + RETRY_INTERVAL).is_none() {
                    tracing::warn!("{words}; its frames wait");
                }
                self.shared.spool_fails(Some(words));
                None
            }
        }
    }

    /// See [`Reader::close_deleted`].
    pub(super) fn close_deleted(&self, reader: &mut Reader) {
        if let Some(open) = &self.open {
            reader.close_deleted(&open.log);
        }
    }

    /// Everything up to `last` is settled, `frames` of it for the first time and on disk.
    pub(super) fn settled(&mut self, last: Last, frames: u64) {
        self.forget_frames(frames);
        if last.seq >= self.acked.settled_seq {
            (self.acked.settled_seq, self.acked.settled_step) = (last.seq, last.step);
        }
        if self.acked_at.is_none_or(|at| at.elapsed() >= ACKED_INTERVAL) {
            self.write_acked();
        }
    }

    /// Nothing settled below `seq` will be asked for again.
    pub(super) fn release_below(&mut self, seq: u64) {
        self.acked.keep_from_seq = self.acked.keep_from_seq.max(seq);
        let keep_from_seq = self.acked.keep_from_seq.min(self.acked.settled_seq + 1);
        let is_over = |file: &LogFile| file.last_seq < keep_from_seq;
        if self.open.as_ref().is_some_and(|open| open.log.has_full(is_over)) {
            // Deleted behind what says so: a file that is missing is then known to be settled. A disk that is too full for
            // that gets its room back all the same: that the files are settled, the server knows as well.
            let is_noted = self.write_acked();
            if let Some(open) = &mut self.open {
                open.log.delete_files(|_| true, is_over);
            }
            if !is_noted {
                self.write_acked();
            }
            self.publish();
        }
    }

    fn write_acked(&mut self) -> bool {
        // Also when it cannot be written: it is not tried again with every acknowledgement.
        self.acked_at = Some(Instant::now());
        let Some(open) = &self.open else { return false };
        #[cfg(test)]
        if self.is_broken() {
            return false;
        }
        self.acked.write(open.folder.path()).is_ok()
    }

    /// Brings everything to the disk itself, for somebody else to deliver.
    pub(super) fn leave(&mut self) {
        if self.acked_at.is_some() {
            self.write_acked();
        }
        if let Some(Err(error)) = self.open.as_ref().map(|open| open.log.sync().and_then(|()| open.folder.sync())) {
            tracing::debug!(%error, "the spool is not synchronised");
        }
    }

    /// Nothing is left to deliver.
    pub(super) fn remove(&mut self) {
        if let Some(Open { folder, mut log }) = self.open.take() {
            // Whoever finds the folder half removed must find that it was delivered.
            let _ = self.acked.write(folder.path());
            log.delete();
            folder.remove();
        }
        // A settled frame counts as that.
        self.forget_frames(self.frames);
        self.publish();
    }

    fn publish(&mut self) {
        let bytes = self.open.as_ref().map_or(0, |open| open.log.bytes());
        self.shared.spooled_bytes.fetch_add(bytes, Relaxed);
        self.shared.spooled_bytes.fetch_sub(self.bytes, Relaxed);
        self.bytes = bytes;
    }
}
