//! What is to be told and is in no message yet.

use uuid::Uuid;

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

/// Alerts of which everything is silenced come last, and the first of each key before the second of any: however much is
/// kept back of one, the rest is told. What is silenced of an alert comes with what is not, and of a key the older first, so
/// that an end is never seen without its beginning.
pub(in crate::sql) async fn notifications(
    backend: &impl Backend,
    limit: usize,
) -> Result<Vec<Notification>, StoreError> {
    let select = Statement::new(
        "WITH loud AS (SELECT DISTINCT receiver, alert_id FROM alert_notifications WHERE NOT silenced),
              placed AS (
                  SELECT new.*, loud.receiver IS NULL AS is_quiet,
                         ROW_NUMBER() OVER (PARTITION BY new.receiver, new.group_key, loud.receiver IS NULL
                                            ORDER BY new.notification_id) AS place
                  FROM alert_notifications AS new
                      LEFT JOIN loud ON loud.receiver = new.receiver AND loud.alert_id = new.alert_id
                  WHERE NOT EXISTS (SELECT 1 FROM alert_messages AS earlier
                                    WHERE earlier.receiver = new.receiver AND earlier.group_key = new.group_key
                                      AND earlier.state = 'waiting'))
         SELECT * FROM placed ORDER BY is_quiet, place, notification_id LIMIT $1",
    );
    let select = select.bind(codec::size_i64(limit));
    let rows = backend.session(Access::Single).await?.fetch_all(select).await?;
    let mut found = rows.iter().map(notification).collect::<Result<Vec<_>, _>>()?;
    let place = |it: &Notification| (it.new.receiver.clone(), it.new.group_key.clone(), it.notification_id);
    found.sort_by_cached_key(place);
    Ok(found)
}

pub(in crate::sql) async fn untold_alerts(backend: &impl Backend, receiver: &str) -> Result<Vec<Uuid>, StoreError> {
    let select = Statement::new("SELECT DISTINCT alert_id FROM alert_notifications WHERE receiver = $1").bind(receiver);
    let rows = backend.session(Access::Single).await?.fetch_all(select).await?;
    rows.iter().map(|row| codec::uuid(row, "alert_id")).collect()
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
