//! A server whose receivers and notifications a test writes into the store.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use gradwatch_server::{Drained, ServerHandle, config::Config, serve_on};
use gradwatch_store::{
    AlertCommit, AlertCursor, AlertLane, AlertReceiver, AlertSource, AlertState, AttemptDeclaration, AttemptId,
    Delivery, DeliveryQuery, Encoding, GroupSpec, Kind, Message, MessageQuery, MessageState, NewNotification,
    OpenAttempt, RunDeclaration, RunId, Store, StreamSpec, TensorSpec,
};
use gradwatch_tests::{Backend, FaultyStore, PATIENCE, Place, any_port};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

/// Where receivers of tests are.
pub(crate) const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1/128"];

/// A server in the test's process.
pub(crate) struct World {
    pub(crate) store: Arc<FaultyStore>,
    server: ServerHandle,
    config: Config,
    place: Place,
}

impl World {
    /// Starts a server that knows receivers, which may be on loopback.
    pub(crate) async fn start(backend: Backend, receivers: &[(&str, Value)]) -> Self {
        Self::start_with(backend, receivers, |config| {
            config.alerts.allow_addresses = LOOPBACK.map(|net| net.parse().expect("a network")).to_vec();
        })
        .await
    }

    /// With changed settings.
    pub(crate) async fn start_with(
        backend: Backend,
        receivers: &[(&str, Value)],
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let place = Place::new(backend);
        let store = gradwatch_store::open(place.database_url(), place.data_dir()).await.expect("a store");
        put_receivers(&*store, receivers).await;
        let mut config = Config::embedded(any_port(), place.data_dir()).expect("the defaults are valid");
        config.numeric_threads = 1;
        change(&mut config);
        let store = Arc::new(FaultyStore::new(store));
        let server = serve_on(config.clone(), Arc::clone(&store) as Arc<dyn Store>).await.expect("the server starts");
        config.listen = server.address();
        Self { store, server, config, place }
    }

    /// Shuts the server down and starts the next on the same store.
    pub(crate) async fn restart(self) -> Self {
        let Self { store, server, config, place } = self;
        assert_eq!(server.shutdown().await, Drained::Completely);
        let server = serve_on(config.clone(), Arc::clone(&store) as Arc<dyn Store>).await.expect("it starts again");
        Self { store, server, config, place }
    }

    /// Shuts it down.
    pub(crate) async fn stop(self) {
        assert_eq!(self.server.shutdown().await, Drained::Completely);
        assert_eq!(self.store.violations(), Vec::<String>::new());
        drop(self.place);
    }

    /// What Prometheus reads.
    pub(crate) async fn metrics(&self) -> String {
        let rest = gradwatch_tests::Rest::new(&format!("http://{}", self.server.address()));
        rest.call(http::Method::GET, "/metrics", "").await.1
    }

    /// Records what an evaluation would.
    pub(crate) async fn record(&self, notifications: Vec<NewNotification>) {
        record(&*self.store, notifications).await;
    }

    /// All messages, oldest first.
    pub(crate) async fn messages(&self) -> Vec<Message> {
        messages(&*self.store).await
    }

    /// All attempts, oldest first.
    pub(crate) async fn deliveries(&self) -> Vec<Delivery> {
        deliveries(&*self.store).await
    }

    /// Waits until the attempts are as wanted.
    pub(crate) async fn until(&self, what: &str, is_so: impl Fn(&[Delivery], &[Message]) -> bool) {
        let waiting = async {
            while !is_so(&self.deliveries().await, &self.messages().await) {
                sleep(Duration::from_millis(20)).await;
            }
        };
        if timeout(PATIENCE, waiting).await.is_err() {
            panic!("never: {what}; but {:#?} {:#?}", self.deliveries().await, self.messages().await);
        }
    }

    /// Waits until so many messages were delivered, and none waits.
    pub(crate) async fn delivered(&self, count: usize) {
        let delivered = |message: &Message| message.state == MessageState::Delivered;
        self.until(&format!("{count} messages delivered"), |_, messages| {
            messages.len() == count && messages.iter().all(delivered)
        })
        .await;
    }
}

/// Receivers as REST would make them. Nothing waits for others of its group, unless the definition says so.
pub(crate) async fn put_receivers(store: &dyn Store, receivers: &[(&str, Value)]) {
    for (name, definition) in receivers {
        let mut definition = definition.clone();
        definition["name"] = json!(name);
        if definition.get("group_wait_s").is_none() {
            definition["group_wait_s"] = json!(0);
        }
        let receiver = AlertReceiver {
            name: (*name).to_owned(),
            source: AlertSource::Api,
            definition,
            updated_at_us: now_us(),
            disabled: None,
        };
        store.put_alert_receiver(&receiver).await.expect("stored");
    }
}

