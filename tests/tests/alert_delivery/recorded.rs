//! What happens when the store fails, and what is never shown.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::Path,
    process::Child,
    thread,
    time::{Duration, Instant},
};

use gradwatch_tests::{AlertCall, Backend, Fault, PATIENCE, Place, Planned, Rest, any_port, command, on_both_backends};
use http::Method;
use serde_json::{Value, json};

use crate::{
    mock::{Mock, Reply},
    world::{World, deliveries, firing, put_receivers, record},
};

on_both_backends!(
    an_attempt_is_recorded_once_whatever_the_store_answers,
    what_is_sent_again_by_hand_while_its_attempt_ends_is_sent,
    a_message_is_sealed_once_whatever_the_store_answers,
    what_was_sent_and_not_recorded_is_sent_again_with_the_same_id,
);

fn faults(faults: &[Fault]) -> Vec<Planned> {
    faults.iter().map(|fault| Planned { after: 0, fault: *fault }).collect()
}

async fn an_attempt_is_recorded_once_whatever_the_store_answers(backend: Backend) {
    let mock = Mock::taking().await;
    let world = World::start(backend, &[("r", json!({"webhook": {"url": mock.url()}}))]).await;
    world.store.plan_alerts(AlertCall::Record, faults(&[Fault::Before, Fault::Behind, Fault::Cut(2)]));
    for rule in ["gap", "spike", "shift"] {
        world.record(vec![firing("r", rule, 1)]).await;
    }
    world.delivered(3).await;
    let attempts = world.deliveries().await;
    let distinct: BTreeSet<_> = attempts.iter().map(|it| (it.message_id, it.attempt)).collect();
    assert_eq!((attempts.len(), distinct.len(), mock.received().len()), (3, 3, 3), "{attempts:#?}");
    world.stop().await;
}

/// The store answers late that it has recorded the attempt: meanwhile the message is delivered, and sent again by hand.
async fn what_is_sent_again_by_hand_while_its_attempt_ends_is_sent(backend: Backend) {
    let mock = Mock::taking().await;
    let world = World::start(backend, &[("r", json!({"webhook": {"url": mock.url()}}))]).await;
    world.store.plan_alerts(AlertCall::Record, faults(&[Fault::Behind]));
    world.record(vec![firing("r", "gap", 1)]).await;
    world.delivered(1).await;
    let message_id = world.messages().await[0].message_id;
    let path = format!("/api/v1/alerts/messages/{message_id}/redeliver");
    let (status, body) = Rest::new(&world.url()).call(Method::POST, &path, "{}").await;
    assert!(status.is_success(), "{status}: {body}");
    world.until("a second attempt", |deliveries, _| deliveries.len() == 2).await;
    assert_eq!(mock.received().len(), 2);
    world.stop().await;
}

async fn a_message_is_sealed_once_whatever_the_store_answers(backend: Backend) {
    let mock = Mock::taking().await;
    let world = World::start(backend, &[("r", json!({"webhook": {"url": mock.url()}}))]).await;
    let planned = [Fault::Before, Fault::Behind, Fault::Cut(1), Fault::Cut(3)];
    world.store.plan_alerts(AlertCall::Seal, faults(&planned));
    let rules = ["gap", "spike", "shift", "dead"];
    for (rule, alert) in rules.iter().zip(1..) {
        world.record(vec![firing("r", rule, alert)]).await;
        world.delivered(alert as usize).await;
    }
    let received = mock.received();
    let alerts: BTreeSet<_> = received.iter().flat_map(crate::mock::Received::alerts).collect();
    assert_eq!((received.len(), alerts.len()), (rules.len(), rules.len()));
    world.stop().await;
}

async fn what_was_sent_and_not_recorded_is_sent_again_with_the_same_id(backend: Backend) {
    let mock = Mock::taking().await;
    let world = World::start(backend, &[("r", json!({"webhook": {"url": mock.url()}}))]).await;
    world.store.hold_alerts(AlertCall::Record);
    world.record(vec![firing("r", "gap", 1)]).await;
    mock.requests(1).await;
    // The server ends while the store keeps it waiting: it was taken, and nobody knows.
    let world = world.restart().await;
    world.store.allow_alerts(AlertCall::Record, 1_000);
    world.delivered(1).await;
    let received = mock.received();
    assert_eq!(received.len(), 2);
    assert_eq!((received[0].message_id(), &received[0].body), (received[1].message_id(), &received[1].body));
    assert_eq!(world.deliveries().await.len(), 1);
    world.stop().await;
}

