//! SIGKILL between a change and its telling: everything arrives, and what arrives twice is the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use gradwatch_store::{MessageState, Store};
use gradwatch_tests::{Backend, PATIENCE, Place, ServerProcess, any_port};
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::{
    mock::{Mock, Reply},
    world::{firing, messages, put_receivers, record},
};

/// What the receiver does in a round.
const TAKES: u8 = 0;
const HANGS: u8 = 1;
const CLOSES: u8 = 2;

/// A store that is open while no server has it.
struct Crashing {
    place: Place,
}

impl Crashing {
    async fn with_store<T>(&self, work: impl AsyncFnOnce(&dyn Store) -> T) -> T {
        let store = gradwatch_store::open(self.place.database_url(), self.place.data_dir()).await.expect("a store");
        let result = work(&*store).await;
        store.close().await;
        result
    }

    fn start(&self) -> ServerProcess {
        let mut variables = vec![("GRADWATCH_ALERTS__ALLOW_ADDRESSES", r#"["127.0.0.0/8"]"#)];
        variables.extend(self.place.database_url().map(|url| ("DATABASE_URL", url)));
        ServerProcess::start_with(self.place.data_dir(), any_port(), &variables)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_kills_lose_nothing() {
    everything_arrives(Backend::Sqlite, 100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_lose_nothing_on_postgres() {
    everything_arrives(Backend::Postgres, 25).await;
}

/// In each round an alert is recorded, a server starts and is killed: at once, at some moment, while the receiver has the
/// message and says nothing, when it has closed the connection, and when it has taken the message.
async fn everything_arrives(backend: Backend, rounds: u64) {
    let does = Arc::new(AtomicU8::new(TAKES));
    let what = Arc::clone(&does);
    let mock = Mock::start(move |_, _| match what.load(Ordering::SeqCst) {
        TAKES => Reply::Status(200),
        HANGS => Reply::Hang,
        _ => Reply::Close,
    })
    .await;
    let world = Crashing { place: Place::new(backend) };
    let definition = json!({"webhook": {"url": mock.url()}, "max_per_minute": 1_000_000});
    world.with_store(async |store| put_receivers(store, &[("r", definition)]).await).await;
    for round in 0..rounds {
        world.with_store(async |store| record(store, vec![firing("r", &format!("rule {round}"), round)]).await).await;
        let before = mock.received().len();
        let is_told = |alerts: Vec<(u64, String)>| alerts.iter().any(|(alert, _)| *alert == round);
        does.store([TAKES, TAKES, HANGS, CLOSES, TAKES][round as usize % 5], Ordering::SeqCst);
        let mut server = world.start();
        match round % 5 {
            0 => {}
            // Within what it takes to seal a message, to take it, to connect, and to record what became of it.
            1 => sleep(Duration::from_micros(round * 7_919 % 60_000)).await,
            2 | 3 => drop(mock.until("a request", |all| all.len() > before).await),
            _ => drop(mock.until("this alert", |all| all.iter().any(|it| is_told(it.alerts()))).await),
        }
        server.kill();
    }
    does.store(TAKES, Ordering::SeqCst);
    let mut server = world.start();
    let everything = |alerts: BTreeSet<u64>| alerts.len() as u64 == rounds;
    mock.until("every alert", |all| {
        everything(all.iter().flat_map(|it| it.alerts()).map(|(alert, _)| alert).collect())
    })
    .await;
    let rest = gradwatch_tests::Rest::new(&server.url());
    let nothing_waits = async {
        while !rest.call(http::Method::GET, "/metrics", "").await.1.contains("gradwatch_alert_messages_waiting 0\n") {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, nothing_waits).await.expect("everything is delivered");
    assert_eq!(server.errors(), Vec::<String>::new());
    server.kill();

    let received = mock.received();
    // One message for each alert, and one body for each message, however often it came.
    let (mut bodies, mut message_of) = (BTreeMap::new(), BTreeMap::new());
    for request in &received {
        let body = bodies.entry(request.message_id()).or_insert(&request.body);
        assert_eq!(*body, &request.body);
        for (alert, status) in request.alerts() {
            assert_eq!(*message_of.entry(alert).or_insert(request.message_id()), request.message_id());
            assert_eq!(status, "firing");
        }
    }
    assert_eq!(message_of.keys().copied().collect::<Vec<_>>(), (0..rounds).collect::<Vec<_>>());
    assert!(received.len() as u64 > rounds, "nothing was killed while it was being sent");
    let stored = world.with_store(async |store| messages(store).await).await;
    assert!(stored.iter().all(|message| message.state == MessageState::Delivered), "{stored:#?}");
    let stored: BTreeSet<String> = stored.iter().map(|message| message.message_id.to_string()).collect();
    assert_eq!(stored, bodies.keys().map(|id| (*id).to_owned()).collect());
}
