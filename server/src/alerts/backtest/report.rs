//! What is answered.

use gradwatch_rules::{
    backtest::{Firings, Judgement, Lead, Proportion, Score},
    evaluator::ActiveRule,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::outcome::{RunOutcome, Truth};

/// What rules would have said of recorded runs.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct BacktestReport {
    /// As it was asked for; null: it was not.
    truth: Option<String>,
    /// Runs that were replayed.
    runs_total: usize,
    /// In which the truth came true; null without one.
    positive_runs: Option<usize>,
    /// In which it did not; null without a truth.
    negative_runs: Option<usize>,
    /// Of which nothing was recorded that the truth looks at; they count for nothing else. Null without a truth.
    unknown_runs: Option<usize>,
    /// Share of positive runs: the precision of a rule that always fires. Null without a truth.
    base_rate: Option<ProportionView>,
    /// Steps that were evaluated.
    steps: u64,
    /// In the order of the rules.
    rules: Vec<RuleReport>,
    /// The runs, oldest first.
    runs: Vec<RunReport>,
}

/// One rule over the runs that it selects.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct RuleReport {
    rule: String,
    /// Its condition.
    when: String,
    severity: &'static str,
    /// Runs that it selects, without the unknown ones.
    runs: usize,
    /// Of these, those in which it fired.
    fired: usize,
    /// Those in which it did not.
    quiet: usize,
    /// How often it fired in all of them, over all groups.
    alerts: usize,
    /// Against the truth; null without one.
    judgement: Option<JudgementView>,
    /// Runs in which it fired, oldest first.
    firings: Vec<FiringReport>,
}

/// One rule against the truth. Runs are counted, not alerts.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = BacktestJudgement)]
pub(crate) struct JudgementView {
    /// Positive runs in which it first fired at the step of the truth or before it.
    true_positives: usize,
    /// Positive runs in which it first fired behind it.
    late: usize,
    /// Positive runs in which it was quiet.
    missed: usize,
    /// Negative runs in which it fired.
    false_alarm_runs: usize,
    /// How often it fired in these.
    false_alarms: usize,
    /// Negative runs in which it was quiet.
    true_negatives: usize,
    /// true_positives / (true_positives + false_alarm_runs).
    precision: ProportionView,
    /// true_positives / positive runs.
    recall: ProportionView,
    /// false_alarm_runs / negative runs.
    false_alarm_rate: ProportionView,
    /// How far ahead of the truth it was.
    lead: LeadView,
}

/// A share of runs with its Wilson 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = BacktestProportion)]
pub(crate) struct ProportionView {
    count: usize,
    of: usize,
    /// Null of none.
    value: Option<f64>,
    low: Option<f64>,
    high: Option<f64>,
}

/// Steps from the first firing to the truth, over the true positives.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = BacktestLead)]
pub(crate) struct LeadView {
    /// True positives.
    runs: usize,
    /// Null of none.
    median: Option<f64>,
    /// Of the bootstrap 95 % interval of the median; null of fewer than two.
    low: Option<f64>,
    high: Option<f64>,
}

/// A run in which a rule fired.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct FiringReport {
    /// UUID.
    run_id: String,
    /// The step at which it first fired.
    first_step: u64,
    /// How often it fired, over all groups.
    alerts: usize,
    /// Steps from there to the truth; null where it was behind it, or there was none.
    lead: Option<u64>,
}

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct RunReport {
    /// UUID.
    run_id: String,
    name: String,
    /// `positive`, `negative`, or `unknown`; null without a truth.
    truth: Option<&'static str>,
    /// The first step at which the truth held.
    truth_step: Option<u64>,
}

impl BacktestReport {
    pub(super) fn new(rules: &[ActiveRule], truth: Option<String>, outcomes: &[RunOutcome], steps: u64) -> Self {
        let count = |wanted: fn(&Truth) -> bool| outcomes.iter().filter(|outcome| wanted(&outcome.truth)).count();
        let positive = count(|truth| matches!(truth, Truth::At(_)));
        let negative = count(|truth| *truth == Truth::Never);
        let unknown = count(|truth| *truth == Truth::Unknown);
        let asked = truth.is_some();
        Self {
            runs_total: outcomes.len(),
            positive_runs: asked.then_some(positive),
            negative_runs: asked.then_some(negative),
            unknown_runs: asked.then_some(unknown),
            base_rate: asked.then(|| Proportion::new(positive, positive + negative).into()),
            steps,
            rules: rules.iter().enumerate().map(|(at, rule)| rule_report(rule, at, asked, outcomes)).collect(),
            runs: outcomes.iter().map(run_report).collect(),
            truth,
        }
    }
}

fn rule_report(rule: &ActiveRule, at: usize, asked: bool, outcomes: &[RunOutcome]) -> RuleReport {
    let watched: Vec<(&RunOutcome, &Firings)> = outcomes
        .iter()
        .filter(|outcome| outcome.truth != Truth::Unknown)
        .filter_map(|outcome| Some((outcome, outcome.firings[at].as_ref()?)))
        .collect();
    let truth_step = |outcome: &RunOutcome| match outcome.truth {
        Truth::At(step) => Some(step),
        Truth::NotAsked | Truth::Unknown | Truth::Never => None,
    };
    let Score { runs, fired, quiet, alerts } = Score::of(watched.iter().map(|(_, firings)| *firings));
    let firing = |(outcome, firings): &(&RunOutcome, &Firings)| {
        Some(FiringReport {
            run_id: outcome.run_id.to_string(),
            first_step: firings.first_step?,
            alerts: firings.alerts,
            lead: firings.lead(truth_step(outcome)),
        })
    };
    let judge = || Judgement::of(watched.iter().map(|(outcome, firings)| (truth_step(outcome), *firings)));
    RuleReport {
        rule: rule.rule.definition.name.clone(),
        when: rule.rule.definition.when.clone(),
        severity: rule.rule.definition.severity.as_str(),
        runs,
        fired,
        quiet,
        alerts,
        judgement: asked.then(|| judge().into()),
        firings: watched.iter().filter_map(firing).collect(),
    }
}

fn run_report(outcome: &RunOutcome) -> RunReport {
    let (truth, truth_step) = match outcome.truth {
        Truth::NotAsked => (None, None),
        Truth::Unknown => (Some("unknown"), None),
        Truth::Never => (Some("negative"), None),
        Truth::At(step) => (Some("positive"), Some(step)),
    };
    RunReport { run_id: outcome.run_id.to_string(), name: outcome.name.clone(), truth, truth_step }
}

impl From<Judgement> for JudgementView {
    fn from(judged: Judgement) -> Self {
        Self {
            true_positives: judged.true_positives,
            late: judged.late,
            missed: judged.missed,
            false_alarm_runs: judged.false_alarm_runs,
            false_alarms: judged.false_alarms,
            true_negatives: judged.true_negatives,
            precision: judged.precision.into(),
            recall: judged.recall.into(),
            false_alarm_rate: judged.false_alarm_rate.into(),
            lead: judged.lead.into(),
        }
    }
}

impl From<Proportion> for ProportionView {
    fn from(Proportion { count, of, value, low, high }: Proportion) -> Self {
        Self { count, of, value, low, high }
    }
}

impl From<Lead> for LeadView {
    fn from(Lead { runs, median, low, high }: Lead) -> Self {
        Self { runs, median, low, high }
    }
}
