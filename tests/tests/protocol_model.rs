//! The protocol against a plain reference: made schedules of everything that clients, networks, servers and databases
//! do, and afterwards each acknowledged frame is stored once, and every reading has the bits of an undisturbed run.
//!
//! `PROPTEST_CASES` sets how many schedules each test plays, `PROPTEST_RNG_SEED` which.

use std::{ops::Range, sync::Arc, time::Duration};

use gradwatch_store::Store;
use gradwatch_tests::{
    Backend, CrashingServer, Fault, FaultyStore, Flaw, Made, ModelJob, Op, PATIENCE, Place, Planned, Rest, Slot,
    Writer, open_request,
};
use http::Method;
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, RngSeed, TestRunner},
};
use serde_json::Value;
use tokio::{
    runtime::Builder,
    task::JoinSet,
    time::{sleep, timeout},
};

/// Schedules a test plays where nothing else is asked for.
const CASES: u32 = 24;
/// The same on PostgreSQL.
const POSTGRES_CASES: u32 = 6;

/// What happens to the server.
#[derive(Clone, Copy, Debug)]
enum Upheaval {
    Restart,
    Crash,
}

#[derive(Clone, Debug)]
struct Case {
    runs: Vec<Vec<Op>>,
    upheavals: Vec<(u8, Upheaval)>,
    commits: Vec<Planned>,
    calls: Vec<Planned>,
    /// One more run, of which the store takes no row.
    poisoned: bool,
}

fn op() -> impl Strategy<Value = Op> {
    let flaw = prop_oneof![Just(Flaw::Nul), Just(Flaw::Short), Just(Flaw::UnknownGroup), Just(Flaw::OldStep)];
    prop_oneof![
        8 => (1..24_u8, 1..9_u8).prop_map(|(frames, batch)| Op::Send { frames, batch }),
        2 => (2..8_u8, 0..8_u8).prop_map(|(frames, turn)| Op::Shuffle { frames, turn }),
        2 => (1..6_u8).prop_map(|frames| Op::Skip { frames }),
        2 => (0..20_u8, 1..12_u8).prop_map(|(back, frames)| Op::Repeat { back, frames }),
        2 => flaw.prop_map(Op::Flaw),
        1 => Just(Op::NonFinite),
        2 => (1..8_u8).prop_map(|frames| Op::GiveUp { frames }),
        1 => (0..20_u8).prop_map(|kept| Op::Forget { kept }),
        1 => Just(Op::Heartbeat),
        3 => (0..30_u8).prop_map(|ms| Op::Listen { ms }),
        2 => Just(Op::Settle),
        3 => Just(Op::Disconnect),
        2 => Just(Op::TakeOver),
        1 => Just(Op::SecondWriter),
        1 => Just(Op::Finish),
        1 => (0..10_u8).prop_map(|back| Op::Rewind { back }),
        1 => (1..6_u8).prop_map(|frames| Op::Late { frames }),
    ]
}

fn planned(fault: impl Strategy<Value = Fault>) -> impl Strategy<Value = Planned> {
    (0..6_u8, fault).prop_map(|(after, fault)| Planned { after, fault })
}

fn commit_fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        2 => Just(Fault::Before),
        2 => Just(Fault::Behind),
        4 => (0..24_u8).prop_map(Fault::Cut),
        1 => Just(Fault::LandedThenLost),
        1 => Just(Fault::Refused),
    ]
}

/// Faults of commits. A step that is refused three times is rejected, which is not what these schedules are about.
fn commit_faults(count: Range<usize>) -> impl Strategy<Value = Vec<Planned>> {
    vec(planned(commit_fault()), count).prop_map(|mut faults| {
        for third in faults.iter_mut().filter(|planned| planned.fault == Fault::Refused).skip(2) {
            third.fault = Fault::Before;
        }
        faults
    })
}

fn call_fault() -> impl Strategy<Value = Fault> {
    prop_oneof![Just(Fault::Before), Just(Fault::Behind), (0..6_u8).prop_map(Fault::Cut)]
}

fn upheavals() -> impl Strategy<Value = Vec<(u8, Upheaval)>> {
    vec((0..80_u8, prop_oneof![1 => Just(Upheaval::Restart), 2 => Just(Upheaval::Crash)]), 1..5)
}

fn runs() -> impl Strategy<Value = Vec<Vec<Op>>> {
    vec(vec(op(), 4..24), 1..4)
}

/// Plays schedules and shrinks one that fails.
fn check(seed: u64, backend: Backend, strategy: impl Strategy<Value = Case>) {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let cases = match (number("PROPTEST_CASES"), backend) {
        (Some(cases), _) => u32::try_from(cases).expect("as many as fit"),
        (None, Backend::Sqlite) => CASES,
        (None, Backend::Postgres) => POSTGRES_CASES,
    };
    let seed = number("PROPTEST_RNG_SEED").unwrap_or(seed);
    let config = Config {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_time: 120_000,
        ..Config::default()
    };
    let played = TestRunner::new(config).run(&strategy, |case| {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        runtime.block_on(play(case, &Place::new(backend)));
        Ok(())
    });
    if let Err(failure) = played {
        panic!("{backend:?}, seed {seed}: {failure}");
    }
}

fn clients_and_networks() -> impl Strategy<Value = Case> {
    let case = |runs| Case { runs, upheavals: Vec::new(), commits: Vec::new(), calls: Vec::new(), poisoned: false };
    runs().prop_map(case)
}

fn servers() -> impl Strategy<Value = Case> {
    let case = |(runs, upheavals)| Case { runs, upheavals, commits: Vec::new(), calls: Vec::new(), poisoned: false };
    (runs(), upheavals()).prop_map(case)
}

