//! A buffer of which memory holds a part, and the disk all.

use std::collections::VecDeque;
use std::sync::Arc;

use gradwatch_proto::v1;

use super::RunSpool;
use super::disk::Disk;
use super::log::Last;
use super::reader::Reader;
use super::record::Finish;
use crate::buffer::{Buffer, Entry, MemoryBuffer, Usage};
use crate::shared::Shared;

/// Of the capacity: frames that were read back and not sent yet. Kept and sent ones take a quarter each, so that the rest,
/// five sixteenths, is for `tail`.
const UNSENT_PART: usize = 16;
/// What is kept for refilling, in such windows: a quarter of the capacity.
const KEPT_WINDOWS: usize = UNSENT_PART / 4;

/// An attempt's entries, of which `head` is what is sent from:
///
/// ```text
///   disk     … |=========================================|
///   head       |kept|in flight|unsent|     (waits on disk) |tail|
///   seq                              head_seq      disk.last_seq() last_seq
/// ```
///
/// Invariant: every unsettled entry is in `head`, on disk, or in `tail`. `tail` holds what the disk did not take while
/// older entries waited on it, and is empty otherwise; where nothing waits on disk such entries are in `head`. They are
/// written first once the disk takes them again, so that it never lacks what is not settled before something it has.
pub(crate) struct SpooledBuffer {
    head: MemoryBuffer,
    /// The last entry of `head`, or where it ended.
    head_seq: u64,
    tail: MemoryBuffer,
    last: Last,
    disk: Disk,
    reader: Reader,
    settled_seq: u64,
    sent_seq: u64,
    /// Unsent entries are read back up to this; 0 while nothing is sent.
    window_bytes: usize,
    tail_bytes: usize,
    /// The newest frame that cannot be sent.
    given_up_seq: u64,
    finish: Option<Finish>,
    finish_written: bool,
}

impl SpooledBuffer {
    /// The buffer of a new attempt. Without `sends` entries are only written.
    pub(crate) fn create(
        run: RunSpool,
        request: v1::OpenRunRequest,
        capacity_bytes: usize,
        sends: bool,
        shared: Arc<Shared>,
    ) -> Self {
        let last_step = request.attempt.as_ref().and_then(|attempt| attempt.resumes.as_ref()).map(|it| it.step);
        let mut buffer = Self::new(Disk::create(run, request, shared), Reader::after(last_step), capacity_bytes);
        if !sends {
            buffer.window_bytes = 0;
        }
        buffer
    }

    /// The buffer of an attempt that is only delivered: entries from `first_seq` on, those up to `settled_seq` settled.
    pub(super) fn of_disk(disk: Disk, reader: Reader, first_seq: u64, settled_seq: u64, capacity_bytes: usize) -> Self {
        let mut buffer = Self::new(disk, reader, capacity_bytes);
        buffer.head_seq = first_seq - 1;
        buffer.sent_seq = settled_seq;
        buffer.pass(settled_seq);
        buffer
    }

    fn new(disk: Disk, reader: Reader, capacity_bytes: usize) -> Self {
        Self {
            head: MemoryBuffer::default(),
            head_seq: 0,
            tail: MemoryBuffer::default(),
            last: Last { seq: 0, step: 0 },
            disk,
            reader,
            settled_seq: 0,
            sent_seq: 0,
            window_bytes: capacity_bytes / UNSENT_PART,
            tail_bytes: 5 * capacity_bytes / UNSENT_PART,
            given_up_seq: 0,
            finish: None,
            finish_written: false,
        }
    }

    /// Whether nothing waits on disk only.
    fn is_all_in_head(&self) -> bool {
        self.head_seq >= self.disk.last_seq() && self.head_seq == self.last.seq
    }

    /// Up to here entries were read back from disk.
    fn loaded_seq(&self) -> u64 {
        self.head_seq.max(self.reader.ahead_seq())
    }

