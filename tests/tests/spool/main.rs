//! Frames on disk until a server has them: whatever happens to the server, the job and the disk.

mod away;
mod delivery;
mod disk;
mod interval;
mod offline;
mod shards;

use std::path::Path;

use gradwatch_client::spool::{DeliverError, Delivered, Destination, SpooledAttempt, scan};
use gradwatch_client::{CloseReport, Run, Spool};
use gradwatch_tests::{
    Job, JobOptions, Offline, PATIENCE, Rest, TENSOR, assert_readings, exact_sketches, random_walk, rows,
};
use serde_json::Value;
use uuid::Uuid;

/// A few hundred frames; tests need several times that.
const BUFFER_BYTES: usize = 512 << 10;
const STEPS: u64 = 1_500;

/// A made training job, which knows what a server must say about it.
struct Training {
    options: JobOptions,
    parameters: Vec<Vec<f32>>,
    next_step: u64,
}

impl Training {
    fn new() -> Self {
        let options = JobOptions { len: 500, ..JobOptions::default() };
        let parameters = random_walk(3, STEPS as usize, options.len);
        Self { options, parameters, next_step: 0 }
    }

    /// A job with a spool.
    fn open(&self, url: &str, dir: &Path) -> Job {
        Job::open_with(url, &self.options, |builder| builder.buffer_bytes(BUFFER_BYTES).spool(Spool::new(dir)))
    }

    /// The same without a server.
    fn open_offline(&self, url: &str, dir: &Path) -> Job {
        Job::open_with(url, &self.options, |builder| {
            builder.buffer_bytes(BUFFER_BYTES).spool(Spool::new(dir)).offline()
        })
    }

    /// Trains, no faster than the hand-over takes frames.
    fn train(&mut self, job: &mut Job, steps: u64) {
        for _ in 0..steps {
            self.submit(&mut job.run, |run| {
                run.wait_for_room(PATIENCE).expect("the spool takes it");
            });
        }
    }

    fn submit(&mut self, run: &mut Run, before: impl FnOnce(&Run)) {
        before(run);
        let step = self.next_step;
        let parameters = &self.parameters[step as usize];
        let frame = gradwatch_client::Frame::new()
            .learning_rate(gradwatch_tests::LEARNING_RATE)
            .scalar("loss", gradwatch_tests::loss(step))
            .parameters("all", [(TENSOR, parameters)]);
        run.submit(step, frame).expect("a valid frame");
        self.next_step += 1;
    }

    /// The server has every step that was trained, and its readings are those of the exact updates.
    async fn assert_whole(&self, rest: &Rest, run_id: Uuid) {
        let run = format!("/api/v1/runs/{run_id}");
        let counters = rest.get(&run).await["counters"].clone();
        assert_eq!((&counters["steps"], &counters["dropped"]), (&self.next_step.into(), &0.into()), "{counters}");
        let sketches = exact_sketches(&self.parameters, TENSOR, self.options.dim, self.options.seed);
        let mut rows = rows(sketches, 1);
        rows.retain(|row| row.step < self.next_step);
        let expected = Offline::compute(&rows, &self.options.windows, self.options.len);
        assert_readings(&rest.all(&format!("{run}/readings/edge?limit=1000")).await, &expected.readings[0]);
        let events = rest.all(&format!("{run}/events?types=run.lossy,window.restarted&limit=10")).await;
        assert_eq!(events, Vec::<Value>::new());
    }
}

/// Delivers to a server without blocking the test's runtime.
async fn deliver(attempt: &SpooledAttempt, url: &str) -> Result<Delivered, DeliverError> {
    let (attempt, destination) = (attempt.clone(), Destination::new(url));
    let delivering = tokio::task::spawn_blocking(move || attempt.deliver(&destination, |_| {}));
    delivering.await.expect("a delivery does not panic")
}

/// The one attempt that waits.
fn the_one(dir: &Path) -> SpooledAttempt {
    let mut found = scan(dir).expect("the folder is read");
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

/// Nothing at all is left in the folder.
fn assert_empty(dir: &Path) {
    let left: Vec<_> = std::fs::read_dir(dir).expect("the folder is there").collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Waits for the uploader of a run that nobody waits for.
async fn let_go(dir: &Path) {
    let letting_go = async {
        while scan(dir).expect("the folder is read").iter().any(|attempt| attempt.live) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, letting_go).await.expect("the uploader ends");
}

async fn close(job: Job) -> CloseReport {
    job.close_lossy().await
}

/// Waits until so many frames are on disk.
async fn spooled(job: &Job, frames: u64) {
    let writing = async {
        while job.run.status().spooled < frames {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, writing).await.expect("frames are written");
}

/// Copies a spool's attempt, as for another machine.
fn copy(attempt: &SpooledAttempt, dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a folder");
    let name = attempt.path.strip_prefix(dir).expect("it is in the spool");
    std::fs::create_dir_all(copy.path().join(name)).expect("a folder");
    for file in std::fs::read_dir(&attempt.path).expect("a folder") {
        let file = file.expect("a file");
        std::fs::copy(file.path(), copy.path().join(name).join(file.file_name())).expect("a copy");
    }
    copy
}
