//! Whom to tell.

use super::begin;
use crate::{
    backend::{Access, Backend, Columns, Session, Statement},
    codec,
    error::StoreError,
    model::AlertReceiver,
};

fn receiver(row: &impl Columns) -> Result<AlertReceiver, StoreError> {
    let reason: Option<String> = codec::json_or_null(row, "disabled_reason")?;
    Ok(AlertReceiver {
        name: codec::string(row, "name")?,
        source: codec::word(row, "source")?,
        definition: codec::json(row, "definition")?,
        updated_at_us: codec::signed(row, "updated_at_us")?,
        disabled: row.integer("disabled_at_us")?.zip(reason),
    })
}

pub(in crate::sql) async fn alert_receivers(backend: &impl Backend) -> Result<Vec<AlertReceiver>, StoreError> {
    read(&mut backend.session(Access::Single).await?).await
}

/// All of them, by name.
pub(super) async fn read(session: &mut impl Session) -> Result<Vec<AlertReceiver>, StoreError> {
    let select = Statement::new("SELECT * FROM alert_receivers ORDER BY name");
    session.fetch_all(select).await?.iter().map(receiver).collect()
}

pub(in crate::sql) async fn put_alert_receiver(
    backend: &impl Backend,
    receiver: &AlertReceiver,
) -> Result<(), StoreError> {
    let mut tx = begin(backend).await?;
    put(&mut tx, receiver).await?;
    tx.commit().await
}

/// Makes or replaces it.
pub(super) async fn put(tx: &mut impl Session, receiver: &AlertReceiver) -> Result<(), StoreError> {
    let (disabled_at_us, reason) = disabled_columns(receiver.disabled.as_ref())?;
    let upsert = Statement::new(
        "INSERT INTO alert_receivers (name, source, definition, updated_at_us, disabled_at_us, disabled_reason)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (name) DO UPDATE SET source = excluded.source, definition = excluded.definition,
             updated_at_us = excluded.updated_at_us, disabled_at_us = excluded.disabled_at_us,
             disabled_reason = excluded.disabled_reason",
    );
    let upsert = upsert
        .bind(receiver.name.as_str())
        .bind(receiver.source.as_str())
        .bind(codec::to_json("definition", &receiver.definition)?)
        .bind(receiver.updated_at_us)
        .bind(disabled_at_us)
        .bind(reason.as_deref());
    tx.execute(upsert).await?;
    Ok(())
}

fn disabled_columns(disabled: Option<&(i64, String)>) -> Result<(Option<i64>, Option<String>), StoreError> {
    let Some((at_us, reason)) = disabled else { return Ok((None, None)) };
    Ok((Some(*at_us), Some(codec::to_json("disabled", reason)?)))
}

pub(in crate::sql) async fn delete_alert_receiver(
    backend: &impl Backend,
    name: &str,
    now_us: i64,
) -> Result<bool, StoreError> {
    let mut tx = begin(backend).await?;
    let deleted = delete(&mut tx, name, now_us).await?;
    tx.commit().await?;
    Ok(deleted)
}

/// Invariant: nothing waits for a receiver that is gone. What was to be sent is given up and shown as such; what is in no
/// message yet is dropped.
pub(super) async fn delete(tx: &mut impl Session, name: &str, now_us: i64) -> Result<bool, StoreError> {
    let deleted = tx.execute(Statement::new("DELETE FROM alert_receivers WHERE name = $1").bind(name)).await?;
    if deleted == 0 {
        return Ok(false);
    }
    let give_up = Statement::new(
        "UPDATE alert_messages SET state = 'failed', ended_at_us = $1, claimed_until_us = NULL
         WHERE receiver = $2 AND state = 'waiting'",
    );
    tx.execute(give_up.bind(now_us).bind(name)).await?;
    tx.execute(Statement::new("DELETE FROM alert_notifications WHERE receiver = $1").bind(name)).await?;
    Ok(true)
}

pub(in crate::sql) async fn set_receiver_disabled(
    backend: &impl Backend,
    name: &str,
    disabled: Option<&(i64, String)>,
) -> Result<bool, StoreError> {
    let (disabled_at_us, reason) = disabled_columns(disabled)?;
    let update = Statement::new("UPDATE alert_receivers SET disabled_at_us = $1, disabled_reason = $2 WHERE name = $3")
        .bind(disabled_at_us)
        .bind(reason.as_deref())
        .bind(name);
    let mut tx = begin(backend).await?;
    let found = tx.execute(update).await?;
    tx.commit().await?;
    Ok(found > 0)
}
