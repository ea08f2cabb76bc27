//! The program that is killed: a job that submits frames through the real client with a spool, and says on standard output
//! what it knows.

use std::{
    io::{Read as _, Write as _},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use clap::Args;
use gradwatch_client::{Launch, Outcome, Spool, Uuid};

use crate::{
    job::{Job, JobOptions},
    updates::walk,
};

/// Number of parameters.
pub(super) const PARAMETERS: usize = 300;
/// W.
pub(super) const WINDOW: u32 = 5;
/// d.
pub(super) const DIM: usize = 64;
/// Seed of the sketch.
pub(super) const SKETCH_SEED: u64 = 5;
/// The one group.
pub(super) const GROUP: &str = "all";

/// What the program is told.
#[derive(Args, Debug)]
pub struct KilledJob {
    /// Where the server is, or would be
    #[arg(long)]
    pub server: String,
    /// Where its frames wait
    #[arg(long)]
    pub spool: PathBuf,
    /// Run, attempt and start
    #[arg(long)]
    pub launch: Launch,
    /// The attempt that it resumes, at the step given by `--from-step`
    #[arg(long)]
    pub resumes: Option<Uuid>,
    /// The step that it begins behind
    #[arg(long, default_value_t = 0)]
    pub from_step: u64,
    /// What its parameters follow from
    #[arg(long)]
    pub seed: u64,
    /// Never talk to the server
    #[arg(long)]
    pub offline: bool,
    /// Microseconds between two steps
    #[arg(long)]
    pub pace_us: u64,
    /// How long it waits for the server when its standard input ends, which ends it
    #[arg(long, default_value_t = 200)]
    pub close_timeout_ms: u64,
}

impl KilledJob {
    /// Trains until it is killed, or until its standard input ends.
    pub fn run(self) {
        let options = JobOptions {
            dim: DIM,
            seed: SKETCH_SEED,
            windows: vec![WINDOW],
            len: PARAMETERS,
            groups: vec![(GROUP, 1)],
        };
        let mut job = Job::open_with(&self.server, &options, |builder| {
            let builder = builder
                .launch(self.launch)
                .spool(Spool::new(&self.spool))
                .close_timeout(Duration::from_millis(self.close_timeout_ms));
            let builder = if self.offline { builder.offline() } else { builder };
            self.resumes.map_or(builder.clone(), |attempt| builder.resume_from(attempt, self.from_step))
        });
        let is_over = over();
        job.set_base(self.from_step, &walk(self.seed, self.from_step, PARAMETERS));
        say("open");
        let (mut settled, mut refused) = (0, false);
        for step in self.from_step + 1.. {
            if is_over.load(Ordering::Relaxed) {
                break;
            }
            job.submit(step, &walk(self.seed, step, PARAMETERS));
            say(&format!("submitted {step}"));
            let status = job.run.status();
            if status.settled > settled {
                settled = status.settled;
                say(&format!("settled {settled}"));
            }
            if let Some(problem) =
                job.run.problem().filter(|problem| !refused && problem.contains("refused by the server"))
            {
                refused = true;
                say(&format!("refused {problem}"));
            }
            thread::sleep(Duration::from_micros(self.pace_us));
        }
        let report = job.run.close_with(Outcome::Finished);
        say(&format!("settled {}", report.settled));
        say(&format!("closed {report}"));
    }
}

/// Set when standard input ends.
fn over() -> Arc<AtomicBool> {
    let over = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&over);
    thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        told.store(true, Ordering::Relaxed);
    });
    over
}

/// One line, in one write: whoever reads it never sees a part of it.
fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(format!("{line}\n").as_bytes()).and_then(|()| stdout.flush()).expect("somebody listens");
}
