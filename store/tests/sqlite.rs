//! What only a store in a directory has: it is there again, and only one process has it.

use std::collections::BTreeMap;

use gradwatch_spectral::{detectors::Regime, edge::EdgeReading};
use gradwatch_store::{
    AttemptDeclaration, AttemptId, Encoding, GroupSpec, Kind, LIVE_ANALYSIS, MarkMove, OpenAttempt, ReadingQuery,
    ReadingRow, RunCommit, RunDeclaration, RunId, RunPatch, StepRow, Store, StoreError, StreamKey, StreamSpec,
    TensorSpec, lineage::SegmentRange, sqlite::SqliteStore,
};
use uuid::Uuid;

fn run_id() -> RunId {
    RunId(Uuid::from_u128(1))
}

fn open() -> OpenAttempt {
    OpenAttempt {
        run: RunDeclaration {
            run_id: run_id(),
            project: "vision".to_owned(),
            name: "run".to_owned(),
            labels: BTreeMap::new(),
            config: serde_json::json!({}),
        },
        attempt: AttemptDeclaration {
            attempt_id: AttemptId(Uuid::from_u128(2)),
            started_at_us: 1,
            resumes: None,
            unrelated: false,
            shard_count: 1,
            spec: StreamSpec {
                sketch_dim: 256,
                sketch_seed: 3,
                encoding: Encoding::F32,
                window_lengths: vec![10],
                groups: vec![GroupSpec {
                    name: "all".to_owned(),
                    tensors: vec![TensorSpec { name: "w".to_owned(), elements: 9 }],
                }],
                kinds: vec![Kind::Update],
                update_interval: 1,
                layers: Vec::new(),
            },
        },
        shard: 0,
        writer_id: "writer".to_owned(),
        now_us: 1,
        environment: "test".to_owned(),
    }
}

fn commit(owner_epoch: u64, edge: EdgeReading) -> RunCommit {
    RunCommit {
        run_id: run_id(),
        owner_epoch,
        after_commit: 0,
        commit_number: 0,
        marks: vec![MarkMove { segment: 1, shard: 0, from_seq: 0, to_seq: 1, keep_from_seq: 1 }],
        steps: vec![StepRow {
            segment: 1,
            step: 1,
            seqs: vec![Some(1)],
            wall_time_us: 1,
            received_at_us: 2,
            learning_rate: None,
            weight_decay: None,
            phase: 0,
            complete: true,
            scalars: BTreeMap::new(),
            nonfinite_payloads: Vec::new(),
        }],
        readings: vec![ReadingRow {
            analysis: LIVE_ANALYSIS.to_owned(),
            stream: StreamKey { group: "all".to_owned(), kind: Kind::Update, window: 10 },
            segment: 1,
            step: 1,
            regime: Regime::Warming,
            edge,
        }],
        rollups: Vec::new(),
        events: Vec::new(),
        followers: Vec::new(),
        scalar_names: Vec::new(),
        snapshots: Vec::new(),
        layer_readings: Vec::new(),
        predictions: Vec::new(),
        dropped_predictions: Vec::new(),
        sketches: Vec::new(),
        dropped_sketches: Vec::new(),
        patch: RunPatch::default(),
    }
}

/// A reading of a filling window, as its JSON form says it.
fn edge() -> EdgeReading {
    serde_json::from_value(serde_json::json!({
        "window": 10, "rows": 1, "update_norm": 0.1, "overlap_unresolved": [false, false, false],
    }))
    .unwrap()
}

