//! A rule as the API shows it.

use std::collections::HashMap;

use gradwatch_rules::language::{CompiledRule, Condition, Family};
use gradwatch_store::{AlertCount, AlertRule, AlertState};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::rules::RuleBody;
use crate::{alerts::RuleSet, api::time::Time};

/// A rule: what was written, and what the server makes of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RuleView {
    /// UUID; stays when the rule is replaced.
    rule_id: String,
    pub(super) name: String,
    /// `api`, or `file`: only the file of rules changes it.
    source: &'static str,
    /// The project that it selects; null: all.
    project: Option<String>,
    /// Grows when what it looks for changes (`select`, `when`, `for`, `keep_firing_for`, `max_age`); its alerts then end.
    revision: u32,
    /// It says nothing of steps that the server received before this.
    active_from: Time,
    updated_at: Time,
    /// As it was written.
    #[schema(value_type = RuleBody)]
    definition: Value,
    condition: ConditionView,
    /// Its alerts that are pending now.
    pending: u64,
    /// Its alerts that fire now.
    firing: u64,
}

/// What a condition was understood as.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ConditionView {
    /// `event` or `expression`.
    kind: &'static str,
    /// What an expression is evaluated for, one by one: `run`, `group`, or `layer`. Null for an event: what it happens to.
    evaluated_for: Option<&'static str>,
    /// Whose layers.
    instrument: Option<&'static str>,
    /// The metrics and scalars that it looks at.
    terms: Vec<String>,
}

impl From<&CompiledRule> for ConditionView {
    fn from(rule: &CompiledRule) -> Self {
        match &*rule.condition {
            Condition::Event(_) => Self { kind: "event", evaluated_for: None, instrument: None, terms: Vec::new() },
            Condition::Expression(expression) => {
                let (evaluated_for, instrument) = match expression.family {
                    Family::Run => ("run", None),
                    Family::Groups => ("group", None),
                    Family::Layers(instrument) => ("layer", Some(instrument.as_str())),
                };
                Self {
                    kind: "expression",
                    evaluated_for: Some(evaluated_for),
                    instrument,
                    terms: expression.terms.iter().map(ToString::to_string).collect(),
                }
            }
        }
    }
}

/// The open alerts of rules.
#[derive(Debug, Default)]
pub(super) struct OpenAlerts(HashMap<Uuid, (u64, u64)>);

impl OpenAlerts {
    pub(super) fn new(counts: &[AlertCount]) -> Self {
        let mut by_rule: HashMap<Uuid, (u64, u64)> = HashMap::new();
        for count in counts {
            let (pending, firing) = by_rule.entry(count.rule_id).or_default();
            match count.state {
                AlertState::Pending => *pending += count.alerts,
                AlertState::Firing => *firing += count.alerts,
                AlertState::Resolved => {}
            }
        }
        Self(by_rule)
    }
}

impl RuleView {
    /// A rule that is in force, by its place.
    pub(super) fn of(set: &RuleSet, place: usize, open: &OpenAlerts) -> Option<Self> {
        Some(Self::new(set.rules.get(place)?, &set.active.get(place)?.rule, open))
    }

    pub(super) fn new(rule: &AlertRule, compiled: &CompiledRule, open: &OpenAlerts) -> Self {
        let (pending, firing) = open.0.get(&rule.rule_id).copied().unwrap_or_default();
        Self {
            rule_id: rule.rule_id.to_string(),
            name: rule.name.clone(),
            source: rule.source.as_str(),
            project: rule.project.clone(),
            revision: rule.revision,
            active_from: Time(rule.active_from_us),
            updated_at: Time(rule.updated_at_us),
            definition: rule.definition.clone(),
            condition: compiled.into(),
            pending,
            firing,
        }
    }
}
