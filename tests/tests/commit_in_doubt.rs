//! Promise 2 for what moves no mark: a commit that landed although its answer was lost is not done again.

use std::sync::Arc;

use gradwatch_proto::v1::Outcome;
use gradwatch_store::{Store, sqlite::SqliteStore};
use gradwatch_tests::{CrashingServer, Fault, FaultyStore, Made, Planned, Rest, Slot, Writer, open_request};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_whose_commit_is_in_doubt_is_told_once() {
    let data_dir = tempfile::tempdir().expect("a temporary directory");
    let inner: Arc<dyn Store> = Arc::new(SqliteStore::open(data_dir.path()).await.expect("a store"));
    let store = Arc::new(FaultyStore::new(inner));
    let server = CrashingServer::start(Arc::clone(&store) as Arc<dyn Store>, data_dir.path(), |config| {
        config.liveness.heartbeat_ms = 500;
        config.liveness.crashed_after_s = 1;
    });
    let server = server.await;
    let rest = Rest::new(&server.url());
    let request = open_request(Made::spec());
    let run = format!("/api/v1/runs/{}", request.run_id);
    let mut writer = Writer::new(server.url(), request, Made { seed: 3, start: 0, shards: 1 });
    writer.make([Slot::Frame; 3]);
    writer.settled().await;

    store.plan([Planned { after: 0, fault: Fault::Behind }], []);
    rest.until(&run, "the crash", |run| run["state"] == "crashed").await;
    // This commit stands behind whatever became of that one.
    writer.finish(Outcome::Finished).await;
    let events = rest.all(&format!("{run}/events?types=run.crashed&limit=100")).await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(rest.get(&run).await["state"], "finished");
    server.stop().await;
}
