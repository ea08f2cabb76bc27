//! Promise 11: a run that the store cannot take for now, be it locked or its partition broken, stops no other. A store
//! that takes nothing costs nobody a stream.

use std::{sync::Arc, time::Duration};

use gradwatch_server::{config::Config, serve_on};
use gradwatch_store::{RunId, Store, sqlite::SqliteStore};
use gradwatch_tests::{
    CrashingServer, FaultyStore, Made, ModelJob, Op, PATIENCE, Peer, Rest, Slot, Writer, any_port, frame, open_request,
    spec,
};
use http::Method;
use tokio::time::{sleep, timeout};

/// How often the store was unavailable for a commit.
async fn failures(rest: &Rest) -> u64 {
    let (_, metrics) = rest.call(Method::GET, "/metrics", "").await;
    let name = "gradwatch_commit_failures_total{code=\"unavailable\"} ";
    metrics.lines().find_map(|line| line.strip_prefix(name)?.parse().ok()).unwrap_or(0)
}

async fn failed(rest: &Rest, times: u64) {
    let failing = async {
        while failures(rest).await < times {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, failing).await.expect("commits fail");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_cannot_be_written_stops_no_other_and_goes_on_when_it_can() {
    let data_dir = tempfile::tempdir().expect("a temporary directory");
    let inner: Arc<dyn Store> = Arc::new(SqliteStore::open(data_dir.path()).await.expect("a store"));
    let store = Arc::new(FaultyStore::new(inner));
    let server = CrashingServer::start(Arc::clone(&store) as Arc<dyn Store>, data_dir.path(), |_| {}).await;
    let rest = Rest::new(&server.url());

    let mut others: Vec<ModelJob> = (1..=3).map(|seed| ModelJob::new(server.url(), seed, 1)).collect();
    let request = open_request(Made::spec());
    let run_id = request.run_id.parse().expect("a UUID");
    let mut bad = Writer::new(server.url(), request, Made { seed: 9, start: 0, shards: 1 });
    let before = bad.make([Slot::Frame; 4]);
    bad.send(before, 4).await;
    bad.settled().await;

    store.make_unavailable([run_id]);
    for round in 0..8 {
        let more = bad.make([Slot::Frame; 2]);
        bad.send(more, 2).await;
        for job in &mut others {
            job.act(&Op::Send { frames: 3, batch: 2 }).await;
            if round % 4 == 3 {
                job.act(&Op::Settle).await;
            }
        }
        bad.listen(Duration::from_millis(1)).await;
    }
    for job in &mut others {
        job.end().await;
        job.assert_stored(&rest).await;
    }
    assert!(failures(&rest).await > 0, "the store took everything");
    assert_eq!(bad.acknowledged_seq(), 4, "what is not stored is not acknowledged");

    store.make_available();
    bad.settled().await;
    let stored = rest.all(&format!("/api/v1/runs/{run_id}/steps?limit=100")).await;
    let steps: Vec<u64> = stored.iter().filter_map(|step| step["step"].as_u64()).collect();
    assert_eq!(steps, (1..=bad.last_seq()).map(|seq| bad.made().step(seq)).collect::<Vec<_>>());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_takes_nothing_for_a_while_ends_no_stream() {
    let data_dir = tempfile::tempdir().expect("a temporary directory");
    let config = Config::embedded(any_port(), data_dir.path()).expect("the defaults are valid");
    let store = SqliteStore::open(data_dir.path()).await.expect("a store");
    let store = Arc::new(FaultyStore::new(Arc::new(store)));
    let server = serve_on(config, Arc::clone(&store) as _).await.expect("the server starts");
    let url = format!("http://{}", server.address());
    let mut streams = Vec::new();
    let mut runs: Vec<RunId> = Vec::new();
    for _ in 0..3 {
        let request = open_request(spec());
        let (stream, _) = Peer::connect(&url).await.open(&request).await.expect("opened");
        runs.push(request.run_id.parse().expect("a UUID"));
        streams.push(stream);
    }
    store.make_unavailable(runs);
    for stream in &streams {
        stream.frames((1..=10).map(|seq| frame(seq, seq)).collect()).await;
    }
    // Three together, three alone, and again.
    failed(&Rest::new(&url), 12).await;
    store.make_available();
    for stream in &mut streams {
        assert_eq!(stream.acknowledged(10).await, []);
    }
    drop(streams);
    server.shutdown().await;
}
