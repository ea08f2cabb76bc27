//! Seals messages, and keeps a task for each receiver.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use gradwatch_store::{AlertState, Message, Notification, Store, StoreError};
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use super::{
    connection::Connector,
    content::{Content, new_message},
    receiver::ReceiverTask,
    retry::GIVE_UP_AFTER_US,
    sealing::{self, Known, Plan},
    silence::Silences,
};
use crate::{
    alerts::{BookError, RuleBook, RuleSet},
    clock,
    config::Config,
    metrics::Metrics,
};

/// Look at least this often, should nobody say that there is something new.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The share of the time that looking may take, where very much is kept back.
const LOOK_SHARE: u32 = 20;
/// How long to wait for a store that does not answer.
const STORE_RETRY: Duration = Duration::from_secs(1);
/// The most that is looked at together: at their longest these take 260 MB. Each group has its share, and what is silenced
/// comes last, so that it hides nothing else.
const MAX_NOTIFICATIONS: usize = 1_000;
/// How long attempts that are under way may take when the server shuts down. What is cut off is sent again.
const LAST_ATTEMPTS: Duration = Duration::from_secs(2);

/// What is told of alerts, and to whom.
pub(crate) struct Dispatcher {
    pub(super) store: Arc<dyn Store>,
    pub(super) book: Arc<RuleBook>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) connector: Connector,
    /// What links begin with.
    pub(super) public_url: Option<String>,
    /// Ends looking for more to send.
    pub(super) draining: CancellationToken,
    /// Cuts off what is still being sent.
    pub(super) cut_off: CancellationToken,
    /// Somebody recorded something to be told, or changed a silence.
    recorded: Notify,
    /// Counts messages that became due.
    due: watch::Sender<u64>,
    tasks: TaskTracker,
}

impl Dispatcher {
    pub(crate) fn new(
        config: &Config,
        store: Arc<dyn Store>,
        book: Arc<RuleBook>,
        metrics: Arc<Metrics>,
        draining: CancellationToken,
    ) -> Self {
        Self {
            store,
            book,
            metrics,
            connector: Connector::new(config.alerts.allow_addresses.clone()),
            public_url: config.alerts.public_url.clone(),
            draining,
            cut_off: CancellationToken::new(),
            recorded: Notify::new(),
            due: watch::Sender::new(0),
            tasks: TaskTracker::new(),
        }
    }

    /// Begins; `recorded` changes whenever an evaluation recorded something to be told.
    pub(crate) fn start(self: &Arc<Self>, mut recorded: watch::Receiver<u64>) {
        let dispatcher = Arc::clone(self);
        self.tasks.spawn(async move {
            if dispatcher.release().await.is_some() {
                dispatcher.run(&mut recorded).await;
            }
        });
    }

    /// Looks for what there is to tell: a silence or something like it has changed.
    pub(crate) fn wake(&self) {
        self.recorded.notify_one();
    }

    /// Sends a message that says that it is a test.
    ///
    /// # Errors
    /// `Unknown` when there is no such receiver, `Conflict` when it is disabled.
    pub(crate) async fn test(&self, receiver: &str) -> Result<Message, BookError> {
        let rules = self.book.current();
        let unknown = || BookError::Unknown(format!("receiver {receiver:?}"));
        let known = rules.receivers.get(receiver).ok_or_else(unknown)?;
        if known.stored.disabled.is_some() {
            return Err(BookError::Conflict(format!("receiver {receiver:?} is disabled; enable it first")));
        }
        // Behind nothing that waits.
        let key = format!("test {}", Uuid::new_v4());
        let message = new_message(receiver, &key, Content::of_test(), clock::now_us());
        self.store.seal_message(Some(&message), &[]).await?;
        self.messages_are_due();
        Ok(self.store.message(message.message_id).await?.unwrap_or(message))
    }

