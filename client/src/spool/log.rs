//! The records of an attempt, in files of a few MiB.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use super::record::{Finish, Record, encode_entry};
use crate::buffer::{Entry, Stretch};

/// A file is followed by the next once it has so many bytes.
const ROLL_BYTES: u64 = 4 << 20;
/// What is never more than this part of a limit by itself.
const FILES_OF_LIMIT: u64 = 8;

/// One file, as far as its records are whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LogFile {
    /// In its name: that of its first record.
    pub(super) first_seq: u64,
    pub(super) last_seq: u64,
    pub(super) last_step: u64,
    pub(super) frames: u64,
    pub(super) bytes: u64,
    /// When it was last written to.
    pub(super) newest_at: SystemTime,
    /// The same by a clock that nobody sets, where this process wrote it.
    pub(super) written_at: Instant,
}

/// Invariant: sequence numbers rise from record to record and from file to file. Those in between, where there are any,
/// are settled, or were given up and counted.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    files: VecDeque<LogFile>,
    /// Open on the last of the files.
    writer: Option<File>,
    /// A write to the last of the files failed: nothing is added to it any more.
    last_has_failed: bool,
    roll_bytes: u64,
    bytes: u64,
    /// Of all that was ever here.
    last: Option<Last>,
}

/// The end of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Last {
    pub(super) seq: u64,
    pub(super) step: u64,
}

impl LogFile {
    pub(super) fn name(first_seq: u64) -> String {
        format!("{first_seq:012}.log")
    }

    pub(super) fn starting_at(first_seq: u64) -> Self {
        let last_seq = first_seq.saturating_sub(1);
        let (newest_at, written_at) = (SystemTime::now(), Instant::now());
        Self { first_seq, last_seq, last_step: 0, frames: 0, bytes: 0, newest_at, written_at }
    }

    /// A whole record more.
    pub(super) fn count(&mut self, stretch: Stretch, frames: u64, bytes: u64) {
        self.last_seq = stretch.to_seq;
        self.last_step = stretch.last_step;
        self.frames += frames;
        self.bytes += bytes;
    }
}

impl Log {
    /// The log of a folder that is new.
    pub(super) fn create(path: &Path, max_bytes: u64) -> Self {
        let roll_bytes = ROLL_BYTES.min(max_bytes / FILES_OF_LIMIT);
        let files = VecDeque::new();
        Self { path: path.to_owned(), files, writer: None, last_has_failed: false, roll_bytes, bytes: 0, last: None }
    }

