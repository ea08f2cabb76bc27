//! `/readyz` is open to anybody: however often it is asked, the store is not.

use std::{sync::Arc, time::Instant};

use gradwatch_server::{config::Config, serve_on};
use gradwatch_store::sqlite::SqliteStore;
use gradwatch_tests::{FaultyStore, Rest, any_port};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_ask_at_once_share_one_question_a_second() {
    let data_dir = tempfile::tempdir().expect("a temporary directory");
    let config = Config::embedded(any_port(), data_dir.path()).expect("the defaults are valid");
    let store = SqliteStore::open(data_dir.path()).await.expect("a store");
    let store = Arc::new(FaultyStore::new(Arc::new(store)));
    let server = serve_on(config, Arc::clone(&store) as _).await.expect("the server starts");
    let url = format!("http://{}", server.address());
    let (before, began) = (store.durability_calls(), Instant::now());
    let asking: Vec<_> = (0..100)
        .map(|_| {
            let rest = Rest::new(&url);
            tokio::spawn(async move { rest.get("/readyz").await })
        })
        .collect();
    for answer in asking {
        let answer = answer.await.expect("an answer");
        assert_eq!((&answer["status"], &answer["backend"]), (&"ready".into(), &"sqlite".into()));
    }
    let asked = store.durability_calls() - before;
    let seconds = usize::try_from(began.elapsed().as_secs()).expect("less than an age");
    assert!((1..=1 + seconds).contains(&asked), "{asked} questions in {seconds} s");
    server.shutdown().await;
}
