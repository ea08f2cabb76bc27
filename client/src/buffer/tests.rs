//! Random action sequences against a model that keeps one record per sequence number and recounts everything.

use bytes::Bytes;

use super::{Buffer, ENTRY_OVERHEAD_BYTES, Entry, MemoryBuffer, Stretch, Usage};
use crate::random::SplitMix64;

/// The fate of one sequence number: the lengths of its rows and of what is attached, or the number of the stretch that
/// swallowed it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Frame { len: usize, attached_len: usize },
    Dropped { stretch: u64 },
}

/// The naive reference: fates[seq - 1], never forgotten, and the marks.
#[derive(Default)]
struct Model {
    fates: Vec<Fate>,
    oldest_seq: u64,
    sent_seq: u64,
    settled_seq: u64,
    stretches: u64,
}

impl Model {
    fn last_seq(&self) -> u64 {
        self.fates.len() as u64
    }

    fn fate(&self, seq: u64) -> Fate {
        self.fates[seq as usize - 1]
    }

    /// The bounds of the entry around `seq`.
    fn bounds(&self, seq: u64) -> (u64, u64) {
        let (mut from, mut to) = (seq, seq);
        if let Fate::Dropped { .. } = self.fate(seq) {
            while from > 1 && self.fate(from - 1) == self.fate(seq) {
                from -= 1;
            }
            while to < self.last_seq() && self.fate(to + 1) == self.fate(seq) {
                to += 1;
            }
        }
        (from, to)
    }

    /// Entries still held, oldest first: (from, to).
    fn entries(&self) -> Vec<(u64, u64)> {
        let mut entries = Vec::new();
        let mut seq = self.oldest_seq;
        while seq <= self.last_seq() {
            let (from, to) = self.bounds(seq);
            entries.push((from, to));
            seq = to + 1;
        }
        entries
    }

    fn cost(&self, seq: u64) -> usize {
        match self.fate(seq) {
            Fate::Frame { len, .. } => len + self.attached_len(seq) + ENTRY_OVERHEAD_BYTES,
            Fate::Dropped { .. } => ENTRY_OVERHEAD_BYTES,
        }
    }

    /// What is settled has nothing attached any more.
    fn attached_len(&self, seq: u64) -> usize {
        match self.fate(seq) {
            Fate::Frame { attached_len, .. } if seq > self.settled_seq => attached_len,
            _ => 0,
        }
    }

    fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        for (_, to) in self.entries() {
            let region = if to <= self.settled_seq {
                &mut usage.kept_bytes
            } else if to <= self.sent_seq {
                &mut usage.in_flight_bytes
            } else {
                &mut usage.unsent_bytes
            };
            *region += self.cost(to);
        }
        usage
    }

    fn drop_range(&mut self, from: u64, to: u64) -> u64 {
        self.stretches += 1;
        let mut frames = 0;
        for seq in from..=to {
            frames += u64::from(matches!(self.fate(seq), Fate::Frame { .. }));
            self.fates[seq as usize - 1] = Fate::Dropped { stretch: self.stretches };
        }
        frames
    }
}

fn step_of(seq: u64) -> u64 {
    10 * seq
}

fn check(model: &Model, buffer: &MemoryBuffer) {
    assert_eq!(buffer.usage(), model.usage());
    let mut seq = model.oldest_seq;
    for (from, to) in model.entries() {
        let entry = buffer.read_from(seq).expect("the model holds this entry");
        assert_eq!((entry.first_seq(), entry.last_seq()), (from, to));
        match (entry, model.fate(from)) {
            (Entry::Frame { bytes, attached, step, .. }, Fate::Frame { len, .. }) => {
                assert_eq!(*step, step_of(from));
                assert_eq!(bytes, &vec![from as u8; len]);
                assert_eq!(attached, &vec![!from as u8; model.attached_len(from)]);
            }
            (Entry::Dropped(stretch), Fate::Dropped { .. }) => {
                assert_eq!((stretch.first_step, stretch.last_step), (step_of(from), step_of(to)));
            }
            (entry, fate) => panic!("{entry:?} instead of {fate:?}"),
        }
        seq = to + 1;
    }
    assert_eq!(buffer.read_from(seq), None);
    assert_eq!(buffer.read_from(0).map(Entry::first_seq), model.entries().first().map(|&(from, _)| from));
}

#[test]
fn random_actions_agree_with_the_model() {
    for seed in 0..200 {
        let mut random = SplitMix64(seed);
        let mut model = Model { oldest_seq: 1, ..Model::default() };
        let mut buffer = MemoryBuffer::default();
        for _ in 0..300 {
            act(&mut random, &mut model, &mut buffer);
            check(&model, &buffer);
        }
    }
}

