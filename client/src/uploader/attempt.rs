//! One attempt's frames on their way: what to send next, and what the server's answers mean.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use gradwatch_proto::v1::{self, client_message::Message};
use prost::Message as _;

use crate::buffer::{Buffer, Entry, Usage};
use crate::repeatable::Continuation;
use crate::shared::Shared;

/// A batch is sent once it has so many bytes or frames.
const BATCH_BYTES: usize = 256 << 10;
const BATCH_FRAMES: usize = 64;
/// The envelope of a message, and of each frame in it, at their largest.
const ENVELOPE_BYTES: usize = 16;
/// How often a server may have frames sent again without moving its mark.
const MAX_RESENDS: u32 = 256;

/// The largest frame that fits a message.
pub(super) fn max_frame_bytes(max_message_bytes: usize) -> usize {
    max_message_bytes.saturating_sub(2 * ENVELOPE_BYTES)
}

/// The server said what cannot be: the words for it.
pub(super) type Fault = &'static str;

/// Invariant: `settled_seq` ≤ `sent_seq` ≤ `appended_seq`, and none of them ever falls. The server moves only the
/// first, and only up to the second; `cursor_seq` alone goes back, when the server asks for frames again. So whatever
/// a server says, an unsettled frame stays until it is acknowledged, and no more than `in_flight_limit_bytes` of them
/// (or one frame) were ever sent.
pub(super) struct Attempt {
    /// What opens it.
    pub(super) request: v1::OpenRunRequest,
    buffer: Box<dyn Buffer>,
    shared: Arc<Shared>,
    /// Also the bound of what is kept for refilling.
    in_flight_limit_bytes: usize,
    /// Another process may have sent frames of it.
    continues: Option<Continuation>,
    /// That process is no more.
    left_behind: bool,
    appended_seq: u64,
    sent_seq: u64,
    settled_seq: u64,
    cursor_seq: u64,
    /// Nothing will be appended any more.
    complete: bool,
    /// OpenRun was answered. Invariant: it is never called again. It would make a run that was deleted since then anew,
    /// empty, and what was acknowledged would be missing from it; Open only finds what is there.
    declared: bool,
    /// A stream of it was opened at least once.
    opened: bool,
    refused: bool,
    /// Rejected frames above the settled mark, each counted once however often it is resent.
    rejected: BTreeSet<u64>,
    resends: u32,
}

impl Attempt {
    pub(super) fn new(
        request: v1::OpenRunRequest,
        buffer: Box<dyn Buffer>,
        continues: Option<Continuation>,
        shared: Arc<Shared>,
        in_flight_limit_bytes: usize,
    ) -> Self {
        let last_seq = continues.map_or(0, |continues| continues.first_seq - 1);
        Self {
            request,
            buffer,
            shared,
            in_flight_limit_bytes,
            continues,
            left_behind: false,
            appended_seq: last_seq,
            sent_seq: last_seq,
            settled_seq: last_seq,
            cursor_seq: last_seq + 1,
            complete: false,
            declared: false,
            opened: false,
            refused: false,
            rejected: BTreeSet::new(),
            resends: 0,
        }
    }

    /// An attempt that another process left behind, in a buffer that holds everything up to `last_seq`, settled up to
    /// `settled_seq`.
    pub(super) fn left_behind(
        request: v1::OpenRunRequest,
        buffer: Box<dyn Buffer>,
        settled_seq: u64,
        last_seq: u64,
        shared: Arc<Shared>,
        in_flight_limit_bytes: usize,
    ) -> Self {
        let continues = Continuation { first_seq: settled_seq + 1, settled_seq };
        let attempt = Self::new(request, buffer, Some(continues), shared, in_flight_limit_bytes);
        Self { appended_seq: last_seq, complete: true, left_behind: true, ..attempt }
    }

    pub(super) fn append(&mut self, entry: Entry) {
        self.appended_seq = entry.last_seq();
        if !self.takes_nothing() {
            let frames = self.buffer.append(entry);
            self.shared.dropped.fetch_add(frames, Relaxed);
        }
    }

    /// Whether what is appended is forgotten at once.
    pub(super) fn takes_nothing(&self) -> bool {
        self.refused && !self.buffer.outlives_process()
    }

    pub(super) fn complete(&mut self) {
        self.complete = true;
    }

    /// Brings to memory what is to be sent next.
    pub(super) fn refill(&mut self) {
        self.buffer.refill();
    }

    /// See [`Buffer::finish`].
    pub(super) fn finish(&mut self, outcome: v1::Outcome) -> bool {
        self.buffer.finish(outcome.into())
    }

    /// See [`Buffer::leave`].
    pub(super) fn leave(&mut self) -> bool {
        self.buffer.leave()
    }

    /// See [`Buffer::remove`].
    pub(super) fn remove(&mut self) {
        self.buffer.remove();
    }

    /// The server wants nothing of it any more: what is left was not delivered.
    pub(super) fn refuse(&mut self) {
        self.refused = true;
        self.buffer.refuse();
        self.rejected.clear();
    }

