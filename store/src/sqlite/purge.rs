//! Deletion, in pieces small enough not to keep recording waiting.

use super::{SqliteStore, codec};
use crate::{error::StoreError, model::RunId};

/// Deletes at most `?2` rows of a run from each table that holds many, children before parents.
const DELETIONS: [&str; 9] = [
    "DELETE FROM edge_readings WHERE (run_id, analysis, group_name, kind, window, segment, step) IN
     (SELECT run_id, analysis, group_name, kind, window, segment, step FROM edge_readings WHERE run_id = ?1 LIMIT ?2)",
    "DELETE FROM rollups
     WHERE (run_id, analysis, metric, group_name, kind, window, segment, bucket_steps, bucket) IN
     (SELECT run_id, analysis, metric, group_name, kind, window, segment, bucket_steps, bucket
      FROM rollups WHERE run_id = ?1 LIMIT ?2)",
    "DELETE FROM events WHERE event_id IN (SELECT event_id FROM events WHERE run_id = ?1 LIMIT ?2)",
    "DELETE FROM follower_snapshots WHERE (run_id, segment, group_name, kind, window) IN
     (SELECT run_id, segment, group_name, kind, window FROM follower_snapshots WHERE run_id = ?1 LIMIT ?2)",
    "DELETE FROM steps WHERE (run_id, segment, step) IN
     (SELECT run_id, segment, step FROM steps WHERE run_id = ?1 LIMIT ?2)",
    "DELETE FROM scalar_names WHERE (run_id, name) IN
     (SELECT run_id, name FROM scalar_names WHERE run_id = ?1 LIMIT ?2)",
    "DELETE FROM shard_marks WHERE (run_id, segment, shard) IN
     (SELECT run_id, segment, shard FROM shard_marks WHERE run_id = ?1 LIMIT ?2)",
    "DELETE FROM segments WHERE (run_id, segment) IN
     (SELECT run_id, segment FROM segments WHERE run_id = ?1 LIMIT ?2)",
    "DELETE FROM run_configs WHERE run_id IN (SELECT run_id FROM run_configs WHERE run_id = ?1 LIMIT ?2)",
];

pub(super) async fn deleting_runs(store: &SqliteStore) -> Result<Vec<RunId>, StoreError> {
    let rows =
        sqlx::query("SELECT run_id FROM runs WHERE deleting = 1 ORDER BY run_id").fetch_all(&store.readers).await?;
    rows.iter().map(codec::run_id).collect()
}

/// Invariant: a run marked for deletion stays marked until its last row is gone, so that a restart goes on with it.
pub(super) async fn purge(store: &SqliteStore, run_id: RunId, max_rows: usize) -> Result<bool, StoreError> {
    let id = run_id.0.as_bytes().as_slice();
    let mut tx = store.begin().await?;
    let deleting: Option<bool> =
        sqlx::query_scalar("SELECT deleting FROM runs WHERE run_id = ?").bind(id).fetch_optional(&mut *tx).await?;
    match deleting {
        None => return Ok(true),
        Some(false) => {
            let message = format!("run {run_id} is not marked for deletion");
            return Err(StoreError::Conflict { field: "run_id", message });
        }
        Some(true) => {}
    }
    let mut left = max_rows.max(1) as u64;
    for deletion in DELETIONS {
        let deleted =
            sqlx::query(deletion).bind(id).bind(codec::bound_i64(left)).execute(&mut *tx).await?.rows_affected();
        left = left.saturating_sub(deleted);
        if left == 0 {
            tx.commit().await?;
            return Ok(false);
        }
    }
    sqlx::query("DELETE FROM runs WHERE run_id = ?").bind(id).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(true)
}

pub(super) async fn expired_runs(store: &SqliteStore, before_us: i64) -> Result<Vec<RunId>, StoreError> {
    let rows = sqlx::query(
        "SELECT run_id FROM runs
         WHERE state IN ('finished', 'failed', 'preempted', 'crashed') AND last_seen_us < ? AND deleting = 0
         ORDER BY last_seen_us, run_id",
    )
    .bind(before_us)
    .fetch_all(&store.readers)
    .await?;
    rows.iter().map(codec::run_id).collect()
}
