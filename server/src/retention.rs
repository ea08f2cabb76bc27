//! Deletes runs: those that someone asked to delete, and those older than the retention allows. And re-analyses, and old
//! alerts.

use std::{sync::Arc, time::Duration};

use gradwatch_store::{RunId, Store, StoreError};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{clock, config::Retention, pipeline::Pipeline};

/// Rows deleted in one transaction: few enough that commits of running jobs do not wait long behind it.
const ROWS_AT_ONCE: usize = 5_000;
/// How often to look for runs that someone asked to delete.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const DAY_US: i64 = 86_400_000_000;

/// Works until the server drains. What it has not finished goes on after the next start.
pub(crate) async fn run(
    store: Arc<dyn Store>,
    pipeline: Arc<Pipeline>,
    config: Retention,
    keep_alerts_days: u32,
    draining: CancellationToken,
) {
    let expire_every = Duration::from_secs(config.check_every_s);
    let mut since_expiry = expire_every;
    loop {
        if since_expiry >= expire_every {
            since_expiry = Duration::ZERO;
            if config.days > 0
                && let Err(error) = expire(store.as_ref(), &pipeline, config.days).await
            {
                tracing::warn!(%error, "retention could not look for old runs");
            }
            if let Err(error) = purge_alerts(store.as_ref(), keep_alerts_days, &draining).await {
                tracing::warn!(%error, "deletion of old alerts is interrupted");
            }
        }
        if let Err(error) = purge(store.as_ref(), &draining).await {
            tracing::warn!(%error, "deletion is interrupted");
        }
        since_expiry += LOOK_EVERY;
        tokio::select! {
            () = draining.cancelled() => return,
            () = sleep(LOOK_EVERY) => {}
        }
    }
}

async fn expire(store: &dyn Store, pipeline: &Pipeline, days: u32) -> Result<(), StoreError> {
    let before_us = clock::now_us() - i64::from(days) * DAY_US;
    for run_id in store.expired_runs(before_us).await? {
        tracing::info!(%run_id, days, "run is older than the retention; deleting it");
        delete(store, pipeline, run_id).await?;
    }
    Ok(())
}

/// Hides a run at once; its rows go in the background.
pub(crate) async fn delete(store: &dyn Store, pipeline: &Pipeline, run_id: RunId) -> Result<(), StoreError> {
    store.mark_deleting(run_id).await?;
    pipeline.forget(run_id).await;
    Ok(())
}

async fn purge_alerts(store: &dyn Store, days: u32, draining: &CancellationToken) -> Result<(), StoreError> {
    let before_us = clock::now_us() - i64::from(days) * DAY_US;
    while !draining.is_cancelled() && !store.purge_alerts(before_us, ROWS_AT_ONCE).await? {}
    Ok(())
}

async fn purge(store: &dyn Store, draining: &CancellationToken) -> Result<(), StoreError> {
    for (run_id, name) in store.deleting_analyses().await? {
        while !draining.is_cancelled() {
            if store.purge_analysis(run_id, &name, ROWS_AT_ONCE).await? {
                tracing::info!(%run_id, name, "re-analysis deleted");
                break;
            }
        }
    }
    for run_id in store.deleting_runs().await? {
        while !draining.is_cancelled() {
            if store.purge(run_id, ROWS_AT_ONCE).await? {
                tracing::info!(%run_id, "run deleted");
                break;
            }
        }
    }
    Ok(())
}