    /// A log that is only read and deleted.
    pub(super) fn of_files(path: &Path, files: VecDeque<LogFile>, last: Option<Last>) -> Self {
        let bytes = files.iter().map(|file| file.bytes).sum();
        Self { path: path.to_owned(), files, writer: None, last_has_failed: false, roll_bytes: 0, bytes, last }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The last sequence number that was ever here, and its step.
    pub(super) fn last(&self) -> Option<Last> {
        self.last
    }

    pub(super) fn first_seq(&self) -> Option<u64> {
        self.files.front().map(|file| file.first_seq)
    }

    /// The first file that reaches `seq`.
    pub(super) fn file_reaching(&self, seq: u64) -> Option<&LogFile> {
        self.files.get(self.files.partition_point(|file| file.last_seq < seq))
    }

    pub(super) fn has_file(&self, first_seq: u64) -> bool {
        self.files.binary_search_by_key(&first_seq, |file| file.first_seq).is_ok()
    }

    /// Whether the next record begins a file, which is the time to look at limits.
    pub(super) fn is_about_to_roll(&self) -> bool {
        self.writer.is_none() || self.files.back().is_none_or(|file| file.bytes >= self.roll_bytes)
    }

    /// Appends an entry.
    pub(super) fn append(&mut self, entry: &Entry) -> io::Result<()> {
        self.write(&encode_entry(entry), entry.stretch(), entry.frames())?;
        self.last = Some(Last { seq: entry.last_seq(), step: entry.stretch().last_step });
        Ok(())
    }

    /// Appends how the run ended.
    pub(super) fn finish(&mut self, finish: Finish) -> io::Result<()> {
        let Finish { last_seq, last_step, .. } = finish;
        // It stands behind the last frame, and is none.
        let end = Stretch { from_seq: last_seq + 1, to_seq: last_seq, first_step: last_step, last_step };
        self.write(&Record::Finish(finish).encode(), end, 0)
    }

    fn write(&mut self, record: &[u8], stretch: Stretch, frames: u64) -> io::Result<()> {
        if self.is_about_to_roll() {
            self.roll(stretch.from_seq)?;
        }
        let (Some(writer), Some(file)) = (&mut self.writer, self.files.back_mut()) else {
            return Err(io::Error::other("no file is open"));
        };
        // Nobody finds what goes to a file without a name.
        let is_deleted = writer.metadata()?.nlink() == 0;
        let written = if is_deleted { Err(io::ErrorKind::NotFound.into()) } else { writer.write_all(record) };
        if let Err(error) = written {
            // What was written of it is taken back; where not even that works, the record is found to be damaged. The next one
            // begins a file: on a disk that is full, this one can then be deleted once it is settled.
            let _ = writer.set_len(file.bytes).and_then(|()| writer.sync_data());
            self.writer = None;
            self.last_has_failed = true;
            return Err(error);
        }
        file.count(stretch, frames, record.len() as u64);
        (file.newest_at, file.written_at) = (SystemTime::now(), Instant::now());
        self.bytes += record.len() as u64;
        Ok(())
    }

    fn roll(&mut self, first_seq: u64) -> io::Result<()> {
        if let Some(full) = self.writer.take() {
            // What cannot be brought to the disk now may get there all the same, and nothing can be done about it.
            if let Err(error) = full.sync_data() {
                tracing::debug!(%error, "a file of the spool is not synchronised");
            }
        }
        // A file in which nothing is whole has the same name and is written anew.
        self.files.pop_back_if(|file| file.bytes == 0);
        let path = self.path.join(LogFile::name(first_seq));
        self.writer = Some(File::options().create(true).write(true).truncate(true).open(path)?);
        self.files.push_back(LogFile::starting_at(first_seq));
        self.last_has_failed = false;
        Ok(())
    }

    /// Its folder was deleted, and with it the files. Returns those for which `is_over` holds, and of which nothing more is
    /// known; whoever reads the others finds out.
    pub(super) fn deleted(&mut self, is_over: impl Fn(&LogFile) -> bool) -> Vec<LogFile> {
        self.writer = None;
        let (deleted, left): (Vec<_>, Vec<_>) = self.files.drain(..).partition(is_over);
        self.files = left.into();
        self.bytes = self.files.iter().map(|file| file.bytes).sum();
        deleted
    }

    /// Nothing that follows may be written behind what is in the last file.
    pub(super) fn end_file(&mut self) {
        self.writer = None;
    }

    /// From `seq` on a file turned out to be damaged: nothing behind that is read.
    pub(super) fn damaged(&mut self, first_seq: u64, seq: u64) {
        if self.files.back().is_some_and(|file| file.first_seq == first_seq) {
            self.end_file();
        }
        if let Some(file) = self.files.iter_mut().find(|file| file.first_seq == first_seq) {
            file.last_seq = seq - 1;
        }
    }

    /// Everything up to here is on the disk itself.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.writer.as_ref().map_or(Ok(()), File::sync_data)
    }

    /// How many files are not added to any more.
    fn full_files(&self) -> usize {
        self.files.len() - usize::from(!self.last_has_failed && !self.files.is_empty())
    }

    /// Whether `is_over` holds for the oldest file, and it is full.
    pub(super) fn has_full(&self, is_over: impl Fn(&LogFile) -> bool) -> bool {
        self.full_files() > 0 && self.files.front().is_some_and(is_over)
    }

    /// Deletes the full files for which `is_over` holds, oldest first, while `go_on` holds of the bytes that are
    /// left. Returns what is gone.
    pub(super) fn delete_files(
        &mut self,
        mut go_on: impl FnMut(u64) -> bool,
        mut is_over: impl FnMut(&LogFile) -> bool,
    ) -> Vec<LogFile> {
        let mut deleted = Vec::new();
        let mut at = 0;
        while at < self.full_files() && go_on(self.bytes) {
            if !is_over(&self.files[at]) {
                at += 1;
                continue;
            }
            let Some(file) = self.files.remove(at) else { break };
            self.bytes -= file.bytes;
            // One that stays behind is found again, and the server says that it has what is in it.
            let _ = fs::remove_file(self.path.join(LogFile::name(file.first_seq)));
            deleted.push(file);
        }
        deleted
    }

    /// Deletes everything.
    pub(super) fn delete(&mut self) {
        self.writer = None;
        for file in self.files.drain(..) {
            let _ = fs::remove_file(self.path.join(LogFile::name(file.first_seq)));
        }
        self.bytes = 0;
    }
}
