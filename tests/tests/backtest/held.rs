//! Backtests that take long: how many go on at once, and what ends them.

use std::sync::Arc;

use gradwatch_rest::{RestClient, RestError};
use gradwatch_server::{Drained, ServerHandle, config::Config, serve_on};
use gradwatch_store::Store;
use gradwatch_tests::{Backend, FaultyStore, PATIENCE, Place, Rest, any_port};
use http::Method;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    task::JoinHandle,
    time::timeout,
};

use crate::made::{BACKTEST, MADE, Made};

/// Reads that may begin when nothing is held any more.
const READS: usize = 1_000;

struct Held {
    store: Arc<FaultyStore>,
    server: ServerHandle,
    _place: Place,
}

/// A server with one run, whose values nobody gets.
async fn start() -> Held {
    let place = Place::new(Backend::Sqlite);
    let inner = gradwatch_store::open(place.database_url(), place.data_dir()).await.expect("a store");
    let store = Arc::new(FaultyStore::new(inner));
    let config = Config::embedded(any_port(), place.data_dir()).expect("the defaults are valid");
    let server = serve_on(config, Arc::clone(&store) as Arc<dyn Store>).await.expect("the server starts");
    Made { high: &[10], ..MADE }.stream(&format!("http://{}", server.address())).await;
    store.hold_series();
    Held { store, server, _place: place }
}

fn body() -> Value {
    json!({ "rules": "rules: [{name: high, when: scalar.x > 0.5}]" })
}

/// Someone who asks line by line.
struct Asking {
    lines: UnboundedReceiver<Value>,
    call: JoinHandle<Result<(), RestError>>,
}

impl Asking {
    fn new(url: &str) -> Self {
        let client = RestClient::new(url, None, None).expect("valid arguments");
        let (sender, lines) = unbounded_channel();
        let call = tokio::spawn(async move {
            // Who asks may listen no longer.
            let tell = |line: Value| drop(sender.send(line));
            client.lines(Method::POST, BACKTEST, Some(&body()), tell).await
        });
        Self { lines, call }
    }

    /// The next line; none when the answer is over.
    async fn next(&mut self) -> Option<Value> {
        timeout(PATIENCE, self.lines.recv()).await.expect("a line, or the end")
    }

    /// The last line.
    async fn last(mut self) -> Value {
        let mut last = Value::Null;
        while let Some(line) = self.next().await {
            last = line;
        }
        self.call.await.expect("no panic").expect("an answer");
        last
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_go_on_at_once_and_who_hangs_up_makes_room() {
    let held = start().await;
    let url = format!("http://{}", held.server.address());
    let (mut first, mut second) = (Asking::new(&url), Asking::new(&url));
    for asking in [&mut first, &mut second] {
        let begun = asking.next().await.expect("a line");
        assert_eq!(
            (&begun["type"], &begun["runs_done"], &begun["runs_total"]),
            (&json!("progress"), &json!(0), &json!(1))
        );
    }
    let problem = Rest::new(&url).problem(Method::POST, BACKTEST, &body().to_string()).await;
    assert_eq!((&problem["status"], &problem["code"]), (&json!(429), &json!("resource_exhausted")), "{problem}");
    // However long a run takes, something is said.
    assert_eq!(first.next().await.expect("a line")["type"], "progress");

    second.call.abort();
    let third = async {
        loop {
            let mut asking = Asking::new(&url);
            if asking.next().await.is_some() {
                return asking;
            }
        }
    };
    let third = timeout(PATIENCE, third).await.expect("who has hung up makes room");
    held.store.let_series_through(READS);
    for asking in [first, third] {
        let last = asking.last().await;
        assert_eq!(last["report"]["rules"][0]["firings"][0]["first_step"], 10, "{last}");
    }
    assert_eq!(held.server.shutdown().await, Drained::Completely);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_shuts_down_ends_them() {
    let held = start().await;
    let url = format!("http://{}", held.server.address());
    let mut by_lines = Asking::new(&url);
    by_lines.next().await.expect("a line");
    held.store.series_waiting(1).await;
    let rest = Rest::new(&url);
    let whole = tokio::spawn(async move { rest.problem(Method::POST, BACKTEST, &body().to_string()).await });
    // What reads has begun: the server does not meet a call that it has yet to accept.
    held.store.series_waiting(2).await;
    assert_eq!(held.server.shutdown().await, Drained::Completely);
    let last = by_lines.last().await;
    assert_eq!((&last["type"], &last["problem"]["status"]), (&json!("failed"), &json!(503)), "{last}");
    assert_eq!(whole.await.expect("no panic")["code"], "unavailable");
}
