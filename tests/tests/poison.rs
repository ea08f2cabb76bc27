//! Promise 11: what one run sends, or what a store says of its rows, never stops another run.

use std::{sync::Arc, time::Duration};

use gradwatch_store::{Store, sqlite::SqliteStore};
use gradwatch_tests::{CrashingServer, FaultyStore, Made, ModelJob, Op, Rest, Slot, Writer, open_request};
use http::Method;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_rows_are_refused_stops_no_other_and_goes_on_when_they_are_taken() {
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

    store.poison(run_id);
    for round in 0..12 {
        // In the same commits, as far as chance has it.
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
    assert_eq!(bad.acknowledged_seq(), 4, "what is refused is not acknowledged");
    let stored = rest.all(&format!("/api/v1/runs/{run_id}/steps?limit=100")).await;
    assert_eq!(stored.len(), 4, "{stored:?}");
    let (_, metrics) = rest.call(Method::GET, "/metrics", "").await;
    let refused = "gradwatch_commit_failures_total{code=\"data\"} ";
    let refused = metrics.lines().find_map(|line| line.strip_prefix(refused)?.parse::<u64>().ok());
    assert!(refused.is_some_and(|count| count > 0), "{metrics}");

    // The store takes its rows again: nothing of it was lost.
    store.cure(run_id);
    bad.settled().await;
    let stored = rest.all(&format!("/api/v1/runs/{run_id}/steps?limit=100")).await;
    let steps: Vec<u64> = stored.iter().filter_map(|step| step["step"].as_u64()).collect();
    assert_eq!(steps, (1..=bad.last_seq()).map(|seq| bad.made().step(seq)).collect::<Vec<_>>());
    server.stop().await;
}
