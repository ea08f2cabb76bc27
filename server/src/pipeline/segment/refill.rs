//! Filling the windows of a new owner from settled frames that the clients send again.

use std::collections::{BTreeSet, VecDeque};

use gradwatch_store::{EventRow, StepRow};

use super::{
    SegmentOwner, Turn,
    joined::{Joined, whole},
};
use crate::pipeline::group_stream::Place;

/// The settled steps whose frames come again to fill the windows of an owner who has just begun.
///
/// Invariant (promise 3): what is recorded of a step decides which frames it was made of, and whether it was whole. So a
/// refill goes through the same rows as the owner before, and leaves the same out.
#[derive(Debug)]
pub(super) struct Refill {
    /// Ascending.
    steps: VecDeque<RefillStep>,
    /// The clients no longer have all of them, or more of them would be needed than are asked for.
    broken: bool,
    /// Streams that lost rows because a lost shard does not bring its part again.
    lost_rows: BTreeSet<usize>,
}

#[derive(Debug)]
struct RefillStep {
    step: u64,
    complete: bool,
    seqs: Vec<Option<u64>>,
}

impl SegmentOwner {
    /// Asks for the frames of these settled steps again; `all` says that the windows had no rows before them. Once a
    /// shard has ended no row can become whole any more, so that nobody needs what the windows held.
    pub(crate) fn refill(&mut self, steps: &VecDeque<StepRow>, all: bool) {
        if self.shards.iter().any(|shard| shard.outcome.is_some()) {
            return;
        }
        let steps: VecDeque<_> = steps
            .iter()
            .map(|row| RefillStep { step: row.step, complete: row.complete, seqs: row.seqs.clone() })
            .collect();
        if steps.is_empty() {
            return;
        }
        for (number, shard) in self.shards.iter_mut().enumerate() {
            if let Some(seq) = steps.iter().find_map(|step| step.seqs.get(number).copied().flatten()) {
                shard.refill_from(seq);
            }
        }
        self.refill = Some(Refill { steps, broken: !all, lost_rows: BTreeSet::new() });
    }

    /// Fills windows as far as the frames have come. True when that is over, one way or the other.
    pub(super) fn refill_next(&mut self, turn: &mut Turn<'_>) -> bool {
        while let Some(next) = self.refill.as_mut().and_then(|refill| refill.steps.pop_front()) {
            // Frames before the step's own belong to no recorded step. What they hold of memory must not wait: it could be
            // what the step's own frame waits for.
            for (number, seq) in (0..).zip(&next.seqs) {
                if let Some(before_seq) = seq.map(|seq| seq - 1) {
                    self.assembler.take_up_to(number, before_seq);
                    self.shards[number as usize].done(before_seq);
                }
            }
            // Who is gone is not waited for, nor who was waited for long enough.
            let awaited = (0..).zip(&self.shards).zip(&next.seqs).any(|((number, shard), seq)| {
                seq.is_some_and(|seq| shard.next_seq <= seq)
                    && !self.assembler.is_gone(number)
                    && !self.assembler.is_overdue(number, turn.overdue_before_us)
            });
            if let Some(refill) = self.refill.as_mut().filter(|_| awaited) {
                refill.steps.push_front(next);
                return false;
            }
            self.refill_step(&next);
        }
        self.finish_refill(turn);
        true
    }

    fn refill_step(&mut self, next: &RefillStep) {
        self.suspect.note(self.segment.segment, next.step);
        let mut joined = Joined::default();
        let poisoned = self.poisoned.contains(&next.step);
        let (mut all_there, mut only_lost_missing) = (!poisoned, !poisoned);
        for (number, seq) in (0..).zip(&next.seqs) {
            let Some(seq) = *seq else { continue };
            match self.assembler.take_up_to(number, seq) {
                Some(frame) if frame.step == next.step => joined.add(number, frame),
                _ => {
                    all_there = false;
                    only_lost_missing &= self.assembler.is_lost(number);
                }
            }
            self.shards[number as usize].done(seq);
        }
        if !all_there {
            // Rows before a gap and rows behind it are no window.
            let held = (0..self.streams.len()).filter(|&index| self.streams[index].oldest().is_some());
            let had = joined.rows(&self.segment.spec).into_iter().map(|(index, _)| index).filter(|_| next.complete);
            let lost_rows: BTreeSet<usize> = held.chain(had).collect();
            self.streams.iter_mut().for_each(|stream| stream.forget());
            if let Some(refill) = &mut self.refill {
                // What a client lacks of its own frames is not known. A lost shard is known to have been left out of all
                // steps since, so that most windows hold nothing that it could take away.
                if only_lost_missing {
                    refill.lost_rows.extend(lost_rows);
                } else {
                    refill.broken = true;
                }
            }
            return;
        }
        let seqs = whole(&next.seqs).filter(|_| next.complete);
        for (index, parts) in joined.rows(&self.segment.spec) {
            let stream = &mut self.streams[index];
            let eta = joined.learning_rate_of(stream.group());
            match &seqs {
                Some(seqs) => {
                    let place = Place { seqs: seqs.clone(), step: next.step };
                    stream.accept(&place, &parts, eta, true);
                }
                // Told by the owner that recorded it.
                None => {
                    stream.leave_out();
                }
            }
        }
    }

    fn finish_refill(&mut self, turn: &mut Turn<'_>) {
        let Some(refill) = self.refill.take() else { return };
        for (number, shard) in (0..).zip(&mut self.shards) {
            // What came behind the last row and was rejected then.
            self.assembler.take_up_to(number, shard.refill_to_seq);
            shard.next_seq = shard.next_seq.max(shard.refill_to_seq + 1);
            shard.done(shard.refill_to_seq);
        }
        // A slow group's rows reach far back, further than a client may keep. It alone pays for that: windows that got
        // all their rows go on with the same bits.
        for index in 0..self.streams.len() {
            if (refill.broken || refill.lost_rows.contains(&index)) && !self.streams[index].is_whole() {
                self.lose_window(index, turn);
            }
        }
    }

    /// The client no longer has what a window needs: it starts again, which is an event.
    fn lose_window(&mut self, index: usize, turn: &mut Turn<'_>) {
        let missing = self.shards.iter().find_map(|shard| shard.missing);
        let stream = &mut self.streams[index];
        stream.restart();
        let (group, kind) = (stream.group(), stream.kind());
        let evidence = serde_json::json!({
            "reason": "refill",
            "missing_from_seq": missing.map(|(from_seq, _)| from_seq.to_string()),
            "missing_to_seq": missing.map(|(_, to_seq)| to_seq.to_string()),
        });
        let event = EventRow {
            group: Some(self.segment.spec.groups[group].name.clone()),
            kind: Some(kind),
            ..self.event("window.restarted", self.last_step, turn.now_us, evidence)
        };
        turn.tell(event);
    }
}