    /// Writes what the disk did not take so far. Whether it has everything now.
    fn write_missing(&mut self) -> bool {
        let mut seq = self.disk.last_seq().max(self.settled_seq) + 1;
        while seq <= self.last.seq {
            let part = if seq <= self.head_seq { &self.head } else { &self.tail };
            let Some(entry) = part.read_from(seq).cloned() else { break };
            if !self.disk.may_try() || !self.disk.append(&entry, self.loaded_seq()) {
                // What is on disk now is given up there or nowhere.
                let disk_seq = self.disk.last_seq();
                self.tail.mark_sent(disk_seq);
                self.tail.settle(disk_seq);
                self.tail.release_below(disk_seq + 1);
                return false;
            }
            seq = entry.last_seq() + 1;
        }
        self.tail = MemoryBuffer::default();
        true
    }

    /// Writes how the run ended, once that is known. Whether it is on disk.
    fn write_finish(&mut self) -> bool {
        let Some(finish) = self.finish else { return false };
        if !self.finish_written {
            self.write_missing();
            self.finish_written = self.disk.finish(finish, self.loaded_seq());
        }
        self.finish_written
    }

    /// Settles entries in `head` up to `seq`, where it has to be read back from disk first. Returns the frames that this
    /// settled for the first time, and how many of them were on disk.
    fn pass(&mut self, seq: u64) -> (u64, u64) {
        let (mut frames, mut disk_frames) = (0, 0);
        loop {
            let end = seq.min(self.head_seq);
            let on_disk = end.min(self.disk.last_seq());
            self.head.mark_sent(end);
            let written = self.head.settle(on_disk);
            disk_frames += written;
            frames += written + self.head.settle(end);
            if seq <= self.head_seq {
                break;
            }
            // The process before sent more than it noted as settled.
            self.head.release_kept_above(KEPT_WINDOWS * self.window_bytes);
            if !self.read_back(self.window_bytes) {
                // It settled what never came to disk, or cannot be read: what is kept does not reach there.
                self.head = MemoryBuffer::default();
                self.head_seq = seq;
                self.reader = Reader::after(None);
            }
        }
        self.settled_seq = self.settled_seq.max(seq);
        (frames, disk_frames)
    }

    /// Reads entries back from disk until so many bytes are unsent. Whether there was one.
    fn read_back(&mut self, unsent_bytes: usize) -> bool {
        let mut any = false;
        while self.head_seq < self.disk.last_seq() && self.head.usage().unsent_bytes < unsent_bytes {
            let Some(entry) = self.disk.read(&mut self.reader, self.head_seq + 1) else { break };
            self.head_seq = entry.last_seq();
            self.head.append(entry);
            any = true;
        }
        any
    }

    /// Takes unsent entries out of `head`; those that are not on disk become the tail. Whether there were any.
    fn evict(&mut self) -> bool {
        if self.sent_seq >= self.disk.last_seq().min(self.head_seq) {
            return false;
        }
        let mut unsent = VecDeque::from(self.head.take_unsent());
        // What cannot be sent and was counted as dropped would be read back as if nothing had happened.
        if let Some(given_up) = unsent.pop_front_if(|first| first.first_seq() <= self.given_up_seq) {
            self.head.append(given_up);
        }
        let Some(first) = unsent.front() else { return false };
        let before = first.stretch();
        self.head_seq = before.from_seq - 1;
        self.reader = Reader::after(before.first_step.checked_sub(1));
        let disk_seq = self.disk.last_seq();
        // A stretch may be on disk in part.
        self.tail.extend(unsent.into_iter().filter_map(|entry| entry.from(disk_seq + 1)));
        true
    }
}

impl Buffer for SpooledBuffer {
    fn append(&mut self, entry: Entry) -> u64 {
        let fits = self.head.usage().unsent_bytes + entry.cost_bytes() <= self.window_bytes;
        let follows_head = self.is_all_in_head();
        let loaded_seq = self.loaded_seq();
        let on_disk = self.write_missing() && self.disk.may_try() && self.disk.append(&entry, loaded_seq);
        self.disk.close_deleted(&mut self.reader);
        self.last = Last { seq: entry.last_seq(), step: entry.stretch().last_step };
        if on_disk {
            if follows_head && fits {
                self.head_seq = self.last.seq;
                self.reader = Reader::after(Some(self.last.step));
                self.head.append(entry);
            }
            return 0;
        }
        if follows_head && self.window_bytes > 0 {
            self.head_seq = self.last.seq;
            self.head.append(entry);
            return 0;
        }
        let mut frames = 0;
        while self.tail.usage().unsent_bytes + entry.cost_bytes() > self.tail_bytes {
            let before = self.tail.usage().unsent_bytes;
            frames += self.tail.drop_unsent(self.tail_bytes / 2);
            if self.tail.usage().unsent_bytes == before {
                break;
            }
        }
        self.tail.append(entry);
        frames
    }

