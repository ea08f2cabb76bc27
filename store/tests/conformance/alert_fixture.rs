//! Rules, alerts and messages to store.

use std::collections::BTreeMap;

use gradwatch_store::{
    Alert, AlertCommit, AlertCursor, AlertLane, AlertMoment, AlertReceiver, AlertRule, AlertSource, AlertState,
    Delivery, Message, MessageState, NewNotification, Notification,
};
use serde_json::json;
use uuid::Uuid;

use crate::fixture::{AnyStore, run_id};

/// What people write, and what no text of PostgreSQL can hold.
pub(crate) const ANY_TEXT: &str = "a \"b\"\n\u{0} \u{1f980} \u{202e} \\u0000 'c'; -- %s";

pub(crate) fn id(number: u64) -> Uuid {
    Uuid::from_u64_pair(11, number)
}

pub(crate) fn rule(number: u64, name: &str, source: AlertSource) -> AlertRule {
    AlertRule {
        rule_id: id(number),
        name: name.to_owned(),
        source,
        project: (number % 2 == 1).then(|| "vision".to_owned()),
        revision: number as u32 + 1,
        active_from_us: 10 + number as i64,
        updated_at_us: 20 + number as i64,
        definition: json!({"when": "edge.ratio < 1.2", "summary": ANY_TEXT}),
    }
}

pub(crate) fn receiver(name: &str, source: AlertSource) -> AlertReceiver {
    AlertReceiver {
        name: name.to_owned(),
        source,
        definition: json!({"webhook": {"url": ANY_TEXT}}),
        updated_at_us: 30,
        disabled: None,
    }
}

/// The cursor behind `number` commits.
pub(crate) fn cursor(lane: AlertLane, number: u64) -> AlertCursor {
    AlertCursor { lane, at: Some((1, number * 10)), event_id: number * 3, number, run_revision: (1, number) }
}

/// A commit of the lane of steps that brings nothing.
pub(crate) fn commit(run: u64, after_number: u64) -> AlertCommit {
    AlertCommit {
        run_id: run_id(run),
        after_number,
        cursor: cursor(AlertLane::Steps, after_number + 1),
        alerts: Vec::new(),
        forgotten: Vec::new(),
        notifications: Vec::new(),
    }
}

/// An alert of rule 1 on the whole run; moments and state fit each other.
pub(crate) fn alert(number: u64, run: u64, state: AlertState) -> Alert {
    let moment = |offset: u64| AlertMoment { segment: 1, step: number + offset, at_us: (number * 10 + offset) as i64 };
    let texts = || BTreeMap::from([("team".to_owned(), ANY_TEXT.to_owned())]);
    Alert {
        alert_id: id(1_000 + number),
        rule_id: id(1),
        rule_name: "collapse".to_owned(),
        rule_revision: 2,
        lane: AlertLane::Steps,
        run_id: run_id(run),
        project: "vision".to_owned(),
        group: String::new(),
        state,
        severity: "warning".to_owned(),
        labels: texts(),
        annotations: texts(),
        summary: ANY_TEXT.to_owned(),
        receivers: vec!["pager".to_owned(), "log".to_owned()],
        values: json!({"edge.ratio": 1.1}),
        pending: moment(0),
        fired: (state != AlertState::Pending).then(|| moment(1)),
        resolved: (state == AlertState::Resolved).then(|| (moment(2), "condition".to_owned())),
        machine: if state == AlertState::Resolved { Vec::new() } else { vec![0, 1, 255] },
    }
}

pub(crate) fn of_group(group: &str, alert: Alert) -> Alert {
    Alert { group: group.to_owned(), ..alert }
}

pub(crate) fn notification(receiver: &str, group_key: &str, number: u64) -> NewNotification {
    NewNotification {
        receiver: receiver.to_owned(),
        group_key: group_key.to_owned(),
        alert_id: id(number),
        state: AlertState::Firing,
        content: json!({"number": number, "summary": ANY_TEXT}),
        created_at_us: number as i64,
    }
}

/// A message that is due from `number` on.
pub(crate) fn message(receiver: &str, group_key: &str, number: u64) -> Message {
    Message {
        message_id: id(2_000 + number),
        sequence: 0,
        receiver: receiver.to_owned(),
        group_key: group_key.to_owned(),
        content: json!({"alerts": [ANY_TEXT]}),
        state: MessageState::Waiting,
        attempts: 0,
        created_at_us: number as i64,
        next_attempt_at_us: number as i64,
        give_up_at_us: 1_000,
        ended_at_us: None,
    }
}

/// An attempt, behind which the message stands as given.
pub(crate) fn delivery(message: &Message) -> Delivery {
    Delivery {
        delivery_id: 0,
        message_id: message.message_id,
        receiver: message.receiver.clone(),
        attempt: message.attempts,
        at_us: 77,
        duration_ms: 12,
        outcome: "status".to_owned(),
        status: Some(503),
        detail: ANY_TEXT.to_owned(),
    }
}

/// Seals messages of no notifications, in this order.
pub(crate) async fn seal(store: &AnyStore, messages: &[Message]) {
    for message in messages {
        assert!(store.seal_message(Some(message), &[]).await.unwrap());
    }
}

/// Lands a commit of a run that has no cursor.
pub(crate) async fn land(store: &AnyStore, commit: AlertCommit) {
    assert_eq!(store.commit_alerts(&[commit]).await.unwrap(), [true]);
}

pub(crate) fn told(notifications: &[Notification]) -> Vec<NewNotification> {
    notifications.iter().map(|notification| notification.new.clone()).collect()
}
