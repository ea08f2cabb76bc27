//! Jobs that are killed again and again, with a server that comes and goes, and a `gradwatch sync` that is killed too. What
//! they said, and what their spools held when they were dead, is compared with what a server has in the end.

mod job;
mod ledger;
mod on_disk;
mod process;
mod world;

use std::{fmt, time::Duration};

use serde_json::{Value, json};
use tokio::time::Instant;

pub use job::KilledJob;

use self::{ledger::Found, world::World};
use crate::{rest::Rest, torture::Dice};

/// How jobs and server get along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// The server is there; now and then it is killed and started again.
    Online,
    /// Jobs never talk to it.
    Offline,
    /// The server is killed and stays away, about half of the time.
    Away,
    /// The same, and the disk of the jobs is full at times.
    FullDisk,
}

/// How hard.
#[derive(Clone, Debug)]
pub struct Options {
    /// Times that a job is killed, in each mode.
    pub kills: u32,
    /// How jobs and server get along.
    pub mode: Mode,
    /// The longest that a job lives.
    pub lifetime: Duration,
    /// What moments and numbers follow from.
    pub seed: u64,
}

/// What came of it. Returned only when every promise held.
#[derive(Clone, Debug)]
pub struct Report {
    /// How jobs and server got along.
    pub mode: Mode,
    /// Kills of jobs.
    pub kills: u32,
    /// Of them, before the job had opened its run.
    pub kills_during_start: u32,
    /// Kills of the server.
    pub server_kills: u32,
    /// Times that frames were sent later while others were being made, and of them those that were killed.
    pub syncs: (u32, u32),
    /// Runs.
    pub runs: u64,
    /// Attempts of which something is stored.
    pub attempts: u64,
    /// Frames that are stored.
    pub frames: u64,
    /// Of them, those that jobs knew to be acknowledged.
    pub acknowledged: u64,
    /// Of them, those that were on disk when their job was dead, and not known to be acknowledged.
    pub from_disk: u64,
    /// Frames that were handed over and ended with their process, before they were on disk.
    pub ended_in_memory: u64,
    /// The most of one process.
    pub most_ended_in_memory: u64,
    /// Frames that were given up while a disk was full.
    pub given_up: u64,
    /// Files that ended in the middle of a record.
    pub torn: u64,
    /// Altogether.
    pub seconds: f64,
}

impl Report {
    /// As JSON.
    pub fn json(&self) -> Value {
        json!({
            "mode": format!("{:?}", self.mode).to_lowercase(),
            "kills": self.kills,
            "kills_during_start": self.kills_during_start,
            "server_kills": self.server_kills,
            "syncs": self.syncs.0,
            "sync_kills": self.syncs.1,
            "runs": self.runs,
            "attempts": self.attempts,
            "frames": self.frames,
            "acknowledged": self.acknowledged,
            "from_disk": self.from_disk,
            "ended_in_memory": self.ended_in_memory,
            "most_ended_in_memory": self.most_ended_in_memory,
            "given_up": self.given_up,
            "torn": self.torn,
            "seconds": self.seconds,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mode, kills, kills_during_start, server_kills, syncs: (syncs, sync_kills), .. } = self;
        let Self { runs, attempts, frames, acknowledged, from_disk, seconds, .. } = self;
        writeln!(
            f,
            "{mode:?}: {kills} kills of jobs ({kills_during_start} during a start), {server_kills} of the server, {sync_kills} of \
             {syncs} syncs in between, in {seconds:.0} s"
        )?;
        writeln!(
            f,
            "  {frames} frames of {attempts} attempts of {runs} runs stored, each once: {acknowledged} had been acknowledged, \
             {from_disk} came from the disk"
        )?;
        write!(
            f,
            "  {} ended with their process before they were on disk, {} of one at most; {} were given up on a full disk; {} \
             files ended in the middle of a record",
            self.ended_in_memory, self.most_ended_in_memory, self.given_up, self.torn
        )
    }
}

/// Kills jobs.
///
/// # Panics
/// With what was lost, stored twice, or read differently.
pub async fn kill_jobs(options: Options, mut progress: impl FnMut(u32)) -> Report {
    let began = Instant::now();
    let mut world = World::new(options.mode, Dice(options.seed));
    while world.kills < options.kills {
        tokio::task::block_in_place(|| world.launch(options.lifetime));
        progress(world.kills);
    }
    tokio::task::block_in_place(|| world.end());
    let rest = Rest::new(&world.url());
    let mut found = Found::default();
    for run in &world.runs {
        run.assert_stored(&rest, &mut found).await;
    }
    let (_, metrics) = rest.call(http::Method::GET, "/metrics", "").await;
    assert!(metrics.contains("gradwatch_unique_violations_total 0"), "{metrics}");
    assert_eq!(world.errors(), Vec::<String>::new(), "the servers logged errors");
    Report {
        mode: options.mode,
        kills: world.kills,
        kills_during_start: world.kills_during_start,
        server_kills: world.server_kills,
        syncs: world.syncs,
        runs: world.runs.len() as u64,
        attempts: found.attempts,
        frames: found.frames,
        acknowledged: found.acknowledged,
        from_disk: found.from_disk,
        ended_in_memory: found.ended_in_memory,
        most_ended_in_memory: found.most_ended_in_memory,
        given_up: found.given_up,
        torn: found.torn,
        seconds: began.elapsed().as_secs_f64(),
    }
}