#[tokio::test]
async fn a_directory_keeps_everything() {
    let dir = tempfile::tempdir().unwrap();
    let nested = dir.path().join("not/yet/there");
    let store = SqliteStore::open(&nested).await.unwrap();
    store.open_attempt(&open()).await.unwrap();
    let first = store.take_ownership(run_id()).await.unwrap();
    store.commit(&[commit(first.owner_epoch, edge())]).await.unwrap();
    store.close().await;

    let store = SqliteStore::open(&nested).await.unwrap();
    assert_eq!(store.last_commit_seq().await.unwrap(), 1);
    let query = ReadingQuery {
        run_id: run_id(),
        analysis: LIVE_ANALYSIS.to_owned(),
        stream: StreamKey { group: "all".to_owned(), kind: Kind::Update, window: 10 },
        ranges: vec![SegmentRange { segment: 1, from_step: 0, to_step: 9 }],
        limit: 9,
    };
    assert_eq!(store.readings(&query).await.unwrap().items[0].row.edge, edge());
    let again = store.take_ownership(run_id()).await.unwrap();
    assert_eq!(again.owner_epoch, first.owner_epoch + 1);
    assert_eq!(store.shard_marks(run_id(), 1).await.unwrap()[0].committed_seq, 1);
    // The owner of before the restart is no longer one.
    let late = store.commit(&[commit(first.owner_epoch, edge())]).await;
    assert!(matches!(late, Err(StoreError::OwnershipLost(_))));
}

#[tokio::test]
async fn a_store_dropped_without_closing_keeps_what_it_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path()).await.unwrap();
    store.open_attempt(&open()).await.unwrap();
    let owned = store.take_ownership(run_id()).await.unwrap();
    store.commit(&[commit(owned.owner_epoch, edge())]).await.unwrap();
    // As a process that is killed leaves it: database and log as they lie on disk.
    let copy = tempfile::tempdir().unwrap();
    for file in ["gradwatch.db", "gradwatch.db-wal"] {
        std::fs::copy(dir.path().join(file), copy.path().join(file)).unwrap();
    }
    let store = SqliteStore::open(copy.path()).await.unwrap();
    assert_eq!(store.last_commit_seq().await.unwrap(), 1);
    assert_eq!(store.run(run_id()).await.unwrap().run_id, run_id());
}

#[tokio::test]
async fn a_directory_has_one_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path()).await.unwrap();
    let Err(StoreError::DataDir(message)) = SqliteStore::open(dir.path()).await else { panic!("opened twice") };
    assert!(message.contains("in use"), "{message}");
    store.close().await;
    SqliteStore::open(dir.path()).await.unwrap();
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let Err(StoreError::DataDir(message)) = SqliteStore::open(&file.join("data")).await else { panic!("opened") };
    assert!(message.contains("file"), "{message}");
}

#[tokio::test]
async fn durability_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path()).await.unwrap();
    let durability = store.durability().await.unwrap();
    assert_eq!(durability.backend, "sqlite");
    assert_eq!(
        (durability.settings["journal_mode"].as_str(), durability.settings["synchronous"].as_str()),
        ("wal", "full")
    );
}

#[tokio::test]
async fn a_commit_that_is_given_up_holds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path()).await.unwrap();
    store.open_attempt(&open()).await.unwrap();
    let owner_epoch = store.take_ownership(run_id()).await.unwrap().owner_epoch;
    // Dropped at its first await and at later ones: the next commit goes through, or finds that the given-up one did.
    for polls in 0..12 {
        let runs = [commit(owner_epoch, edge())];
        let mut given_up = store.commit(&runs);
        for _ in 0..polls {
            let poll = std::future::poll_fn(|context| std::task::Poll::Ready(given_up.as_mut().poll(context))).await;
            if poll.is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(given_up);
        store.durability().await.unwrap();
    }
    let owner_epoch = store.take_ownership(run_id()).await.unwrap().owner_epoch;
    let landed = store.shard_marks(run_id(), 1).await.unwrap()[0].committed_seq == 1;
    let answer = store.commit(&[commit(owner_epoch, edge())]).await;
    if landed {
        // The mark is not where this commit says.
        assert!(matches!(answer, Err(StoreError::OwnershipLost(_))), "{answer:?}");
    } else {
        assert_eq!(answer.unwrap().0, 1);
    }
    assert_eq!(store.shard_marks(run_id(), 1).await.unwrap()[0].committed_seq, 1);
}