    fn read_from(&self, seq: u64) -> Option<&Entry> {
        self.head.read_from(seq)
    }

    fn refill(&mut self) {
        if self.window_bytes == 0 || self.head.usage().unsent_bytes >= self.window_bytes / 2 {
            return;
        }
        self.read_back(self.window_bytes);
        if self.head_seq >= self.disk.last_seq() && self.head_seq < self.last.seq {
            // A stretch may have been on disk in part.
            let next_seq = self.head_seq + 1;
            self.head.extend(self.tail.take_unsent().into_iter().filter_map(|entry| entry.from(next_seq)));
            self.head_seq = self.last.seq;
        }
    }

    fn mark_sent(&mut self, seq: u64) {
        self.sent_seq = self.sent_seq.max(seq);
        // What is read back later becomes sent as it is settled.
        self.head.mark_sent(seq.min(self.head_seq));
    }

    fn settle(&mut self, seq: u64) -> u64 {
        let (frames, disk_frames) = self.pass(seq);
        let step = self.head.read_from(seq).map_or(0, |entry| entry.stretch().last_step);
        self.disk.settled(Last { seq, step }, disk_frames);
        frames
    }

    fn release_below(&mut self, seq: u64) {
        self.head.release_below(seq);
        self.disk.release_below(seq);
        self.disk.close_deleted(&mut self.reader);
    }

    fn release_kept_above(&mut self, kept_bytes: usize) {
        self.head.release_kept_above(kept_bytes);
    }

    fn drop_unsent(&mut self, at_least_bytes: usize) -> u64 {
        if self.evict() {
            // Nothing is lost: it is on disk, or in the tail.
            return 0;
        }
        let part = if self.tail.usage().unsent_bytes > 0 { &mut self.tail } else { &mut self.head };
        part.drop_unsent(at_least_bytes)
    }

    fn drop_frame(&mut self, seq: u64) -> u64 {
        let frames = self.head.drop_frame(seq);
        if frames > 0 {
            self.given_up_seq = seq;
        }
        if seq <= self.disk.last_seq() {
            self.disk.forget_frames(frames);
        }
        frames
    }

    fn refuse(&mut self) {
        self.window_bytes = 0;
        // What the server refused may be delivered another time: it waits on disk.
        let disk_seq = self.disk.last_seq();
        let mut seq = disk_seq.max(self.settled_seq) + 1;
        let mut unwritten = Vec::new();
        while let Some(entry) = self.head.read_from(seq).filter(|entry| entry.last_seq() >= seq) {
            seq = entry.last_seq() + 1;
            unwritten.push(entry.clone());
        }
        self.head = MemoryBuffer::default();
        self.head_seq = self.head_seq.min(disk_seq);
        self.tail.extend(unwritten);
    }

    fn outlives_process(&self) -> bool {
        true
    }

    fn finish(&mut self, outcome: i32) -> bool {
        self.finish = Some(Finish { outcome, last_seq: self.last.seq, last_step: self.last.step });
        self.disk.try_now();
        self.write_finish()
    }

    fn leave(&mut self) -> bool {
        self.disk.try_now();
        self.write_missing();
        let end_waits = self.write_finish();
        self.disk.leave();
        end_waits
    }

    fn remove(&mut self) {
        self.disk.remove();
    }

    fn usage(&self) -> Usage {
        let (mut usage, tail) = (self.head.usage(), self.tail.usage());
        usage.unsent_bytes += tail.unsent_bytes;
        usage
    }
}
