//! The buffer in memory.

use std::collections::VecDeque;

use super::{Buffer, Entry, Usage};

/// A queue of entries and the marks between its regions. An entry belongs to the region of its last sequence number.
#[derive(Debug, Default)]
pub(crate) struct MemoryBuffer {
    entries: VecDeque<Entry>,
    settled_seq: u64,
    sent_seq: u64,
    usage: Usage,
}

impl MemoryBuffer {
    /// Index of the first entry that ends at `seq` or later.
    fn index_of(&self, seq: u64) -> usize {
        self.entries.partition_point(|entry| entry.last_seq() < seq)
    }

    /// Appends one after the other.
    pub(crate) fn extend(&mut self, entries: impl IntoIterator<Item = Entry>) {
        for entry in entries {
            // In memory nothing is lost for it.
            let _ = self.append(entry);
        }
    }

    /// Takes all unsent entries out.
    pub(crate) fn take_unsent(&mut self) -> Vec<Entry> {
        self.usage.unsent_bytes = 0;
        let first = self.index_of(self.sent_seq + 1);
        self.entries.drain(first..).collect()
    }

    fn pop_kept(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.usage.kept_bytes -= entry.cost_bytes();
        }
    }

    fn oldest_is_kept(&self) -> Option<&Entry> {
        self.entries.front().filter(|entry| entry.last_seq() <= self.settled_seq)
    }
}

impl Buffer for MemoryBuffer {
    fn append(&mut self, entry: Entry) -> u64 {
        if let Entry::Dropped(next) = entry
            && let Some(Entry::Dropped(last)) = self.entries.back_mut()
            && last.from_seq > self.sent_seq
        {
            last.extend(next);
            return 0;
        }
        debug_assert!(self.entries.back().is_none_or(|last| last.last_seq() + 1 == entry.first_seq()));
        self.usage.unsent_bytes += entry.cost_bytes();
        self.entries.push_back(entry);
        0
    }

    fn read_from(&self, seq: u64) -> Option<&Entry> {
        self.entries.get(self.index_of(seq))
    }

    fn mark_sent(&mut self, seq: u64) {
        for entry in self.entries.range(self.index_of(self.sent_seq + 1)..) {
            if entry.last_seq() > seq {
                break;
            }
            self.usage.unsent_bytes -= entry.cost_bytes();
            self.usage.in_flight_bytes += entry.cost_bytes();
        }
        self.sent_seq = self.sent_seq.max(seq);
    }

    fn settle(&mut self, seq: u64) -> u64 {
        debug_assert!(seq <= self.sent_seq, "only what was sent can be settled");
        let mut frames = 0;
        let first = self.index_of(self.settled_seq + 1);
        for entry in self.entries.range_mut(first..) {
            if entry.last_seq() > seq {
                break;
            }
            frames += entry.frames();
            self.usage.in_flight_bytes -= entry.cost_bytes();
            entry.detach();
            self.usage.kept_bytes += entry.cost_bytes();
        }
        self.settled_seq = self.settled_seq.max(seq);
        frames
    }

    fn release_below(&mut self, seq: u64) {
        while self.oldest_is_kept().is_some_and(|entry| entry.last_seq() < seq) {
            self.pop_kept();
        }
    }

    fn release_kept_above(&mut self, kept_bytes: usize) {
        while self.usage.kept_bytes > kept_bytes && self.oldest_is_kept().is_some() {
            self.pop_kept();
        }
    }

    fn drop_unsent(&mut self, at_least_bytes: usize) -> u64 {
        let first = self.index_of(self.sent_seq + 1);
        let Some(oldest) = self.entries.get(first) else { return 0 };
        let mut stretch = oldest.stretch();
        let (mut bytes, mut frames, mut count) = (0, 0, 0);
        for entry in self.entries.range(first..) {
            // A stretch that follows joins in, whatever its size.
            if count > 0 && bytes >= at_least_bytes && matches!(entry, Entry::Frame { .. }) {
                break;
            }
            if count > 0 {
                stretch.extend(entry.stretch());
            }
            bytes += entry.cost_bytes();
            frames += entry.frames();
            count += 1;
        }
        // Only the gap closes: whatever lies before or after the stretch keeps its place.
        self.entries.drain(first + 1..first + count);
        let dropped = Entry::Dropped(stretch);
        self.usage.unsent_bytes = self.usage.unsent_bytes - bytes + dropped.cost_bytes();
        self.entries[first] = dropped;
        frames
    }

    fn drop_frame(&mut self, seq: u64) -> u64 {
        let index = self.index_of(seq);
        let Some(entry @ Entry::Frame { .. }) = self.entries.get(index) else { return 0 };
        if entry.first_seq() != seq || seq <= self.settled_seq {
            return 0;
        }
        let dropped = Entry::Dropped(entry.stretch());
        let freed = entry.cost_bytes() - dropped.cost_bytes();
        if seq <= self.sent_seq {
            self.usage.in_flight_bytes -= freed;
        } else {
            self.usage.unsent_bytes -= freed;
        }
        self.entries[index] = dropped;
        1
    }

    fn refuse(&mut self) {
        *self = Self::default();
    }

    fn usage(&self) -> Usage {
        self.usage
    }
}
