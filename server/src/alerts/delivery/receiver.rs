//! One receiver: takes its messages one by one and sends them, as many at a time and a minute as it may get.

use std::{
    collections::{BTreeSet, HashSet},
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use governor::{
    DefaultDirectRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};
use gradwatch_rules::ReceiverKind;
use gradwatch_store::{Delivery, DeliveryQuery, Message, MessageState, Store, StoreError};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    dispatcher::Dispatcher,
    outcome::{Attempted, Outcome},
    request::{kind_name, outgoing},
    resend::{RESEND_EVERY, resend},
    retry,
};
use crate::{
    alerts::{Receiver, RuleSet},
    clock,
};

/// Look at least this often, should nobody say that there is something due.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How long to wait for a store that does not answer.
const STORE_RETRY: Duration = Duration::from_secs(1);
/// A message is taken for this long, besides the time that a request may take: longer than it waits for its turn.
const CLAIM: Duration = Duration::from_secs(120);
/// Messages of a disabled receiver that are looked at together.
const DISABLED_AT_ONCE: usize = 100;

/// The task of one receiver.
pub(super) struct ReceiverTask {
    dispatcher: Arc<Dispatcher>,
    name: String,
    rules: watch::Receiver<Arc<RuleSet>>,
    due: watch::Receiver<u64>,
    ended: CancellationToken,
    /// With the rate that it is made for.
    limiter: Option<(u32, DefaultDirectRateLimiter)>,
    attempts: JoinSet<(Uuid, Sent)>,
    /// Messages of `attempts`. Invariant: none is sent twice at a time, also when its claim has run out because the
    /// store does not take what became of it.
    in_flight: HashSet<Uuid>,
    /// Messages that were taken again while an attempt of theirs was ending: sent by hand again meanwhile, or because their
    /// claim had run out.
    again: Vec<Uuid>,
    /// When messages that failed are due, microseconds since the Unix epoch.
    retries_us: BTreeSet<i64>,
    /// The version of the receiver that the pause is of.
    updated_at_us: i64,
    /// The receiver asked for nothing before.
    paused_until: Option<Instant>,
    resend_at: Instant,
}

/// What one attempt leaves behind.
#[derive(Default)]
struct Sent {
    next_attempt_at_us: Option<i64>,
    pause: Option<Duration>,
    /// The version of the receiver that was sent to.
    receiver_updated_at_us: i64,
}

impl ReceiverTask {
    pub(super) fn new(
        dispatcher: Arc<Dispatcher>,
        name: String,
        rules: watch::Receiver<Arc<RuleSet>>,
        due: watch::Receiver<u64>,
        ended: CancellationToken,
    ) -> Self {
        Self {
            dispatcher,
            name,
            rules,
            due,
            ended,
            limiter: None,
            attempts: JoinSet::new(),
            in_flight: HashSet::new(),
            again: Vec::new(),
            retries_us: BTreeSet::new(),
            updated_at_us: 0,
            paused_until: None,
            resend_at: Instant::now(),
        }
    }

    /// Works until the receiver is deleted or the server drains; what is under way then is ended.
    pub(super) async fn run(mut self) {
        let (ended, cut_off) = (self.ended.clone(), self.dispatcher.cut_off.clone());
        ended.run_until_cancelled(self.work()).await;
        cut_off.run_until_cancelled(async { while self.attempts.join_next().await.is_some() {} }).await;
        // What is cut off is aborted here, and waits in the store.
    }

    async fn work(&mut self) {
        loop {
            self.due.borrow_and_update();
            let current = Arc::clone(&self.rules.borrow_and_update());
            let Some(receiver) = current.receivers.get(&self.name) else {
                // Whoever made this task ends it, unless the receiver is made again before that is seen.
                if self.rules.changed().await.is_err() {
                    return;
                }
                continue;
            };
            if self.updated_at_us != receiver.stored.updated_at_us {
                // What it asked for was asked for as what it was.
                (self.updated_at_us, self.paused_until) = (receiver.stored.updated_at_us, None);
            }
            let wait = match self.send_due(receiver).await {
                Ok(()) => LOOK_EVERY,
                Err(error) => {
                    tracing::warn!(receiver = self.name, %error, "messages wait for the store");
                    STORE_RETRY
                }
            };
            let next = self.next_look(receiver, wait);
            tokio::select! {
                () = sleep_until(next.into()) => {}
                Some(sent) = self.attempts.join_next() => self.settle(sent),
                // The senders live as long as the server.
                Ok(()) = self.due.changed() => {}
                Ok(()) = self.rules.changed() => {}
            }
        }
    }

    /// When to look again, if nothing happens before. What waits for attempts to end is looked at when they do.
    fn next_look(&self, receiver: &Receiver, wait: Duration) -> Instant {
        let now = Instant::now();
        let latest = now + wait;
        if receiver.stored.disabled.is_some() || self.is_full(receiver) {
            return latest;
        }
        if let Some(until) = self.paused_until {
            return until.min(latest);
        }
        let resend_at = is_alertmanager(receiver).then_some(self.resend_at);
        if resend_at.is_some_and(|at| at <= now) {
            return if self.attempts.is_empty() { now } else { latest };
        }
        let retry_us = self.retries_us.first().map(|at_us| u64::try_from(at_us - clock::now_us()).unwrap_or_default());
        let retry_at = retry_us.map(|wait_us| now + Duration::from_micros(wait_us));
        resend_at.into_iter().chain(retry_at).min().map_or(latest, |next| next.min(latest))
    }

