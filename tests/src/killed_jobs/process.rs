//! A job as a process, and what was heard of it.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use super::job::KilledJob;
use crate::{disk::limit_file_bytes, process::beside};

/// What a job said before it ended.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard {
    /// It was open.
    pub(super) open: bool,
    /// The last step that it submitted.
    pub(super) submitted_step: Option<u64>,
    /// How many of its frames were acknowledged.
    pub(super) settled: u64,
    /// What the server had against it.
    pub(super) refused: Option<String>,
    /// What it said of its frames at its end, when it came to that.
    pub(super) report: Option<String>,
}

/// A job that runs.
pub(super) struct JobProcess {
    child: Child,
    heard: Arc<Mutex<Heard>>,
    listening: JoinHandle<()>,
}

impl JobProcess {
    pub(super) fn start(job: &KilledJob) -> Self {
        // What is ignored stays ignored over exec: a file that may not grow is then an error of the write.
        let mut command = Command::new("sh");
        command.args(["-c", r#"trap '' XFSZ; exec "$0" "$@""#]).arg(program()).arg("job");
        command.args(["--server", &job.server, "--launch", &job.launch.to_string()]).arg("--spool").arg(&job.spool);
        command.args(["--from-step", &job.from_step.to_string(), "--seed", &job.seed.to_string()]);
        command.args(["--pace-us", &job.pace_us.to_string()]);
        command.args(["--close-timeout-ms", &job.close_timeout_ms.to_string()]);
        command.args(job.resumes.map(|attempt| format!("--resumes={attempt}")));
        command.args(job.offline.then_some("--offline"));
        command.env_remove("GRADWATCH_TOKEN").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let stdout = child.stdout.take().expect("stdout is piped");
        let heard = Arc::<Mutex<Heard>>::default();
        let listening = thread::spawn({
            let heard = Arc::clone(&heard);
            move || listen(stdout, &heard)
        });
        Self { child, heard, listening }
    }

    /// From here on none of its files may become larger than this, as on a full disk; `None` makes room again.
    pub(super) fn limit_file_bytes(&mut self, bytes: Option<u64>) {
        // It may have ended.
        if self.child.try_wait().expect("a child can be waited for").is_none() {
            limit_file_bytes(self.child.id(), bytes);
        }
    }

    /// SIGKILL. Answers all that it said.
    pub(super) fn kill(mut self) -> Heard {
        assert!(self.child.try_wait().expect("a child can be waited for").is_none(), "it ended: {:?}", self.heard());
        self.child.kill().expect("it is killed");
        self.wait()
    }

    /// Ends it as a job ends. Answers all that it said.
    pub(super) fn end(mut self) -> Heard {
        drop(self.child.stdin.take());
        let heard = self.wait();
        assert!(heard.report.is_some(), "it ended without a report: {heard:?}");
        heard
    }

    fn wait(mut self) -> Heard {
        self.child.wait().expect("it has ended");
        self.listening.join().expect("a thread that reads");
        lock(&self.heard).clone()
    }

    fn heard(&self) -> Heard {
        lock(&self.heard).clone()
    }
}

fn listen(stdout: ChildStdout, heard: &Mutex<Heard>) {
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        let mut heard = lock(heard);
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("open", _) => heard.open = true,
            ("submitted", step) => heard.submitted_step = Some(step.parse().expect("a step")),
            ("settled", frames) => heard.settled = frames.parse().expect("a number"),
            ("refused", reason) => heard.refused = Some(reason.to_owned()),
            ("closed", report) => heard.report = Some(report.to_owned()),
            _ => panic!("{line:?}"),
        }
    }
}

fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The program that holds the job: `torture`, which `cargo test` builds with this package's tests.
fn program() -> PathBuf {
    beside("torture")
}
