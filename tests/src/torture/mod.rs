//! Jobs under load against a real server that is killed again and again. Whatever was acknowledged is in ledgers
//! (the writers'), which are compared with what is stored at the end, and with what a server reads to which nothing
//! happened.

mod database;
mod dice;
mod job;
mod undisturbed;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use self::job::Temper;
pub use self::{database::Database, dice::Dice};
use crate::{hostile::ReservedPort, model::ModelJob, process::ServerProcess, rest::Rest};

/// How long everything may take to settle once nothing is killed any more.
const RECOVERY: Duration = Duration::from_secs(600);

/// How hard.
pub struct Options {
    /// Times that the server is killed.
    pub kills: u32,
    /// Times that the database is killed.
    pub database_kills: u32,
    /// Longest time between two kills.
    pub pause: Duration,
    /// What frames, moments and operations follow from.
    pub seed: u64,
    /// Shards of the second job.
    pub shards: u32,
    /// Where the server keeps its data; `None`: in SQLite.
    pub database: Option<Database>,
}

/// What came of it. Returned only when every promise held.
#[derive(Debug)]
pub struct Report {
    /// Kills of the server.
    pub kills: u32,
    /// Kills of a server that did not listen yet.
    pub kills_during_start: u32,
    /// Kills of the database.
    pub database_kills: u32,
    /// Attempts of all jobs.
    pub attempts: u64,
    /// Frames that were acknowledged, and looked for.
    pub frames_acknowledged: u64,
    /// Acknowledgements that were heard.
    pub acknowledgements: u64,
    /// From the last start until everything was acknowledged.
    pub recovery_ms: u64,
    /// Altogether.
    pub seconds: f64,
}

impl Report {
    /// As JSON.
    pub fn json(&self) -> Value {
        json!({
            "kills": self.kills,
            "kills_during_start": self.kills_during_start,
            "database_kills": self.database_kills,
            "attempts": self.attempts,
            "frames_acknowledged": self.frames_acknowledged,
            "acknowledgements": self.acknowledgements,
            "recovery_ms": self.recovery_ms,
            "seconds": self.seconds,
        })
    }
}

/// How far it is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Kills of the server so far.
    pub kills: u32,
    /// Kills of the database so far.
    pub database_kills: u32,
    /// Frames acknowledged so far.
    pub frames_acknowledged: u64,
}

/// Counters that jobs and killer share.
#[derive(Default)]
struct Shared {
    over: AtomicBool,
    acknowledged: AtomicU64,
}

/// Tortures a server.
///
/// # Panics
/// With what was lost, stored twice, or read differently.
pub async fn torture(options: Options, mut progress: impl FnMut(Progress)) -> Report {
    let began = Instant::now();
    let Options { kills, mut database_kills, pause, seed, shards, mut database } = options;
    let data_dir = tempfile::tempdir().expect("a temporary directory");
    let environment = database.as_ref().map(Database::environment).unwrap_or_default();
    // The same port every time, which nobody else is given meanwhile.
    let port = ReservedPort::new();
    let shared = Arc::new(Shared::default());
    let mut jobs = JoinSet::new();
    for (temper, number) in
        [Temper::Steady, Temper::Sharded(shards), Temper::Rewinding, Temper::Unruly].into_iter().zip(1..)
    {
        jobs.spawn(job::run(port.url(), seed.wrapping_mul(1_000_003) + number, temper, Arc::clone(&shared)));
    }

    let mut dice = Dice(seed);
    let mut errors = Vec::new();
    let mut server = ServerProcess::launch(data_dir.path(), port.address(), &environment);
    let mut report = Progress { kills: 0, database_kills: 0, frames_acknowledged: 0 };
    let mut kills_during_start = 0;
    if database.is_none() {
        database_kills = 0;
    }
    while report.kills < kills || report.database_kills < database_kills {
        let bound_us = pause.as_micros() as u64;
        // Every fourth time soon: while it starts.
        let bound_us = if dice.below(4) == 0 { bound_us / 20 } else { bound_us };
        sleep(Duration::from_micros(dice.below(bound_us + 1))).await;
        let left = (u64::from(kills - report.kills), u64::from(database_kills - report.database_kills));
        match &mut database {
            Some(database) if dice.below(left.0 + left.1) < left.1 => {
                tokio::task::block_in_place(|| database.kill_and_start());
                report.database_kills += 1;
            }
            _ => {
                assert!(database.is_some() || !server.has_ended(), "the server ended by itself");
                kills_during_start += u32::from(!listens(port.address()).await);
                server.kill();
                errors.extend(server.errors());
                server = ServerProcess::launch(data_dir.path(), port.address(), &environment);
                report.kills += 1;
            }
        }
        report.frames_acknowledged = shared.acknowledged.load(Ordering::Relaxed);
        progress(report);
    }

    let last_start = Instant::now();
    shared.over.store(true, Ordering::Relaxed);
    // A server that found no database has ended; with one that is there, the next stays.
    let listening = async {
        while !listens(port.address()).await {
            if server.has_ended() {
                assert!(database.is_some(), "the server ended by itself");
                errors.extend(server.errors());
                server = ServerProcess::launch(data_dir.path(), port.address(), &environment);
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(RECOVERY, listening).await.expect("the server starts in the end");
    let jobs: Vec<ModelJob> = timeout(RECOVERY, jobs.join_all()).await.expect("everything settles in the end");
    let recovery_ms = last_start.elapsed().as_millis() as u64;
    errors.extend(server.errors());
    assert_eq!(errors, Vec::<String>::new(), "the servers logged errors");
    let rest = Rest::new(&server.url());
    for job in &jobs {
        job.assert_stored(&rest).await;
    }
    undisturbed::assert_same(&rest, &jobs).await;
    let writers = || jobs.iter().flat_map(ModelJob::writers);
    Report {
        kills: report.kills,
        kills_during_start,
        database_kills: report.database_kills,
        attempts: jobs.iter().map(ModelJob::attempts).sum::<usize>() as u64,
        frames_acknowledged: writers().map(|writer| writer.acknowledged_seq()).sum(),
        acknowledgements: writers().map(|writer| writer.acknowledgements).sum(),
        recovery_ms,
        seconds: began.elapsed().as_secs_f64(),
    }
}

async fn listens(address: SocketAddr) -> bool {
    tokio::net::TcpStream::connect(address).await.is_ok()
}
