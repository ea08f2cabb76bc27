//! The protocol against a plain reference: made schedules of everything that clients, networks, servers and databases
//! do, and afterwards each acknowledged frame is stored once, and every reading has the bits of an undisturbed run.
//!
//! `PROPTEST_CASES` sets how many schedules each test plays, `PROPTEST_RNG_SEED` which.

use std::{sync::Arc, time::Duration};

use gradwatch_proto::v1;
use gradwatch_store::{Store, sqlite::SqliteStore};
use gradwatch_tests::{
    Attempt, CrashingServer, Fault, FaultyStore, Flaw, Made, PATIENCE, Peer, Planned, Slot, Writer, assert_settled,
    next_attempt, open_request, tolerated, violated_field,
};
use http::Method;
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, RngSeed, TestRunner},
};
use tokio::{
    runtime::Builder,
    task::JoinSet,
    time::{sleep, timeout},
};
use tonic::Code;

/// Schedules a test plays where nothing else is asked for.
const CASES: u32 = 12;

/// What one run's job does.
#[derive(Clone, Debug)]
enum Op {
    /// Sends new frames.
    Send {
        frames: u8,
        batch: u8,
    },
    /// Sends new frames one by one, in another order.
    Shuffle {
        frames: u8,
        turn: u8,
    },
    /// Makes frames that it does not send: a hole.
    Skip {
        frames: u8,
    },
    /// Sends frames again.
    Repeat {
        back: u8,
        frames: u8,
    },
    /// Sends a frame that is invalid.
    Flaw(Flaw),
    /// Sends a frame with NaN.
    NonFinite,
    /// Gives up frames, of which `sent` were sent before.
    GiveUp {
        sent: u8,
        frames: u8,
    },
    Heartbeat,
    /// Reads and obeys what comes for a while.
    Listen {
        ms: u8,
    },
    /// Waits until everything is acknowledged.
    Settle,
    /// Lets the connection go.
    Disconnect,
    /// Connects once more beside the connection that is there.
    TakeOver,
    /// Another process takes the same place.
    SecondWriter,
    /// Says that the job is over, and goes on.
    Finish,
    /// Goes back so many frames: a new attempt.
    Rewind {
        back: u8,
    },
    /// The attempt before sends frames that nobody waits for any more.
    Late {
        frames: u8,
    },
}

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
        2 => (0..6_u8, 1..8_u8).prop_map(|(sent, frames)| Op::GiveUp { sent, frames }),
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
fn check(seed: u64, strategy: impl Strategy<Value = Case>) {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES);
    let seed = std::env::var("PROPTEST_RNG_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(seed);
    let config = Config {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_time: 120_000,
        ..Config::default()
    };
    let played = TestRunner::new(config).run(&strategy, |case| {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        runtime.block_on(play(case));
        Ok(())
    });
    if let Err(failure) = played {
        panic!("seed {seed}: {failure}");
    }
}

#[test]
fn whatever_clients_and_networks_do() {
    let case = |runs| Case { runs, upheavals: Vec::new(), commits: Vec::new(), calls: Vec::new(), poisoned: false };
    check(1, runs().prop_map(case));
}

#[test]
fn whatever_happens_to_servers() {
    let case = |(runs, upheavals)| Case { runs, upheavals, commits: Vec::new(), calls: Vec::new(), poisoned: false };
    check(2, (runs(), upheavals()).prop_map(case));
}

#[test]
fn whatever_a_store_answers() {
    let faults = (vec(planned(commit_fault()), 1..5), vec(planned(call_fault()), 0..3));
    let case = |(runs, (commits, calls), poisoned)| Case { runs, upheavals: Vec::new(), commits, calls, poisoned };
    check(3, (runs(), faults, any::<bool>()).prop_map(case));
}

#[test]
fn whatever_happens_all_at_once() {
    let faults = (vec(planned(commit_fault()), 0..4), vec(planned(call_fault()), 0..4));
    let case = |(runs, upheavals, (commits, calls), poisoned)| Case { runs, upheavals, commits, calls, poisoned };
    check(4, (runs(), upheavals(), faults, any::<bool>()).prop_map(case));
}

