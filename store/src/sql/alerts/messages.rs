//! Messages and the attempts to deliver them.

use std::collections::HashSet;

use uuid::Uuid;

use super::{begin, notifications};
use crate::{
    backend::{Access, Backend, Bulk, Columns, Session, Statement},
    codec::{self, to_i64},
    error::StoreError,
    model::{Delivery, Message, MessageState},
    query::{DeliveryQuery, MessageQuery, Page},
};

fn message(row: &impl Columns) -> Result<Message, StoreError> {
    Ok(Message {
        message_id: codec::uuid(row, "message_id")?,
        sequence: codec::unsigned(row, "sequence")?,
        receiver: codec::string(row, "receiver")?,
        group_key: codec::string(row, "group_key")?,
        content: codec::json(row, "content")?,
        state: codec::word(row, "state")?,
        attempts: codec::unsigned(row, "attempts")?,
        created_at_us: codec::signed(row, "created_at_us")?,
        next_attempt_at_us: codec::signed(row, "next_attempt_at_us")?,
        give_up_at_us: codec::signed(row, "give_up_at_us")?,
        ended_at_us: row.integer("ended_at_us")?,
    })
}

/// Invariant: a notification goes into one message, and a message holds all of its notifications. From here on id and
/// content never change.
pub(in crate::sql) async fn seal_message(
    backend: &impl Backend,
    message: Option<&Message>,
    notification_ids: &[u64],
) -> Result<bool, StoreError> {
    let ids: HashSet<u64> = notification_ids.iter().copied().collect();
    let ids: Vec<u64> = ids.into_iter().collect();
    let mut tx = begin(backend).await?;
    let taken = tx.bulk(Bulk::TakeNotifications, &ids, notifications::encode_id).await?;
    if taken.len() < ids.len() {
        return Ok(false);
    }
    if let Some(message) = message {
        insert(&mut tx, message).await?;
    }
    tx.commit().await?;
    Ok(true)
}

async fn insert(tx: &mut impl Session, message: &Message) -> Result<(), StoreError> {
    let insert = Statement::new(
        "INSERT INTO alert_messages (message_id, receiver, group_key, content, state, attempts, created_at_us,
                                     next_attempt_at_us, give_up_at_us, ended_at_us)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    );
    let insert = insert
        .bind(message.message_id)
        .bind(message.receiver.as_str())
        .bind(message.group_key.as_str())
        .bind(codec::to_json("content", &message.content)?)
        .bind(message.state.as_str())
        .bind(message.attempts)
        .bind(message.created_at_us)
        .bind(message.next_attempt_at_us)
        .bind(message.give_up_at_us)
        .bind(message.ended_at_us);
    tx.execute(insert).await?;
    Ok(())
}

/// Invariant: nobody else gets a message that is taken, and of one key only the oldest that waits is ever taken, while no
/// other is. Whoever comes at the same time leaves out what is being taken and does not wait for it. What would be due in more
/// than a day, which no message ever waits, was made by a clock that has been set back: it is due.
pub(in crate::sql) async fn claim_messages<B: Backend>(
    backend: &B,
    receiver: &str,
    now_us: i64,
    until_us: i64,
    limit: usize,
) -> Result<Vec<Message>, StoreError> {
    let mut claim = Statement::new(
        "WITH due AS MATERIALIZED (
             SELECT sequence FROM alert_messages AS candidate
             WHERE receiver = $1 AND state = 'waiting'
               AND (next_attempt_at_us <= $2 OR next_attempt_at_us > $2 + 86400000000)
               AND (claimed_until_us IS NULL OR claimed_until_us <= $2)
               AND NOT EXISTS (SELECT 1 FROM alert_messages AS other
                               WHERE other.receiver = candidate.receiver AND other.group_key = candidate.group_key
                                 AND other.state = 'waiting' AND other.sequence <> candidate.sequence
                                 AND (other.sequence < candidate.sequence OR other.claimed_until_us > $2))
             ORDER BY next_attempt_at_us, sequence LIMIT $3",
    )
    .bind(receiver)
    .bind(now_us)
    .bind(codec::size_i64(limit))
    .bind(until_us);
    claim.push(B::DIALECT.skip_locked);
    claim.push(
        ")
         UPDATE alert_messages SET claimed_until_us = $4 WHERE sequence IN (SELECT sequence FROM due) RETURNING *",
    );
    let mut tx = backend.session(Access::Alerts).await?;
    let claimed = tx.fetch_all(claim).await?;
    let mut claimed = claimed.iter().map(message).collect::<Result<Vec<_>, _>>()?;
    tx.commit().await?;
    claimed.sort_by_key(|message| (message.next_attempt_at_us, message.sequence));
    Ok(claimed)
}

