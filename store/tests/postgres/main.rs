//! What only a store in a database has: settings that others can weaken, a network that breaks, other servers.

mod alerts;
mod alone;
mod trouble;

use std::{collections::BTreeMap, time::Duration};

use gradwatch_store::{
    AttemptDeclaration, AttemptId, Encoding, EventQuery, EventRow, GroupSpec, Kind, MarkMove, OpenAttempt, RunCommit,
    RunDeclaration, RunId, StepQuery, StepRow, Store, StoreError, StreamSpec, TensorSpec, lineage::SegmentRange,
    postgres::PostgresStore,
};
use gradwatch_test_postgres::{Cluster, Direction, Proxy, TestDatabase};
use sqlx::{Connection as _, Executor as _, PgConnection};
use uuid::Uuid;

fn run_id(run: u128) -> RunId {
    RunId(Uuid::from_u128(run))
}

fn open(run: u128) -> OpenAttempt {
    let tensors = vec![TensorSpec { name: "w".to_owned(), elements: 9 }];
    OpenAttempt {
        run: RunDeclaration {
            run_id: run_id(run),
            project: "vision".to_owned(),
            name: "run".to_owned(),
            labels: BTreeMap::new(),
            config: serde_json::json!({}),
        },
        attempt: AttemptDeclaration {
            attempt_id: AttemptId(Uuid::from_u128(100 + run)),
            started_at_us: 1,
            resumes: None,
            unrelated: false,
            shard_count: 1,
            spec: StreamSpec {
                sketch_dim: 256,
                sketch_seed: 3,
                encoding: Encoding::F32,
                window_lengths: vec![10],
                groups: vec![GroupSpec { name: "all".to_owned(), tensors }],
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

fn step(number: u64) -> StepRow {
    StepRow {
        segment: 1,
        step: number,
        seqs: vec![Some(number)],
        wall_time_us: 1,
        received_at_us: 2,
        learning_rate: None,
        weight_decay: None,
        phase: 0,
        complete: true,
        // Long enough for cuts to fall into the middle of it.
        scalars: (0..20).map(|scalar| (format!("scalar {scalar}"), number as f64)).collect(),
        nonfinite_payloads: Vec::new(),
    }
}

/// One owner of one run, that counts as the server's owners do.
struct Owner {
    run: u128,
    epoch: u64,
    commits: u64,
    mark: u64,
}

impl Owner {
    /// Takes the run until the database answers.
    async fn take(store: &PostgresStore, run: u128) -> Self {
        loop {
            let Ok(owned) = store.take_ownership(run_id(run)).await else { continue };
            let Ok(marks) = store.shard_marks(run_id(run), 1).await else { continue };
            return Self { run, epoch: owned.owner_epoch, commits: 0, mark: marks[0].committed_seq };
        }
    }

    /// The next commit: some steps and a mark, or only an event.
    fn next(&self, steps: u64) -> RunCommit {
        let mut commit = RunCommit::new(run_id(self.run), self.epoch);
        (commit.after_commit, commit.commit_number) = (self.commits, self.commits + 1);
        let to_seq = self.mark + steps;
        if steps == 0 {
            let evidence = serde_json::json!({ "epoch": self.epoch, "number": self.commits + 1 });
            commit.events.push(EventRow::new("run.crashed", 1, None, 1, evidence));
        } else {
            commit.marks.push(MarkMove { segment: 1, shard: 0, from_seq: self.mark, to_seq, keep_from_seq: 0 });
            commit.steps = (self.mark + 1..=to_seq).map(step).collect();
        }
        commit.patch.counters.steps = steps;
        commit
    }
}

/// What a run holds, read past every proxy.
async fn recorded(store: &PostgresStore, run: u128) -> (Vec<u64>, Vec<(u64, u64)>) {
    let ranges = vec![SegmentRange { segment: 1, from_step: 0, to_step: u64::MAX }];
    let query = StepQuery { run_id: run_id(run), ranges, limit: 100_000 };
    let steps = store.steps(&query).await.unwrap().items.iter().map(|step| step.step).collect();
    let query = EventQuery {
        run_id: Some(run_id(run)),
        project: None,
        types: Vec::new(),
        group: None,
        ranges: None,
        after: None,
        newest_first: false,
        limit: 100_000,
    };
    let number = |value: &serde_json::Value| value.as_u64().unwrap();
    let events = store.events(&query).await.unwrap().items;
    let events = events.iter().map(|it| (number(&it.row.evidence["epoch"]), number(&it.row.evidence["number"])));
    (steps, events.collect())
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

fn address(url: &str) -> std::net::SocketAddr {
    let place = url.rsplit_once('@').unwrap().1;
    place.split('/').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_cut_anywhere_loses_and_doubles_nothing() {
    let database = TestDatabase::new();
    let proxy = Proxy::start(address(database.url())).await.unwrap();
    let direct = PostgresStore::open(database.url()).await.unwrap();
    let store = PostgresStore::open(&proxy.url(database.url())).await.unwrap();
    store.open_attempt(&open(1)).await.unwrap();
    let mut random = Random(5);
    let mut owner = Owner::take(&store, 1).await;
    let (mut acknowledged_events, mut landed_in_doubt, mut lost) = (Vec::new(), 0, 0);
    let mut cuts = 0;
    for round in 0..150 {
        let steps = if random.below(3) == 0 { 0 } else { 1 + random.below(5) };
        // In the middle of any statement, between two, before the answer to any, and that to COMMIT among them.
        let (direction, bytes) = match random.below(3) {
            0 => (Direction::ToDatabase, random.below(4_000)),
            _ => (Direction::ToClient, random.below(500)),
        };
        if round % 2 == 0 {
            proxy.cut_after(direction, bytes);
        }
        // As the recorder does: the same commit again and again, until it is in or turns out to be.
        let commit = owner.next(steps);
        loop {
            let answer = store.commit(std::slice::from_ref(&commit)).await;
            match answer {
                Ok(_) => {
                    owner.commits += 1;
                    owner.mark += steps;
                    if steps == 0 {
                        acknowledged_events.push((owner.epoch, commit.commit_number));
                    }
                    break;
                }
                Err(StoreError::OwnershipLost(_)) => {
                    // It had landed, although its answer was lost.
                    let before = (owner.epoch, owner.mark);
                    owner = Owner::take(&store, 1).await;
                    assert_eq!(owner.mark, before.1 + steps, "exactly the commit in doubt is there");
                    if steps == 0 {
                        acknowledged_events.push((before.0, commit.commit_number));
                    }
                    landed_in_doubt += 1;
                    break;
                }
                Err(StoreError::Unavailable(_)) => lost += 1,
                Err(error) => panic!("{error}"),
            }
        }
        cuts += usize::from(round % 2 == 0 && !proxy.is_armed());
        proxy.disarm();
        if round % 10 == 9 {
            let (steps, events) = recorded(&direct, 1).await;
            assert_eq!(steps, (1..=owner.mark).collect::<Vec<_>>());
            assert_eq!(events, acknowledged_events);
            assert_eq!(direct.shard_marks(run_id(1), 1).await.unwrap()[0].committed_seq, owner.mark);
            assert_eq!(direct.run(run_id(1)).await.unwrap().counters.steps, owner.mark);
        }
    }
    assert!(cuts > 20 && lost > 20, "{cuts} cuts, {lost} commits without an answer: the proxy does not bite");
    assert!(landed_in_doubt > 0, "of {lost} commits without an answer none had landed");
    store.close().await;
    direct.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_lands_once() {
    let database = TestDatabase::new();
    let proxy = Proxy::start(address(database.url())).await.unwrap();
    let direct = PostgresStore::open(database.url()).await.unwrap();
    let store = PostgresStore::open(&proxy.url(database.url())).await.unwrap();
    store.open_attempt(&open(1)).await.unwrap();
    let mut landed = 0;
    // The same commit of an event, with the answers cut off a few bytes later each time, until none is cut.
    for bytes in 0.. {
        let owner = Owner::take(&store, 1).await;
        let before = recorded(&direct, 1).await.1.len();
        proxy.cut_after(Direction::ToClient, bytes * 7);
        let first = store.commit(&[owner.next(0)]).await;
        let armed = proxy.is_armed();
        proxy.disarm();
        if armed {
            first.unwrap();
            break;
        }
        // The answer may have been whole, and only the next question of the pool cut off.
        let again = store.commit(&[owner.next(0)]).await;
        match (&first, &again) {
            (Err(StoreError::Unavailable(_)), Err(StoreError::OwnershipLost(_))) => landed += 1,
            (Err(StoreError::Unavailable(_)), Ok(_)) | (Ok(_), Err(StoreError::OwnershipLost(_))) => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(recorded(&direct, 1).await.1.len(), before + 1, "{bytes}");
    }
    assert!(landed > 0, "no answer to COMMIT was ever lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_gone_is_unavailable_and_comes_back() {
    let mut cluster = Cluster::start().unwrap();
    cluster.create_database("gone", None).unwrap();
    let store = PostgresStore::open(&cluster.url("gone")).await.unwrap();
    store.open_attempt(&open(1)).await.unwrap();
    let mut owner = Owner::take(&store, 1).await;
    store.commit(&[owner.next(5)]).await.unwrap();
    (owner.commits, owner.mark) = (1, 5);
    for _ in 0..2 {
        cluster.kill_9().unwrap();
        let answer = store.commit(&[owner.next(5)]).await;
        assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
        cluster.start_again().unwrap();
        while let Err(error) = store.commit(&[owner.next(5)]).await {
            assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
        }
        (owner.commits, owner.mark) = (owner.commits + 1, owner.mark + 5);
        // What was acknowledged before is there.
        assert_eq!(recorded(&store, 1).await.0, (1..=owner.mark).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weak_durability_is_refused_at_start() {
    for setting in ["synchronous_commit", "fsync", "full_page_writes"] {
        let cluster = Cluster::start_with(&[(setting, "off")]).unwrap();
        let Err(StoreError::Durability(message)) = PostgresStore::open(&cluster.url("postgres")).await else {
            panic!("opened with {setting} off")
        };
        assert!(message.starts_with(setting), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durability_weakened_later_is_noticed_by_the_next_commit() {
    let cluster = Cluster::start().unwrap();
    let store = PostgresStore::open(&cluster.url("postgres")).await.unwrap();
    let durability = store.durability().await.unwrap();
    assert_eq!((durability.backend, durability.settings["synchronous_commit"].as_str()), ("postgres", "on"));
    store.open_attempt(&open(1)).await.unwrap();
    let mut admin = PgConnection::connect(&cluster.url("postgres")).await.unwrap();
    for (alter, weak) in [("ALTER SYSTEM SET fsync = off", true), ("ALTER SYSTEM RESET fsync", false)] {
        admin.execute(alter).await.unwrap();
        admin.execute("SELECT pg_reload_conf()").await.unwrap();
        // Every process of the database reads its settings anew when it comes to it.
        let arrived = async {
            loop {
                let refused = store.durability().await.is_err();
                let owner = Owner::take(&store, 1).await;
                let commit = store.commit(&[owner.next(3)]).await;
                match commit {
                    Ok(_) if !weak && !refused => break,
                    Err(StoreError::Unavailable(message)) if weak && refused => {
                        assert!(message.contains("weaker"), "{message}");
                        break;
                    }
                    _ => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), arrived).await.expect("the setting arrives");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_schema_is_refused() {
    let database = TestDatabase::new();
    let mut admin = PgConnection::connect(database.url()).await.unwrap();
    let insert = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                  VALUES (9999, 'of the future', TRUE, '\\x00', 0)";
    admin.execute(insert).await.unwrap();
    let Err(StoreError::Database(message)) = PostgresStore::open(database.url()).await else { panic!("opened") };
    assert!(message.contains("9999"), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_start_at_once_make_one_schema() {
    let cluster = Cluster::start().unwrap();
    let url = cluster.url("postgres");
    let opening: Vec<_> = (0..4)
        .map(|_| {
            let url = url.clone();
            tokio::spawn(async move { PostgresStore::open(&url).await.map(drop) })
        })
        .collect();
    for opened in opening {
        opened.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_share_a_database() {
    let database = TestDatabase::new();
    let mut servers = Vec::new();
    for server in 0..2_u128 {
        let store = PostgresStore::open(database.url()).await.unwrap();
        servers.push(tokio::spawn(async move {
            let mut owners = Vec::new();
            for run in (0..8).map(|run| 2 * run + server) {
                store.open_attempt(&open(run)).await.unwrap();
                owners.push(Owner::take(&store, run).await);
            }
            for round in 0..30 {
                // In another order each time: what two of them lock must not depend on it.
                owners.rotate_left(1);
                let commits: Vec<_> = owners.iter().map(|owner| owner.next(round % 4)).collect();
                store.commit(&commits).await.unwrap();
                for owner in &mut owners {
                    (owner.commits, owner.mark) = (owner.commits + 1, owner.mark + round % 4);
                }
            }
            owners.iter().map(|owner| (owner.run, owner.mark)).collect::<Vec<_>>()
        }));
    }
    let store = PostgresStore::open(database.url()).await.unwrap();
    for server in servers {
        for (run, mark) in server.await.unwrap() {
            assert_eq!(recorded(&store, run).await.0, (1..=mark).collect::<Vec<_>>());
        }
    }
    assert_eq!(store.last_commit_seq().await.unwrap(), 60);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_is_given_up_leaves_no_lock_and_lands_whole_or_not() {
    let database = TestDatabase::new();
    let store = PostgresStore::open(database.url()).await.unwrap();
    store.open_attempt(&open(1)).await.unwrap();
    let mut random = Random(7);
    for _ in 0..60 {
        let owner = Owner::take(&store, 1).await;
        let runs = [owner.next(3)];
        let wait = Duration::from_micros(random.below(6_000));
        // Whether it answers in time does not matter.
        let _ = tokio::time::timeout(wait, store.commit(&runs)).await;
        let after = Owner::take(&store, 1).await;
        assert!([owner.mark, owner.mark + 3].contains(&after.mark));
        let (steps, _) = recorded(&store, 1).await;
        assert!([owner.mark, owner.mark + 3].contains(&(steps.len() as u64)), "{} steps", steps.len());
    }
    store.durability().await.unwrap();
}

#[tokio::test]
async fn no_error_holds_the_password() {
    let database = TestDatabase::new();
    let password = database.url().split(':').nth(2).unwrap().split('@').next().unwrap();
    let elsewhere = database.url().replace("/test_", "/nowhere_");
    let wrong = database.url().replace(password, "wrong-secret");
    for url in [&elsewhere, &wrong] {
        let error = PostgresStore::open(url).await.map(drop).unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
        assert!(!format!("{error} {error:?}").contains(password), "{error}");
        assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
    }
}
