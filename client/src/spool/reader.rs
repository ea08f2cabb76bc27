//! Reading a log back in order, while it may still be written.

use std::fs::File;
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use bytes::Bytes;

use super::log::{Log, LogFile};
use super::record::{HEADER_BYTES, Header, Record};
use crate::buffer::{Entry, Stretch};

/// How much of a file is read at once.
const BUFFER_BYTES: usize = 64 << 10;

/// Walks over the whole records of one file.
pub(super) struct FileReader {
    input: BufReader<File>,
    offset: u64,
}

/// What is next in a file.
#[derive(Debug)]
pub(super) enum Step {
    Record(Record),
    /// Nothing more is in it.
    End,
    /// What follows is no whole record.
    Damaged,
}

impl FileReader {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { input: BufReader::with_capacity(BUFFER_BYTES, File::open(path)?), offset: 0 })
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next of the records that end at `end` at the latest.
    pub(super) fn next(&mut self, end: u64) -> io::Result<Step> {
        match self.try_next(end)? {
            Step::Damaged => {
                // What was read ahead may be of a write that failed and was taken back.
                self.input.seek(SeekFrom::Start(self.offset))?;
                self.try_next(end)
            }
            step => Ok(step),
        }
    }

    fn try_next(&mut self, end: u64) -> io::Result<Step> {
        let left = end.saturating_sub(self.offset);
        if left == 0 {
            return Ok(Step::End);
        }
        if left < HEADER_BYTES as u64 {
            return Ok(Step::Damaged);
        }
        let mut header = [0; HEADER_BYTES];
        if !self.fill(&mut header)? {
            return Ok(Step::Damaged);
        }
        let header = Header::parse(header);
        // A length that was changed must not cost memory.
        if header.body_bytes as u64 > left - HEADER_BYTES as u64 {
            return Ok(Step::Damaged);
        }
        let mut body = vec![0; header.body_bytes];
        if !self.fill(&mut body)? {
            return Ok(Step::Damaged);
        }
        match Record::decode(&header, &Bytes::from(body)) {
            Some(record) => {
                self.offset += (HEADER_BYTES + header.body_bytes) as u64;
                Ok(Step::Record(record))
            }
            None => Ok(Step::Damaged),
        }
    }

    /// Whether there was as much.
    fn fill(&mut self, bytes: &mut [u8]) -> io::Result<bool> {
        match self.input.read_exact(bytes) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => {
                // It is tried again from where the record begins.
                self.input.seek(SeekFrom::Start(self.offset))?;
                Err(error)
            }
        }
    }
}

/// Reads entries of a log, one after the other.
#[derive(Default)]
pub(super) struct Reader {
    open: Option<OpenFile>,
    /// The step of the last entry that was read, or that came before the first.
    last_step: Option<u64>,
    /// Read already, and behind a hole.
    ahead: Option<Entry>,
}

struct OpenFile {
    first_seq: u64,
    input: FileReader,
    /// Of those that were read or passed over.
    frames: u64,
}

/// An entry that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) entry: Entry,
    /// Frames that were found to be damaged before it.
    pub(super) lost_frames: u64,
}

impl Reader {
    /// Begins anywhere; `last_step` is that of the entry before.
    pub(super) fn after(last_step: Option<u64>) -> Self {
        Self { last_step, ..Self::default() }
    }

    /// The entry that begins with `seq`, None past the end of the log. What is missing is a stretch of dropped frames with
    /// the steps between its neighbours. `seq` is that of the entry that follows the last one read.
    pub(super) fn read(&mut self, log: &mut Log, seq: u64) -> io::Result<Option<Read>> {
        let mut lost_frames = 0;
        loop {
            let Some(last) = log.last().filter(|last| seq <= last.seq) else { return Ok(None) };
            if let Some(ahead) = self.ahead.take_if(|ahead| ahead.first_seq() <= seq) {
                return Ok(Some(self.passed(Read { entry: ahead, lost_frames })));
            }
            if let Some(ahead) = &self.ahead {
                let next = ahead.stretch();
                return Ok(Some(self.hole(seq, next.from_seq - 1, next.first_step.saturating_sub(1), lost_frames)));
            }
            let Some(file) = log.file_reaching(seq).cloned() else {
                return Ok(Some(self.hole(seq, last.seq, last.step, lost_frames)));
            };
            match self.step(log.path(), &file) {
                Ok(Step::Record(Record::Entry(entry))) => {
                    if let Some(open) = &mut self.open {
                        open.frames += entry.frames();
                    }
                    self.ahead = entry.from(seq);
                }
                Ok(Step::Record(Record::Finish(_))) => {}
                // What was there once and is no more.
                Ok(Step::End | Step::Damaged) => lost_frames += self.lose(log, &file, seq),
                Err(error) if error.kind() == io::ErrorKind::NotFound => lost_frames += self.lose(log, &file, seq),
                Err(error) => return Err(error),
            }
        }
    }

    /// Closes a file that was deleted: it takes its room on disk until then.
    pub(super) fn close_deleted(&mut self, log: &Log) {
        self.open.take_if(|open| !log.has_file(open.first_seq));
    }

    /// How far entries were read already, if further than was asked for.
    pub(super) fn ahead_seq(&self) -> u64 {
        self.ahead.as_ref().map_or(0, Entry::last_seq)
    }

    fn step(&mut self, path: &Path, file: &LogFile) -> io::Result<Step> {
        let open = match self.open.take() {
            Some(open) if open.first_seq == file.first_seq => open,
            _ => {
                let input = FileReader::open(&path.join(LogFile::name(file.first_seq)))?;
                OpenFile { first_seq: file.first_seq, input, frames: 0 }
            }
        };
        self.open.insert(open).input.next(file.bytes)
    }

    fn lose(&mut self, log: &mut Log, file: &LogFile, seq: u64) -> u64 {
        let read = self.open.take_if(|open| open.first_seq == file.first_seq).map_or(0, |open| open.frames);
        let lost_frames = file.frames.saturating_sub(read);
        tracing::warn!(path = %log.path().display(), file = LogFile::name(file.first_seq), lost_frames, "damaged");
        log.damaged(file.first_seq, seq);
        lost_frames
    }

    fn hole(&mut self, from_seq: u64, to_seq: u64, last_step: u64, lost_frames: u64) -> Read {
        let first_step = self.last_step.map_or(0, |step| step.saturating_add(1)).min(last_step);
        let entry = Entry::Dropped(Stretch { from_seq, to_seq, first_step, last_step });
        self.passed(Read { entry, lost_frames })
    }

    fn passed(&mut self, read: Read) -> Read {
        self.last_step = Some(read.entry.stretch().last_step);
        read
    }
}