fn act(random: &mut SplitMix64, model: &mut Model, buffer: &mut MemoryBuffer) {
    match random.below(12) {
        0..=4 => {
            let (seq, len) = (model.last_seq() + 1, random.below(500) as usize);
            let attached_len = random.below(2) as usize * random.below(1000) as usize;
            model.fates.push(Fate::Frame { len, attached_len });
            let (bytes, attached) = (vec![seq as u8; len].into(), vec![!seq as u8; attached_len].into());
            buffer.append(Entry::Frame { seq, step: step_of(seq), bytes, attached });
        }
        5 => {
            let from = model.last_seq() + 1;
            let to = from + random.below(5);
            // It joins a stretch at the end that was not sent yet.
            let last = model.last_seq();
            let joins = last >= model.oldest_seq
                && matches!(model.fate(last), Fate::Dropped { .. })
                && model.bounds(last).0 > model.sent_seq;
            if !joins {
                model.stretches += 1;
            }
            let fate = if joins { model.fate(last) } else { Fate::Dropped { stretch: model.stretches } };
            model.fates.resize(to as usize, fate);
            let stretch = Stretch { from_seq: from, to_seq: to, first_step: step_of(from), last_step: step_of(to) };
            buffer.append(Entry::Dropped(stretch));
        }
        6 | 7 => {
            // The uploader sends whole entries, in order.
            let unsent: Vec<_> = model.entries().into_iter().filter(|&(_, to)| to > model.sent_seq).collect();
            if !unsent.is_empty() {
                model.sent_seq = unsent[random.below(unsent.len() as u64) as usize].1;
                buffer.mark_sent(model.sent_seq);
            }
        }
        8 => {
            // An acknowledgement may point into a stretch.
            let seq = random.between(model.settled_seq, model.sent_seq);
            let before: Vec<_> = model.entries().into_iter().filter(|&(_, to)| to <= model.settled_seq).collect();
            let settled = model.entries().into_iter().filter(|&(_, to)| to <= seq).skip(before.len());
            let frames = settled.filter(|&(from, _)| matches!(model.fate(from), Fate::Frame { .. })).count();
            model.settled_seq = seq;
            assert_eq!(buffer.settle(seq), frames as u64);
        }
        9 => {
            let seq = random.below(model.last_seq() + 3);
            buffer.release_below(seq);
            release_while(model, |_, to| to < seq);
        }
        10 => {
            if random.below(2) == 0 {
                let bytes = random.below(2000) as usize;
                buffer.release_kept_above(bytes);
                release_while(model, |model, _| model.usage().kept_bytes > bytes);
            } else if model.last_seq() > 0 {
                let seq = random.between(1, model.last_seq());
                let possible = seq > model.settled_seq && matches!(model.fate(seq), Fate::Frame { .. });
                let frames = if possible { model.drop_range(seq, seq) } else { 0 };
                assert_eq!(buffer.drop_frame(seq), frames);
            }
        }
        _ => {
            let at_least = random.below(3000) as usize;
            let (mut bytes, mut range) = (0, None);
            for (from, to) in model.entries().into_iter().filter(|&(_, to)| to > model.sent_seq) {
                if range.is_some() && bytes >= at_least && matches!(model.fate(from), Fate::Frame { .. }) {
                    break;
                }
                bytes += model.cost(to);
                range = Some((range.map_or(from, |(first, _)| first), to));
            }
            let frames = range.map_or(0, |(from, to)| model.drop_range(from, to));
            assert_eq!(buffer.drop_unsent(at_least), frames);
        }
    }
}

fn release_while(model: &mut Model, go_on: impl Fn(&Model, u64) -> bool) {
    while let Some(&(_, to)) = model.entries().first() {
        if to > model.settled_seq || !go_on(model, to) {
            break;
        }
        model.oldest_seq = to + 1;
    }
}

#[test]
fn a_dropped_stretch_is_settled_without_counting_as_frames() {
    let mut buffer = MemoryBuffer::default();
    for seq in 1..=4 {
        buffer.append(Entry::Frame {
            seq,
            step: seq,
            bytes: Bytes::from_static(b"fra"),
            attached: Bytes::from_static(b"me"),
        });
    }
    buffer.mark_sent(1);
    assert_eq!(buffer.drop_unsent(2 * (5 + ENTRY_OVERHEAD_BYTES)), 2, "frames 2 and 3");
    buffer.mark_sent(4);
    assert_eq!(buffer.settle(4), 2, "frames 1 and 4");
}
