//! What a message holds: fixed when it is sealed, the same for every attempt.

use std::collections::BTreeMap;

use gradwatch_rules::{GroupBy, ReceiverDefinition};
use gradwatch_store::Message;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::retry::GIVE_UP_AFTER_US;
use crate::alerts::notice::Notice;

/// The word for an alert that fires, in notices and messages.
pub(super) const FIRING: &str = "firing";
/// The word for one that is over.
pub(super) const RESOLVED: &str = "resolved";

/// What a message says. The same content and the same message make the same bytes to send, today and after a restart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Content {
    /// Somebody asked for it, to see whether it arrives.
    pub(super) test: bool,
    /// What its alerts have in common.
    pub(super) group: BTreeMap<String, String>,
    /// `firing` if any of the alerts does, else `resolved`.
    pub(super) status: String,
    /// In the order of their recording; empty in a test.
    pub(super) alerts: Vec<Notice>,
}

impl Content {
    /// Of alerts for a receiver.
    pub(super) fn new(receiver: &ReceiverDefinition, alerts: Vec<Notice>) -> Self {
        let is_firing = alerts.iter().any(|alert| alert.status == FIRING);
        let status = if is_firing { FIRING } else { RESOLVED }.to_owned();
        // Notices from before a change of `group_by` may differ in what they should have in common.
        let common = |by: &GroupBy| {
            let (name, value): (_, fn(&Notice) -> String) = match by {
                GroupBy::Rule => ("rule", |notice| notice.rule.clone()),
                GroupBy::Project => ("project", |notice| notice.project.clone()),
                GroupBy::Run => ("run_id", |notice| notice.run_id.to_string()),
            };
            let first = alerts.first().map(value)?;
            alerts.iter().all(|alert| value(alert) == first).then(|| (name.to_owned(), first))
        };
        let group = receiver.group_by.iter().filter_map(common).collect();
        Self { test: false, group, status, alerts }
    }

    /// Of a test.
    pub(super) fn of_test() -> Self {
        Self { test: true, group: BTreeMap::new(), status: FIRING.to_owned(), alerts: Vec::new() }
    }

    /// As a message holds it.
    pub(super) fn into_value(self) -> Value {
        // Maps with text keys and plain numbers are JSON whatever they hold.
        serde_json::to_value(self).unwrap_or_default()
    }
}

/// A message that is to be sent at once.
pub(super) fn new_message(receiver: &str, group_key: &str, content: Content, now_us: i64) -> Message {
    Message {
        message_id: Uuid::new_v4(),
        // The store gives it.
        sequence: 0,
        receiver: receiver.to_owned(),
        group_key: group_key.to_owned(),
        content: content.into_value(),
        state: gradwatch_store::MessageState::Waiting,
        attempts: 0,
        created_at_us: now_us,
        next_attempt_at_us: now_us,
        give_up_at_us: now_us + GIVE_UP_AFTER_US,
        ended_at_us: None,
    }
}
