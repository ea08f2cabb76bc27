//! Joining the frames of a step, which the shards send each at its own pace.

use std::collections::VecDeque;

use crate::pipeline::frame::{Frame, Item};

/// Steps in a row that a shard lets time out before it counts as lost.
const LOST_AFTER_STEPS: u32 = 3;

/// What the shards have brought and what is not settled yet.
///
/// Invariant: what comes next depends on what each shard brought and in which order it brought it, never on which shard
/// was heard first; only a step whose time is up depends on the clock.
#[derive(Debug)]
pub(super) struct Assembler {
    inboxes: Vec<Inbox>,
    /// Steps up to here are settled, or belong to an earlier attempt.
    settled_to: Option<u64>,
}

#[derive(Debug, Default)]
struct Inbox {
    /// By seq.
    waiting: VecDeque<Waiting>,
    /// It can bring no step up to here: it said that it gave them up.
    gave_up_to: Option<u64>,
    /// When it last brought something; in the future while it is given time to connect again.
    heard_us: i64,
    /// It has said that it is over.
    ended: bool,
    /// It has gone on to a later attempt.
    left: bool,
    /// Steps in a row for which it was waited in vain.
    absent_steps: u32,
    lost: bool,
}

#[derive(Debug)]
struct Waiting {
    item: Item,
    arrived_us: i64,
}

/// What is to be done next.
#[derive(Debug)]
pub(super) enum Next {
    /// An item that belongs to no step that could still be settled: not a frame, or a frame that comes too late.
    /// Seldom, and far larger than the other: so it is boxed.
    Pass {
        shard: u32,
        item: Box<Item>,
    },
    Step(Parts),
}

/// All that there will be of a step.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) step: u64,
    /// By shard.
    pub(super) frames: Vec<(u32, Frame)>,
    /// Shards that are lost since this step.
    pub(super) newly_lost: Vec<u32>,
}

impl Assembler {
    pub(super) fn new(shard_count: u32, settled_to: Option<u64>) -> Self {
        Self { inboxes: (0..shard_count).map(|_| Inbox::default()).collect(), settled_to }
    }

    /// Adds what a shard brings next.
    pub(super) fn push(&mut self, shard: u32, item: Item, now_us: i64) {
        let inbox = &mut self.inboxes[shard as usize];
        inbox.waiting.push_back(Waiting { item, arrived_us: now_us });
        inbox.heard_us = now_us;
        inbox.absent_steps = 0;
    }

    /// A shard is as good as heard until then, unless it connects.
    pub(super) fn expect_back(&mut self, shard: u32, until_us: i64) {
        self.inboxes[shard as usize].heard_us = until_us;
    }

    /// A shard has connected: from now on it has the time that any has.
    pub(super) fn came_back(&mut self, shard: u32, now_us: i64) {
        let heard_us = &mut self.inboxes[shard as usize].heard_us;
        *heard_us = now_us.min(*heard_us);
        self.inboxes[shard as usize].left = false;
    }

    /// A shard has gone on to a later attempt, unless it connects to this one again.
    pub(super) fn leave(&mut self, shard: u32) {
        self.inboxes[shard as usize].left = true;
    }

    /// Takes back what a shard brought behind `seq`.
    pub(super) fn forget_behind(&mut self, shard: u32, seq: u64) {
        let waiting = &mut self.inboxes[shard as usize].waiting;
        while waiting.back().is_some_and(|last| last.item.first_seq() > seq) {
            waiting.pop_back();
        }
    }

    /// Takes out what a shard brought up to `seq`; answers the frame of that very seq, if it is one.
    pub(super) fn take_up_to(&mut self, shard: u32, seq: u64) -> Option<Frame> {
        let waiting = &mut self.inboxes[shard as usize].waiting;
        let mut found = None;
        while waiting.front().is_some_and(|first| first.item.last_seq() <= seq) {
            found = waiting.pop_front();
        }
        match found?.item {
            Item::Frame(frame) if frame.seq == seq => Some(frame),
            _ => None,
        }
    }

    /// A shard has said that it is over, and everything before that was taken in.
    pub(super) fn end(&mut self, shard: u32) {
        self.inboxes[shard as usize].ended = true;
    }

    pub(super) fn lose(&mut self, shard: u32) {
        self.inboxes[shard as usize].lost = true;
    }

