//! From the training thread to the uploader.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use bytes::Bytes;
use gradwatch_proto::v1;
use tokio::sync::mpsc::UnboundedSender;

use crate::buffer::{ENTRY_OVERHEAD_BYTES, Entry, Stretch};
use crate::error::SubmitError;
use crate::shared::Shared;

/// What the uploader is told, in order.
#[derive(Debug)]
pub(crate) enum Message {
    /// A new attempt begins, which this request opens; the one before is complete.
    Attempt(Box<v1::OpenRunRequest>),
    /// The attempt's last entry before a message that ends it. Not counted among the bytes handed over: there is one
    /// an attempt at most.
    Lost(Stretch),
    /// The attempt's next entry.
    Entry(Entry),
    /// The run is complete: deliver everything, then say how it ended.
    Finish { outcome: v1::Outcome, deadline: Instant },
    /// Nobody waits for the run's end: deliver what goes quickly.
    Stop { deadline: Instant },
}

/// The training thread's end of the queue.
///
/// Invariant: sending never waits. The queue itself is unbounded, so the bound is kept here: bytes handed over and not
/// yet taken never exceed `limit_bytes`. Past it frames are given up, in one stretch from the first that finds no room
/// until the queue is below half the limit; the stretch then goes over in their place.
#[derive(Debug)]
pub(crate) struct Handover {
    messages: UnboundedSender<Message>,
    shared: Arc<Shared>,
    limit_bytes: usize,
    dropping: Option<Stretch>,
}

impl Handover {
    pub(crate) fn new(messages: UnboundedSender<Message>, shared: Arc<Shared>, limit_bytes: usize) -> Self {
        Self { messages, shared, limit_bytes, dropping: None }
    }

    /// The largest frame that fits at all.
    pub(crate) fn max_frame_bytes(&self) -> usize {
        // Room for the stretch that may have to go over before it.
        (self.limit_bytes / 2).saturating_sub(2 * ENTRY_OVERHEAD_BYTES)
    }

    /// Whether any frame of at most [`Handover::max_frame_bytes`] can be handed over now without one being given up,
    /// here or in the uploader's buffer.
    ///
    /// What is settled and kept is at most `limit_bytes`, so there is room as soon as the server has caught up.
    pub(crate) fn has_room(&self) -> bool {
        let queued_bytes = self.shared.queued_bytes.load(Relaxed);
        let buffered_bytes = self.shared.status().buffered_bytes;
        // A quarter of the buffer may wait here. Twice that leaves the other half for what is counted late, on its way
        // from here to there.
        self.dropping.is_none() && queued_bytes <= self.limit_bytes / 2 && buffered_bytes <= 2 * self.limit_bytes
    }

    pub(crate) fn frame(&mut self, seq: u64, step: u64, bytes: Bytes, attached: Bytes) -> Result<(), SubmitError> {
        let entry = Entry::Frame { seq, step, bytes, attached };
        let queued_bytes = self.shared.queued_bytes.load(Relaxed);
        let room = match self.dropping {
            None => queued_bytes + entry.cost_bytes() <= self.limit_bytes,
            Some(_) => queued_bytes <= self.limit_bytes / 2,
        };
        if room {
            if let Some(stretch) = self.dropping.take() {
                self.send_entry(Entry::Dropped(stretch))?;
            }
            return self.send_entry(entry);
        }
        self.shared.dropped.fetch_add(1, Relaxed);
        match &mut self.dropping {
            Some(stretch) => stretch.extend(entry.stretch()),
            None => self.dropping = Some(entry.stretch()),
        }
        Ok(())
    }

    pub(crate) fn attempt(&mut self, request: v1::OpenRunRequest) -> Result<(), SubmitError> {
        self.hand_over_lost()?;
        self.shared.pending_attempts.fetch_add(1, Relaxed);
        self.send(Message::Attempt(Box::new(request)))
    }

    pub(crate) fn end(&mut self, message: Message) -> Result<(), SubmitError> {
        self.hand_over_lost()?;
        self.send(message)
    }

    fn hand_over_lost(&mut self) -> Result<(), SubmitError> {
        self.dropping.take().map_or(Ok(()), |stretch| self.send(Message::Lost(stretch)))
    }

    fn send_entry(&self, entry: Entry) -> Result<(), SubmitError> {
        // Counted first: the uploader may take it, and subtract, at once.
        self.shared.queued_bytes.fetch_add(entry.cost_bytes(), Relaxed);
        self.send(Message::Entry(entry))
    }

    fn send(&self, message: Message) -> Result<(), SubmitError> {
        self.messages.send(message).map_err(|_| SubmitError::Closed)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{UnboundedReceiver, error::TryRecvError, unbounded_channel};

    use super::*;

    fn take(messages: &mut UnboundedReceiver<Message>, shared: &Shared) -> Option<Entry> {
        match messages.try_recv() {
            Ok(Message::Entry(entry)) => {
                shared.queued_bytes.fetch_sub(entry.cost_bytes(), Relaxed);
                Some(entry)
            }
            Ok(other) => panic!("{other:?} is no entry"),
            Err(error) => {
                assert_eq!(error, TryRecvError::Empty);
                None
            }
        }
    }

    #[test]
    fn an_idle_uploader_costs_one_stretch_and_bounded_memory() {
        let (sender, mut messages) = unbounded_channel();
        let shared = Arc::new(Shared::new());
        let limit_bytes = 10 * (100 + ENTRY_OVERHEAD_BYTES);
        let mut handover = Handover::new(sender, shared.clone(), limit_bytes);
        let mut submit = |seq: u64| {
            handover.frame(seq, 7 * seq, Bytes::from(vec![0; 60]), Bytes::from(vec![0; 40])).unwrap();
            assert!(shared.queued_bytes.load(Relaxed) <= limit_bytes);
        };
        (1..=25).for_each(&mut submit);
        assert_eq!(shared.dropped.load(Relaxed), 15);
        for seq in 1..=4 {
            assert_eq!(take(&mut messages, &shared).unwrap().first_seq(), seq);
        }
        submit(26);
        assert_eq!(shared.dropped.load(Relaxed), 16, "the queue is still more than half full");
        assert_eq!(take(&mut messages, &shared).unwrap().first_seq(), 5);
        submit(27);
        let rest: Vec<_> = std::iter::from_fn(|| take(&mut messages, &shared)).map(|entry| entry.stretch()).collect();
        assert_eq!(rest.iter().map(|stretch| stretch.from_seq).collect::<Vec<_>>(), [6, 7, 8, 9, 10, 11, 27]);
        assert_eq!(rest[5], Stretch { from_seq: 11, to_seq: 26, first_step: 77, last_step: 182 });
        assert_eq!(shared.queued_bytes.load(Relaxed), 0);
    }
}
