//! Which notifications become messages, and when. Pure: the dispatcher reads what is needed, and carries out what is
//! decided.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use gradwatch_rules::{GroupBy, ReceiverDefinition};
use gradwatch_store::{AlertState, Message, Notification};
use uuid::Uuid;

use super::{
    content::{Content, new_message},
    silence::Silences,
};
use crate::alerts::{
    group_key::{group_key, named_in},
    notice::Notice,
};

/// The most alerts of a message.
pub(super) const MAX_ALERTS: usize = 100;

/// What is known when it is decided.
pub(super) struct Known<'a> {
    /// The server's clock.
    pub(super) now_us: i64,
    /// Whom there is to tell.
    pub(super) receiver: &'a dyn Fn(&str) -> Option<&'a ReceiverDefinition>,
    /// What is kept back now.
    pub(super) silences: &'a Silences,
    /// Alerts that fire no more.
    pub(super) over: &'a HashSet<Uuid>,
    /// Receivers and group keys of messages that waited before the notifications were read.
    pub(super) waiting: &'a [(String, String)],
}

/// What is to be done.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// Messages, with the notifications that they hold.
    pub(super) seal: Vec<(Message, Vec<u64>)>,
    /// Notifications that nobody is told of.
    pub(super) drop: Vec<u64>,
    /// Notifications that are kept back from now on.
    pub(super) silence: Vec<u64>,
    /// When the next group has waited long enough.
    pub(super) next_us: Option<i64>,
}

/// Alerts whose firing was kept back and is so no more: whether they still fire has to be asked.
pub(super) fn released(notifications: &[Notification], silences: &Silences) -> Vec<Uuid> {
    let was_silenced = notifications.iter().filter(|it| it.silenced && it.new.state == AlertState::Firing);
    was_silenced.filter(|it| notice(it).is_some_and(|it| !silences.hold(&it))).map(|it| it.new.alert_id).collect()
}

/// Decides. `notifications` are in the order of receiver, group key and id.
pub(super) fn plan(notifications: &[Notification], known: &Known<'_>) -> Plan {
    let mut plan = Plan::default();
    for all in notifications.chunk_by(|a, b| a.new.receiver == b.new.receiver) {
        let Some(receiver) = (known.receiver)(&all[0].new.receiver) else {
            // It was deleted, and with it what it was to be told.
            plan.drop.extend(all.iter().map(|notification| notification.notification_id));
            continue;
        };
        let mut groups: BTreeMap<String, Vec<(&Notification, Notice)>> = BTreeMap::new();
        for notification in all {
            match notice(notification) {
                Some(notice) => {
                    groups.entry(key_now(notification, &notice, receiver)).or_default().push((notification, notice));
                }
                None => {
                    tracing::error!(id = notification.notification_id, "a notification cannot be read; it is dropped");
                    plan.drop.push(notification.notification_id);
                }
            }
        }
        let waiting = Waiting::of(&receiver.name, known.waiting);
        for (group_key, mut group) in groups {
            group.sort_by_key(|(notification, _)| notification.notification_id);
            group.retain(|(_, notice)| !waiting.holds(notice));
            plan_group(&group_key, group, receiver, known, &mut plan);
        }
    }
    plan
}

/// A group key from before a change of `group_by` is worth nothing: what one rule says of one run would have two.
fn key_now(notification: &Notification, notice: &Notice, receiver: &ReceiverDefinition) -> String {
    let named = named_in(&notification.new.group_key);
    if named.is_empty() || named.iter().collect::<BTreeSet<_>>() == receiver.group_by.iter().collect() {
        return notification.new.group_key.clone();
    }
    group_key(&receiver.group_by, &notice.rule, &notice.project, notice.run_id)
}

/// Keys of messages of one receiver that wait.
///
/// Invariant: what one rule says of one run is told in order, also when `group_by` was changed in between: nothing is sealed
/// of an alert that would have gone behind a message that still waits, whatever that one was grouped by.
struct Waiting<'a> {
    keys: HashSet<&'a str>,
    grouped_by: BTreeSet<Vec<GroupBy>>,
}

impl<'a> Waiting<'a> {
    fn of(receiver: &str, all: &'a [(String, String)]) -> Self {
        let keys: HashSet<&str> =
            all.iter().filter(|(whom, _)| whom == receiver).map(|(_, key)| key.as_str()).collect();
        let grouped_by = keys.iter().map(|key| named_in(key)).filter(|named| !named.is_empty()).collect();
        Self { keys, grouped_by }
    }

