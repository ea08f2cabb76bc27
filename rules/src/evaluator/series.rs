//! The last values of one term.

use std::collections::VecDeque;

/// The last values of one metric or scalar, shared by all rules of a run.
///
/// > **Invariant: nothing is carried along.** It holds values, and no running sums: whatever is computed of the last n values is the
/// > same bits whether the evaluator saw the whole run or was refilled with n values.
#[derive(Clone, Debug)]
pub(super) struct Series {
    values: VecDeque<f64>,
    /// Only as many as somebody asks for: the last two, or those that a slope goes through.
    steps: VecDeque<u64>,
    keep_values: usize,
    keep_steps: usize,
    /// Steps between two values; 0: as many as between the last two.
    interval: u32,
}

impl Series {
    /// Keeps so many values and steps.
    pub(super) fn new(keep_values: usize, keep_steps: usize, interval: u32) -> Self {
        Self {
            values: VecDeque::new(),
            steps: VecDeque::new(),
            keep_values: keep_values.max(1),
            keep_steps: keep_steps.max(2),
            interval,
        }
    }

    /// A value at a step behind all before.
    pub(super) fn push(&mut self, step: u64, value: f64) {
        keep_last(&mut self.values, self.keep_values, value);
        keep_last(&mut self.steps, self.keep_steps, step);
    }

    /// How many values it takes to be as if it had seen all.
    pub(super) fn look_back(&self) -> usize {
        self.keep_values.max(if self.interval > 0 { 1 } else { 2 })
    }

    /// The step of the newest value.
    pub(super) fn newest_step(&self) -> Option<u64> {
        self.steps.back().copied()
    }

    /// The newest value, when it is not too old at this step: older than `max_age`, or than twice the cadence.
    pub(super) fn newest(&self, at_step: u64, max_age: Option<u64>) -> Option<f64> {
        let step = self.newest_step()?;
        let age = at_step.saturating_sub(step);
        if age <= max_age.unwrap_or_else(|| self.cadence().saturating_mul(2)) {
            self.values.back().copied()
        } else {
            None
        }
    }

    /// 0 with one value only: then nobody knows how long it is good for, and it is taken at its own step.
    fn cadence(&self) -> u64 {
        if self.interval > 0 {
            return u64::from(self.interval);
        }
        let mut newest = self.steps.iter().rev();
        match (newest.next(), newest.next()) {
            (Some(last), Some(before)) => last.saturating_sub(*before),
            _ => 0,
        }
    }

    /// Copies the last n values, oldest first; false when there are not as many.
    pub(super) fn last_values(&self, n: usize, to: &mut Vec<f64>) -> bool {
        last(&self.values, n, to)
    }

    /// Copies the steps of the last n values, as distances from the first of them.
    pub(super) fn last_steps(&self, n: usize, to: &mut Vec<f64>) -> bool {
        let Some(skip) = self.steps.len().checked_sub(n) else { return false };
        let first = self.steps.get(skip).copied().unwrap_or_default();
        to.extend(self.steps.iter().skip(skip).map(|step| step.saturating_sub(first) as f64));
        true
    }
}

fn last(values: &VecDeque<f64>, n: usize, to: &mut Vec<f64>) -> bool {
    let Some(skip) = values.len().checked_sub(n) else { return false };
    to.extend(values.iter().skip(skip));
    true
}

fn keep_last<T>(kept: &mut VecDeque<T>, most: usize, value: T) {
    if kept.capacity() == 0 {
        kept.reserve_exact(most);
    }
    if kept.len() == most {
        kept.pop_front();
    }
    kept.push_back(value);
}
