//! The state machine of one (rule, group).

use serde::{Deserialize, Serialize};

use super::{MachineState, Phase};
use crate::Hold;

/// Where a machine stands. Evaluated again and again while its condition goes on holding, a firing machine stays the same:
/// there is nothing to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) enum State {
    /// The condition does not hold.
    #[default]
    Inactive,
    /// It holds, for so long.
    Pending(Stretch),
    /// It held for long enough, and holds.
    Firing,
    /// It fires, and no longer holds, for so long.
    Keeping(Stretch),
}

/// How long the condition has held, or not held, without a break. What is unknown in between neither lengthens nor breaks it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Stretch {
    /// Evaluations, where they are counted; else 0.
    evaluations: u32,
    /// The server's time of the first, where time counts; else 0.
    since_us: i64,
}

impl Stretch {
    /// Goes on with an evaluation, or begins; `None`: that is as long as is asked for.
    fn extend(before: Option<Self>, asked: Option<Hold>, at_us: i64) -> Option<Self> {
        match asked {
            None => None,
            Some(Hold::Readings(asked)) => {
                let evaluations = before.map_or(0, |it| it.evaluations).saturating_add(1);
                (evaluations < asked).then_some(Self { evaluations, since_us: 0 })
            }
            Some(Hold::Microseconds(asked)) => {
                let since_us = before.map_or(at_us, |it| it.since_us);
                (at_us.saturating_sub(since_us) < asked).then_some(Self { evaluations: 0, since_us })
            }
        }
    }
}

/// `for` and `keep_firing_for` of a rule.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holds {
    pub(super) hold: Option<Hold>,
    pub(super) keep: Option<Hold>,
}

impl State {
    /// What an evaluation whose condition is known makes of it, and what is to be told of that.
    pub(super) fn after(self, condition: bool, holds: Holds, at_us: i64) -> (Self, Option<Phase>) {
        match (self, condition) {
            (Self::Inactive, false) => (self, None),
            (Self::Inactive, true) => match Stretch::extend(None, holds.hold, at_us) {
                Some(stretch) => (Self::Pending(stretch), Some(Phase::Pending)),
                None => (Self::Firing, Some(Phase::Firing)),
            },
            (Self::Pending(stretch), true) => match Stretch::extend(Some(stretch), holds.hold, at_us) {
                Some(stretch) => (Self::Pending(stretch), None),
                None => (Self::Firing, Some(Phase::Firing)),
            },
            (Self::Pending(_), false) => (Self::Inactive, Some(Phase::Inactive)),
            (Self::Firing | Self::Keeping(_), true) => (Self::Firing, None),
            (Self::Firing, false) => Self::keep(None, holds.keep, at_us),
            (Self::Keeping(stretch), false) => Self::keep(Some(stretch), holds.keep, at_us),
        }
    }

    fn keep(before: Option<Stretch>, keep: Option<Hold>, at_us: i64) -> (Self, Option<Phase>) {
        match Stretch::extend(before, keep, at_us) {
            Some(stretch) => (Self::Keeping(stretch), None),
            None => (Self::Inactive, Some(Phase::Resolved)),
        }
    }

    /// What is to be told when it ends, whatever its condition.
    pub(super) fn end(self) -> Option<Phase> {
        match self {
            Self::Inactive => None,
            Self::Pending(_) => Some(Phase::Inactive),
            Self::Firing | Self::Keeping(_) => Some(Phase::Resolved),
        }
    }

    /// Its condition held when it was known last.
    pub(super) fn holds(self) -> bool {
        matches!(self, Self::Pending(_) | Self::Firing)
    }

    /// To be kept; none when there is nothing to keep.
    pub(super) fn to_bytes(self) -> Option<MachineState> {
        if self == Self::Inactive {
            return None;
        }
        // Cannot fail: it writes numbers to a vector.
        postcard::to_stdvec(&Kept::First(self)).ok().map(|bytes| MachineState { bytes })
    }

    /// What was kept; none when it is not understood.
    pub(super) fn from_bytes(kept: &MachineState) -> Option<Self> {
        let (Kept::First(state), rest) = postcard::take_from_bytes(&kept.bytes).ok()?;
        (rest.is_empty() && state != Self::Inactive).then_some(state)
    }
}

/// The number of the variant is the version of the format.
#[derive(Serialize, Deserialize)]
enum Kept {
    First(State),
}
