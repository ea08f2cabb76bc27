//! Rules and receivers between the store and force.

use std::{collections::BTreeMap, sync::Arc};

use gradwatch_rules::{ReceiverDefinition, RuleDefinition, evaluator::ActiveRule, language::CompiledRule};
use gradwatch_store::{AlertReceiver, AlertRule, AlertSource, Store, StoreError};

use super::{Receiver, RuleSet};

/// Reads everything. What an older or newer server has stored and this one does not understand is left out, and said.
pub(super) async fn load(store: &dyn Store) -> Result<RuleSet, StoreError> {
    let (mut rules, mut active) = (Vec::new(), Vec::new());
    for rule in store.alert_rules().await? {
        let compiled = serde_json::from_value::<RuleDefinition>(rule.definition.clone())
            .map_err(|error| error.to_string())
            .and_then(|definition| CompiledRule::new(definition).map_err(|problems| format!("{problems:?}")));
        match compiled {
            Ok(compiled) => {
                active.push(ActiveRule {
                    rule_id: rule.rule_id,
                    revision: rule.revision,
                    active_from_us: rule.active_from_us,
                    rule: compiled,
                });
                rules.push(rule);
            }
            Err(problem) => tracing::error!(rule = rule.name, problem, "a stored rule cannot be used; it is left out"),
        }
    }
    let mut receivers = BTreeMap::new();
    for stored in store.alert_receivers().await? {
        match serde_json::from_value(stored.definition.clone()) {
            Ok(definition) => {
                receivers.insert(stored.name.clone(), Arc::new(Receiver { stored, definition }));
            }
            // Its own words would show what does not fit, which may be a secret.
            Err(_) => tracing::error!(receiver = stored.name, "a stored receiver cannot be used; it is left out"),
        }
    }
    Ok(RuleSet { rules, active: Arc::new(active), receivers })
}

/// A rule as it is to be stored in the place of an old one.
///
/// Invariant: what is being waited for, and fires, goes on when nothing but texts and receivers change; when the rule looks
/// for something else, it is another revision, which says nothing of what came before.
pub(super) fn rule(
    definition: &RuleDefinition,
    old: Option<&AlertRule>,
    source: AlertSource,
    now_us: i64,
) -> AlertRule {
    let written = serde_json::to_value(definition).unwrap_or_default();
    let same = old.filter(|old| {
        let before = serde_json::from_value::<RuleDefinition>(old.definition.clone());
        before.is_ok_and(|before| looks_for_the_same(&before, definition))
    });
    AlertRule {
        rule_id: old.map_or_else(super::new_id, |old| old.rule_id),
        name: definition.name.clone(),
        source,
        project: definition.select.project.clone(),
        revision: same.map_or_else(|| old.map_or(1, |old| old.revision + 1), |same| same.revision),
        active_from_us: same.map_or(now_us, |same| same.active_from_us),
        updated_at_us: old.filter(|old| old.definition == written).map_or(now_us, |old| old.updated_at_us),
        definition: written,
    }
}

/// A receiver as it is to be stored in the place of an old one. One that is changed is enabled again.
pub(super) fn receiver(
    definition: &ReceiverDefinition,
    old: Option<&AlertReceiver>,
    source: AlertSource,
    now_us: i64,
) -> AlertReceiver {
    let written = serde_json::to_value(definition).unwrap_or_default();
    match old.filter(|old| old.definition == written) {
        Some(old) => AlertReceiver { source, ..old.clone() },
        None => AlertReceiver {
            name: definition.name.clone(),
            source,
            definition: written,
            updated_at_us: now_us,
            disabled: None,
        },
    }
}

fn looks_for_the_same(before: &RuleDefinition, after: &RuleDefinition) -> bool {
    before.select == after.select
        && before.when == after.when
        && before.hold == after.hold
        && before.keep_firing_for == after.keep_firing_for
        && before.max_age == after.max_age
}
