//! Promise 11: what a database says of a run's rows stops neither another run nor, for good, that one. A step that it
//! refuses three times is rejected, counted and passed by the mark.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use gradwatch_proto::v1::{Frame, RejectCode, server_message::Message};
use gradwatch_store::{Store, sqlite::SqliteStore};
use gradwatch_tests::{
    CrashingServer, FaultyStore, Made, ModelJob, Op, PATIENCE, Peer, Rest, Slot, Writer, frame, open_request, spec,
};
use http::Method;
use tokio::time::{sleep, timeout};

/// A store that takes no step with a scalar of this name.
const POISON: &str = "poison";

fn poisoned(seq: u64) -> Frame {
    let mut frame = frame(seq, seq);
    if seq == 12 {
        frame.scalars.insert(POISON.into(), 1.0);
    }
    frame
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_the_database_refuses_is_left_out_and_the_run_goes_on() {
    let data_dir = tempfile::tempdir().expect("a temporary directory");
    let inner: Arc<dyn Store> = Arc::new(SqliteStore::open(data_dir.path()).await.expect("a store"));
    let store = Arc::new(FaultyStore::new(inner));
    store.poison_scalar(POISON);
    let server = CrashingServer::start(store, data_dir.path(), |_| {}).await;
    let request = open_request(spec());
    let mut peer = Peer::connect(&server.url()).await;
    peer.open_run(&request).await.unwrap();
    let mut rejections = Vec::new();
    let mut committed_seq = 0;
    // A client in small: comes again as long as it is sent away, from where it is told to.
    while committed_seq < 40 {
        let Ok((mut stream, opened)) = peer.open_stream(&request).await else {
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        stream.frames((opened.resend_from_seq..=40).map(poisoned).collect()).await;
        while committed_seq < 40 {
            match stream.next().await {
                Ok(Some(Message::Ack(ack))) => committed_seq = ack.committed_seq,
                Ok(Some(Message::Rejected(rejected))) => rejections.push((rejected.seq, rejected.code())),
                Ok(Some(other)) => panic!("{other:?}"),
                Ok(None) | Err(_) => break,
            }
        }
    }
    assert_eq!(rejections, [(12, RejectCode::Internal)]);
    let rest = Rest::new(&server.url());
    let run = format!("/api/v1/runs/{}", request.run_id);
    assert_eq!(stored_steps(&rest, &run).await, (1..=40).filter(|step| *step != 12).collect::<Vec<u64>>());
    let counters = &rest.get(&run).await["counters"];
    assert_eq!((&counters["steps"], &counters["rejected"]), (&39.into(), &1.into()));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_rows_are_refused_for_a_while_stops_no_other_and_loses_nothing_unseen() {
    let data_dir = tempfile::tempdir().expect("a temporary directory");
    let inner: Arc<dyn Store> = Arc::new(SqliteStore::open(data_dir.path()).await.expect("a store"));
    let store = Arc::new(FaultyStore::new(inner));
    let server = CrashingServer::start(Arc::clone(&store) as Arc<dyn Store>, data_dir.path(), |_| {}).await;
    let rest = Rest::new(&server.url());

    let mut others: Vec<ModelJob> = (1..=3).map(|seed| ModelJob::new(server.url(), seed, 1)).collect();
    let request = open_request(Made::spec());
    let run_id = request.run_id.parse().expect("a UUID");
    let run = format!("/api/v1/runs/{run_id}");
    let mut bad = Writer::new(server.url(), request, Made { seed: 9, start: 0, shards: 1 });
    bad.make([Slot::Frame; 4]);
    bad.settled().await;

    store.poison(run_id);
    bad.expect_refusals();
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
    let refused = timeout(PATIENCE, async {
        while bad.refused().is_empty() {
            bad.connected().await;
            bad.listen(Duration::from_millis(20)).await;
        }
    });
    refused.await.expect("a step that is refused again and again is rejected");
    assert_eq!(stored_steps(&rest, &run).await.len(), 4);
    let (_, metrics) = rest.call(Method::GET, "/metrics", "").await;
    let failures = "gradwatch_commit_failures_total{code=\"data\"} ";
    let failures = metrics.lines().find_map(|line| line.strip_prefix(failures)?.parse::<u64>().ok());
    assert!(failures.is_some_and(|count| count >= 3), "{metrics}");

    // The store takes its rows again: what was not rejected by then is stored.
    store.cure(run_id);
    bad.settled().await;
    let stored = stored_steps(&rest, &run).await;
    assert!(stored.is_sorted_by(|left, right| left < right), "stored twice: {stored:?}");
    let stored: BTreeSet<u64> = stored.into_iter().collect();
    let sent: BTreeSet<u64> = (1..=bad.last_seq()).map(|seq| bad.made().step(seq)).collect();
    assert!(stored.is_subset(&sent) && stored.contains(&bad.made().step(bad.last_seq())), "{stored:?} of {sent:?}");
    let told: BTreeSet<u64> = bad.refused().iter().map(|&seq| bad.made().step(seq)).collect();
    assert!(told.is_disjoint(&stored), "stored and rejected: {told:?}, {stored:?}");
    let counters = &rest.get(&run).await["counters"];
    let (left_out, count) = ((sent.len() - stored.len()) as u64, stored.len() as u64);
    assert_eq!((&counters["steps"], &counters["rejected"]), (&count.into(), &left_out.into()), "{counters}");
    assert!(left_out >= told.len() as u64, "{told:?} were told of {left_out}");
    server.stop().await;
}

async fn stored_steps(rest: &Rest, run: &str) -> Vec<u64> {
    let steps = rest.all(&format!("{run}/steps?limit=1000")).await;
    steps.iter().map(|step| step["step"].as_u64().expect("a step")).collect()
}
