//! A report for people.

use std::fmt;

use serde::Deserialize;

use crate::cli::table::Table;

/// What of the report a person is shown.
#[derive(Deserialize)]
pub(super) struct Report {
    truth: Option<String>,
    runs_total: usize,
    positive_runs: Option<usize>,
    negative_runs: Option<usize>,
    unknown_runs: Option<usize>,
    base_rate: Option<Proportion>,
    steps: u64,
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    rule: String,
    runs: usize,
    fired: usize,
    quiet: usize,
    alerts: usize,
    judgement: Option<Judgement>,
    firings: Vec<Firing>,
}

#[derive(Deserialize)]
struct Judgement {
    late: usize,
    missed: usize,
    precision: Proportion,
    recall: Proportion,
    false_alarm_rate: Proportion,
    lead: Lead,
}

#[derive(Deserialize)]
struct Firing {
    first_step: u64,
}

#[derive(Clone, Copy, Deserialize)]
struct Proportion {
    count: usize,
    of: usize,
    low: Option<f64>,
    high: Option<f64>,
}

#[derive(Deserialize)]
struct Lead {
    median: Option<f64>,
    low: Option<f64>,
    high: Option<f64>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (runs, steps) = (self.runs_total, self.steps);
        writeln!(f, "{runs} runs, {steps} steps")?;
        let Some(truth) = &self.truth else {
            let mut table = Table::new(["RULE", "RUNS", "FIRED", "QUIET", "ALERTS", "FIRST STEP"]);
            for rule in &self.rules {
                table.row([
                    rule.rule.clone(),
                    rule.runs.to_string(),
                    rule.fired.to_string(),
                    rule.quiet.to_string(),
                    rule.alerts.to_string(),
                    rule.first_steps(),
                ]);
            }
            return write!(f, "{table}");
        };
        let count = |runs: Option<usize>| runs.unwrap_or_default();
        let (positive, negative) = (count(self.positive_runs), count(self.negative_runs));
        write!(f, "truth: {truth}: in {positive} runs, not in {negative}")?;
        match count(self.unknown_runs) {
            0 => writeln!(f)?,
            unknown => writeln!(f, "; {unknown} never recorded what it looks at, and count for nothing")?,
        }
        if let Some(base_rate) = self.base_rate {
            writeln!(f, "a rule that always fires has precision {base_rate}")?;
        }
        let columns =
            ["RULE", "FIRED", "PRECISION", "RECALL", "FALSE ALARMS", "LEAD", "LATE", "MISSED", "ALERTS", "FIRST STEP"];
        let mut table = Table::new(columns);
        for rule in &self.rules {
            let Some(judgement) = &rule.judgement else { continue };
            table.row([
                rule.rule.clone(),
                format!("{}/{}", rule.fired, rule.runs),
                judgement.precision.to_string(),
                judgement.recall.to_string(),
                judgement.false_alarm_rate.to_string(),
                judgement.lead.to_string(),
                judgement.late.to_string(),
                judgement.missed.to_string(),
                rule.alerts.to_string(),
                rule.first_steps(),
            ]);
        }
        write!(f, "\n{table}\nIn brackets: 95 % intervals (Wilson; of the median lead: bootstrap). Leads in steps.\n")
    }
}

impl Rule {
    /// From the earliest to the latest.
    fn first_steps(&self) -> String {
        let steps = || self.firings.iter().map(|firing| firing.first_step);
        match (steps().min(), steps().max()) {
            (Some(first), Some(last)) if first < last => format!("{first}..{last}"),
            (Some(first), _) => first.to_string(),
            _ => "-".to_owned(),
        }
    }
}

impl fmt::Display for Proportion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(low), Some(high)) = (self.low, self.high) else { return f.write_str("-") };
        let percent = |share: f64| 100.0 * share;
        write!(f, "{}/{} ({:.0}-{:.0} %)", self.count, self.of, percent(low), percent(high))
    }
}

impl fmt::Display for Lead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(median) = self.median else { return f.write_str("-") };
        match (self.low, self.high) {
            (Some(low), Some(high)) => write!(f, "{median} ({low:.0}-{high:.0})"),
            _ => write!(f, "{median}"),
        }
    }
}
