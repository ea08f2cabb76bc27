//! What is to be told and is in no message yet.

use super::begin;
use crate::{
    backend::{Access, Backend, Bulk, Columns, Session, Statement, Values},
    codec::{self, to_i64},
    error::StoreError,
    model::{NewNotification, Notification},
};

pub(super) fn encode(new: &&NewNotification, values: &mut impl Values) -> Result<(), StoreError> {
    values.text(new.receiver.as_str())?;
    values.text(new.group_key.as_str())?;
    values.uuid(new.alert_id)?;
    values.text(new.state.as_str())?;
    values.text(codec::to_json("content", &new.content)?.as_str())?;
    values.integer(new.created_at_us)
}

fn notification(row: &impl Columns) -> Result<Notification, StoreError> {
    Ok(Notification {
        notification_id: codec::unsigned(row, "notification_id")?,
        silenced: codec::present("silenced", row.flag("silenced")?)?,
        new: NewNotification {
            receiver: codec::string(row, "receiver")?,
            group_key: codec::string(row, "group_key")?,
            alert_id: codec::uuid(row, "alert_id")?,
            state: codec::word(row, "state")?,
            content: codec::json(row, "content")?,
            created_at_us: codec::signed(row, "created_at_us")?,
        },
    })
}

pub(in crate::sql) async fn notifications(
    backend: &impl Backend,
    after: Option<(&str, &str)>,
    limit: usize,
) -> Result<Vec<Notification>, StoreError> {
    let mut select = Statement::new(
        "SELECT * FROM alert_notifications AS new
         WHERE NOT EXISTS (SELECT 1 FROM alert_messages AS earlier
                           WHERE earlier.receiver = new.receiver AND earlier.group_key = new.group_key
                             AND earlier.state = 'waiting')",
    );
    if let Some((receiver, group_key)) = after {
        select.push(" AND (receiver, group_key) > (").push_bind(receiver).push(", ").push_bind(group_key).push(")");
    }
    select.push(" ORDER BY receiver, group_key, notification_id LIMIT ").push_bind(codec::size_i64(limit));
    backend.session(Access::Single).await?.fetch_all(select).await?.iter().map(notification).collect()
}

pub(in crate::sql) async fn silence_notifications(
    backend: &impl Backend,
    ids: &[u64],
    silenced: bool,
) -> Result<(), StoreError> {
    if ids.is_empty() {
        return Ok(());
    }
    let mut tx = begin(backend).await?;
    tx.bulk(Bulk::SilenceNotifications, ids, |id, values| {
        encode_id(id, values)?;
        values.flag(silenced)
    })
    .await?;
    tx.commit().await
}

/// The number of one.
pub(super) fn encode_id(id: &u64, values: &mut impl Values) -> Result<(), StoreError> {
    values.integer(to_i64("notification_id", *id)?)
}