/// Plays a schedule to its end, and compares what is stored with what must be.
async fn play(case: Case) {
    let data_dir = tempfile::tempdir().expect("a temporary directory");
    let inner: Arc<dyn Store> = Arc::new(SqliteStore::open(data_dir.path()).await.expect("a store"));
    let store = Arc::new(FaultyStore::new(Arc::clone(&inner)));
    let server = CrashingServer::start(Arc::clone(&store) as Arc<dyn Store>, data_dir.path(), |_| {}).await;
    store.plan(case.commits, case.calls);

    let mut poisoned = JoinSet::new();
    if case.poisoned {
        let writer = first_attempt(server.url(), 99);
        store.poison(writer.request().run_id.parse().expect("a UUID"));
        poisoned.spawn(knock(writer));
    }
    let mut playing = JoinSet::new();
    for (ops, seed) in case.runs.into_iter().zip(1..) {
        let url = server.url();
        playing.spawn(async move {
            let mut job = Job::new(url, seed);
            for op in ops {
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
        panic!("a run of which no row is stored was told otherwise: {ended:?}");
    }
    poisoned.shutdown().await;
    store.heal();

    assert_eq!(store.violations(), Vec::<String>::new(), "rows that were there, or that no store takes");
    let rest = gradwatch_tests::Rest::new(&server.url());
    let (_, metrics) = rest.call(Method::GET, "/metrics", "").await;
    for counter in ["gradwatch_unique_violations_total 0", "gradwatch_run_panics_total 0"] {
        assert!(metrics.lines().any(|line| line == counter), "no {counter} in {metrics}");
    }
    for job in &jobs {
        job.assert_stored(&rest, inner.as_ref()).await;
    }
    server.stop().await;
    inner.close().await;
}

fn first_attempt(url: String, seed: u64) -> Writer {
    Writer::new(url, open_request(Made::spec()), Made { seed, start: 0, shards: 1 })
}

/// Sends frames again and again, which the store never takes.
async fn knock(mut writer: Writer) {
    loop {
        let frames = writer.make([Slot::Frame; 3]);
        writer.send(frames, 2).await;
        writer.listen(Duration::from_millis(20)).await;
        assert_eq!(writer.acknowledged_seq(), 0, "nothing of it is stored");
    }
}

/// One run's job with all its attempts.
struct Job {
    url: String,
    seed: u64,
    /// In the order of their opening, each with the last step of it that still stands.
    attempts: Vec<(Writer, u64)>,
}

impl Job {
    fn new(url: String, seed: u64) -> Self {
        let attempts = vec![(first_attempt(url.clone(), seed), u64::MAX)];
        Self { url, seed, attempts }
    }

    fn writer(&mut self) -> &mut Writer {
        &mut self.attempts.last_mut().expect("an attempt").0
    }

    async fn act(&mut self, op: Op) {
        let writer = self.writer();
        match op {
            Op::Send { frames, batch } => {
                let seqs = writer.make(std::iter::repeat_n(Slot::Frame, frames.into()));
                writer.send(seqs, batch.into()).await;
            }
            Op::Shuffle { frames, turn } => {
                let mut seqs: Vec<u64> = writer.make(std::iter::repeat_n(Slot::Frame, frames.into())).collect();
                seqs.rotate_left(usize::from(turn % frames));
                seqs[1..].reverse();
                writer.send_in_order(&seqs).await;
            }
            Op::Skip { frames } => {
                writer.make(std::iter::repeat_n(Slot::Frame, frames.into()));
            }
            Op::Repeat { back, frames } => {
                let last = writer.sent_seq();
                let from = last.saturating_sub(back.into()).max(1);
                if from <= last {
                    writer.send(from..=last.min(from + u64::from(frames) - 1), 3).await;
                }
            }
            Op::Flaw(flaw) => {
                // The first frame is what an old step is old against.
                if writer.last_seq() == 0 {
                    writer.make([Slot::Frame]);
                }
                let from = writer.sent_seq() + 1;
                let seqs = writer.make([Slot::Flawed(flaw)]);
                writer.send(from..=*seqs.end(), 4).await;
            }
            Op::NonFinite => {
                let seqs = writer.make([Slot::NonFinite]);
                writer.send(seqs, 1).await;
            }
            Op::GiveUp { sent, frames } => {
                let (first, last) = (writer.firm_seq() + 1, writer.last_seq() + u64::from(frames));
                let from = (writer.sent_seq() + 1).saturating_sub(sent.into()).max(first).max(2);
                writer.make(std::iter::repeat_n(Slot::Frame, frames.into()));
                if from <= last {
                    writer.give_up(from..=last).await;
                }
            }
            Op::Heartbeat => writer.heartbeat().await,
            Op::Listen { ms } => writer.listen(Duration::from_millis(ms.into())).await,
            Op::Settle => writer.settled().await,
            Op::Disconnect => writer.disconnect(),
            Op::TakeOver => writer.take_over().await,
            Op::SecondWriter => self.second_writer().await,
            Op::Finish => writer.say_finish(v1::Outcome::Preempted).await,
            Op::Rewind { back } => self.rewind(back.into()).await,
            Op::Late { frames } => {
                if let [.., (before, _), _] = self.attempts.as_mut_slice() {
                    let seqs = before.make(std::iter::repeat_n(Slot::Frame, frames.into()));
                    before.send(seqs, 2).await;
                }
            }
        }
    }

    async fn rewind(&mut self, back: u64) {
        let (url, seed, attempts) = (self.url.clone(), self.seed, self.attempts.len() as u64);
        let writer = self.writer();
        let Some(last) = writer.last_seq().checked_sub(1) else { return };
        // What is resumed has to be there.
        writer.connected().await;
        let step = writer.made().step(last.saturating_sub(back) + 1);
        let request = next_attempt(writer.request(), Some((writer.request(), step)));
        let made = Made { seed: seed + 1_000 * attempts, start: step, shards: 1 };
        for (_, live_to_step) in &mut self.attempts {
            *live_to_step = step.min(*live_to_step);
        }
        let mut next = Writer::new(url, request, made);
        next.connected().await;
        self.attempts.push((next, u64::MAX));
    }

    /// Another process is refused, by OpenRun and on a stream.
    async fn second_writer(&mut self) {
        let url = self.url.clone();
        let writer = self.writer();
        writer.connected().await;
        let request = v1::OpenRunRequest { writer_id: "another".to_owned(), ..writer.request().clone() };
        let Ok(mut peer) = Peer::try_connect(&url).await else { return };
        let assert_refused = |status: tonic::Status| {
            if status.code() == Code::AlreadyExists {
                assert_eq!(violated_field(&status).as_deref(), Some("writer_id"), "{status:?}");
            } else {
                tolerated(&status);
            }
        };
        assert_refused(peer.open_run(&request).await.expect_err("a second writer"));
        let Ok(mut stream) = peer.stream().await else { return };
        let attempt_id = request.attempt.as_ref().expect("an attempt").attempt_id.clone();
        let v1::OpenRunRequest { run_id, shard, writer_id, .. } = request;
        let open = v1::Open { run_id, attempt_id, shard, writer_id };
        stream.send(v1::client_message::Message::Open(open)).await;
        match stream.next().await {
            Ok(Some(message)) => panic!("a second writer was told {message:?}"),
            Ok(None) => {}
            Err(status) => assert_refused(status),
        }
    }

    /// Everything is settled and the end is heard.
    async fn end(&mut self) {
        for (writer, _) in &mut self.attempts {
            writer.settled().await;
        }
        self.writer().finish(v1::Outcome::Finished).await;
    }

    async fn assert_stored(&self, rest: &gradwatch_tests::Rest, store: &dyn Store) {
        let run_id = &self.attempts[0].0.request().run_id;
        let attempts = self.attempts.iter();
        let attempts: Vec<Attempt<'_>> =
            attempts.map(|(writer, live_to_step)| Attempt { writer, live_to_step: *live_to_step }).collect();
        assert_settled(rest, run_id, &attempts).await;
        for (writer, _) in &self.attempts {
            let segment = writer.segment().expect("it was opened");
            let marks = store.shard_marks(run_id.parse().expect("a UUID"), segment).await.expect("marks");
            let marks: Vec<u64> = marks.iter().map(|mark| mark.committed_seq).collect();
            assert_eq!(marks, [writer.last_seq()], "the mark of segment {segment}");
        }
    }
}
