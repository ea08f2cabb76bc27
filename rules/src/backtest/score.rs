//! One rule over all runs.

use serde::{Deserialize, Serialize};

use super::{Lead, Proportion};

/// What a rule said of one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Firings {
    /// How often it began to fire, over all groups.
    pub alerts: usize,
    /// The step at which it first did.
    pub first_step: Option<u64>,
}

impl Firings {
    /// It fired, at a step. Steps of a live line grow.
    pub fn fired(&mut self, step: u64) {
        self.alerts += 1;
        self.first_step.get_or_insert(step);
    }

    /// By how many steps it was ahead of the truth; `None` when it was behind, or there was nothing to be ahead of.
    #[must_use]
    pub fn lead(&self, truth_step: Option<u64>) -> Option<u64> {
        truth_step?.checked_sub(self.first_step?)
    }
}

/// One rule over the runs that it selects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Runs that it selects.
    pub runs: usize,
    /// Of these, those in which it fired.
    pub fired: usize,
    /// Those in which it did not.
    pub quiet: usize,
    /// How often it fired in all of them.
    pub alerts: usize,
}

/// One rule against the truth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// Positive runs in which it first fired at the step of the truth or before it.
    pub true_positives: usize,
    /// Positive runs in which it first fired behind it.
    pub late: usize,
    /// Positive runs in which it was quiet.
    pub missed: usize,
    /// Negative runs in which it fired.
    pub false_alarm_runs: usize,
    /// How often it fired in these.
    pub false_alarms: usize,
    /// Negative runs in which it was quiet.
    pub true_negatives: usize,
    /// true_positives / (true_positives + false_alarm_runs).
    pub precision: Proportion,
    /// true_positives / positive runs.
    pub recall: Proportion,
    /// false_alarm_runs / negative runs.
    pub false_alarm_rate: Proportion,
    /// How far ahead it was.
    pub lead: Lead,
}

impl Score {
    /// Counts.
    pub fn of<'a>(firings: impl IntoIterator<Item = &'a Firings>) -> Self {
        let mut score = Self { runs: 0, fired: 0, quiet: 0, alerts: 0 };
        for run in firings {
            score.runs += 1;
            score.alerts += run.alerts;
            match run.first_step {
                Some(_) => score.fired += 1,
                None => score.quiet += 1,
            }
        }
        score
    }
}

impl Judgement {
    /// Counts runs, each with the step at which the truth came true.
    pub fn of<'a>(runs: impl IntoIterator<Item = (Option<u64>, &'a Firings)>) -> Self {
        let (mut late, mut missed, mut false_alarm_runs, mut false_alarms, mut true_negatives) = (0, 0, 0, 0, 0);
        let mut leads = Vec::new();
        for (truth_step, run) in runs {
            match (truth_step, run.first_step) {
                (Some(_), None) => missed += 1,
                (Some(_), Some(_)) => match run.lead(truth_step) {
                    Some(lead) => leads.push(lead),
                    None => late += 1,
                },
                (None, None) => true_negatives += 1,
                (None, Some(_)) => {
                    false_alarm_runs += 1;
                    false_alarms += run.alerts;
                }
            }
        }
        let true_positives = leads.len();
        Self {
            true_positives,
            late,
            missed,
            false_alarm_runs,
            false_alarms,
            true_negatives,
            precision: Proportion::new(true_positives, true_positives + false_alarm_runs),
            recall: Proportion::new(true_positives, true_positives + late + missed),
            false_alarm_rate: Proportion::new(false_alarm_runs, false_alarm_runs + true_negatives),
            lead: Lead::of(&leads),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn firings(steps: &[u64]) -> Firings {
        let mut firings = Firings::default();
        steps.iter().for_each(|step| firings.fired(*step));
        firings
    }

    #[test]
    fn every_kind_of_run_is_counted_once() {
        let runs = [
            (Some(100), firings(&[60, 90])), // 40 ahead
            (Some(100), firings(&[100])),    // at the step itself
            (Some(100), firings(&[101])),    // late
            (Some(100), firings(&[])),       // missed
            (None, firings(&[5, 6, 7])),     // false alarm
            (None, firings(&[])),            // rightly quiet
            (None, firings(&[])),            // rightly quiet
            (Some(0), firings(&[0])),        // at once
        ];
        let score = Score::of(runs.iter().map(|(_, firings)| firings));
        assert_eq!(score, Score { runs: 8, fired: 5, quiet: 3, alerts: 8 });
        let judged = Judgement::of(runs.iter().map(|(truth, firings)| (*truth, firings)));
        let expected = Judgement {
            true_positives: 3,
            late: 1,
            missed: 1,
            false_alarm_runs: 1,
            false_alarms: 3,
            true_negatives: 2,
            precision: Proportion::new(3, 4),
            recall: Proportion::new(3, 5),
            false_alarm_rate: Proportion::new(1, 3),
            lead: Lead::of(&[40, 0, 0]),
        };
        assert_eq!(judged, expected);
        assert_eq!(judged.lead.median, Some(0.0));
    }

    #[test]
    fn what_cannot_be_computed_is_null() {
        let quiet = firings(&[]);
        let judged = Judgement::of([(None, &quiet)]);
        let shown = serde_json::to_value(&judged).unwrap();
        for undefined in [&shown["precision"]["value"], &shown["recall"]["low"], &shown["lead"]["median"]] {
            assert!(undefined.is_null(), "{shown}");
        }
        assert_eq!(shown["false_alarm_rate"]["value"], 0.0);
        assert_eq!(Judgement::of([]).false_alarm_rate.value, None);
    }
}
