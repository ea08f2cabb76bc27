//! Which checkpoints are used, and which rows their differences make.

use std::collections::HashMap;
use std::fmt;

use super::error::ImportError;
use super::steps::Checkpoint;

/// Checkpoints whose step is a multiple of the interval, by step.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) checkpoints: Vec<Checkpoint>,
    interval: u64,
    /// Checkpoints at other steps.
    pub(super) left_out: usize,
}

/// A stretch of steps without checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hole {
    first_step: u64,
    last_step: u64,
    checkpoints: u64,
}

impl fmt::Display for Hole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.checkpoints {
            1 => write!(f, "no checkpoint of step {}", self.first_step),
            count => write!(f, "no checkpoints of steps {} to {} ({count})", self.first_step, self.last_step),
        }
    }
}

/// A row that the server has: the step of its frame, and the frame's sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordedRow {
    pub(super) step: u64,
    pub(super) seq: u64,
}

/// One row: from one checkpoint, by its index, to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) base: usize,
    pub(super) end: usize,
}

/// What there is to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// In the order of their sequence numbers. The first `refill` of them are settled already: the server is offered
    /// them again so that its windows can go on.
    pub(super) rows: Vec<Row>,
    pub(super) refill: usize,
    pub(super) first_seq: u64,
    pub(super) settled_seq: u64,
}

impl Series {
    pub(super) fn new(checkpoints: Vec<Checkpoint>, interval: u64) -> Result<Self, ImportError> {
        let given = checkpoints.len();
        let examples: Vec<String> = checkpoints.iter().take(5).map(|it| it.step.to_string()).collect();
        let used: Vec<Checkpoint> = checkpoints.into_iter().filter(|it| it.step.is_multiple_of(interval)).collect();
        let series = Self { left_out: given - used.len(), checkpoints: used, interval };
        if series.rows().next().is_none() {
            let problem = format!(
                "--every {interval}: among {given} checkpoints are no two that are {interval} steps apart and at \
                 multiples of {interval}; their steps begin {}",
                examples.join(", ")
            );
            return Err(ImportError::Usage(problem));
        }
        Ok(series)
    }

    pub(super) fn holes(&self) -> Vec<Hole> {
        let hole = |pair: &[Checkpoint]| {
            let (first_step, last_step) = (pair[0].step + self.interval, pair[1].step - self.interval);
            let checkpoints = (pair[1].step - pair[0].step) / self.interval - 1;
            (checkpoints > 0).then_some(Hole { first_step, last_step, checkpoints })
        };
        self.checkpoints.windows(2).filter_map(hole).collect()
    }

    fn rows(&self) -> impl Iterator<Item = Row> {
        (1..self.checkpoints.len())
            .map(|end| Row { base: end - 1, end })
            .filter(|row| self.checkpoints[row.end].step - self.checkpoints[row.base].step == self.interval)
    }

    /// The rows that the server does not have, and before them as many of the last ones it has as its windows hold.
    ///
    /// Invariant: row and sequence number belong together for ever. What is recorded keeps its number, whatever files are
    /// given now; a checkpoint that turned up since, before the last recorded step, is not used any more.
    pub(super) fn plan(&self, recorded: &[RecordedRow], longest_window: usize) -> Plan {
        let index_of: HashMap<u64, usize> =
            self.checkpoints.iter().enumerate().map(|(index, checkpoint)| (checkpoint.step, index)).collect();
        let row_at = |step: u64| {
            let base = *index_of.get(&step.checked_sub(self.interval)?)?;
            Some(Row { base, end: *index_of.get(&step)? })
        };
        let last = recorded.last().copied();
        let settled_seq = last.map_or(0, |last| last.seq);
        // The change of a window needs the row that left it: one more than the window holds.
        let newest_first = recorded.iter().rev().zip((1..=settled_seq).rev()).take(longest_window + 1);
        let mut rows: Vec<Row> =
            newest_first.map_while(|(row, seq)| row_at(row.step).filter(|_| row.seq == seq)).collect();
        rows.reverse();
        let refill = rows.len();
        rows.extend(self.rows().filter(|row| last.is_none_or(|last| self.checkpoints[row.end].step > last.step)));
        Plan { rows, refill, first_seq: settled_seq + 1 - refill as u64, settled_seq }
    }