    /// It holds everything that the server is known to have: only then can the server's mark be understood.
    pub(super) fn has_what_is_settled(&self) -> bool {
        self.continues.is_none_or(|continues| continues.settled_seq <= self.appended_seq)
    }

    pub(super) fn attempt_id(&self) -> &str {
        self.request.attempt.as_ref().map_or("", |attempt| &attempt.attempt_id)
    }

    pub(super) fn is_refused(&self) -> bool {
        self.refused
    }

    pub(super) fn declare(&mut self) {
        self.declared = true;
    }

    pub(super) fn is_declared(&self) -> bool {
        self.declared
    }

    /// Complete, known to the server and settled to the end.
    pub(super) fn is_delivered(&self) -> bool {
        self.complete && self.opened && self.settled_seq == self.appended_seq
    }

    /// The server has something to acknowledge, or would have if it took what we send.
    pub(super) fn awaits_answer(&self) -> bool {
        self.settled_seq < self.appended_seq
    }

    /// Everything was sent on this stream.
    pub(super) fn is_sent(&self) -> bool {
        self.cursor_seq > self.appended_seq
    }

    /// Up to here the server has acknowledged everything.
    pub(super) fn settled_seq(&self) -> u64 {
        self.settled_seq
    }

    pub(super) fn last_seq(&self) -> u64 {
        self.appended_seq
    }

    pub(super) fn usage(&self) -> Usage {
        self.buffer.usage()
    }

    /// Gives up one stretch of unsent frames, see [`Buffer::drop_unsent`].
    pub(super) fn drop_unsent(&mut self, at_least_bytes: usize) {
        let frames = self.buffer.drop_unsent(at_least_bytes);
        self.shared.dropped.fetch_add(frames, Relaxed);
    }

    pub(super) fn on_opened(&mut self, opened: &v1::Opened) -> Result<(), Fault> {
        self.settle(opened.committed_seq)?;
        self.opened = true;
        self.cursor_seq = opened.resend_from_seq.clamp(1, self.settled_seq + 1);
        self.resends = 0;
        Ok(())
    }

    /// Whether the mark moved.
    pub(super) fn on_ack(&mut self, ack: &v1::Ack) -> Result<bool, Fault> {
        if ack.keep_from_seq > ack.committed_seq.saturating_add(1) {
            return Err("Ack.keep_from_seq is beyond committed_seq + 1");
        }
        let moved = ack.committed_seq > self.settled_seq;
        self.settle(ack.committed_seq)?;
        self.buffer.release_below(ack.keep_from_seq);
        if self.cursor_seq <= self.settled_seq && self.buffer.read_from(self.cursor_seq).is_none() {
            // The process before this one had sent it, see `sent_before`: nothing of it is left to send.
            self.cursor_seq = self.settled_seq + 1;
        }
        Ok(moved)
    }

    fn settle(&mut self, committed_seq: u64) -> Result<(), Fault> {
        if committed_seq < self.settled_seq {
            return Err("committed_seq went back");
        }
        self.sent_before(committed_seq);
        if committed_seq > self.sent_seq {
            return Err("committed_seq is beyond what was sent");
        }
        if committed_seq > self.settled_seq {
            self.resends = 0;
        }
        let frames = self.buffer.settle(committed_seq);
        let above = self.rejected.split_off(&(committed_seq + 1));
        let rejected = std::mem::replace(&mut self.rejected, above).len() as u64;
        self.settled_seq = committed_seq;
        self.shared.settled.fetch_add(frames - rejected, Relaxed);
        // A server that never lets go would fill the buffer with what it has already.
        self.buffer.release_kept_above(self.in_flight_limit_bytes);
        Ok(())
    }

    /// The process before this one may have sent more than it knew to be settled, and the server may take that in only now,
    /// behind `Opened`. Of what is on disk another one may send a copy at any time. These frames are the same again.
    fn sent_before(&mut self, committed_seq: u64) {
        if self.continues.is_none() && !self.buffer.outlives_process() {
            return;
        }
        if self.left_behind {
            // It may have sent what its disk did not take.
            self.appended_seq = self.appended_seq.max(committed_seq);
        }
        let sent_seq = committed_seq.min(self.appended_seq);
        if sent_seq > self.sent_seq {
            self.buffer.mark_sent(sent_seq);
            self.sent_seq = sent_seq;
        }
    }

    pub(super) fn on_resend(&mut self, resend: &v1::Resend) -> Result<(), Fault> {
        if resend.from_seq == 0 || resend.from_seq > self.sent_seq + 1 {
            return Err("Resend.from_seq is not among what was sent");
        }
        // Otherwise it is to be sent anyway: this one crossed the answer to an earlier one.
        if resend.from_seq < self.cursor_seq {
            self.cursor_seq = resend.from_seq;
            self.resends += 1;
        }
        if self.resends > MAX_RESENDS { Err("Resend again and again without an Ack that moves") } else { Ok(()) }
    }

