//! Hears of commits.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::queue::{News, Queue};
use crate::recorder::{Hub, PublishedRun, Resume};

/// Follows the hub: wakes each run that a commit says something new of. Where commits were missed, `missed` changes: what is
/// new has to be found in the store.
pub(super) async fn listen(
    hub: Arc<Hub>,
    queue: Arc<Queue>,
    missed: Arc<watch::Sender<u64>>,
    draining: CancellationToken,
) {
    let mut commits = hub.subscribe();
    let mut seq = *commits.borrow_and_update();
    let mut parts = 0;
    loop {
        match hub.after(seq, parts) {
            Resume::Part { part, is_last } => {
                for run in &part.runs {
                    queue.wake(run.run_id, news(run));
                }
                (seq, parts) = if is_last { (part.commit_seq, 0) } else { (seq, parts + 1) };
            }
            Resume::Reset { last_seq } => {
                (seq, parts) = (last_seq, 0);
                missed.send_modify(|count| *count += 1);
            }
            Resume::UpToDate => {
                let changed = draining.run_until_cancelled(commits.changed()).await;
                // Drained, or the hub is gone.
                if !matches!(changed, Some(Ok(()))) {
                    return;
                }
            }
        }
    }
}

fn news(run: &PublishedRun) -> News {
    let state = run.patch.state;
    News {
        // What ends or goes on again is read from the store: it says also up to where.
        reload: state.is_some(),
        is_over: state.map(gradwatch_store::RunState::is_over),
        last_step: run.patch.last_step,
        event_id: run.events.iter().map(|(event_id, _)| *event_id).max(),
        live_to_step: Some(Arc::clone(&run.live_to_step)),
    }
}