    fn holds(&self, notice: &Notice) -> bool {
        let key = |by: &Vec<GroupBy>| group_key(by, &notice.rule, &notice.project, notice.run_id);
        self.grouped_by.iter().any(|by| self.keys.contains(key(by).as_str()))
    }
}

/// What is recorded of one alert and in no message yet.
#[derive(Default)]
struct Told<'a> {
    firing: Option<(&'a Notification, Notice)>,
    resolved: Option<(&'a Notification, Notice)>,
}

/// An alert that is ready to be told, with its notifications.
struct Ready {
    notice: Notice,
    ids: Vec<u64>,
    oldest_us: i64,
}

fn plan_group(
    group_key: &str,
    group: Vec<(&Notification, Notice)>,
    receiver: &ReceiverDefinition,
    known: &Known<'_>,
    plan: &mut Plan,
) {
    let mut alerts: Vec<Told<'_>> = Vec::new();
    let mut places: HashMap<Uuid, usize> = HashMap::new();
    for (notification, notice) in group {
        let place = *places.entry(notification.new.alert_id).or_insert_with(|| {
            alerts.push(Told::default());
            alerts.len() - 1
        });
        let told = &mut alerts[place];
        let word = if notification.new.state == AlertState::Firing { &mut told.firing } else { &mut told.resolved };
        *word = Some((notification, notice));
    }
    let ready: Vec<Ready> = alerts.into_iter().filter_map(|told| decide(told, receiver, known, plan)).collect();
    let Some(oldest_us) = ready.iter().map(|ready| ready.oldest_us).min() else { return };
    let due_us = oldest_us + i64::from(receiver.group_wait_s) * 1_000_000;
    // A clock that was set back keeps nobody waiting.
    if known.now_us < due_us && oldest_us <= known.now_us {
        plan.next_us = Some(plan.next_us.map_or(due_us, |next_us| next_us.min(due_us)));
        return;
    }
    // The rest waits until this one has ended.
    let (mut notices, mut ids) = (Vec::new(), Vec::new());
    for ready in ready.into_iter().take(MAX_ALERTS) {
        notices.push(ready.notice);
        ids.extend(ready.ids);
    }
    plan.seal.push((new_message(&receiver.name, group_key, Content::new(receiver, notices), known.now_us), ids));
}

/// Invariant: a resolution is told if and only if the firing was. A firing that is in a message was told; one that was
/// kept back until the alert was over never is, and neither is its resolution.
fn decide(told: Told<'_>, receiver: &ReceiverDefinition, known: &Known<'_>, plan: &mut Plan) -> Option<Ready> {
    let id = |notification: &Notification| notification.notification_id;
    let created_us = |notification: &Notification| notification.new.created_at_us;
    match (told.firing, told.resolved) {
        (Some((firing, notice)), None) => {
            if known.silences.hold(&notice) {
                keep_back(firing, plan);
                None
            } else if firing.silenced && known.over.contains(&firing.new.alert_id) {
                plan.drop.push(id(firing));
                None
            } else {
                Some(Ready { notice, ids: vec![id(firing)], oldest_us: created_us(firing) })
            }
        }
        (Some((firing, fired)), Some((resolved, notice))) => {
            let ids = vec![id(firing), id(resolved)];
            if firing.silenced || known.silences.hold(&fired) {
                plan.drop.extend(ids);
                None
            } else {
                // Of both the latest word, unless it is not wanted.
                let notice = if receiver.send_resolved { notice } else { fired };
                Some(Ready { notice, ids, oldest_us: created_us(firing) })
            }
        }
        (None, Some((resolved, notice))) => {
            if !receiver.send_resolved {
                plan.drop.push(id(resolved));
                None
            } else if known.silences.hold(&notice) {
                keep_back(resolved, plan);
                None
            } else {
                Some(Ready { notice, ids: vec![id(resolved)], oldest_us: created_us(resolved) })
            }
        }
        (None, None) => None,
    }
}

fn keep_back(notification: &Notification, plan: &mut Plan) {
    if !notification.silenced {
        plan.silence.push(notification.notification_id);
    }
}

fn notice(notification: &Notification) -> Option<Notice> {
    serde_json::from_value(notification.new.content.clone()).ok()
}
