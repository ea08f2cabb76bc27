//! Rules.

use uuid::Uuid;

use super::{begin, receivers};
use crate::{
    backend::{Access, Backend, Columns, Session, Statement},
    codec,
    error::StoreError,
    model::{AlertReceiver, AlertRule, AlertSource},
};

fn rule(row: &impl Columns) -> Result<AlertRule, StoreError> {
    Ok(AlertRule {
        rule_id: codec::uuid(row, "rule_id")?,
        name: codec::string(row, "name")?,
        source: codec::word(row, "source")?,
        project: row.text("project")?.map(str::to_owned),
        revision: codec::unsigned(row, "revision")?,
        active_from_us: codec::signed(row, "active_from_us")?,
        updated_at_us: codec::signed(row, "updated_at_us")?,
        definition: codec::json(row, "definition")?,
    })
}

pub(in crate::sql) async fn alert_rules(backend: &impl Backend) -> Result<Vec<AlertRule>, StoreError> {
    let select = Statement::new("SELECT * FROM alert_rules ORDER BY name");
    backend.session(Access::Single).await?.fetch_all(select).await?.iter().map(rule).collect()
}

pub(in crate::sql) async fn put_alert_rule(backend: &impl Backend, rule: &AlertRule) -> Result<(), StoreError> {
    let mut tx = begin(backend).await?;
    put(&mut tx, rule).await?;
    tx.commit().await
}

/// Invariant: a name is one rule's.
async fn put(tx: &mut impl Session, rule: &AlertRule) -> Result<(), StoreError> {
    let select = Statement::new("SELECT source FROM alert_rules WHERE name = $1 AND rule_id <> $2");
    if let Some(other) = tx.fetch_optional(select.bind(rule.name.as_str()).bind(rule.rule_id)).await? {
        return Err(name_taken("rule", &rule.name, codec::word(&other, "source")?));
    }
    let upsert = Statement::new(
        "INSERT INTO alert_rules (rule_id, name, source, project, revision, active_from_us, updated_at_us, definition)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (rule_id) DO UPDATE SET name = excluded.name, source = excluded.source,
             project = excluded.project, revision = excluded.revision, active_from_us = excluded.active_from_us,
             updated_at_us = excluded.updated_at_us, definition = excluded.definition",
    );
    let upsert = upsert
        .bind(rule.rule_id)
        .bind(rule.name.as_str())
        .bind(rule.source.as_str())
        .bind(rule.project.as_deref())
        .bind(rule.revision)
        .bind(rule.active_from_us)
        .bind(rule.updated_at_us)
        .bind(codec::to_json("definition", &rule.definition)?);
    tx.execute(upsert).await?;
    Ok(())
}

fn name_taken(what: &str, name: &str, source: AlertSource) -> StoreError {
    let whence = match source {
        AlertSource::Api => "made over REST",
        AlertSource::File => "in the file of rules",
    };
    StoreError::Conflict { field: "name", message: format!("there is a {what} {name:?} already, {whence}") }
}

pub(in crate::sql) async fn delete_alert_rule(backend: &impl Backend, rule_id: Uuid) -> Result<bool, StoreError> {
    let mut tx = begin(backend).await?;
    let deleted = tx.execute(Statement::new("DELETE FROM alert_rules WHERE rule_id = $1").bind(rule_id)).await?;
    tx.commit().await?;
    Ok(deleted > 0)
}

/// Invariant: the file takes nothing that was made over REST, and is taken as a whole or not at all.
pub(in crate::sql) async fn replace_alert_file(
    backend: &impl Backend,
    rules: &[AlertRule],
    new_receivers: &[AlertReceiver],
    now_us: i64,
) -> Result<(), StoreError> {
    let mut tx = begin(backend).await?;
    // First all of them, so that names can change places.
    tx.execute(Statement::new("DELETE FROM alert_rules WHERE source = 'file'")).await?;
    for rule in rules {
        let select = Statement::new("SELECT source FROM alert_rules WHERE rule_id = $1").bind(rule.rule_id);
        if let Some(other) = tx.fetch_optional(select).await? {
            return Err(name_taken("rule", &rule.name, codec::word(&other, "source")?));
        }
        put(&mut tx, rule).await?;
    }
    let there = receivers::read(&mut tx).await?;
    for old in there.iter().filter(|old| old.source == AlertSource::File) {
        if new_receivers.iter().all(|new| new.name != old.name) {
            receivers::delete(&mut tx, &old.name, now_us).await?;
        }
    }
    for receiver in new_receivers {
        let is_other = |old: &&AlertReceiver| old.name == receiver.name && old.source == AlertSource::Api;
        if let Some(other) = there.iter().find(is_other) {
            return Err(name_taken("receiver", &other.name, other.source));
        }
        receivers::put(&mut tx, receiver).await?;
    }
    tx.commit().await
}
