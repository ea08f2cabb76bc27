//! Whom to tell, as a user writes it.

use serde::{Deserialize, Serialize};

/// Somebody who is told of alerts. There is no e-mail by choice: Alertmanager, or whatever takes a webhook, sends it better.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiverDefinition {
    /// Unique among all receivers. Letters, digits, `_`, `-` and `.`, at most 100.
    pub name: String,
    /// How it is told.
    #[serde(flatten)]
    pub kind: ReceiverKind,
    /// What alerts of one message have in common.
    #[serde(default = "default_group_by")]
    pub group_by: Vec<GroupBy>,
    /// Seconds that the first alert of a message waits for others. Default 5.
    #[serde(default = "default_group_wait_s")]
    pub group_wait_s: u32,
    /// Whether the end of an alert is told. Default true.
    #[serde(default = "default_true")]
    pub send_resolved: bool,
    /// Requests at the same time. Default 4.
    #[serde(default = "default_max_concurrency")]
    pub max_concurrency: u32,
    /// Requests a minute. Default 60.
    #[serde(default = "default_max_per_minute")]
    pub max_per_minute: u32,
    /// Seconds that a whole request may take. Default 10.
    #[serde(default = "default_timeout_s")]
    pub timeout_s: u32,
}

/// How a receiver is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReceiverKind {
    /// A signed JSON document by POST (Standard Webhooks).
    Webhook {
        /// `http` or `https`.
        url: String,
        /// `whsec_` and base64 of 24 to 64 bytes. Each signs: put the new one first, and drop the old one when the
        /// receiver knows the new one.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        secrets: Vec<String>,
        /// The same, read from an environment variable of the server when rules are loaded; separated by spaces.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        secrets_env: Option<String>,
    },
    /// An incoming webhook of Slack, or of what speaks its format.
    Slack {
        /// The secret address.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        url: Option<String>,
        /// The same, from an environment variable.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        url_env: Option<String>,
    },
    /// Prometheus Alertmanager, API v2.
    Alertmanager {
        /// Its address, such as `https://alertmanager.example.org`; `/api/v2/alerts` is appended.
        url: String,
        /// A bearer token, from an environment variable.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bearer_env: Option<String>,
    },
}

/// What alerts of one message have in common. All are functions of rule and run, so that what one rule says of one run is
/// told in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupBy {
    /// The rule.
    Rule,
    /// The project.
    Project,
    /// The run.
    Run,
}

fn default_group_by() -> Vec<GroupBy> {
    vec![GroupBy::Rule]
}

fn default_group_wait_s() -> u32 {
    5
}

fn default_true() -> bool {
    true
}

fn default_max_concurrency() -> u32 {
    4
}

fn default_max_per_minute() -> u32 {
    60
}

fn default_timeout_s() -> u32 {
    10
}