    /// How many full windows of a length the recorded and the planned rows make.
    pub(super) fn full_windows(&self, recorded: &[RecordedRow], plan: &Plan, window: usize) -> usize {
        let new = plan.rows[plan.refill..].iter().map(|row| self.checkpoints[row.end].step);
        let (mut full, mut length, mut last) = (0, 0, None);
        for step in recorded.iter().map(|row| row.step).chain(new) {
            length = if last.is_some_and(|last: u64| last + self.interval == step) { length + 1 } else { 1 };
            full += usize::from(length >= window);
            last = Some(step);
        }
        full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(steps: &[u64], interval: u64) -> Series {
        let checkpoints = steps.iter().map(|&step| Checkpoint { step, path: format!("{step}").into() }).collect();
        Series::new(checkpoints, interval).unwrap()
    }

    fn recorded(steps: &[u64]) -> Vec<RecordedRow> {
        (1..).zip(steps).map(|(seq, &step)| RecordedRow { step, seq }).collect()
    }

    #[test]
    fn multiples_are_used_and_holes_named() {
        let series = series(&[0, 10, 20, 25, 40, 50, 60, 100, 110], 10);
        assert_eq!(series.left_out, 1);
        let holes: Vec<String> = series.holes().iter().map(ToString::to_string).collect();
        assert_eq!(holes, ["no checkpoint of step 30", "no checkpoints of steps 70 to 90 (3)"]);
        let plan = series.plan(&[], 3);
        let steps: Vec<_> = plan.rows.iter().map(|row| series.checkpoints[row.end].step).collect();
        assert_eq!((steps, plan.first_seq, plan.settled_seq, plan.refill), (vec![10, 20, 50, 60, 110], 1, 0, 0));
        assert_eq!(series.full_windows(&[], &plan, 2), 2);
        assert_eq!(series.full_windows(&[], &plan, 3), 0);
    }

    #[test]
    fn too_few_checkpoints_are_an_error_that_says_why() {
        let checkpoints = vec![Checkpoint { step: 5, path: "a".into() }, Checkpoint { step: 25, path: "b".into() }];
        let error = Series::new(checkpoints, 20).unwrap_err().to_string();
        assert!(error.contains("--every 20") && error.contains("5, 25"), "{error}");
    }

    #[test]
    fn going_on_offers_what_the_windows_hold_and_then_what_is_new() {
        let all = series(&[0, 10, 20, 30, 40, 50, 60, 70], 10);
        let recorded_rows = recorded(&[10, 20, 30, 40, 50]);
        let plan = all.plan(&recorded_rows, 3);
        assert_eq!((plan.refill, plan.first_seq, plan.settled_seq, plan.rows.len()), (4, 2, 5, 6));
        assert_eq!(plan.rows[0], Row { base: 1, end: 2 });
        assert_eq!(all.full_windows(&recorded_rows, &plan, 3), 5);

        // Only later files: what the windows hold cannot be offered.
        let later = series(&[50, 60, 70], 10);
        let plan = later.plan(&recorded_rows, 3);
        assert_eq!((plan.refill, plan.first_seq, plan.rows.len()), (0, 6, 2));

        // A file that was missing and is there now changes nothing of what is recorded.
        let with_hole = recorded(&[10, 20, 50]);
        let plan = all.plan(&with_hole, 8);
        let steps: Vec<_> = plan.rows.iter().map(|row| all.checkpoints[row.end].step).collect();
        assert_eq!((plan.refill, plan.first_seq, steps), (3, 1, vec![10, 20, 50, 60, 70]));
    }
}
