//! From changes of machines to alerts, and to what is told of them.

use std::collections::{BTreeMap, BTreeSet};

use gradwatch_rules::{
    evaluator::{ActiveRule, Change, MachineState, Phase},
    template::TemplateContext,
};
use gradwatch_store::{Alert, AlertMoment, AlertState, NewNotification};
use serde_json::Value;
use uuid::Uuid;

use super::{
    lane::{Evaluated, Lane, MachineKey},
    watched::About,
};
use crate::alerts::{Notice, group_key::group_key};

/// An alert that is pending or fires.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub(super) alert: Alert,
    /// The store has it.
    pub(super) stored: bool,
}

/// What is to go into the next commit of a lane.
#[derive(Debug, Default)]
pub(super) struct Unsaved {
    /// New or changed, each as it is now.
    pub(super) alerts: BTreeMap<Uuid, Alert>,
    /// Pending alerts that the store has and that never fired.
    pub(super) forgotten: BTreeSet<Uuid>,
    /// In order.
    pub(super) notifications: Vec<NewNotification>,
    /// Alerts that began to fire.
    pub(super) fired: u64,
    /// Those that ended.
    pub(super) resolved: u64,
    /// Steps evaluated.
    pub(super) steps: usize,
}

impl Unsaved {
    pub(super) fn is_empty(&self) -> bool {
        self.alerts.is_empty() && self.forgotten.is_empty() && self.notifications.is_empty()
    }

    /// The alerts as they began: lists show them in the order in which they are stored.
    pub(super) fn in_order(&self) -> Vec<Alert> {
        let mut alerts: Vec<Alert> = self.alerts.values().cloned().collect();
        alerts.sort_by_key(|alert| (alert.pending.at_us, alert.pending.step));
        alerts
    }
}

impl Lane {
    /// Takes in what an evaluation brought. Alerts that end here end for `reason`.
    pub(super) fn record(&mut self, evaluated: Evaluated, about: &About, reason: &str) {
        for change in evaluated.changes {
            self.change(change, about, reason);
        }
        for (key, state) in evaluated.states {
            self.keep_state(&key, state);
        }
        for change in evaluated.ended {
            self.change(change, about, "run_over");
        }
    }

    /// The state of a machine goes with its alert.
    pub(super) fn keep_state(&mut self, key: &MachineKey, state: Option<MachineState>) {
        if let Some(open) = self.open.get_mut(key)
            && let Some(state) = state
            && open.alert.machine != state.bytes
        {
            open.alert.machine = state.bytes;
            self.unsaved.alerts.insert(open.alert.alert_id, open.alert.clone());
        }
    }

    pub(super) fn change(&mut self, change: Change, about: &About, reason: &str) {
        let key = (change.rule, change.group.clone());
        let moment = AlertMoment { segment: change.segment, step: change.step, at_us: change.at_us };
        match change.phase {
            Phase::Pending | Phase::Firing => {
                let Some(rule) = self.rules.get(change.rule) else { return };
                let mut open = match self.open.remove(&key) {
                    Some(open) => open,
                    None => Open { alert: new_alert(rule, self, &change, about, moment), stored: false },
                };
                if change.phase == Phase::Firing && open.alert.state == AlertState::Pending {
                    fire(&mut open.alert, rule, &change, about, moment);
                    self.tell(&open.alert, about, moment);
                }
                self.unsaved.alerts.insert(open.alert.alert_id, open.alert.clone());
                self.open.insert(key, open);
            }
            Phase::Resolved | Phase::Inactive => {
                if let Some(open) = self.open.remove(&key) {
                    self.end(open, about, moment, reason);
                }
            }
        }
    }

    /// Ends an alert that is open no longer.
    ///
    /// Invariant: what fired is told to have ended; what never fired is forgotten.
    pub(super) fn end(&mut self, open: Open, about: &About, moment: AlertMoment, reason: &str) {
        let Open { mut alert, stored } = open;
        if alert.state == AlertState::Pending {
            self.unsaved.alerts.remove(&alert.alert_id);
            if stored {
                self.unsaved.forgotten.insert(alert.alert_id);
            }
            return;
        }
        alert.state = AlertState::Resolved;
        alert.resolved = Some((moment, reason.to_owned()));
        alert.machine = Vec::new();
        self.tell(&alert, about, moment);
        self.unsaved.alerts.insert(alert.alert_id, alert);
    }

    /// Tells receivers that an alert fires or has ended.
    fn tell(&mut self, alert: &Alert, about: &About, moment: AlertMoment) {
        match alert.state {
            AlertState::Resolved => self.unsaved.resolved += 1,
            _ => self.unsaved.fired += 1,
        }
        let notice = Notice::new(alert, &about.run_name, about.public_url.as_deref());
        let content = serde_json::to_value(&notice).unwrap_or(Value::Null);
        for name in &alert.receivers {
            let Some(receiver) = about.rules.receivers.get(name) else { continue };
            if alert.state == AlertState::Resolved && !receiver.definition.send_resolved {
                continue;
            }
            self.unsaved.notifications.push(NewNotification {
                receiver: name.clone(),
                group_key: group_key(&receiver.definition.group_by, &alert.rule_name, &alert.project, alert.run_id),
                alert_id: alert.alert_id,
                state: alert.state,
                content: content.clone(),
                created_at_us: moment.at_us.max(about.now_us),
            });
        }
    }
}

fn new_alert(rule: &ActiveRule, lane: &Lane, change: &Change, about: &About, pending: AlertMoment) -> Alert {
    let mut alert = Alert {
        alert_id: Uuid::new_v4(),
        rule_id: rule.rule_id,
        rule_name: rule.rule.definition.name.clone(),
        rule_revision: rule.revision,
        lane: lane.lane,
        run_id: about.run_id,
        project: about.project.clone(),
        group: change.group.clone(),
        state: AlertState::Pending,
        severity: String::new(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        summary: String::new(),
        receivers: Vec::new(),
        values: Value::Null,
        pending,
        fired: None,
        resolved: None,
        machine: Vec::new(),
    };
    describe(&mut alert, rule, change, about);
    alert
}

fn fire(alert: &mut Alert, rule: &ActiveRule, change: &Change, about: &About, moment: AlertMoment) {
    alert.state = AlertState::Firing;
    alert.fired = Some(moment);
    describe(alert, rule, change, about);
}

/// Says of an alert what its rule says now.
fn describe(alert: &mut Alert, rule: &ActiveRule, change: &Change, about: &About) {
    let definition = &rule.rule.definition;
    let context = TemplateContext {
        run_name: &about.run_name,
        run_id: about.run_id,
        project: &about.project,
        group: &change.group,
        step: change.step,
        rule: &definition.name,
        severity: definition.severity,
        values: &change.values,
        labels: &about.labels,
    };
    alert.severity = definition.severity.as_str().to_owned();
    alert.labels.clone_from(&about.labels);
    alert.labels.extend(definition.labels.iter().map(|(name, value)| (name.clone(), value.clone())));
    alert.receivers.clone_from(&definition.receivers);
    alert.summary = rule.rule.summary.render(&context);
    let annotations = rule.rule.annotations.iter();
    alert.annotations = annotations.map(|(name, text)| (name.clone(), text.render(&context))).collect();
    alert.values = serde_json::to_value(&change.values).unwrap_or(Value::Null);
}