    /// Sends a message again that was delivered or given up, with the same id; false when there is none such.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn redeliver(&self, message_id: Uuid) -> Result<bool, StoreError> {
        let now_us = clock::now_us();
        let found = self.store.redeliver(message_id, now_us, now_us + GIVE_UP_AFTER_US).await?;
        self.messages_are_due();
        Ok(found)
    }

    /// Waits until nothing is being sent; what takes too long is cut off, and sent again after the next start.
    pub(crate) async fn drain(&self) {
        self.tasks.close();
        if timeout(LAST_ATTEMPTS, self.tasks.wait()).await.is_err() {
            self.cut_off();
            self.tasks.wait().await;
        }
    }

    /// Ends without waiting for anything.
    pub(crate) fn cut_off(&self) {
        self.cut_off.cancel();
    }

    /// What a server that was killed was about to send is nobody's now. `None` when the server shuts down before.
    async fn release(&self) -> Option<()> {
        while let Err(error) = self.store.release_messages().await {
            tracing::warn!(%error, "messages to receivers wait for the store");
            self.draining.run_until_cancelled(sleep(STORE_RETRY)).await?;
        }
        Some(())
    }

    async fn run(self: &Arc<Self>, recorded: &mut watch::Receiver<u64>) {
        let mut rules = self.book.subscribe();
        let mut receivers: BTreeMap<String, CancellationToken> = BTreeMap::new();
        loop {
            let current = Arc::clone(&rules.borrow_and_update());
            recorded.borrow_and_update();
            self.keep_tasks(&current, &mut receivers, &rules);
            let began = Instant::now();
            let wait = match self.look(&current).await {
                Ok(next_us) => {
                    let next = next_us.map(|next_us| u64::try_from(next_us - clock::now_us()).unwrap_or_default());
                    let next = next.map_or(LOOK_EVERY, |next_us| Duration::from_micros(next_us).min(LOOK_EVERY));
                    next.max(began.elapsed() * LOOK_SHARE)
                }
                Err(error) => {
                    tracing::warn!(%error, "messages to receivers wait for the store");
                    STORE_RETRY
                }
            };
            tokio::select! {
                () = self.draining.cancelled() => return,
                () = sleep(wait) => {}
                () = self.recorded.notified() => {}
                // The senders live as long as the server.
                Ok(()) = recorded.changed() => {}
                Ok(()) = rules.changed() => {}
            }
        }
    }

    /// One task for each receiver there is.
    fn keep_tasks(
        self: &Arc<Self>,
        current: &RuleSet,
        receivers: &mut BTreeMap<String, CancellationToken>,
        rules: &watch::Receiver<Arc<RuleSet>>,
    ) {
        receivers.retain(|name, ended| {
            let stays = current.receivers.contains_key(name);
            if !stays {
                ended.cancel();
            }
            stays
        });
        for name in current.receivers.keys() {
            if !receivers.contains_key(name) {
                let ended = self.draining.child_token();
                let task = ReceiverTask::new(
                    Arc::clone(self),
                    name.clone(),
                    rules.clone(),
                    self.due.subscribe(),
                    ended.clone(),
                );
                self.tasks.spawn(task.run());
                receivers.insert(name.clone(), ended);
            }
        }
    }

    /// Seals what is ready. Answers when there will be more to do.
    async fn look(&self, current: &RuleSet) -> Result<Option<i64>, StoreError> {
        self.count_waiting().await?;
        let now_us = clock::now_us();
        let silences = Silences::at(&self.store.silences(now_us).await?, now_us);
        // First, so that nothing that comes behind one of these is taken for the first.
        let waiting = self.store.waiting_keys().await?;
        let notifications = self.store.notifications(MAX_NOTIFICATIONS).await?;
        let next_us = self.seal(&notifications, current, &silences, &waiting, now_us).await?;
        Ok(next_us.into_iter().chain(silences.next_change_us).min())
    }

    async fn count_waiting(&self) -> Result<(), StoreError> {
        let (count, since_us) = self.store.waiting_messages().await?;
        let age_us = since_us.map_or(0, |since_us| (clock::now_us() - since_us).max(0));
        self.metrics.alert_messages_waiting.set(i64::try_from(count).unwrap_or(i64::MAX));
        self.metrics.alert_oldest_message_seconds.set(age_us as f64 / 1e6);
        Ok(())
    }

    /// Seals what is ready of these. Answers when the next of them will be.
    async fn seal(
        &self,
        notifications: &[Notification],
        current: &RuleSet,
        silences: &Silences,
        waiting: &[(String, String)],
        now_us: i64,
    ) -> Result<Option<i64>, StoreError> {
        let mut over = HashSet::new();
        for alert_id in sealing::released(notifications, silences) {
            let alert = self.store.alert(alert_id).await?;
            if alert.is_none_or(|alert| alert.state != AlertState::Firing) {
                over.insert(alert_id);
            }
        }
        let Plan { seal, drop, silence, next_us } = {
            let receiver = |name: &str| current.receivers.get(name).map(|receiver| &receiver.definition);
            sealing::plan(notifications, &Known { now_us, receiver: &receiver, silences, over: &over, waiting })
        };
        if !silence.is_empty() {
            self.store.silence_notifications(&silence, true).await?;
        }
        if !drop.is_empty() {
            self.store.seal_message(None, &drop).await?;
        }
        let sealed = self.seal_all(&seal).await;
        if !seal.is_empty() {
            // Also behind an error: its answer may be all that was lost.
            self.messages_are_due();
        }
        sealed.map(|()| next_us)
    }

    async fn seal_all(&self, seal: &[(Message, Vec<u64>)]) -> Result<(), StoreError> {
        for (message, ids) in seal {
            match self.store.seal_message(Some(message), ids).await {
                // False: they are in a message already, and there is nothing left to do.
                Ok(_) => {}
                Err(error @ StoreError::Unavailable(_)) => return Err(error),
                // One group that the store does not take keeps no other waiting.
                Err(error) => {
                    let (receiver, group_key) = (&message.receiver, &message.group_key);
                    tracing::error!(receiver, group_key, %error, "a message cannot be made");
                }
            }
        }
        Ok(())
    }

    fn messages_are_due(&self) {
        self.due.send_modify(|count| *count += 1);
    }
}
