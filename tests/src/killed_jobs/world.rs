//! What happens to jobs, server and spool.

use std::{
    net::TcpStream,
    path::PathBuf,
    process::Stdio,
    thread::sleep,
    time::{Duration, Instant},
};

use gradwatch_client::{Launch, Uuid};
use tempfile::TempDir;

use super::{
    Mode,
    job::KilledJob,
    ledger::{KilledRun, Launched},
    on_disk,
    process::JobProcess,
};
use crate::{
    PATIENCE,
    command::{command, gradwatch},
    hostile::ReservedPort,
    process::ServerProcess,
    torture::Dice,
};

/// How long a job takes to start, and a little more.
const START: Duration = Duration::from_millis(12);
/// How many steps a job may go back to its last checkpoint.
const CHECKPOINT_EVERY: u64 = 20;
/// What a file may grow to on a disk that is full: from nothing to a hundred frames or so.
const ROOM_BYTES: u64 = 50_000;

/// One server, one spool, one job after the other.
pub(super) struct World {
    mode: Mode,
    dice: Dice,
    dir: TempDir,
    port: ReservedPort,
    server: Option<ServerProcess>,
    errors: Vec<String>,
    pub(super) runs: Vec<KilledRun>,
    pub(super) kills: u32,
    pub(super) kills_during_start: u32,
    pub(super) server_kills: u32,
    pub(super) syncs: (u32, u32),
}

impl World {
    pub(super) fn new(mode: Mode, dice: Dice) -> Self {
        let mut world = Self {
            mode,
            dice,
            dir: tempfile::tempdir().expect("a temporary directory"),
            // The same port every time, which nobody else is given meanwhile.
            port: ReservedPort::new(),
            server: None,
            errors: Vec::new(),
            runs: Vec::new(),
            kills: 0,
            kills_during_start: 0,
            server_kills: 0,
            syncs: (0, 0),
        };
        world.start_server();
        world
    }

    pub(super) fn url(&self) -> String {
        self.port.url()
    }

    pub(super) fn errors(&self) -> Vec<String> {
        let now = self.server.as_ref().map(ServerProcess::errors).unwrap_or_default();
        self.errors.iter().cloned().chain(now).collect()
    }

    fn spool(&self) -> PathBuf {
        self.dir.path().join("spool")
    }

    fn is(&mut self, one_in: u64) -> bool {
        self.dice.below(one_in) == 0
    }

    fn some_time(&mut self, longest: Duration) -> Duration {
        Duration::from_micros(self.dice.below(longest.as_micros() as u64 + 1))
    }

    fn start_server(&mut self) {
        self.server = Some(ServerProcess::launch(&self.dir.path().join("data"), self.port.address(), &[]));
    }

    fn kill_server(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        assert!(!server.has_ended(), "the server ended by itself: {:?}", server.errors());
        server.kill();
        self.errors.extend(server.errors());
        self.server_kills += 1;
    }

    /// The server comes, goes, or stays as it is.
    fn disturb_server(&mut self) {
        if matches!(self.mode, Mode::Online | Mode::Offline) {
            if self.is(6) {
                self.kill_server();
                self.start_server();
            }
        } else if self.is(4) {
            // So that it is there about half of the time: it takes as long as a job lives until it listens.
            match self.server {
                Some(_) => self.kill_server(),
                None => self.start_server(),
            }
        }
    }

    /// One life of a job, which goes on with a run or begins one, and its end: nearly always by SIGKILL.
    pub(super) fn launch(&mut self, lifetime: Duration) {
        let goes_on = |run: &KilledRun| !run.ended && run.newest_checkpoint().is_some();
        if !self.runs.last().is_some_and(goes_on) {
            let seed = self.dice.below(u64::MAX);
            let run_id = Uuid::new_v4();
            self.runs.push(KilledRun { run_id, seed, attempts: Vec::new(), ended: false });
        }
        let job = self.next_job();
        let mut process = JobProcess::start(&job);
        let ends_well = self.is(10);
        let mut disk_was_full = false;
        if !ends_well && self.is(4) {
            // While it starts.
            let pause = self.some_time(START);
            sleep(pause);
        } else {
            disk_was_full = self.live(&mut process, lifetime);
        }
        let heard = if ends_well { process.end() } else { process.kill() };
        if !ends_well {
            self.kills += 1;
            self.kills_during_start += u32::from(!heard.open);
        }
        let attempt_id = job.launch.attempt_id();
        let on_disk = on_disk::read(&self.spool(), job.launch.run_id(), attempt_id);
        let launched = Launched { attempt_id, from_step: job.from_step, heard, on_disk, disk_was_full };
        let run = self.runs.last_mut().expect("there is a run");
        run.attempts.push(launched);
        run.ended = ends_well;
        if self.is(8) {
            self.sync_in_between();
        }
    }

