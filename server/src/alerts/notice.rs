//! What is told of an alert: complete when it is recorded, so that sending it asks nothing more.

use std::collections::BTreeMap;

use gradwatch_store::{Alert, RunId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::api::Time;

/// One alert as receivers see it. Times are RFC 3339.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Notice {
    /// The same for everything that is told of this alert: what tells duplicates.
    pub alert_id: Uuid,
    /// `firing` or `resolved`.
    pub status: String,
    /// Name of the rule.
    pub rule: String,
    /// `info`, `warning` or `critical`.
    pub severity: String,
    /// The project.
    pub project: String,
    /// The run.
    pub run_id: RunId,
    /// Its display name.
    pub run_name: String,
    /// The group or layer; empty: the run.
    pub group: String,
    /// One line.
    pub summary: String,
    /// The rule's labels and those of the run.
    pub labels: BTreeMap<String, String>,
    /// More to say.
    pub annotations: BTreeMap<String, String>,
    /// Values of the condition's terms when it fired.
    pub values: BTreeMap<String, f64>,
    /// When it began to fire.
    pub fired_at: String,
    /// The step at which it began to fire.
    pub fired_step: u64,
    /// When it ended.
    pub resolved_at: Option<String>,
    /// The step at which it ended.
    pub resolved_step: Option<u64>,
    /// Why it ended.
    pub resolved_reason: Option<String>,
    /// Where to look, when `alerts.public_url` is set.
    pub url: Option<String>,
}

impl Notice {
    /// What is told of an alert as it is.
    pub(crate) fn new(alert: &Alert, run_name: &str, public_url: Option<&str>) -> Self {
        let fired = alert.fired.unwrap_or(alert.pending);
        let values = serde_json::from_value(alert.values.clone()).unwrap_or_default();
        Self {
            alert_id: alert.alert_id,
            status: alert.state.as_str().to_owned(),
            rule: alert.rule_name.clone(),
            severity: alert.severity.clone(),
            project: alert.project.clone(),
            run_id: alert.run_id,
            run_name: run_name.to_owned(),
            group: alert.group.clone(),
            summary: alert.summary.clone(),
            labels: alert.labels.clone(),
            annotations: alert.annotations.clone(),
            values,
            fired_at: Time(fired.at_us).text(),
            fired_step: fired.step,
            resolved_at: alert.resolved.as_ref().map(|(moment, _)| Time(moment.at_us).text()),
            resolved_step: alert.resolved.as_ref().map(|(moment, _)| moment.step),
            resolved_reason: alert.resolved.as_ref().map(|(_, reason)| reason.clone()),
            url: public_url.map(|url| format!("{}/api/v1/alerts/{}", url.trim_end_matches('/'), alert.alert_id)),
        }
    }
}
