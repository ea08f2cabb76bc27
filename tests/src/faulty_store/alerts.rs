//! What breaks of what is kept of alerts.

use async_trait::async_trait;
use gradwatch_store::{
    Alert, AlertCommit, AlertCount, AlertCursor, AlertQuery, AlertReceiver, AlertRule, AlertStore, Delivery,
    DeliveryQuery, Message, MessageQuery, Notification, Page, RunId, Silence, StoreError, ValuesQuery, ValuesRow,
};
use uuid::Uuid;

use super::FaultyStore;
use crate::faults::{AlertCall, lock};

#[async_trait]
impl AlertStore for FaultyStore {
    async fn values(&self, query: &ValuesQuery) -> Result<Vec<ValuesRow>, StoreError> {
        self.series.pass().await;
        self.inner.values(query).await
    }

    async fn alert_rules(&self) -> Result<Vec<AlertRule>, StoreError> {
        self.inner.alert_rules().await
    }

    async fn put_alert_rule(&self, rule: &AlertRule) -> Result<(), StoreError> {
        self.inner.put_alert_rule(rule).await
    }

    async fn delete_alert_rule(&self, rule_id: Uuid) -> Result<bool, StoreError> {
        self.inner.delete_alert_rule(rule_id).await
    }

    async fn alert_receivers(&self) -> Result<Vec<AlertReceiver>, StoreError> {
        self.inner.alert_receivers().await
    }

    async fn put_alert_receiver(&self, receiver: &AlertReceiver) -> Result<(), StoreError> {
        self.inner.put_alert_receiver(receiver).await
    }

    async fn delete_alert_receiver(&self, name: &str, now_us: i64) -> Result<bool, StoreError> {
        self.inner.delete_alert_receiver(name, now_us).await
    }

    async fn replace_alert_file(
        &self,
        rules: &[AlertRule],
        receivers: &[AlertReceiver],
        now_us: i64,
    ) -> Result<(), StoreError> {
        self.inner.replace_alert_file(rules, receivers, now_us).await
    }

    async fn alert_cursors(&self, run_id: RunId) -> Result<Vec<AlertCursor>, StoreError> {
        self.inner.alert_cursors(run_id).await
    }

    async fn open_alerts(&self, run_id: RunId) -> Result<Vec<Alert>, StoreError> {
        self.inner.open_alerts(run_id).await
    }

    async fn runs_to_evaluate(&self, since_us: i64) -> Result<Vec<RunId>, StoreError> {
        self.inner.runs_to_evaluate(since_us).await
    }

    async fn commit_alerts(&self, commits: &[AlertCommit]) -> Result<Vec<bool>, StoreError> {
        if let Some(commit) = commits.iter().find(|commit| lock(&self.poisoned_alerts).contains(&commit.run_id)) {
            return Err(StoreError::Data(format!("planned: rules on run {} are poisoned", commit.run_id)));
        }
        self.gated(AlertCall::Commit, self.inner.commit_alerts(commits)).await
    }

    async fn alerts(&self, query: &AlertQuery) -> Result<Page<Alert>, StoreError> {
        self.inner.alerts(query).await
    }

    async fn alert_counts(&self, project: Option<&str>) -> Result<Vec<AlertCount>, StoreError> {
        self.inner.alert_counts(project).await
    }

    async fn alert(&self, alert_id: Uuid) -> Result<Option<Alert>, StoreError> {
        self.inner.alert(alert_id).await
    }

    async fn notifications(&self, limit: usize) -> Result<Vec<Notification>, StoreError> {
        self.inner.notifications(limit).await
    }

    async fn untold_alerts(&self, receiver: &str) -> Result<Vec<Uuid>, StoreError> {
        self.inner.untold_alerts(receiver).await
    }

    async fn waiting_keys(&self) -> Result<Vec<(String, String)>, StoreError> {
        self.inner.waiting_keys().await
    }

    async fn silence_notifications(&self, ids: &[u64], silenced: bool) -> Result<(), StoreError> {
        self.inner.silence_notifications(ids, silenced).await
    }

    async fn seal_message(&self, message: Option<&Message>, notification_ids: &[u64]) -> Result<bool, StoreError> {
        self.gated(AlertCall::Seal, self.inner.seal_message(message, notification_ids)).await
    }

    async fn claim_messages(
        &self,
        receiver: &str,
        now_us: i64,
        until_us: i64,
        limit: usize,
    ) -> Result<Vec<Message>, StoreError> {
        self.inner.claim_messages(receiver, now_us, until_us, limit).await
    }

    async fn release_messages(&self) -> Result<(), StoreError> {
        self.inner.release_messages().await
    }

    async fn record_delivery(&self, delivery: &Delivery, message: &Message) -> Result<(), StoreError> {
        self.gated(AlertCall::Record, self.inner.record_delivery(delivery, message)).await
    }

    async fn redeliver(&self, message_id: Uuid, now_us: i64, give_up_at_us: i64) -> Result<bool, StoreError> {
        self.inner.redeliver(message_id, now_us, give_up_at_us).await
    }

    async fn set_receiver_disabled(&self, name: &str, disabled: Option<(i64, String)>) -> Result<bool, StoreError> {
        self.inner.set_receiver_disabled(name, disabled).await
    }

    async fn waiting_messages(&self) -> Result<(u64, Option<i64>), StoreError> {
        self.inner.waiting_messages().await
    }

    async fn messages(&self, query: &MessageQuery) -> Result<Page<Message>, StoreError> {
        self.inner.messages(query).await
    }

    async fn message(&self, message_id: Uuid) -> Result<Option<Message>, StoreError> {
        self.inner.message(message_id).await
    }

    async fn deliveries(&self, query: &DeliveryQuery) -> Result<Page<Delivery>, StoreError> {
        self.inner.deliveries(query).await
    }

    async fn silences(&self, ending_after_us: i64) -> Result<Vec<Silence>, StoreError> {
        self.inner.silences(ending_after_us).await
    }

    async fn put_silence(&self, silence: &Silence) -> Result<(), StoreError> {
        self.inner.put_silence(silence).await
    }

    async fn purge_alerts(&self, before_us: i64, max_rows: usize) -> Result<bool, StoreError> {
        self.inner.purge_alerts(before_us, max_rows).await
    }
}