    /// What happens while a job lives. Answers whether its disk was full at times.
    fn live(&mut self, process: &mut JobProcess, lifetime: Duration) -> bool {
        let mut disk_was_full = false;
        for _ in 0..2 {
            if self.mode == Mode::FullDisk && self.is(2) {
                disk_was_full = true;
                let room = self.dice.below(ROOM_BYTES);
                process.limit_file_bytes(Some(room));
            }
            let pause = self.some_time(lifetime / 2);
            sleep(pause);
            self.disturb_server();
            if disk_was_full && self.is(2) {
                process.limit_file_bytes(None);
            }
        }
        if self.is(8) {
            // It leaves alone what the job is writing.
            self.sync_in_between();
        }
        let pause = self.some_time(lifetime / 4);
        sleep(pause);
        disk_was_full
    }

    /// Goes on where a checkpoint of an earlier process may have been, if there is one that got so far.
    fn next_job(&mut self) -> KilledJob {
        let run = self.runs.last().expect("there is a run");
        let earlier = run.newest_checkpoint();
        let (run_id, seed) = (run.run_id, run.seed);
        let back = self.dice.below(CHECKPOINT_EVERY);
        let from_step = earlier.map_or(0, |it| it.last_step.saturating_sub(back).max(it.from_step));
        KilledJob {
            server: self.url(),
            spool: self.spool(),
            launch: Launch::of_run(run_id),
            resumes: earlier.map(|it| it.attempt_id),
            from_step,
            seed,
            offline: self.mode == Mode::Offline,
            pace_us: [100, 300, 1_000, 3_000][self.dice.below(4) as usize],
            close_timeout_ms: 300,
        }
    }

    /// Sends what waits, as cron may at any time; every second time it is killed in the middle.
    fn sync_in_between(&mut self) {
        self.syncs.0 += 1;
        let mut sync = command(self.dir.path());
        sync.args(["sync", "--json", "--server", &self.url(), "--dir"]).arg(self.spool());
        let mut sync = sync.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary runs");
        let deadline = Instant::now() + self.some_time(Duration::from_millis(300));
        // One that finds no server waits for it: it is killed as well.
        while Instant::now() < deadline && sync.try_wait().expect("a child can be waited for").is_none() {
            sleep(Duration::from_millis(2));
        }
        if sync.try_wait().expect("a child can be waited for").is_none() {
            self.syncs.1 += 1;
            sync.kill().expect("it is killed");
        }
        sync.wait().expect("it has ended");
    }

    /// Nothing is killed any more: everything that waits is sent, twice.
    pub(super) fn end(&mut self) {
        if self.server.is_none() {
            self.start_server();
        }
        let since = Instant::now();
        while TcpStream::connect(self.port.address()).is_err() {
            assert!(since.elapsed() < PATIENCE, "the server does not listen");
            sleep(Duration::from_millis(20));
        }
        let (url, spool) = (self.url(), self.spool());
        let spool = spool.to_str().expect("text");
        let sync = |dry: &[&str]| {
            let arguments = ["sync", "--json", "--server", &url, "--dir", spool];
            gradwatch(self.dir.path(), &[], &[&arguments, dry].concat()).with(0).json()
        };
        let first = sync(&[]);
        let second = sync(&[]);
        assert_eq!(second["attempts"].as_array().map(Vec::len), Some(0), "{second} behind {first}");
    }
}
