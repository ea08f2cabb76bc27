//! Deletion, in pieces small enough not to keep recording waiting.

use crate::{
    backend::{Access, Backend, Columns, Session, Statement},
    codec,
    error::StoreError,
    model::RunId,
};

/// Deletes at most `$2` rows of a run from each table that holds many, children before parents. The run is named outside
/// too, so that only its partition is looked at.
const DELETIONS: [&str; 19] = [
    // First, so that an analysis that is running stores nothing more.
    "DELETE FROM analyses WHERE (run_id, name) IN (SELECT run_id, name FROM analyses WHERE run_id = $1 LIMIT $2)",
    "DELETE FROM alert_cursors WHERE (run_id, lane) IN
     (SELECT run_id, lane FROM alert_cursors WHERE run_id = $1 LIMIT $2)",
    // What is still to be told of them is told: it is complete.
    "DELETE FROM alerts WHERE sequence IN (SELECT sequence FROM alerts WHERE run_id = $1 LIMIT $2)",
    "DELETE FROM sketch_blocks WHERE (run_id, group_name, kind, segment, first_step) IN
     (SELECT run_id, group_name, kind, segment, first_step FROM sketch_blocks WHERE run_id = $1 LIMIT $2)",
    "DELETE FROM edge_readings WHERE run_id = $1 AND (analysis, group_name, kind, \"window\", segment, step) IN
     (SELECT analysis, group_name, kind, \"window\", segment, step FROM edge_readings WHERE run_id = $1 LIMIT $2)",
    "DELETE FROM cascade_readings WHERE (run_id, layer, segment, step) IN
     (SELECT run_id, layer, segment, step FROM cascade_readings WHERE run_id = $1 LIMIT $2)",
    "DELETE FROM curvature_readings WHERE (run_id, layer, segment, step) IN
     (SELECT run_id, layer, segment, step FROM curvature_readings WHERE run_id = $1 LIMIT $2)",
    "DELETE FROM dead_directions_readings WHERE (run_id, layer, segment, step) IN
     (SELECT run_id, layer, segment, step FROM dead_directions_readings WHERE run_id = $1 LIMIT $2)",
    "DELETE FROM learning_cell_readings WHERE (run_id, layer, segment, step) IN
     (SELECT run_id, layer, segment, step FROM learning_cell_readings WHERE run_id = $1 LIMIT $2)",
    "DELETE FROM pending_snapshots WHERE (run_id, segment, step, instrument, layer) IN
     (SELECT run_id, segment, step, instrument, layer FROM pending_snapshots WHERE run_id = $1 LIMIT $2)",
    "DELETE FROM predictions WHERE (run_id, segment, step, probe) IN
     (SELECT run_id, segment, step, probe FROM predictions WHERE run_id = $1 LIMIT $2)",
    "DELETE FROM rollups
     WHERE run_id = $1 AND (analysis, metric, group_name, kind, \"window\", segment, bucket_steps, bucket) IN
     (SELECT analysis, metric, group_name, kind, \"window\", segment, bucket_steps, bucket
      FROM rollups WHERE run_id = $1 LIMIT $2)",
    "DELETE FROM events WHERE event_id IN (SELECT event_id FROM events WHERE run_id = $1 LIMIT $2)",
    "DELETE FROM follower_snapshots WHERE (run_id, segment, group_name, kind, \"window\") IN
     (SELECT run_id, segment, group_name, kind, \"window\" FROM follower_snapshots WHERE run_id = $1 LIMIT $2)",
    "DELETE FROM steps WHERE run_id = $1 AND (segment, step) IN
     (SELECT segment, step FROM steps WHERE run_id = $1 LIMIT $2)",
    "DELETE FROM scalar_names WHERE (run_id, name) IN
     (SELECT run_id, name FROM scalar_names WHERE run_id = $1 LIMIT $2)",
    "DELETE FROM shard_marks WHERE (run_id, segment, shard) IN
     (SELECT run_id, segment, shard FROM shard_marks WHERE run_id = $1 LIMIT $2)",
    "DELETE FROM segments WHERE (run_id, segment) IN
     (SELECT run_id, segment FROM segments WHERE run_id = $1 LIMIT $2)",
    "DELETE FROM run_configs WHERE run_id IN (SELECT run_id FROM run_configs WHERE run_id = $1 LIMIT $2)",
];

pub(super) async fn deleting_runs(backend: &impl Backend) -> Result<Vec<RunId>, StoreError> {
    let select = Statement::new("SELECT run_id FROM runs WHERE deleting ORDER BY run_id");
    backend.session(Access::Single).await?.fetch_all(select).await?.iter().map(codec::run_id).collect()
}

/// Invariant: a run marked for deletion stays marked until its last row is gone, so that a restart goes on with it.
pub(super) async fn purge<B: Backend>(backend: &B, run_id: RunId, max_rows: usize) -> Result<bool, StoreError> {
    let mut tx = backend.session(Access::Write).await?;
    let mut select = Statement::new("SELECT deleting FROM runs WHERE run_id = $1").bind(run_id);
    select.push(B::DIALECT.for_update);
    let Some(row) = tx.fetch_optional(select).await? else { return Ok(true) };
    if !codec::present("deleting", row.flag("deleting")?)? {
        let message = format!("run {run_id} is not marked for deletion");
        return Err(StoreError::Conflict { field: "run_id", message });
    }
    let mut left = max_rows.max(1) as u64;
    for deletion in DELETIONS {
        let deletion = Statement::new(deletion).bind(run_id).bind(codec::bound_i64(left));
        left = left.saturating_sub(tx.execute(deletion).await?);
        if left == 0 {
            tx.commit().await?;
            return Ok(false);
        }
    }
    tx.execute(Statement::new("DELETE FROM runs WHERE run_id = $1").bind(run_id)).await?;
    tx.commit().await?;
    Ok(true)
}

pub(super) async fn expired_runs(backend: &impl Backend, before_us: i64) -> Result<Vec<RunId>, StoreError> {
    let select = Statement::new(
        "SELECT run_id FROM runs
         WHERE state IN ('finished', 'failed', 'preempted', 'crashed') AND last_seen_us < $1 AND NOT deleting
           AND NOT EXISTS (SELECT 1 FROM analyses WHERE analyses.run_id = runs.run_id AND analyses.state = 'running')
         ORDER BY last_seen_us, run_id",
    );
    let rows = backend.session(Access::Single).await?.fetch_all(select.bind(before_us)).await?;
    rows.iter().map(codec::run_id).collect()
}