pub(in crate::sql) async fn release_messages(backend: &impl Backend) -> Result<(), StoreError> {
    let mut tx = begin(backend).await?;
    let release = "UPDATE alert_messages SET claimed_until_us = NULL
                   WHERE state = 'waiting' AND claimed_until_us IS NOT NULL";
    tx.execute(Statement::new(release)).await?;
    tx.commit().await
}

/// Invariant: what was attempted and where the message stands then are recorded together. A message that was ended while
/// it was being sent, because its receiver is gone, does not begin to wait again.
pub(in crate::sql) async fn record_delivery(
    backend: &impl Backend,
    delivery: &Delivery,
    message: &Message,
) -> Result<(), StoreError> {
    let mut update = Statement::new(
        "UPDATE alert_messages SET state = $1, attempts = $2, next_attempt_at_us = $3, ended_at_us = $4,
                                   give_up_at_us = $5, claimed_until_us = NULL
         WHERE message_id = $6",
    )
    .bind(message.state.as_str())
    .bind(message.attempts)
    .bind(message.next_attempt_at_us)
    .bind(message.ended_at_us)
    .bind(message.give_up_at_us)
    .bind(message.message_id);
    if message.state != MessageState::Delivered {
        update.push(" AND state = 'waiting'");
    }
    // From the message, so that nothing is recorded of one that is gone.
    let insert = Statement::new(
        "INSERT INTO alert_deliveries (message_id, receiver, attempt, at_us, duration_ms, outcome, status, detail)
         SELECT message_id, $1, $2, $3, $4, $5, $6, $7 FROM alert_messages WHERE message_id = $8",
    )
    .bind(delivery.receiver.as_str())
    .bind(delivery.attempt)
    .bind(delivery.at_us)
    .bind(to_i64("duration_ms", delivery.duration_ms)?)
    .bind(delivery.outcome.as_str())
    .bind(delivery.status.map(i64::from))
    .bind(codec::to_json("detail", &delivery.detail)?)
    .bind(delivery.message_id);
    let mut tx = backend.session(Access::Alerts).await?;
    tx.execute(update).await?;
    tx.execute(insert).await?;
    tx.commit().await
}

pub(in crate::sql) async fn redeliver(
    backend: &impl Backend,
    message_id: Uuid,
    now_us: i64,
    give_up_at_us: i64,
) -> Result<bool, StoreError> {
    let update = Statement::new(
        "UPDATE alert_messages SET state = 'waiting', attempts = 0, next_attempt_at_us = $1, give_up_at_us = $2,
                                   ended_at_us = NULL, claimed_until_us = NULL
         WHERE message_id = $3 AND state <> 'waiting'
           AND EXISTS (SELECT 1 FROM alert_receivers WHERE alert_receivers.name = alert_messages.receiver)",
    );
    let mut tx = begin(backend).await?;
    let found = tx.execute(update.bind(now_us).bind(give_up_at_us).bind(message_id)).await?;
    tx.commit().await?;
    Ok(found > 0)
}

