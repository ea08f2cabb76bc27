//! Rules, their alerts, and what is told of them.
//!
//! Texts that people or other servers write (summaries, comments, what a receiver said) are kept as JSON strings: what no
//! text of PostgreSQL can hold must not keep an alert from being recorded, or a message from being ended.

mod alert;
mod commit;
mod cursors;
mod messages;
mod notifications;
pub(super) mod purge;
mod receivers;
mod rules;
mod silences;
mod values;

use async_trait::async_trait;
use uuid::Uuid;

use crate::{
    alert_store::AlertStore,
    backend::{Access, Backend, Session, Statement},
    error::StoreError,
    model::{
        Alert, AlertCommit, AlertCursor, AlertReceiver, AlertRule, Delivery, Message, Notification, RunId, Silence,
    },
    query::{AlertCount, AlertQuery, DeliveryQuery, MessageQuery, Page, ValuesQuery, ValuesRow},
};

/// The name of the lock of transactions that change many rows. Names of runs are their ids.
const LOCK_NAME: &str = "alerts";

/// Begins a transaction that changes many rows. Invariant: they come one behind the other, so that no two wait for each
/// other in a circle, and notifications are numbered in the order in which they can be read.
async fn begin<B: Backend>(backend: &B) -> Result<B::Session, StoreError> {
    let mut tx = backend.session(Access::Alerts).await?;
    if let Some(lock_name) = B::DIALECT.lock_name {
        tx.fetch_all(Statement::new(lock_name).bind(LOCK_NAME)).await?;
    }
    Ok(tx)
}

#[async_trait]
impl<B: Backend> AlertStore for B {
    async fn values(&self, query: &ValuesQuery) -> Result<Vec<ValuesRow>, StoreError> {
        values::values(self, query).await
    }

    async fn alert_rules(&self) -> Result<Vec<AlertRule>, StoreError> {
        rules::alert_rules(self).await
    }

    async fn put_alert_rule(&self, rule: &AlertRule) -> Result<(), StoreError> {
        rules::put_alert_rule(self, rule).await
    }

    async fn delete_alert_rule(&self, rule_id: Uuid) -> Result<bool, StoreError> {
        rules::delete_alert_rule(self, rule_id).await
    }

    async fn alert_receivers(&self) -> Result<Vec<AlertReceiver>, StoreError> {
        receivers::alert_receivers(self).await
    }

    async fn put_alert_receiver(&self, receiver: &AlertReceiver) -> Result<(), StoreError> {
        receivers::put_alert_receiver(self, receiver).await
    }

    async fn delete_alert_receiver(&self, name: &str, now_us: i64) -> Result<bool, StoreError> {
        receivers::delete_alert_receiver(self, name, now_us).await
    }

    async fn replace_alert_file(
        &self,
        rules: &[AlertRule],
        receivers: &[AlertReceiver],
        now_us: i64,
    ) -> Result<(), StoreError> {
        rules::replace_alert_file(self, rules, receivers, now_us).await
    }

    async fn alert_cursors(&self, run_id: RunId) -> Result<Vec<AlertCursor>, StoreError> {
        cursors::alert_cursors(self, run_id).await
    }

    async fn open_alerts(&self, run_id: RunId) -> Result<Vec<Alert>, StoreError> {
        alert::open_alerts(self, run_id).await
    }

    async fn runs_to_evaluate(&self, since_us: i64) -> Result<Vec<RunId>, StoreError> {
        cursors::runs_to_evaluate(self, since_us).await
    }

    async fn commit_alerts(&self, commits: &[AlertCommit]) -> Result<Vec<bool>, StoreError> {
        commit::commit_alerts(self, commits).await
    }

    async fn alerts(&self, query: &AlertQuery) -> Result<Page<Alert>, StoreError> {
        alert::alerts(self, query).await
    }

    async fn alert_counts(&self, project: Option<&str>) -> Result<Vec<AlertCount>, StoreError> {
        alert::alert_counts(self, project).await
    }

    async fn alert(&self, alert_id: Uuid) -> Result<Option<Alert>, StoreError> {
        alert::find(self, alert_id).await
    }

    async fn notifications(&self, limit: usize) -> Result<Vec<Notification>, StoreError> {
        notifications::notifications(self, limit).await
    }

    async fn untold_alerts(&self, receiver: &str) -> Result<Vec<Uuid>, StoreError> {
        notifications::untold_alerts(self, receiver).await
    }

    async fn waiting_keys(&self) -> Result<Vec<(String, String)>, StoreError> {
        messages::waiting_keys(self).await
    }

    async fn silence_notifications(&self, ids: &[u64], silenced: bool) -> Result<(), StoreError> {
        notifications::silence_notifications(self, ids, silenced).await
    }

    async fn seal_message(&self, message: Option<&Message>, notification_ids: &[u64]) -> Result<bool, StoreError> {
        messages::seal_message(self, message, notification_ids).await
    }

    async fn claim_messages(
        &self,
        receiver: &str,
        now_us: i64,
        until_us: i64,
        limit: usize,
    ) -> Result<Vec<Message>, StoreError> {
        messages::claim_messages(self, receiver, now_us, until_us, limit).await
    }

    async fn release_messages(&self) -> Result<(), StoreError> {
        messages::release_messages(self).await
    }

    async fn record_delivery(&self, delivery: &Delivery, message: &Message) -> Result<(), StoreError> {
        messages::record_delivery(self, delivery, message).await
    }

    async fn redeliver(&self, message_id: Uuid, now_us: i64, give_up_at_us: i64) -> Result<bool, StoreError> {
        messages::redeliver(self, message_id, now_us, give_up_at_us).await
    }

    async fn set_receiver_disabled(&self, name: &str, disabled: Option<(i64, String)>) -> Result<bool, StoreError> {
        receivers::set_receiver_disabled(self, name, disabled.as_ref()).await
    }

    async fn waiting_messages(&self) -> Result<(u64, Option<i64>), StoreError> {
        messages::waiting(self).await
    }

    async fn messages(&self, query: &MessageQuery) -> Result<Page<Message>, StoreError> {
        messages::messages(self, query).await
    }

    async fn message(&self, message_id: Uuid) -> Result<Option<Message>, StoreError> {
        messages::find(self, message_id).await
    }

    async fn deliveries(&self, query: &DeliveryQuery) -> Result<Page<Delivery>, StoreError> {
        messages::deliveries(self, query).await
    }

    async fn silences(&self, ending_after_us: i64) -> Result<Vec<Silence>, StoreError> {
        silences::silences(self, ending_after_us).await
    }

    async fn put_silence(&self, silence: &Silence) -> Result<(), StoreError> {
        silences::put_silence(self, silence).await
    }

    async fn purge_alerts(&self, before_us: i64, max_rows: usize) -> Result<bool, StoreError> {
        purge::purge_alerts(self, before_us, max_rows).await
    }
}