fn stores() -> impl Strategy<Value = Case> {
    let faults = (commit_faults(1..5), vec(planned(call_fault()), 0..3));
    let case = |(runs, (commits, calls), poisoned)| Case { runs, upheavals: Vec::new(), commits, calls, poisoned };
    (runs(), faults, any::<bool>()).prop_map(case)
}

fn everything() -> impl Strategy<Value = Case> {
    let faults = (commit_faults(0..4), vec(planned(call_fault()), 0..4));
    let case = |(runs, upheavals, (commits, calls), poisoned)| Case { runs, upheavals, commits, calls, poisoned };
    (runs(), upheavals(), faults, any::<bool>()).prop_map(case)
}

#[test]
fn whatever_clients_and_networks_do() {
    check(1, Backend::Sqlite, clients_and_networks());
}

#[test]
fn whatever_happens_to_servers() {
    check(2, Backend::Sqlite, servers());
}

#[test]
fn whatever_a_store_answers() {
    check(3, Backend::Sqlite, stores());
}

#[test]
fn whatever_happens_all_at_once() {
    check(4, Backend::Sqlite, everything());
}

#[test]
fn whatever_clients_and_networks_do_on_postgres() {
    check(5, Backend::Postgres, clients_and_networks());
}

#[test]
fn whatever_happens_to_servers_on_postgres() {
    check(6, Backend::Postgres, servers());
}

#[test]
fn whatever_a_store_answers_on_postgres() {
    check(7, Backend::Postgres, stores());
}

#[test]
fn whatever_happens_all_at_once_on_postgres() {
    check(8, Backend::Postgres, everything());
}

/// Plays a schedule to its end, and compares what is stored with what must be.
async fn play(case: Case, place: &Place) {
    let inner = gradwatch_store::open(place.database_url(), place.data_dir()).await.expect("a store");
    let store = Arc::new(FaultyStore::new(Arc::clone(&inner)));
    let server = CrashingServer::start(Arc::clone(&store) as Arc<dyn Store>, place.data_dir(), |_| {}).await;
    store.plan(case.commits, case.calls);

    let (mut poisoned, mut poisoned_run) = (JoinSet::new(), None);
    if case.poisoned {
        let request = open_request(Made::spec());
        let run_id = request.run_id.parse().expect("a UUID");
        store.poison(run_id);
        let mut writer = Writer::new(server.url(), request, Made { seed: 99, start: 0, shards: 1 });
        writer.connected().await;
        poisoned.spawn(knock(writer));
        poisoned_run = Some(run_id);
    }
    let mut playing = JoinSet::new();
    for (ops, seed) in case.runs.into_iter().zip(1..) {
        let url = server.url();
        playing.spawn(async move {
            let mut job = ModelJob::new(url, seed, 1);
            for op in &ops {
                job.act(op).await;
            }
            job.end().await;
            job
        });
    }
    let upheaving = async {
        for (ms, upheaval) in case.upheavals {
            sleep(Duration::from_millis(ms.into())).await;
            match upheaval {
                Upheaval::Restart => server.restart().await,
                Upheaval::Crash => server.crash().await,
            }
        }
    };
    let (jobs, ()) = tokio::join!(timeout(3 * PATIENCE, playing.join_all()), upheaving);
    let jobs = jobs.expect("every job ends");
    // A task that is still there has found nothing wrong.
    if let Some(ended) = poisoned.try_join_next() {
        panic!("a run of which no row is stored: {ended:?}");
    }
    poisoned.shutdown().await;
    store.heal();

    assert_eq!(store.violations(), Vec::<String>::new(), "rows that were there, or that no store takes");
    let rest = Rest::new(&server.url());
    let (_, metrics) = rest.call(Method::GET, "/metrics", "").await;
    for counter in ["gradwatch_unique_violations_total 0", "gradwatch_run_panics_total 0"] {
        assert!(metrics.lines().any(|line| line == counter), "no {counter} in {metrics}");
    }
    if let Some(run_id) = poisoned_run {
        let steps = rest.all(&format!("/api/v1/runs/{run_id}/steps?limit=100")).await;
        assert_eq!(steps, Vec::<Value>::new(), "the store took none of them");
    }
    for job in &jobs {
        job.assert_stored(&rest).await;
    }
    server.stop().await;
    inner.close().await;
    // Another one: connections belong to the runtime that made them, and those of the servers are gone.
    let store = gradwatch_store::open(place.database_url(), place.data_dir()).await.expect("the store again");
    for job in &jobs {
        assert_marks(job, store.as_ref()).await;
    }
    if let Some(run_id) = poisoned_run {
        let counters = store.run(run_id).await.expect("the run").counters;
        let marks = store.shard_marks(run_id, 1).await.expect("marks");
        assert_eq!([counters.rejected], [marks[0].committed_seq], "what the mark passed is rejected and counted");
    }
    store.close().await;
}

/// Sends frames again and again, which the store never takes. Only those may be acknowledged that are rejected, and of
/// them the answer may be lost.
async fn knock(mut writer: Writer) {
    writer.expect_refusals();
    loop {
        let frames = writer.make([Slot::Frame; 3]);
        writer.send(frames, 2).await;
        writer.listen(Duration::from_millis(20)).await;
    }
}

async fn assert_marks(job: &ModelJob, store: &dyn Store) {
    for writer in job.writers() {
        let segment = writer.segment().expect("it was opened");
        let marks = store.shard_marks(job.run_id().parse().expect("a UUID"), segment).await.expect("marks");
        let marks: Vec<u64> = marks.iter().map(|mark| mark.committed_seq).collect();
        assert_eq!(marks, [writer.last_seq()], "the mark of segment {segment}");
    }
}