pub(in crate::sql) async fn find(backend: &impl Backend, message_id: Uuid) -> Result<Option<Message>, StoreError> {
    let select = Statement::new("SELECT * FROM alert_messages WHERE message_id = $1").bind(message_id);
    backend.session(Access::Single).await?.fetch_optional(select).await?.as_ref().map(message).transpose()
}

pub(in crate::sql) async fn waiting(backend: &impl Backend) -> Result<(u64, Option<i64>), StoreError> {
    let select =
        "SELECT COUNT(*) AS waiting, MIN(created_at_us) AS since_us FROM alert_messages WHERE state = 'waiting'";
    let found = backend.session(Access::Single).await?.fetch_optional(Statement::new(select)).await?;
    let Some(row) = found else { return Ok((0, None)) };
    Ok((codec::unsigned(&row, "waiting")?, row.integer("since_us")?))
}

pub(in crate::sql) async fn waiting_keys(backend: &impl Backend) -> Result<Vec<(String, String)>, StoreError> {
    let select = "SELECT DISTINCT receiver, group_key FROM alert_messages WHERE state = 'waiting'";
    let rows = backend.session(Access::Single).await?.fetch_all(Statement::new(select)).await?;
    rows.iter().map(|row| Ok((codec::string(row, "receiver")?, codec::string(row, "group_key")?))).collect()
}

pub(in crate::sql) async fn messages(
    backend: &impl Backend,
    query: &MessageQuery,
) -> Result<Page<Message>, StoreError> {
    // Numbers count from 1.
    let mut select = Statement::new("SELECT * FROM alert_messages WHERE sequence > 0");
    if let Some(receiver) = &query.receiver {
        select.push(" AND receiver = ").push_bind(receiver.as_str());
    }
    if let Some(state) = query.state {
        select.push(" AND state = ").push_bind(state.as_str());
    }
    if let Some(after) = query.after {
        select.push(" AND sequence < ").push_bind(codec::bound_i64(after));
    }
    select.push(" ORDER BY sequence DESC LIMIT ").push_bind(codec::size_i64(query.limit.saturating_add(1)));
    let found = backend.session(Access::Single).await?.fetch_all(select).await?;
    let items = found.iter().take(query.limit).map(message).collect::<Result<_, _>>()?;
    Ok(Page { items, more: found.len() > query.limit })
}

fn delivery(row: &impl Columns) -> Result<Delivery, StoreError> {
    Ok(Delivery {
        delivery_id: codec::unsigned(row, "delivery_id")?,
        message_id: codec::uuid(row, "message_id")?,
        receiver: codec::string(row, "receiver")?,
        attempt: codec::unsigned(row, "attempt")?,
        at_us: codec::signed(row, "at_us")?,
        duration_ms: codec::unsigned(row, "duration_ms")?,
        outcome: codec::string(row, "outcome")?,
        status: codec::unsigned_or_null(row, "status")?,
        detail: codec::json(row, "detail")?,
    })
}

pub(in crate::sql) async fn deliveries(
    backend: &impl Backend,
    query: &DeliveryQuery,
) -> Result<Page<Delivery>, StoreError> {
    // Numbers count from 1.
    let mut select = Statement::new("SELECT * FROM alert_deliveries WHERE delivery_id > 0");
    if let Some(message_id) = query.message_id {
        select.push(" AND message_id = ").push_bind(message_id);
    }
    if let Some(receiver) = &query.receiver {
        select.push(" AND receiver = ").push_bind(receiver.as_str());
    }
    if let Some(after) = query.after {
        select.push(" AND delivery_id < ").push_bind(codec::bound_i64(after));
    }
    select.push(" ORDER BY delivery_id DESC LIMIT ").push_bind(codec::size_i64(query.limit.saturating_add(1)));
    let found = backend.session(Access::Single).await?.fetch_all(select).await?;
    let items = found.iter().take(query.limit).map(delivery).collect::<Result<_, _>>()?;
    Ok(Page { items, more: found.len() > query.limit })
}