/// Messages of a store, oldest first.
pub(crate) async fn messages(store: &dyn Store) -> Vec<Message> {
    let query = MessageQuery { limit: 10_000, ..MessageQuery::default() };
    let mut messages = store.messages(&query).await.expect("messages").items;
    messages.reverse();
    messages
}

/// Attempts of a store, oldest first.
pub(crate) async fn deliveries(store: &dyn Store) -> Vec<Delivery> {
    let query = DeliveryQuery { limit: 10_000, ..DeliveryQuery::default() };
    let mut deliveries = store.deliveries(&query).await.expect("deliveries").items;
    deliveries.reverse();
    deliveries
}

/// Commits notifications on a run.
pub(crate) async fn record(store: &dyn Store, notifications: Vec<NewNotification>) {
    let run_id = open_run(store, 1).await;
    loop {
        let cursors = store.alert_cursors(run_id).await.expect("cursors");
        let before = cursors.into_iter().find(|cursor| cursor.lane == AlertLane::Steps);
        let number = before.as_ref().map_or(0, |cursor| cursor.number);
        let cursor =
            AlertCursor { lane: AlertLane::Steps, at: None, event_id: 0, number: number + 1, run_revision: (0, 0) };
        let commit = AlertCommit {
            run_id,
            after_number: number,
            cursor,
            alerts: Vec::new(),
            forgotten: Vec::new(),
            notifications: notifications.clone(),
        };
        // The server's own evaluation may have come in between.
        if store.commit_alerts(&[commit]).await.expect("committed") == [true] {
            return;
        }
    }
}

/// A run, opened as a client does.
pub(crate) async fn open_run(store: &dyn Store, run: u64) -> RunId {
    let run_id = RunId(Uuid::from_u64_pair(1, run));
    let group =
        GroupSpec { name: "all".to_owned(), tensors: vec![TensorSpec { name: "weight".to_owned(), elements: 100 }] };
    let spec = StreamSpec {
        sketch_dim: 64,
        sketch_seed: 1,
        encoding: Encoding::F16,
        window_lengths: vec![3],
        groups: vec![group],
        kinds: vec![Kind::Update],
        update_interval: 1,
        layers: Vec::new(),
    };
    let open = OpenAttempt {
        run: RunDeclaration {
            run_id,
            project: "p".to_owned(),
            name: format!("run {run}"),
            labels: BTreeMap::new(),
            config: json!({}),
        },
        attempt: AttemptDeclaration {
            attempt_id: AttemptId(Uuid::from_u64_pair(2, run)),
            started_at_us: 1,
            resumes: None,
            unrelated: false,
            shard_count: 1,
            spec,
        },
        shard: 0,
        writer_id: "writer".to_owned(),
        now_us: now_us(),
        environment: "test".to_owned(),
    };
    store.open_attempt(&open).await.expect("opened");
    run_id
}

/// Something to tell of an alert, of the rule that is named like the group.
pub(crate) fn told(receiver: &str, rule: &str, alert: u64, state: AlertState) -> NewNotification {
    let alert_id = alert_id(alert);
    let resolved = state == AlertState::Resolved;
    NewNotification {
        receiver: receiver.to_owned(),
        group_key: rule.to_owned(),
        alert_id,
        state,
        content: json!({
            "alert_id": alert_id,
            "status": state.as_str(),
            "rule": rule,
            "severity": "warning",
            "project": "p",
            "run_id": Uuid::from_u64_pair(1, alert),
            "run_name": format!("run {alert}"),
            "group": "all",
            "summary": "the gap <is> gone",
            "labels": {"team.name": "red"},
            "annotations": {"runbook": "https://example.org/runbook"},
            "values": {"edge.ratio": 1.0625, "scalar.loss": 1e-9},
            "fired_at": "2020-03-01T12:00:00Z",
            "fired_step": 100,
            "resolved_at": resolved.then_some("2020-03-01T12:05:00Z"),
            "resolved_step": resolved.then_some(150),
            "resolved_reason": resolved.then_some("condition"),
            "url": null,
        }),
        created_at_us: now_us(),
    }
}

/// An alert's id.
pub(crate) fn alert_id(alert: u64) -> Uuid {
    Uuid::from_u64_pair(3, alert)
}

/// Firing.
pub(crate) fn firing(receiver: &str, rule: &str, alert: u64) -> NewNotification {
    told(receiver, rule, alert, AlertState::Firing)
}

/// Resolved.
pub(crate) fn resolved(receiver: &str, rule: &str, alert: u64) -> NewNotification {
    told(receiver, rule, alert, AlertState::Resolved)
}

/// Microseconds since the Unix epoch.
pub(crate) fn now_us() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set");
    i64::try_from(now.as_micros()).expect("a time")
}