/// A real server that logs everything it can, with secrets in every place where there can be one, each of them failing.
#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_nowhere() {
    let mock = Mock::start(|_, request| {
        // It says again whatever it was told.
        // The rest of it would be just what is shown.
        let begin = "x".repeat(request.headers.get("authorization").map_or(0, |_| 1_010));
        let escaped = request.target.replace('/', "\\/");
        let auth = request.headers.get("authorization").cloned().unwrap_or_default();
        Reply::Answer(500, vec![], format!("{begin}{auth} {} {escaped} {:?}", request.target, request.headers))
    })
    .await;
    let secret = "whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0";
    let receivers = [
        ("webhook", json!({"webhook": {"url": mock.url(), "secrets": [secret]}})),
        ("slack", json!({"slack": {"url": format!("{}/services/T0/hidden-path", mock.url())}})),
        ("slack elsewhere", json!({"slack": {"url": "http://192.0.2.1/services/T0/hidden-path"}})),
        ("slack nowhere", json!({"slack": {"url": "http://nowhere.invalid/services/T0/hidden-path"}})),
        ("query", json!({"webhook": {"url": format!("{}/a?token=hidden-query", mock.url()), "secrets": [secret]}})),
        ("bearer", json!({"alertmanager": {"url": mock.url(), "bearer_env": "MADE_BEARER"}})),
        (
            "user",
            json!({"webhook": {"url": mock.url().replace("http://", "http://user:hidden@"), "secrets": [secret]}}),
        ),
        ("no variable", json!({"alertmanager": {"url": mock.url(), "bearer_env": "MADE_NOTHING"}})),
    ];
    let place = Place::new(Backend::Sqlite);
    let store = gradwatch_store::open(None, place.data_dir()).await.expect("a store");
    put_receivers(&*store, &receivers).await;
    record(&*store, receivers.iter().map(|(name, _)| firing(name, "gap", 1)).collect()).await;
    store.close().await;
    drop(store);
    let log = place.data_dir().join("log");
    // Nothing goes through a proxy, whatever the environment says.
    let proxy = Mock::taking().await;
    let proxy_url = proxy.url();
    let environment = [
        ("http_proxy", proxy_url.as_str()),
        ("HTTP_PROXY", &proxy_url),
        ("ALL_PROXY", &proxy_url),
        ("GRADWATCH_ALERTS__ALLOW_ADDRESSES", r#"["127.0.0.0/8"]"#),
        ("MADE_BEARER", "hidden-bearer"),
        ("GRADWATCH_LOG__FILTER", "trace"),
    ];
    let server = Logging::start(place.data_dir(), &log, &environment);
    let rest = gradwatch_tests::Rest::new(&server.url);
    let attempted = async {
        loop {
            let metrics = rest.call(http::Method::GET, "/metrics", "").await.1;
            let counts = metrics.lines().filter(|line| line.starts_with("gradwatch_alert_delivery_attempts_total"));
            let counts = counts.filter(|line| !line.contains("resend"));
            if counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum::<u64>() >= 8 {
                return metrics;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let metrics = tokio::time::timeout(PATIENCE, attempted).await.expect("an attempt of each");
    // They are counted before they are recorded.
    let recorded = async {
        loop {
            let listed = rest.call(http::Method::GET, "/api/v1/alerts/deliveries?limit=100", "").await.1;
            if receivers.iter().all(|(name, _)| listed.contains(&format!("\"receiver\":\"{name}\""))) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, recorded).await.expect("a record of each");
    drop(server);
    let store = gradwatch_store::open(None, place.data_dir()).await.expect("a store");
    let attempts = deliveries(&*store).await;
    let outcome = |name: &str| attempts.iter().find(|it| it.receiver == name).map(|it| it.outcome.as_str());
    assert_eq!(outcome("slack elsewhere"), Some("refused_address"));
    assert_eq!(outcome("slack nowhere"), Some("resolve"));
    assert_eq!((outcome("no variable"), outcome("user")), (Some("definition"), Some("definition")));
    assert_eq!(proxy.connections(), 0);
    assert_eq!(
        (outcome("webhook"), outcome("slack"), outcome("bearer")),
        (Some("status"), Some("status"), Some("status"))
    );
    let logged = std::fs::read_to_string(&log).expect("a log");
    assert!(logged.contains("message is tried again"), "{logged}");
    for text in [logged, metrics, format!("{attempts:?}")] {
        for secret in [secret, "hidden", "c2VjcmV0"] {
            let line = text.lines().find(|line| line.contains(secret));
            assert_eq!(line, None);
        }
    }
    store.close().await;
}

/// A server that logs into a file.
struct Logging {
    child: Child,
    url: String,
}

impl Logging {
    fn start(data_dir: &Path, log: &Path, environment: &[(&str, &str)]) -> Self {
        let mut command = command(data_dir);
        command.args(["serve", "--listen", &any_port().to_string(), "--data-dir"]).arg(data_dir);
        command.env("GRADWATCH_LOG__FORMAT", "json").envs(environment.iter().copied());
        let file = File::create(log).expect("a file");
        let mut server = Self { child: command.stderr(file).spawn().expect("the binary starts"), url: String::new() };
        let deadline = Instant::now() + PATIENCE;
        while server.url.is_empty() {
            let logged = fs::read_to_string(log).expect("a log");
            let entries = logged.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let mut listening = entries.filter(|entry| entry["fields"]["message"] == "listening");
            if let Some(entry) = listening.next() {
                server.url = format!("http://{}", entry["fields"]["address"].as_str().expect("an address"));
            }
            assert!(Instant::now() < deadline, "never listening: {logged}");
            thread::sleep(Duration::from_millis(20));
        }
        server
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
