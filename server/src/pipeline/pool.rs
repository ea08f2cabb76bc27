//! The threads that do numerical work, so that none of it runs on the async runtime. Those that read snapshots stand back
//! behind the others.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::oneshot;

/// How much nicer background threads are than the process: the processor is theirs when nobody else wants it.
#[cfg(target_os = "linux")]
const NICER: i32 = 10;
/// The nicest there is.
#[cfg(target_os = "linux")]
const NICEST: i32 = 19;

/// A fixed number of threads. Each run has at most one job here at a time, so the queue is bounded by the runs.
#[derive(Debug)]
pub(crate) struct NumericPool {
    threads: rayon::ThreadPool,
}

/// A job panicked; what it worked on is lost.
#[derive(Debug)]
pub(crate) struct Panicked(pub(crate) String);

impl NumericPool {
    pub(crate) fn new(threads: usize) -> Result<Self, rayon::ThreadPoolBuildError> {
        Self::build("numeric", threads, |_| {})
    }

    /// A pool whose threads run at a lower priority than all others of the process.
    pub(crate) fn background(threads: usize) -> Result<Self, rayon::ThreadPoolBuildError> {
        Self::build("snapshot", threads, stand_back)
    }

    fn build(
        name: &'static str,
        threads: usize,
        start: impl Fn(usize) + Send + Sync + 'static,
    ) -> Result<Self, rayon::ThreadPoolBuildError> {
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(move |index| format!("{name}-{index}"))
            .start_handler(start)
            .build()?;
        Ok(Self { threads })
    }

    /// Runs `job` on the pool. A panic stays inside: it must not take down the thread that other runs need.
    pub(crate) async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, Panicked> {
        let (sender, receiver) = oneshot::channel();
        self.threads.spawn(move || {
            // The job owns all it touches and is dropped on a panic, so nothing half-changed is ever seen again.
            let result = catch_unwind(AssertUnwindSafe(job)).map_err(|payload| {
                let text = payload.downcast_ref::<&str>().map(ToString::to_string);
                Panicked(text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default())
            });
            // Nobody waits any more when the run was given up meanwhile.
            let _ = sender.send(result);
        });
        receiver.await.unwrap_or_else(|_| Err(Panicked("the pool is shutting down".into())))
    }
}

/// Lowers the priority of the calling thread. Linux gives each thread one of its own; elsewhere it is the process's.
#[cfg(target_os = "linux")]
fn stand_back(index: usize) {
    use rustix::process::{getpriority_process, setpriority_process};

    let nicer = |nice: i32| setpriority_process(None, (nice + NICER).min(NICEST));
    if let Err(error) = getpriority_process(None).and_then(nicer)
        && index == 0
    {
        tracing::warn!(%error, "snapshots are read at the priority of everything else");
    }
}

#[cfg(not(target_os = "linux"))]
fn stand_back(_index: usize) {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[tokio::test]
    async fn background_threads_stand_back_and_no_others() {
        let nice = || getpriority_process(None).expect("a priority");
        let own = nice();
        let pool = NumericPool::background(1).expect("a pool");
        assert_eq!(pool.run(nice).await.expect("no panic"), (own + NICER).min(NICEST));
        assert_eq!(NumericPool::new(1).expect("a pool").run(nice).await.expect("no panic"), own);
        assert_eq!(nice(), own);
    }
}
