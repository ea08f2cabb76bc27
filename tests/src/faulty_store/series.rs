//! Holds calls that read what steps brought.

use std::sync::{Arc, Mutex};

use tokio::{
    sync::{Semaphore, watch},
    time::timeout,
};

use super::FaultyStore;
use crate::{PATIENCE, faults::lock};

/// What calls of `series` and `values` pass before they read.
#[derive(Default)]
pub(super) struct SeriesGate {
    /// Has a permit for each call that may begin; none: all may.
    let_through: Mutex<Option<Arc<Semaphore>>>,
    /// Calls that wait for a permit.
    waiting: watch::Sender<usize>,
}

/// Counts a call that waits, until it goes on or is given up.
struct Waiting<'a>(&'a watch::Sender<usize>);

impl<'a> Waiting<'a> {
    fn new(waiting: &'a watch::Sender<usize>) -> Self {
        waiting.send_modify(|calls| *calls += 1);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|calls| *calls -= 1);
    }
}

impl SeriesGate {
    /// Returns when the call may begin.
    pub(super) async fn pass(&self) {
        let held = lock(&self.let_through).clone();
        if let Some(held) = held {
            let _waiting = Waiting::new(&self.waiting);
            held.acquire().await.expect("nobody closes it").forget();
        }
    }
}

impl FaultyStore {
    /// Holds all calls of `series` and `values` from now on.
    pub fn hold_series(&self) {
        *lock(&self.series.let_through) = Some(Arc::new(Semaphore::new(0)));
    }

    /// Lets so many held calls through.
    pub fn let_series_through(&self, calls: usize) {
        if let Some(held) = &*lock(&self.series.let_through) {
            held.add_permits(calls);
        }
    }

    /// Waits until so many calls are held at once.
    pub async fn series_waiting(&self, calls: usize) {
        let mut waiting = self.series.waiting.subscribe();
        timeout(PATIENCE, waiting.wait_for(|waiting| *waiting == calls))
            .await
            .unwrap_or_else(|_| panic!("{calls} calls were never held at once"))
            .expect("the sender is this store's own");
    }
}
