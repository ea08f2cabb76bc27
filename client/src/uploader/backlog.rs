//! All that waits for the server: attempts in order, under one bound.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use gradwatch_proto::v1;

use super::attempt::Attempt;
use crate::buffer::{Buffer, Entry, MemoryBuffer};
use crate::repeatable::Continuation;
use crate::shared::Shared;
use crate::spool::{RunSpool, SpooledBuffer};

/// Attempts are delivered one after the other; new frames belong to the last.
///
/// Invariant: the entries of all attempts together never cost more than `capacity_bytes`. What was sent and what is
/// kept for refilling take at most a quarter each, so when room is needed at least half of the buffer was never sent
/// and can be given up in one stretch.
pub(super) struct Backlog {
    attempts: VecDeque<Attempt>,
    capacity_bytes: usize,
    shared: Arc<Shared>,
    spool: Option<RunSpool>,
    /// Whether anything will be sent. Otherwise everything stays in the spool.
    sends: bool,
}

impl Backlog {
    pub(super) fn new(capacity_bytes: usize, spool: Option<RunSpool>, sends: bool, shared: Arc<Shared>) -> Self {
        Self { attempts: VecDeque::new(), capacity_bytes, shared, spool, sends }
    }

    /// What another process left behind, and nothing else.
    pub(super) fn of(attempt: Attempt, capacity_bytes: usize, shared: Arc<Shared>) -> Self {
        Self { attempts: [attempt].into(), ..Self::new(capacity_bytes, None, true, shared) }
    }

    pub(super) fn begin(&mut self, request: v1::OpenRunRequest, continues: Option<Continuation>) {
        self.complete();
        if !self.sends {
            self.leave();
            while self.front().is_some() {
                self.pop();
            }
        }
        let (capacity_bytes, shared) = (self.capacity_bytes, self.shared.clone());
        let buffer: Box<dyn Buffer> = match &self.spool {
            Some(spool) => {
                let (spool, request) = (spool.clone(), request.clone());
                let buffer = SpooledBuffer::create(spool, request, capacity_bytes, self.sends, shared.clone());
                self.shared.spool_begun.store(true, Relaxed);
                Box::new(buffer)
            }
            None => Box::new(MemoryBuffer::default()),
        };
        self.attempts.push_back(Attempt::new(request, buffer, continues, shared, capacity_bytes / 4));
    }

    /// How the last attempt ended. Whether that outlives the process.
    pub(super) fn finish(&mut self, outcome: v1::Outcome) -> bool {
        self.attempts.back_mut().is_some_and(|last| last.finish(outcome))
    }

    /// The process lets go of what is not delivered. Whether the run's end outlives it.
    pub(super) fn leave(&mut self) -> bool {
        let mut end_waits = false;
        for attempt in &mut self.attempts {
            end_waits = attempt.leave();
        }
        end_waits
    }

    /// Nothing will be appended to the last attempt any more.
    pub(super) fn complete(&mut self) {
        if let Some(last) = self.attempts.back_mut() {
            last.complete();
        }
    }

    pub(super) fn append(&mut self, entry: Entry) {
        if self.attempts.back().is_none_or(Attempt::takes_nothing) {
            return self.append_to_last(entry);
        }
        let cost_bytes = entry.cost_bytes();
        let mut total_bytes = self.total_bytes();
        while total_bytes + cost_bytes > self.capacity_bytes {
            // The attempt with most to give: it is the only one with frames unless training went back a moment ago.
            let Some(largest) = self.attempts.iter_mut().max_by_key(|attempt| attempt.usage().unsent_bytes) else {
                break;
            };
            largest.drop_unsent(self.capacity_bytes / 2);
            let freed_bytes = total_bytes.saturating_sub(self.total_bytes());
            if freed_bytes == 0 {
                // Nothing left to give but the newcomer.
                self.shared.dropped.fetch_add(entry.frames(), Relaxed);
                return self.append_to_last(Entry::Dropped(entry.stretch()));
            }
            total_bytes -= freed_bytes;
        }
        self.append_to_last(entry);
    }

    fn append_to_last(&mut self, entry: Entry) {
        if let Some(last) = self.attempts.back_mut() {
            last.append(entry);
        }
        self.publish();
    }

    /// What the server has to be told before it hears of the front attempt.
    pub(super) fn undeclared_before_front(&self) -> Vec<v1::OpenRunRequest> {
        let undeclared = self.front().filter(|front| !front.is_declared());
        undeclared
            .zip(self.spool.as_ref())
            .map_or_else(Vec::new, |(front, spool)| spool.undeclared_before(&front.request))
    }

    pub(super) fn front(&self) -> Option<&Attempt> {
        self.attempts.front()
    }

    pub(super) fn front_mut(&mut self) -> Option<&mut Attempt> {
        self.attempts.front_mut()
    }

    /// Whether an attempt waits behind the front one.
    pub(super) fn has_next(&self) -> bool {
        self.attempts.len() > 1
    }

    /// The front attempt is over. What of it was not delivered stays in the spool.
    pub(super) fn pop(&mut self) {
        if self.attempts.pop_front().is_some() {
            self.shared.pending_attempts.fetch_sub(1, Relaxed);
        }
        self.publish();
    }

    /// Tells the training thread what is held.
    pub(super) fn publish(&self) {
        self.shared.held_bytes.store(self.total_bytes(), Relaxed);
    }

    fn total_bytes(&self) -> usize {
        self.attempts.iter().map(|attempt| attempt.usage().total_bytes()).sum()
    }
}
