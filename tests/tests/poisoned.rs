//! Promise 11: a step that the database refuses again and again is left out, and its run goes on, as do all others.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use gradwatch_proto::v1::{Frame, RejectCode, server_message::Message};
use gradwatch_server::{config::Config, serve_on};
use gradwatch_store::{
    Durability, Event, EventQuery, FollowerSnapshot, OpenAttempt, OpenedAttempt, Overview, OwnedRun, Page, Reading,
    ReadingQuery, RollupPoint, Run, RunCommit, RunId, RunQuery, Segment, SeriesPoint, SeriesQuery, ShardMark,
    StepQuery, StepRow, Store, StoreError, sqlite::SqliteStore,
};
use gradwatch_tests::{Peer, Rest, any_port, frame, open_request, spec};

/// A store that takes no step with a scalar of this name.
const POISON: &str = "poison";

struct Refusing(SqliteStore);

#[async_trait]
impl Store for Refusing {
    async fn commit(&self, runs: &[RunCommit]) -> Result<(u64, Vec<Vec<u64>>), StoreError> {
        let poisoned = |step: &StepRow| step.scalars.contains_key(POISON);
        if runs.iter().any(|run| run.steps.iter().any(poisoned)) {
            return Err(StoreError::Data("poison".into()));
        }
        self.0.commit(runs).await
    }
    async fn open_attempt(&self, open: &OpenAttempt) -> Result<OpenedAttempt, StoreError> {
        self.0.open_attempt(open).await
    }
    async fn take_ownership(&self, run_id: RunId) -> Result<OwnedRun, StoreError> {
        self.0.take_ownership(run_id).await
    }
    async fn shard_marks(&self, run_id: RunId, segment: u32) -> Result<Vec<ShardMark>, StoreError> {
        self.0.shard_marks(run_id, segment).await
    }
    async fn follower_snapshots(&self, run_id: RunId, segment: u32) -> Result<Vec<FollowerSnapshot>, StoreError> {
        self.0.follower_snapshots(run_id, segment).await
    }
    async fn last_commit_seq(&self) -> Result<u64, StoreError> {
        self.0.last_commit_seq().await
    }
    async fn patch_labels(&self, run_id: RunId, labels: &BTreeMap<String, Option<String>>) -> Result<Run, StoreError> {
        self.0.patch_labels(run_id, labels).await
    }
    async fn mark_deleting(&self, run_id: RunId) -> Result<(), StoreError> {
        self.0.mark_deleting(run_id).await
    }
    async fn deleting_runs(&self) -> Result<Vec<RunId>, StoreError> {
        self.0.deleting_runs().await
    }
    async fn purge(&self, run_id: RunId, max_rows: usize) -> Result<bool, StoreError> {
        self.0.purge(run_id, max_rows).await
    }
    async fn expired_runs(&self, before_us: i64) -> Result<Vec<RunId>, StoreError> {
        self.0.expired_runs(before_us).await
    }
    async fn run(&self, run_id: RunId) -> Result<Run, StoreError> {
        self.0.run(run_id).await
    }
    async fn runs(&self, query: &RunQuery) -> Result<Page<Run>, StoreError> {
        self.0.runs(query).await
    }
    async fn segments(&self, run_id: RunId) -> Result<Vec<Segment>, StoreError> {
        self.0.segments(run_id).await
    }
    async fn steps(&self, query: &StepQuery) -> Result<Page<StepRow>, StoreError> {
        self.0.steps(query).await
    }
    async fn readings(&self, query: &ReadingQuery) -> Result<Page<Reading>, StoreError> {
        self.0.readings(query).await
    }
    async fn latest_readings(&self, run_id: RunId, segment: u32) -> Result<Vec<Reading>, StoreError> {
        self.0.latest_readings(run_id, segment).await
    }
    async fn series(&self, query: &SeriesQuery) -> Result<Vec<SeriesPoint>, StoreError> {
        self.0.series(query).await
    }
    async fn rollups(&self, query: &SeriesQuery, bucket_steps: u64) -> Result<Vec<RollupPoint>, StoreError> {
        self.0.rollups(query, bucket_steps).await
    }
    async fn scalar_names(&self, run_id: RunId) -> Result<Vec<String>, StoreError> {
        self.0.scalar_names(run_id).await
    }
    async fn events(&self, query: &EventQuery) -> Result<Page<Event>, StoreError> {
        self.0.events(query).await
    }
    async fn overview(&self, project: Option<&str>) -> Result<Overview, StoreError> {
        self.0.overview(project).await
    }
    async fn durability(&self) -> Result<Durability, StoreError> {
        self.0.durability().await
    }
    async fn close(&self) {
        self.0.close().await;
    }
}

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
    let config = Config::embedded(any_port(), data_dir.path()).expect("the defaults are valid");
    let store = SqliteStore::open(data_dir.path()).await.expect("a store");
    let server = serve_on(config, Arc::new(Refusing(store))).await.expect("the server starts");
    let url = format!("http://{}", server.address());
    let request = open_request(spec());
    let mut peer = Peer::connect(&url).await;
    peer.open_run(&request).await.unwrap();
    let mut rejections = Vec::new();
    let mut committed_seq = 0;
    // A client in small: comes again as long as it is sent away, from where it is told to.
    while committed_seq < 40 {
        let Ok((mut stream, opened)) = peer.open_stream(&request).await else {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
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
    let rest = Rest::new(&url);
    let run = format!("/api/v1/runs/{}", request.run_id);
    let steps = rest.all(&format!("{run}/steps?limit=1000")).await;
    let found: Vec<u64> = steps.iter().map(|step| step["step"].as_u64().expect("a step")).collect();
    assert_eq!(found, (1..=40).filter(|step| *step != 12).collect::<Vec<u64>>());
    let counters = &rest.get(&run).await["counters"];
    assert_eq!((&counters["steps"], &counters["rejected"]), (&39.into(), &1.into()));
    server.shutdown().await;
}
