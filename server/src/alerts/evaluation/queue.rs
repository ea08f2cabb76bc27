//! Runs that wait to be evaluated: each once, however often it is woken, and not too often.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use gradwatch_store::RunId;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// What was heard of a run since it was evaluated last.
#[derive(Clone, Debug, Default)]
pub(super) struct News {
    /// What is known of it has to be read from the store again.
    pub(super) reload: bool,
    /// Whether it is over, where a commit said so.
    pub(super) is_over: Option<bool>,
    /// The last step of its newest segment.
    pub(super) last_step: Option<u64>,
    /// The last event.
    pub(super) event_id: Option<u64>,
    /// The live line when they were committed.
    pub(super) live_to_step: Option<Arc<BTreeMap<u32, u64>>>,
}

impl News {
    fn add(&mut self, later: Self) {
        self.reload |= later.reload;
        self.is_over = later.is_over.or(self.is_over);
        self.last_step = later.last_step.or(self.last_step);
        self.event_id = later.event_id.max(self.event_id);
        self.live_to_step = later.live_to_step.or(self.live_to_step.take());
    }
}

#[derive(Debug)]
struct Entry {
    /// Not to be evaluated before.
    not_before: Instant,
    waiting: Option<(Instant, News)>,
}

#[derive(Debug, Default)]
struct Inner {
    runs: HashMap<RunId, Entry>,
    /// Those that wait, by when they may be taken.
    order: BTreeSet<(Instant, RunId)>,
}

/// Invariant: bounded by the runs that are not over: one entry each.
#[derive(Debug)]
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    woken: Notify,
    interval: Duration,
}

impl Queue {
    pub(crate) fn new(interval: Duration) -> Self {
        Self { inner: Mutex::default(), woken: Notify::new(), interval }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing that can panic is done under this lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something is new on a run.
    pub(super) fn wake(&self, run_id: RunId, news: News) {
        let now = Instant::now();
        let mut inner = self.lock();
        let Inner { runs, order } = &mut *inner;
        let entry = runs.entry(run_id).or_insert(Entry { not_before: now, waiting: None });
        match &mut entry.waiting {
            Some((_, waiting)) => waiting.add(news),
            None => {
                entry.waiting = Some((now, news));
                order.insert((entry.not_before, run_id));
                drop(inner);
                self.woken.notify_one();
            }
        }
    }

    /// A run has to be read from the store again.
    pub(crate) fn reload(&self, run_id: RunId) {
        self.wake(run_id, News { reload: true, ..News::default() });
    }

    /// A run has to be read from the store again, not before some time has passed.
    pub(super) fn reload_later(&self, run_id: RunId, delay: Duration) {
        self.reload(run_id);
        let mut inner = self.lock();
        let Inner { runs, order } = &mut *inner;
        if let Some(entry) = runs.get_mut(&run_id) {
            order.remove(&(entry.not_before, run_id));
            entry.not_before = Instant::now() + delay;
            order.insert((entry.not_before, run_id));
        }
    }

    /// Takes up to `count` runs that may be evaluated, those that may be longest first.
    pub(super) fn take(&self, count: usize) -> Vec<(RunId, News)> {
        let now = Instant::now();
        let mut inner = self.lock();
        let Inner { runs, order } = &mut *inner;
        let mut taken = Vec::new();
        while taken.len() < count {
            let Some(&(at, run_id)) = order.first().filter(|(at, _)| *at <= now) else { break };
            order.remove(&(at, run_id));
            let Some(entry) = runs.get_mut(&run_id) else { continue };
            entry.not_before = now + self.interval;
            taken.extend(entry.waiting.take().map(|(_, news)| (run_id, news)));
        }
        taken
    }

    /// Waits until some run may be taken.
    pub(super) async fn ready(&self) {
        loop {
            let next = self.lock().order.first().map(|(at, _)| *at);
            match next {
                Some(at) if at <= Instant::now() => return,
                // Another one may be woken meanwhile that may be taken earlier.
                Some(at) => tokio::select! {
                    () = sleep_until(at) => {}
                    () = self.woken.notified() => {}
                },
                None => self.woken.notified().await,
            }
        }
    }

    /// A run is over: nothing is known of it until it is woken again.
    pub(super) fn forget(&self, run_id: RunId) {
        let mut inner = self.lock();
        if inner.runs.get(&run_id).is_some_and(|entry| entry.waiting.is_none()) {
            inner.runs.remove(&run_id);
        }
    }

    /// How long the run that waits longest has waited.
    pub(super) fn lag(&self) -> Duration {
        let inner = self.lock();
        let waiting = inner.runs.values().filter_map(|entry| entry.waiting.as_ref());
        waiting.map(|(since, _)| since.elapsed()).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> RunId {
        RunId(uuid::Uuid::new_v4())
    }

    #[tokio::test]
    async fn a_run_waits_once_and_not_too_often() {
        let queue = Queue::new(Duration::from_secs(3_600));
        let run_id = run();
        queue.wake(run_id, News { last_step: Some(3), ..News::default() });
        queue.wake(run_id, News { event_id: Some(7), ..News::default() });
        queue.ready().await;
        let taken = queue.take(10);
        assert_eq!(taken.len(), 1);
        assert_eq!((taken[0].1.last_step, taken[0].1.event_id), (Some(3), Some(7)));

        queue.wake(run_id, News { last_step: Some(4), ..News::default() });
        assert!(queue.take(10).is_empty(), "it was evaluated just now");
    }

    #[tokio::test]
    async fn one_that_is_put_off_waits_and_keeps_its_news() {
        let queue = Queue::new(Duration::from_millis(1));
        let (late, early) = (run(), run());
        queue.reload_later(late, Duration::from_millis(50));
        queue.wake(late, News { event_id: Some(1), ..News::default() });
        queue.wake(early, News::default());
        let mut taken = Vec::new();
        while taken.len() < 2 {
            queue.ready().await;
            taken.extend(queue.take(10));
        }
        assert_eq!([taken[0].0, taken[1].0], [early, late]);
        assert!(taken[1].1.reload && taken[1].1.event_id == Some(1));
    }
}
