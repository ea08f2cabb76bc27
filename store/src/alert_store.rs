//! What every store keeps of alerts: rules and receivers, how far they were evaluated, what fires, and what is told of it.

use async_trait::async_trait;
use uuid::Uuid;

use crate::{
    error::StoreError,
    model::{
        Alert, AlertCommit, AlertCursor, AlertReceiver, AlertRule, Delivery, Message, Notification, RunId, Silence,
    },
    query::{AlertCount, AlertQuery, DeliveryQuery, MessageQuery, Page, ValuesQuery, ValuesRow},
};

/// The part of a store that alerts are kept in.
#[async_trait]
pub trait AlertStore: Send + Sync + 'static {
    /// Values for rules: of the steps of the ranges that have a row, one behind the other.
    ///
    /// # Errors
    /// When the database fails.
    async fn values(&self, query: &ValuesQuery) -> Result<Vec<ValuesRow>, StoreError>;

    /// All rules, by name.
    ///
    /// # Errors
    /// When the database fails.
    async fn alert_rules(&self) -> Result<Vec<AlertRule>, StoreError>;

    /// Makes or replaces a rule by its id.
    ///
    /// # Errors
    /// `Conflict` when another rule has the name.
    async fn put_alert_rule(&self, rule: &AlertRule) -> Result<(), StoreError>;

    /// Removes a rule; false when there is none. Its alerts stay.
    ///
    /// # Errors
    /// When the database fails.
    async fn delete_alert_rule(&self, rule_id: Uuid) -> Result<bool, StoreError>;

    /// All receivers, by name.
    ///
    /// # Errors
    /// When the database fails.
    async fn alert_receivers(&self) -> Result<Vec<AlertReceiver>, StoreError>;

    /// Makes or replaces a receiver by its name.
    ///
    /// # Errors
    /// When the database fails.
    async fn put_alert_receiver(&self, receiver: &AlertReceiver) -> Result<(), StoreError>;

    /// Removes a receiver; false when there is none. What it was to be told is given up.
    ///
    /// # Errors
    /// When the database fails.
    async fn delete_alert_receiver(&self, name: &str, now_us: i64) -> Result<bool, StoreError>;

    /// Replaces all rules and receivers whose source is the file, in ONE transaction.
    ///
    /// # Errors
    /// `Conflict` when a rule or receiver over REST has one of the names.
    async fn replace_alert_file(
        &self,
        rules: &[AlertRule],
        receivers: &[AlertReceiver],
        now_us: i64,
    ) -> Result<(), StoreError>;

    /// The cursors of a run.
    ///
    /// # Errors
    /// When the database fails.
    async fn alert_cursors(&self, run_id: RunId) -> Result<Vec<AlertCursor>, StoreError>;

    /// The alerts of a run that are pending or firing.
    ///
    /// # Errors
    /// When the database fails.
    async fn open_alerts(&self, run_id: RunId) -> Result<Vec<Alert>, StoreError>;

    /// Runs, not being deleted, that rules have something to say about: of those heard of since `since_us` the ones that are
    /// not over, have no cursor or have one of another revision; and all with open alerts.
    ///
    /// # Errors
    /// When the database fails.
    async fn runs_to_evaluate(&self, since_us: i64) -> Result<Vec<RunId>, StoreError>;

    /// Settles evaluations in ONE transaction: cursors, alerts and what is to be told of them. Answers for each whether it
    /// landed; one does not, whole, when its cursor is not where it says, or its run is gone.
    ///
    /// # Errors
    /// `Data` when a lane of a run comes twice, a cursor does not count on, or an alert is of another run or lane than its
    /// commit. After `Unavailable` the outcome is unknown: read the cursors.
    async fn commit_alerts(&self, commits: &[AlertCommit]) -> Result<Vec<bool>, StoreError>;

    /// A page of alerts, newest first; none of runs that are being deleted.
    ///
    /// # Errors
    /// `Conflict` when the alert that the page is to begin behind is gone.
    async fn alerts(&self, query: &AlertQuery) -> Result<Page<Alert>, StoreError>;

    /// How many alerts of each rule are open, in any order, of all projects or of one; none of runs that are being deleted.
    ///
    /// # Errors
    /// When the database fails.
    async fn alert_counts(&self, project: Option<&str>) -> Result<Vec<AlertCount>, StoreError>;

    /// One alert, unless its run is being deleted.
    ///
    /// # Errors
    /// When the database fails.
    async fn alert(&self, alert_id: Uuid) -> Result<Option<Alert>, StoreError>;

    /// Those not yet in a message, by receiver, group key and id, of which no earlier message of the same receiver and key
    /// is waiting. Where there are more than `limit`, alerts of which everything is silenced are left out first, and then the
    /// latest of the keys that have most.
    ///
    /// # Errors
    /// When the database fails.
    async fn notifications(&self, limit: usize) -> Result<Vec<Notification>, StoreError>;

    /// Alerts of which a receiver is to be told and that are in no message yet, in any order.
    ///
    /// # Errors
    /// When the database fails.
    async fn untold_alerts(&self, receiver: &str) -> Result<Vec<Uuid>, StoreError>;

    /// Receivers and group keys of messages that wait, each once, in any order.
    ///
    /// # Errors
    /// When the database fails.
    async fn waiting_keys(&self) -> Result<Vec<(String, String)>, StoreError>;

    /// Marks notifications as silenced, or not.
    ///
    /// # Errors
    /// When the database fails.
    async fn silence_notifications(&self, ids: &[u64], silenced: bool) -> Result<(), StoreError>;

    /// Makes a message of notifications, which are then gone, in ONE transaction; `message: None` drops them. False, and
    /// nothing changes, when one of them is gone already.
    ///
    /// # Errors
    /// When the database fails.
    async fn seal_message(&self, message: Option<&Message>, notification_ids: &[u64]) -> Result<bool, StoreError>;

    /// Takes messages to a receiver that are due: of each group key the oldest that waits, if nobody has it; those due
    /// longest first. They are taken until `until_us`, or until their attempt is recorded.
    ///
    /// # Errors
    /// When the database fails.
    async fn claim_messages(
        &self,
        receiver: &str,
        now_us: i64,
        until_us: i64,
        limit: usize,
    ) -> Result<Vec<Message>, StoreError>;

    /// Gives back all that is taken: a server that starts is the only one.
    ///
    /// # Errors
    /// When the database fails.
    async fn release_messages(&self) -> Result<(), StoreError>;

    /// Records an attempt, and where its message stands then (`state`, `attempts`, `next_attempt_at_us`, `give_up_at_us`,
    /// `ended_at_us`). A message that was ended meanwhile stays so, unless it was delivered.
    ///
    /// # Errors
    /// When the database fails.
    async fn record_delivery(&self, delivery: &Delivery, message: &Message) -> Result<(), StoreError>;

    /// Sends a message again that is delivered or failed; false when there is none such, or its receiver is gone.
    ///
    /// # Errors
    /// When the database fails.
    async fn redeliver(&self, message_id: Uuid, now_us: i64, give_up_at_us: i64) -> Result<bool, StoreError>;

    /// Disables a receiver, or enables it; false when there is none.
    ///
    /// # Errors
    /// When the database fails.
    async fn set_receiver_disabled(&self, name: &str, disabled: Option<(i64, String)>) -> Result<bool, StoreError>;

    /// How many messages wait, and since when the oldest of them does.
    ///
    /// # Errors
    /// When the database fails.
    async fn waiting_messages(&self) -> Result<(u64, Option<i64>), StoreError>;

    /// A page of messages.
    ///
    /// # Errors
    /// When the database fails.
    async fn messages(&self, query: &MessageQuery) -> Result<Page<Message>, StoreError>;

    /// One message.
    ///
    /// # Errors
    /// When the database fails.
    async fn message(&self, message_id: Uuid) -> Result<Option<Message>, StoreError>;

    /// A page of attempts.
    ///
    /// # Errors
    /// When the database fails.
    async fn deliveries(&self, query: &DeliveryQuery) -> Result<Page<Delivery>, StoreError>;

    /// All silences that end after this, by their start.
    ///
    /// # Errors
    /// When the database fails.
    async fn silences(&self, ending_after_us: i64) -> Result<Vec<Silence>, StoreError>;

    /// Makes or replaces a silence by its id.
    ///
    /// # Errors
    /// When the database fails.
    async fn put_silence(&self, silence: &Silence) -> Result<(), StoreError>;

    /// Deletes resolved alerts, messages that are no longer waiting with their attempts, and silences, all ended before
    /// this, at most so many rows; true when nothing of it is left.
    ///
    /// # Errors
    /// When the database fails.
    async fn purge_alerts(&self, before_us: i64, max_rows: usize) -> Result<bool, StoreError>;
}