    fn is_full(&self, receiver: &Receiver) -> bool {
        self.attempts.len() >= receiver.definition.max_concurrency.max(1) as usize
    }

    async fn send_due(&mut self, receiver: &Arc<Receiver>) -> Result<(), StoreError> {
        if receiver.stored.disabled.is_some() {
            return self.give_up_old(receiver).await;
        }
        if self.paused_until.is_some_and(|until| Instant::now() < until) {
            return Ok(());
        }
        self.paused_until = None;
        if is_alertmanager(receiver) && self.resend_at <= Instant::now() {
            // Invariant: nothing that an Alertmanager is told of again is older than what it was told last. So no message is
            // under way meanwhile.
            if !self.attempts.is_empty() {
                return Ok(());
            }
            self.wait_for_turn(receiver.definition.max_per_minute).await;
            let Some(receiver) = self.enabled() else { return Ok(()) };
            self.resend_at = Instant::now() + RESEND_EVERY;
            resend(&self.dispatcher, &receiver.definition).await?;
        }
        // Those are looked for now. What does not fit is looked for when an attempt has ended.
        let now_us = clock::now_us();
        self.retries_us.retain(|at_us| *at_us > now_us);
        while !self.is_full(receiver) {
            let now_us = clock::now_us();
            let until = CLAIM + Duration::from_secs(receiver.definition.timeout_s.into());
            let until_us = now_us + i64::try_from(until.as_micros()).unwrap_or(i64::MAX / 2);
            let message = match self.taken_again().await? {
                Some(message) => message,
                None => {
                    let claimed = self.dispatcher.store.claim_messages(&self.name, now_us, until_us, 1).await?;
                    let Some(message) = claimed.into_iter().next() else { break };
                    message
                }
            };
            if !self.in_flight.insert(message.message_id) {
                // It is ours, and nobody else's until its claim runs out: what it waits for is the end of that attempt.
                self.again.push(message.message_id);
                continue;
            }
            self.wait_for_turn(receiver.definition.max_per_minute).await;
            // Invariant: a message goes to what the receiver is when it is sent. To one that was disabled meanwhile it does
            // not go: it is nobody's again when its claim has run out.
            let Some(receiver) = self.enabled() else {
                self.in_flight.remove(&message.message_id);
                break;
            };
            let dispatcher = Arc::clone(&self.dispatcher);
            self.attempts.spawn(async move { (message.message_id, attempt(&dispatcher, &receiver, message).await) });
        }
        Ok(())
    }

    /// A message that was taken while an attempt of its was ending, once that has ended: if it is to be sent still.
    async fn taken_again(&mut self) -> Result<Option<Message>, StoreError> {
        while let Some(place) = self.again.iter().position(|message_id| !self.in_flight.contains(message_id)) {
            let message = self.dispatcher.store.message(self.again[place]).await?;
            self.again.swap_remove(place);
            let message = message.filter(|message| message.state == MessageState::Waiting);
            if message.as_ref().is_some_and(|message| message.next_attempt_at_us <= clock::now_us()) {
                return Ok(message);
            }
        }
        Ok(None)
    }

    /// The receiver as it is now, unless it is disabled or gone.
    fn enabled(&self) -> Option<Arc<Receiver>> {
        let current = self.rules.borrow();
        current.receivers.get(&self.name).filter(|receiver| receiver.stored.disabled.is_none()).map(Arc::clone)
    }

    fn settle(&mut self, sent: Result<(Uuid, Sent), tokio::task::JoinError>) {
        let Ok((message_id, sent)) = sent else {
            // An attempt panicked. What was in flight is taken until its claims run out.
            if self.attempts.is_empty() {
                self.in_flight.clear();
            }
            return;
        };
        self.in_flight.remove(&message_id);
        self.retries_us.extend(sent.next_attempt_at_us);
        if let Some(pause) = sent.pause.filter(|_| sent.receiver_updated_at_us == self.updated_at_us) {
            let until = Instant::now() + pause;
            self.paused_until = Some(self.paused_until.map_or(until, |before| before.max(until)));
        }
    }

    /// Waits until one more request fits into the minute.
    async fn wait_for_turn(&mut self, per_minute: u32) {
        let made_for = |(rate, _): &(u32, DefaultDirectRateLimiter)| *rate == per_minute;
        let (_, limiter) = match self.limiter.take().filter(made_for) {
            Some(limiter) => self.limiter.insert(limiter),
            None => {
                let quota = Quota::per_minute(NonZeroU32::new(per_minute).unwrap_or(NonZeroU32::MIN));
                self.limiter.insert((per_minute, RateLimiter::direct(quota)))
            }
        };
        while let Err(early) = limiter.check() {
            sleep(early.wait_time_from(DefaultClock::default().now())).await;
        }
    }

