//! Steps that a run fails on again and again, so that one frame cannot stop it for ever.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

/// How often a run is begun again from the same step before that step is left out.
const STRIKES: u32 = 3;
/// Items that are worked on one by one after a fault, each in a transaction of its own, so that the next fault shows
/// what it is about. A fault further away finds the run nearer to it each time.
const CAREFUL_ITEMS: usize = 4_096;

/// A step of a segment.
pub(crate) type StepId = (u32, u64);

/// The step that is being worked on, to be read when that ends in a panic.
#[derive(Debug, Default)]
pub(crate) struct Suspect(Mutex<Option<StepId>>);

impl Suspect {
    pub(crate) fn note(&self, segment: u32, step: u64) {
        *self.lock() = Some((segment, step));
    }

    pub(crate) fn take(&self) -> Option<StepId> {
        self.lock().take()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<StepId>> {
        // What it guards is whole after any panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The faults of one run since it got this actor.
///
/// Invariant (promise 11): a step on which the owner panics, or which the database refuses as data, is tried three times
/// and then left out, with its frames rejected; the run goes on behind it. Trouble of another kind never leads here.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    last: Option<StepId>,
    strikes: u32,
    careful_items: usize,
    poisoned: BTreeSet<StepId>,
}

impl Faults {
    /// The run has to begin again because of a step.
    pub(crate) fn add(&mut self, step: StepId) {
        self.strikes = if self.last == Some(step) { self.strikes + 1 } else { 1 };
        self.last = Some(step);
        self.careful_items = CAREFUL_ITEMS;
        if self.strikes >= STRIKES {
            self.poisoned.insert(step);
        }
    }

    /// Whether the next item is to be worked on alone.
    pub(crate) fn is_careful(&self) -> bool {
        self.careful_items > 0
    }

    /// An item was worked on alone.
    pub(crate) fn passed_item(&mut self) {
        self.careful_items = self.careful_items.saturating_sub(1);
    }

    /// Steps of a segment that are left out.
    pub(crate) fn poisoned(&self, segment: u32) -> BTreeSet<u64> {
        self.poisoned.iter().filter(|(of, _)| *of == segment).map(|(_, step)| *step).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_step_three_times_running_is_left_out() {
        let mut faults = Faults::default();
        for step in [7, 7, 8, 7, 7] {
            faults.add((1, step));
            assert_eq!(faults.poisoned(1), BTreeSet::new());
        }
        assert!(faults.is_careful());
        faults.add((1, 7));
        assert_eq!(faults.poisoned(1), BTreeSet::from([7]));
        assert_eq!(faults.poisoned(2), BTreeSet::new());
    }
}
