//! Frames settled per second by each store: 64 runs, one frame being one step and one wide reading.
//!
//! `cargo bench -p gradwatch-store --bench commit [-- SECONDS]`; directory and cluster are made in `TMPDIR`. The stores
//! take turns, so that what else the machine does hits both. Prints the durability settings beside the figures, because
//! they mean nothing without.

mod run;

use std::time::{Duration, Instant};

use gradwatch_test_postgres::TestDatabase;
use run::{open, run_commit, run_id};

const RUNS: u64 = 64;

fn main() {
    let seconds = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(4);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for frames_per_run in [1, 4, 8, 32] {
        let database = TestDatabase::new();
        for database_url in [None, Some(database.url())] {
            runtime.block_on(measure(database_url, frames_per_run, Duration::from_secs(seconds)));
        }
    }
}

async fn measure(database_url: Option<&str>, frames_per_run: u64, duration: Duration) {
    let dir = tempfile::tempdir().unwrap();
    let store = gradwatch_store::open(database_url, dir.path()).await.unwrap();
    let mut owned = Vec::new();
    for number in 0..RUNS {
        store.open_attempt(&open(number)).await.unwrap();
        owned.push(store.take_ownership(run_id(number)).await.unwrap().owner_epoch);
    }
    let (start, mut step, mut commits, mut longest) = (Instant::now(), 0, 0_u32, Duration::ZERO);
    while start.elapsed() < duration {
        let batch: Vec<_> =
            (0..RUNS).map(|number| run_commit(number, owned[number as usize], step, frames_per_run)).collect();
        let begun = Instant::now();
        store.commit(&batch).await.unwrap();
        longest = longest.max(begun.elapsed());
        step += frames_per_run;
        commits += 1;
    }
    let elapsed = start.elapsed();
    let durability = store.durability().await.unwrap();
    store.close().await;
    println!(
        "{:>8}, {:>5} frames a commit: {:>6.0} frames/s, {:>5.1} ms a commit (longest {:.1} ms); {:?}",
        durability.backend,
        frames_per_run * RUNS,
        (step * RUNS) as f64 / elapsed.as_secs_f64(),
        elapsed.as_secs_f64() * 1e3 / f64::from(commits),
        longest.as_secs_f64() * 1e3,
        durability.settings,
    );
}