    /// Messages of a disabled receiver wait for it to be enabled, as long as any message waits.
    async fn give_up_old(&self, receiver: &Receiver) -> Result<(), StoreError> {
        let store = &self.dispatcher.store;
        let now_us = clock::now_us();
        // Taken until now, which is not at all.
        let waiting = store.claim_messages(&self.name, now_us, now_us, DISABLED_AT_ONCE).await?;
        for mut message in waiting.into_iter().filter(|message| message.give_up_at_us <= now_us) {
            let why = receiver.stored.disabled.as_ref().map_or("", |(_, why)| why.as_str());
            let attempted = Attempted::failed(Outcome::Disabled, why);
            retry::after_attempt(&mut message, &attempted, now_us, 0.0);
            store.record_delivery(&delivery(&message, &attempted, now_us, Duration::ZERO), &message).await?;
            self.dispatcher.metrics.count_delivery(kind_name(&receiver.definition.kind), attempted.outcome.as_str());
        }
        Ok(())
    }
}

fn is_alertmanager(receiver: &Receiver) -> bool {
    matches!(receiver.definition.kind, ReceiverKind::Alertmanager { .. })
}

/// Invariant: what was sent is recorded before the message is anybody's again. Killed in between, it is sent once more.
async fn attempt(dispatcher: &Dispatcher, receiver: &Receiver, mut message: Message) -> Sent {
    let definition = &receiver.definition;
    let (at_us, began) = (clock::now_us(), Instant::now());
    let attempted = match outgoing(definition, &message, at_us) {
        Ok(request) => dispatcher.connector.post(request, Duration::from_secs(definition.timeout_s.into())).await,
        Err(problem) => Attempted::failed(Outcome::Definition, &problem),
    };
    if attempted.outcome == Outcome::Gone {
        // First, so that nothing more is sent behind it. The message itself goes on waiting, should it be enabled again.
        let why = "the receiver answered 410 Gone".to_owned();
        if let Err(error) = dispatcher.book.disable(&receiver.stored, why).await {
            tracing::warn!(receiver = definition.name, %error, "receiver cannot be disabled");
        }
    }
    retry::after_attempt(&mut message, &attempted, clock::now_us(), rand::random());
    log(&message, &attempted);
    let delivery = delivery(&message, &attempted, at_us, began.elapsed());
    while let Err(error) = record(&*dispatcher.store, &delivery, &message).await {
        tracing::warn!(message_id = %message.message_id, %error, "an attempt waits to be recorded");
        if dispatcher.draining.run_until_cancelled(sleep(STORE_RETRY)).await.is_none() {
            break;
        }
    }
    dispatcher.metrics.count_delivery(kind_name(&definition.kind), attempted.outcome.as_str());
    // Told about us as a whole, not about this message.
    let asks_all = matches!(attempted.status, Some(429 | 503));
    Sent {
        next_attempt_at_us: (message.state == MessageState::Waiting).then_some(message.next_attempt_at_us),
        pause: attempted.retry_after.filter(|_| asks_all && message.state == MessageState::Waiting).map(capped),
        receiver_updated_at_us: receiver.stored.updated_at_us,
    }
}

/// Invariant: an attempt is recorded once, also when the answer of an earlier try was lost.
async fn record(store: &dyn Store, delivery: &Delivery, message: &Message) -> Result<(), StoreError> {
    let newest = DeliveryQuery { message_id: Some(message.message_id), limit: 1, ..DeliveryQuery::default() };
    let recorded = store.deliveries(&newest).await?;
    if recorded.items.iter().any(|last| (last.attempt, last.at_us) == (delivery.attempt, delivery.at_us)) {
        return Ok(());
    }
    store.record_delivery(delivery, message).await
}

/// A pause that is longer than a message lives keeps those that come later from being sent as well.
fn capped(pause: Duration) -> Duration {
    pause.min(Duration::from_secs(24 * 3_600))
}

fn delivery(message: &Message, attempted: &Attempted, at_us: i64, took: Duration) -> Delivery {
    Delivery {
        // The store gives it.
        delivery_id: 0,
        message_id: message.message_id,
        receiver: message.receiver.clone(),
        attempt: message.attempts,
        at_us,
        duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        outcome: attempted.outcome.as_str().to_owned(),
        status: attempted.status,
        detail: attempted.detail.clone(),
    }
}

/// Without what the receiver said: that is for who may read the attempts.
fn log(message: &Message, attempted: &Attempted) {
    let Message { message_id, receiver, attempts, state, .. } = message;
    let (outcome, status) = (attempted.outcome.as_str(), attempted.status);
    match state {
        MessageState::Delivered => tracing::debug!(%message_id, receiver, attempts, "message delivered"),
        MessageState::Waiting => {
            tracing::warn!(%message_id, receiver, attempts, outcome, status, "message is tried again");
        }
        MessageState::Failed => {
            tracing::error!(%message_id, receiver, attempts, outcome, status, "message is given up");
        }
    }
}
