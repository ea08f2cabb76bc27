//! The threads that do numerical work, so that none of it runs on the async runtime.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::oneshot;

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
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("numeric-{index}"))
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
