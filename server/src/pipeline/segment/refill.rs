//! Filling the windows of a new owner from settled frames that the client sends again.

use gradwatch_store::{EventRow, RunCommit};

use super::SegmentOwner;
use crate::pipeline::{frame::Item, group_stream::Place};

/// Settled frames that come again to fill the windows of an owner who has just begun.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refill {
    pub(super) next_seq: u64,
    pub(super) until_seq: u64,
    pub(super) last_step: Option<u64>,
    /// The first and last that the client no longer had.
    pub(super) missing: Option<(u64, u64)>,
}

impl Refill {
    /// The client has nothing between the next frame and `to_seq`.
    pub(super) fn miss(&mut self, to_seq: u64) {
        let from_seq = self.missing.map_or(self.next_seq, |(from_seq, _)| from_seq);
        self.missing = Some((from_seq, to_seq));
    }
}

impl SegmentOwner {
    /// Fills windows from a settled frame. Nothing is recorded.
    pub(super) fn refill(&mut self, item: &Item, refill: Refill, now_us: i64, commit: &mut RunCommit) {
        let mut last_step = refill.last_step;
        // What was rejected when it came first is rejected again: a step that does not increase, or scalars beyond the
        // limit, of which a settled frame's are known by now and a rejected one's are not.
        if let Item::Frame(frame) = item
            && last_step.is_none_or(|last| frame.step > last)
            && self.scalars.knows(&frame.scalars)
        {
            last_step = Some(frame.step);
            for payload in &frame.payloads {
                let place = Place { seq: frame.seq, step: frame.step, phase: frame.phase };
                let eta = frame.learning_rate_of(payload.group);
                if let Some(stream) = self.streams.iter_mut().find(|it| it.is(payload.group, payload.kind))
                    && let Err(error) = stream.accept(place, payload, eta, true)
                {
                    // It was settled once, so it was valid then; a frame that changed meanwhile only costs the window.
                    tracing::warn!(%error, seq = frame.seq, "a resent frame cannot be decoded");
                    stream.restart();
                }
            }
        }
        let next_seq = item.last_seq() + 1;
        if next_seq <= refill.until_seq {
            self.refill = Some(Refill { next_seq, last_step, ..refill });
            return;
        }
        self.refill = None;
        // A slow group's rows reach far back, further than a client may keep. It alone pays for that: windows that got
        // all their rows go on with the same bits.
        for index in 0..self.streams.len() {
            if refill.missing.is_some() && !self.streams[index].is_whole() {
                self.lose_window(index, refill.missing, now_us, commit);
            }
        }
    }

    /// The client no longer has what a window needs: it starts again, which is an event.
    pub(super) fn lose_window(
        &mut self,
        index: usize,
        missing: Option<(u64, u64)>,
        now_us: i64,
        commit: &mut RunCommit,
    ) {
        let stream = &mut self.streams[index];
        stream.restart();
        let (group, kind) = (stream.group(), stream.kind());
        let evidence = serde_json::json!({
            "reason": "refill",
            "missing_from_seq": missing.map(|(from_seq, _)| from_seq.to_string()),
            "missing_to_seq": missing.map(|(_, to_seq)| to_seq.to_string()),
        });
        commit.events.push(EventRow {
            group: Some(self.segment.spec.groups[group].name.clone()),
            kind: Some(kind),
            ..self.event("window.restarted", self.last_step, now_us, evidence)
        });
    }
}