    /// Whether this was news.
    pub(super) fn on_rejected(&mut self, seq: u64) -> Result<bool, Fault> {
        if seq == 0 || seq > self.sent_seq {
            return Err("Rejected.seq is not among what was sent");
        }
        if seq <= self.settled_seq || !matches!(self.buffer.read_from(seq), Some(Entry::Frame { .. })) {
            return Ok(false);
        }
        let news = self.rejected.insert(seq);
        self.shared.rejected.fetch_add(news.into(), Relaxed);
        Ok(news)
    }

    /// Whether [`Attempt::next_message`] has something.
    pub(super) fn can_send(&self) -> bool {
        self.buffer.read_from(self.cursor_seq).is_some_and(|entry| self.has_room_for(entry))
    }

    fn has_room_for(&self, entry: &Entry) -> bool {
        let in_flight_bytes = self.buffer.usage().in_flight_bytes;
        entry.last_seq() <= self.sent_seq
            || in_flight_bytes == 0
            || in_flight_bytes + entry.cost_bytes() <= self.in_flight_limit_bytes
    }

    /// The next batch or stretch, at most `max_message_bytes` long. A frame that is longer by itself can never be
    /// delivered and is given up.
    pub(super) fn next_message(&mut self, max_message_bytes: usize) -> Option<Message> {
        let batch_bytes = max_message_bytes.min(BATCH_BYTES);
        let mut frames = Vec::new();
        let mut message_bytes = ENVELOPE_BYTES;
        while frames.len() < BATCH_FRAMES {
            let Some(entry) = self.buffer.read_from(self.cursor_seq).filter(|entry| self.has_room_for(entry)) else {
                break;
            };
            match entry {
                Entry::Dropped(_) if !frames.is_empty() => break,
                Entry::Dropped(stretch) => {
                    let stretch = *stretch;
                    // Of a stretch that is resent in part, first_step stays that of the whole.
                    let from_seq = stretch.from_seq.max(self.cursor_seq);
                    self.mark_sent(stretch.to_seq);
                    return Some(Message::Dropped(v1::Dropped {
                        from_seq,
                        to_seq: stretch.to_seq,
                        first_step: stretch.first_step,
                        last_step: stretch.last_step,
                    }));
                }
                Entry::Frame { seq, bytes, attached, .. } => {
                    let seq = *seq;
                    let frame_bytes = bytes.len() + attached.len() + ENVELOPE_BYTES;
                    if !frames.is_empty() && message_bytes + frame_bytes > batch_bytes {
                        break;
                    }
                    // Decoding copies names and spectra; sketches and weights stay slices of the buffered bytes.
                    match decode(bytes, attached) {
                        Ok(frame) if message_bytes + frame_bytes <= max_message_bytes => frames.push(frame),
                        _ => {
                            self.give_up(seq);
                            continue;
                        }
                    }
                    message_bytes += frame_bytes;
                    self.mark_sent(seq);
                }
            }
        }
        (!frames.is_empty()).then_some(Message::Frames(v1::FrameBatch { frames }))
    }

    fn mark_sent(&mut self, seq: u64) {
        self.buffer.mark_sent(seq);
        self.sent_seq = self.sent_seq.max(seq);
        self.cursor_seq = seq + 1;
    }

    /// A frame that cannot be sent: a settled one is left out of the refill, any other becomes a stretch of its own.
    fn give_up(&mut self, seq: u64) {
        let frames = self.buffer.drop_frame(seq);
        if frames == 0 {
            self.cursor_seq = seq + 1;
        } else if self.rejected.remove(&seq) {
            self.shared.rejected.fetch_sub(1, Relaxed);
        }
        self.shared.dropped.fetch_add(frames, Relaxed);
    }
}

fn decode(bytes: &Bytes, attached: &Bytes) -> Result<v1::Frame, prost::DecodeError> {
    let mut frame = v1::Frame::decode(bytes.clone())?;
    frame.merge(attached.clone())?;
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::MemoryBuffer;

    #[test]
    fn a_server_may_take_in_late_what_a_dead_process_sent() {
        let shared = Arc::new(Shared::new());
        let mut buffer = MemoryBuffer::default();
        for seq in 1..=9 {
            let (bytes, attached) = (Bytes::from_static(&[0]), Bytes::new());
            buffer.append(Entry::Frame { seq, step: seq, bytes, attached });
        }
        let request = v1::OpenRunRequest::default();
        let mut attempt = Attempt::left_behind(request, Box::new(buffer), 0, 9, shared.clone(), 1 << 20);
        let opened = v1::Opened { committed_seq: 3, resend_from_seq: 4, ..v1::Opened::default() };
        attempt.on_opened(&opened).expect("it sent these");
        // Nothing was sent yet by this process.
        let ack = |committed_seq| v1::Ack { committed_seq, keep_from_seq: committed_seq + 1 };
        assert_eq!(attempt.on_ack(&ack(7)), Ok(true));
        assert_eq!((attempt.settled_seq(), shared.status().settled), (7, 7));
        // What its disk did not take, it may have sent all the same.
        assert_eq!(attempt.on_ack(&ack(11)), Ok(true));
        assert!(attempt.is_sent() && attempt.is_delivered());
    }
}
