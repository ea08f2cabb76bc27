//! Notices for tests.

use std::collections::BTreeMap;

use gradwatch_rules::ReceiverDefinition;
use gradwatch_store::RunId;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::alerts::notice::Notice;

/// A firing alert.
pub(super) fn notice(rule: &str, alert: u128) -> Notice {
    Notice {
        alert_id: Uuid::from_u128(alert),
        status: "firing".to_owned(),
        rule: rule.to_owned(),
        severity: "warning".to_owned(),
        project: "p".to_owned(),
        run_id: RunId(Uuid::from_u128(1)),
        run_name: "first run".to_owned(),
        group: "all".to_owned(),
        summary: "the gap is gone".to_owned(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        values: BTreeMap::new(),
        fired_at: "2026-03-01T12:00:00Z".to_owned(),
        fired_step: 100,
        resolved_at: None,
        resolved_step: None,
        resolved_reason: None,
        url: None,
    }
}

/// The same when it is over.
pub(super) fn resolved(notice: &Notice) -> Notice {
    Notice {
        status: "resolved".to_owned(),
        resolved_at: Some("2026-03-01T12:05:00Z".to_owned()),
        resolved_step: Some(150),
        resolved_reason: Some("condition".to_owned()),
        ..notice.clone()
    }
}

/// A receiver by its definition without the name.
pub(super) fn receiver(mut definition: Value) -> ReceiverDefinition {
    definition["name"] = json!("r");
    serde_json::from_value(definition).unwrap()
}
