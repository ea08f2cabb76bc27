//! Whom to tell, as a user writes it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Somebody who is told of alerts. There is no e-mail by choice: Alertmanager, or whatever takes a webhook, sends it better.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "WrittenReceiver")]
pub struct ReceiverDefinition {
    /// Unique among all receivers. Letters, digits, `_`, `-` and `.`, at most 100.
    pub name: String,
    /// How it is told.
    #[serde(flatten)]
    pub kind: ReceiverKind,
    /// What alerts of one message have in common. Default: the rule.
    pub group_by: Vec<GroupBy>,
    /// Seconds that the first alert of a message waits for others, 0 to 3600. Default 5.
    pub group_wait_s: u32,
    /// Whether the end of an alert is told. Default true.
    pub send_resolved: bool,
    /// Requests at the same time, 1 to 32. Default 4.
    pub max_concurrency: u32,
    /// Requests a minute, 1 to 6000. Default 60.
    pub max_per_minute: u32,
    /// Seconds that a whole request may take, 1 to 60. Default 10.
    pub timeout_s: u32,
}

/// How a receiver is told.
#[derive(Clone, PartialEq, Serialize)]
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

/// Secrets, and addresses that are secret, are not printed: what is printed gets into logs.
impl fmt::Debug for ReceiverKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Webhook { secrets, secrets_env, .. } => {
                let mut webhook = f.debug_struct("Webhook");
                webhook.field("secrets", &secrets.len()).field("secrets_env", secrets_env).finish_non_exhaustive()
            }
            Self::Slack { url_env, .. } => f.debug_struct("Slack").field("url_env", url_env).finish_non_exhaustive(),
            Self::Alertmanager { url, bearer_env } => {
                f.debug_struct("Alertmanager").field("url", url).field("bearer_env", bearer_env).finish()
            }
        }
    }
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

/// A receiver as it is written: a key for each kind, of which there has to be one. (serde cannot refuse unknown keys beside a
/// flattened enum.)
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenReceiver {
    name: String,
    webhook: Option<WrittenWebhook>,
    slack: Option<WrittenSlack>,
    alertmanager: Option<WrittenAlertmanager>,
    #[serde(default = "default_group_by")]
    group_by: Vec<GroupBy>,
    #[serde(default = "default_group_wait_s")]
    group_wait_s: u32,
    #[serde(default = "default_true")]
    send_resolved: bool,
    #[serde(default = "default_max_concurrency")]
    max_concurrency: u32,
    #[serde(default = "default_max_per_minute")]
    max_per_minute: u32,
    #[serde(default = "default_timeout_s")]
    timeout_s: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenWebhook {
    url: String,
    #[serde(default)]
    secrets: Vec<String>,
    secrets_env: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenSlack {
    url: Option<String>,
    url_env: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenAlertmanager {
    url: String,
    bearer_env: Option<String>,
}

impl TryFrom<WrittenReceiver> for ReceiverDefinition {
    type Error = &'static str;

    fn try_from(written: WrittenReceiver) -> Result<Self, Self::Error> {
        let kind = match (written.webhook, written.slack, written.alertmanager) {
            (Some(WrittenWebhook { url, secrets, secrets_env }), None, None) => {
                ReceiverKind::Webhook { url, secrets, secrets_env }
            }
            (None, Some(WrittenSlack { url, url_env }), None) => ReceiverKind::Slack { url, url_env },
            (None, None, Some(WrittenAlertmanager { url, bearer_env })) => {
                ReceiverKind::Alertmanager { url, bearer_env }
            }
            (None, None, None) => return Err("needs one of webhook, slack and alertmanager"),
            _ => return Err("has more than one of webhook, slack and alertmanager; write a receiver for each"),
        };
        Ok(Self {
            name: written.name,
            kind,
            group_by: written.group_by,
            group_wait_s: written.group_wait_s,
            send_resolved: written.send_resolved,
            max_concurrency: written.max_concurrency,
            max_per_minute: written.max_per_minute,
            timeout_s: written.timeout_s,
        })
    }
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