    /// True when the shard was lost, and so is no longer.
    pub(super) fn find(&mut self, shard: u32) -> bool {
        std::mem::replace(&mut self.inboxes[shard as usize].lost, false)
    }

    pub(super) fn is_lost(&self, shard: u32) -> bool {
        self.inboxes[shard as usize].lost
    }

    /// Nothing more will come of a shard, as far as can be known.
    pub(super) fn is_gone(&self, shard: u32) -> bool {
        let inbox = &self.inboxes[shard as usize];
        inbox.lost || inbox.ended || inbox.left
    }

    /// Whether something has waited since before `before_us` for a shard that has brought nothing since then.
    pub(super) fn is_overdue(&self, shard: u32, before_us: Option<i64>) -> bool {
        let oldest_us = self.inboxes.iter().filter_map(|inbox| Some(inbox.waiting.front()?.arrived_us)).min();
        before_us.is_some_and(|before_us| {
            self.inboxes[shard as usize].heard_us <= before_us && oldest_us.is_some_and(|oldest| oldest <= before_us)
        })
    }

    /// A step was settled: what else comes of it, or of one before it, is late.
    pub(super) fn settled(&mut self, step: u64) {
        self.settled_to = Some(step);
    }

    /// What can be settled next, in the order of steps. `overdue_before_us` says for whom it was waited long enough:
    /// who has brought nothing since then for a step that somebody else brought before then.
    ///
    /// Invariant: a step is whole once every shard has brought it, and is settled without those that cannot bring it any
    /// more: they went past it, gave it up, are over, have gone on to a later attempt, are lost, or were waited for long enough.
    pub(super) fn next(&mut self, overdue_before_us: Option<i64>) -> Option<Next> {
        let mut next_step: Option<u64> = None;
        for (shard, inbox) in (0..).zip(&mut self.inboxes) {
            let step = match inbox.waiting.front() {
                None => continue,
                Some(Waiting { item: Item::Frame(frame), .. })
                    if self.settled_to.is_none_or(|settled| frame.step > settled) =>
                {
                    frame.step
                }
                Some(_) => {
                    let item = inbox.waiting.pop_front()?.item;
                    if let Item::Dropped { last_step, .. } = item {
                        inbox.gave_up_to = inbox.gave_up_to.max(Some(last_step));
                    }
                    return Some(Next::Pass { shard, item: Box::new(item) });
                }
            };
            next_step = Some(next_step.map_or(step, |least| least.min(step)));
        }
        let step = next_step?;
        let arrived_us = self.inboxes.iter().filter_map(|inbox| inbox.arrived_us(step)).min()?;
        for inbox in &self.inboxes {
            let overdue =
                overdue_before_us.is_some_and(|before_us| arrived_us <= before_us && inbox.heard_us <= before_us);
            if inbox.can_still_bring(step) && !overdue {
                return None;
            }
        }
        let (mut frames, mut newly_lost) = (Vec::new(), Vec::new());
        for (shard, inbox) in (0..).zip(&mut self.inboxes) {
            if inbox.arrived_us(step).is_some() {
                if let Some(Waiting { item: Item::Frame(frame), .. }) = inbox.waiting.pop_front() {
                    frames.push((shard, frame));
                }
            } else if inbox.can_still_bring(step) {
                inbox.absent_steps += 1;
                if inbox.absent_steps == LOST_AFTER_STEPS {
                    inbox.lost = true;
                    newly_lost.push(shard);
                }
            }
        }
        Some(Next::Step(Parts { step, frames, newly_lost }))
    }
}

impl Inbox {
    /// When the frame of a step came, if that is what the shard brings next.
    fn arrived_us(&self, step: u64) -> Option<i64> {
        match self.waiting.front()? {
            Waiting { item: Item::Frame(frame), arrived_us } if frame.step == step => Some(*arrived_us),
            _ => None,
        }
    }

    /// Whether a step that it has not brought may still come from it.
    fn can_still_bring(&self, step: u64) -> bool {
        let went_past = self.gave_up_to.is_some_and(|gave_up_to| step <= gave_up_to);
        self.waiting.is_empty() && !went_past && !self.ended && !self.left && !self.lost
    }
}

#[cfg(test)]
mod tests;
