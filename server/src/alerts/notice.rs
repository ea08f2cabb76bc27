//! What is told of an alert: complete when it is recorded, so that sending it asks nothing more.

use std::collections::BTreeMap;

use gradwatch_store::RunId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

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
