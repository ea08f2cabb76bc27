//! Re-analyses.

use std::collections::BTreeMap;

use super::{readings, rollups, runs};
use crate::{
    backend::{Access, Backend, Bulk, Columns, Session, Statement},
    codec::{self, bound_i64, to_i64},
    error::StoreError,
    model::{Analysis, AnalysisCommit, AnalysisEnd, AnalysisState, NewAnalysis, RunId},
};

/// Deletes at most `$3` rows of an analysis from each table that holds many.
const DELETIONS: [&str; 2] = [
    "DELETE FROM edge_readings
     WHERE run_id = $1 AND analysis = $2 AND (group_name, kind, \"window\", segment, step) IN
     (SELECT group_name, kind, \"window\", segment, step FROM edge_readings
      WHERE run_id = $1 AND analysis = $2 LIMIT $3)",
    "DELETE FROM rollups
     WHERE run_id = $1 AND analysis = $2 AND (metric, group_name, kind, \"window\", segment, bucket_steps, bucket) IN
     (SELECT metric, group_name, kind, \"window\", segment, bucket_steps, bucket FROM rollups
      WHERE run_id = $1 AND analysis = $2 LIMIT $3)",
];

/// Invariant: the run's row is locked, which every commit of the run claims before it deletes blocks: from here on a commit
/// sees that blocks are pinned, and what is counted here stays.
pub(super) async fn create_analysis<B: Backend>(backend: &B, new: &NewAnalysis) -> Result<Analysis, StoreError> {
    let mut tx = backend.session(Access::Write).await?;
    let run = runs::locked_run::<B>(&mut tx, new.run_id).await?.ok_or(StoreError::UnknownRun(new.run_id))?;
    if run.deleting {
        return Err(StoreError::RunDeleting(new.run_id));
    }
    let select = Statement::new("SELECT name FROM analyses WHERE run_id = $1").bind(new.run_id);
    let there = tx.fetch_all(select).await?;
    for row in &there {
        if codec::text(row, "name")? == new.name {
            let message = format!("the run has an analysis {:?} already; delete it or choose another name", new.name);
            return Err(StoreError::Conflict { field: "name", message });
        }
    }
    if there.len() >= new.max_analyses {
        let message = format!("the run has {} analyses, which is the limit; delete one", there.len());
        return Err(StoreError::Conflict { field: "name", message });
    }
    let segments = runs::read_segments(&mut tx, new.run_id).await?;
    let marks: BTreeMap<u32, u64> =
        segments.iter().filter_map(|segment| Some((segment.segment, segment.last_step?))).collect();
    let pinned_to_step = marks.values().copied().max().unwrap_or_default().min(new.spec.to_step);
    let mut count = Statement::new(
        "SELECT CAST(coalesce(sum(row_count), 0) AS BIGINT) AS rows_total FROM sketch_blocks
         WHERE run_id = $1 AND first_step <= $2",
    )
    .bind(new.run_id)
    .bind(bound_i64(pinned_to_step));
    if let Some(group) = &new.spec.group {
        count.push(" AND group_name = ").push_bind(group.as_str());
    }
    if let Some(kind) = new.spec.kind {
        count.push(" AND kind = ").push_bind(kind.as_str());
    }
    let rows_total: u64 = codec::unsigned(&tx.fetch_one(count).await?, "rows_total")?;
    if rows_total == 0 {
        let message = "no sketches of this are kept; see keep_sketches".to_owned();
        return Err(StoreError::Conflict { field: "run_id", message });
    }
    let insert = Statement::new(
        "INSERT INTO analyses (run_id, name, spec, marks, pinned_to_step, state, created_at_us, updated_at_us, rows_total)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8)",
    )
    .bind(new.run_id)
    .bind(new.name.as_str())
    .bind(codec::to_json("spec", &new.spec)?)
    .bind(codec::to_json("marks", &marks)?)
    .bind(bound_i64(pinned_to_step))
    .bind(AnalysisState::Running.as_str())
    .bind(new.now_us)
    .bind(bound_i64(rows_total));
    tx.execute(insert).await?;
    tx.commit().await?;
    Ok(Analysis {
        run_id: new.run_id,
        name: new.name.clone(),
        spec: new.spec.clone(),
        marks,
        state: AnalysisState::Running,
        created_at_us: new.now_us,
        updated_at_us: new.now_us,
        commits: 0,
        rows_total,
        rows_done: 0,
        readings: 0,
        transitions: 0,
        position: None,
        message: None,
    })
}

fn analysis(row: &impl Columns) -> Result<Analysis, StoreError> {
    Ok(Analysis {
        run_id: codec::run_id(row)?,
        name: codec::string(row, "name")?,
        spec: codec::json(row, "spec")?,
        marks: codec::json(row, "marks")?,
        state: codec::word(row, "state")?,
        created_at_us: codec::signed(row, "created_at_us")?,
        updated_at_us: codec::signed(row, "updated_at_us")?,
        commits: codec::unsigned(row, "commits")?,
        rows_total: codec::unsigned(row, "rows_total")?,
        rows_done: codec::unsigned(row, "rows_done")?,
        readings: codec::unsigned(row, "readings_count")?,
        transitions: codec::unsigned(row, "transitions")?,
        position: codec::json_or_null(row, "position")?,
        message: row.text("message")?.map(str::to_owned),
    })
}

pub(super) async fn analyses(backend: &impl Backend, run_id: RunId) -> Result<Vec<Analysis>, StoreError> {
    let select = Statement::new(
        "SELECT analyses.* FROM analyses JOIN runs USING (run_id)
         WHERE run_id = $1 AND NOT runs.deleting AND analyses.state <> 'deleting' ORDER BY analyses.name",
    );
    let rows = backend.session(Access::Single).await?.fetch_all(select.bind(run_id)).await?;
    rows.iter().map(analysis).collect()
}

pub(super) async fn find(backend: &impl Backend, run_id: RunId, name: &str) -> Result<Option<Analysis>, StoreError> {
    let select = Statement::new(
        "SELECT analyses.* FROM analyses JOIN runs USING (run_id)
         WHERE run_id = $1 AND analyses.name = $2 AND NOT runs.deleting AND analyses.state <> 'deleting'",
    );
    let row = backend.session(Access::Single).await?.fetch_optional(select.bind(run_id).bind(name)).await?;
    row.as_ref().map(analysis).transpose()
}

pub(super) async fn in_state(backend: &impl Backend, state: AnalysisState) -> Result<Vec<(RunId, String)>, StoreError> {
    let select = match state {
        AnalysisState::Deleting => {
            Statement::new("SELECT run_id, name FROM analyses WHERE state = 'deleting' ORDER BY run_id, name")
        }
        _ => Statement::new(
            "SELECT run_id, analyses.name FROM analyses JOIN runs USING (run_id)
             WHERE analyses.state = 'running' AND NOT runs.deleting ORDER BY run_id, analyses.name",
        ),
    };
    let rows = backend.session(Access::Single).await?.fetch_all(select).await?;
    rows.iter().map(|row| Ok((codec::run_id(row)?, codec::string(row, "name")?))).collect()
}

/// Invariant: it moves from commit to commit by compare-and-set, and everything that a commit brings is in the same
/// transaction. So nothing lands twice, and nothing of an analysis that was deleted or has ended. The run's own row, its
/// owner and its marks are not touched.
pub(super) async fn commit_analysis(backend: &impl Backend, commit: &AnalysisCommit) -> Result<bool, StoreError> {
    let mut tx = backend.session(Access::Write).await?;
    let (state, message) = match &commit.end {
        None => (AnalysisState::Running, None),
        Some(AnalysisEnd::Done) => (AnalysisState::Done, None),
        Some(AnalysisEnd::Failed(message)) => (AnalysisState::Failed, Some(message.as_str())),
    };
    let position = commit.position.as_ref().map(|position| codec::to_json("position", position)).transpose()?;
    let claim = Statement::new(
        "UPDATE analyses SET commits = commits + 1, state = $1, message = $2, position = coalesce($3, position),
             rows_done = rows_done + $4, readings_count = readings_count + $5, transitions = transitions + $6,
             updated_at_us = $7
         WHERE run_id = $8 AND name = $9 AND state = 'running' AND commits = $10",
    )
    .bind(state.as_str())
    .bind(message)
    .bind(position.as_deref())
    .bind(to_i64("analysis.rows", commit.rows)?)
    .bind(codec::size_i64(commit.readings.len()))
    .bind(to_i64("analysis.transitions", commit.transitions)?)
    .bind(commit.now_us)
    .bind(commit.run_id)
    .bind(commit.name.as_str())
    .bind(to_i64("analysis.after_commit", commit.after_commit)?);
    if tx.execute(claim).await? == 0 {
        return Ok(false);
    }
    let of_run = |row| (commit.run_id, row);
    let rows: Vec<_> = commit.readings.iter().map(of_run).collect();
    tx.bulk(Bulk::InsertReadings, &rows, readings::encode).await?;
    let rows: Vec<_> = commit.rollups.iter().map(|row| (commit.run_id, row)).collect();
    tx.bulk(Bulk::InsertRollups, &rows, rollups::encode).await?;
    tx.commit().await?;
    Ok(true)
}

pub(super) async fn mark_analysis_deleting(
    backend: &impl Backend,
    run_id: RunId,
    name: &str,
) -> Result<bool, StoreError> {
    let mut tx = backend.session(Access::Write).await?;
    let update = Statement::new(
        "UPDATE analyses SET state = 'deleting' WHERE run_id = $1 AND name = $2 AND state <> 'deleting'",
    );
    let marked = tx.execute(update.bind(run_id).bind(name)).await?;
    tx.commit().await?;
    Ok(marked > 0)
}

/// Invariant: the name stays taken until the last reading is gone, so that no new analysis gets an old one's.
pub(super) async fn purge_analysis(
    backend: &impl Backend,
    run_id: RunId,
    name: &str,
    max_rows: usize,
) -> Result<bool, StoreError> {
    let mut tx = backend.session(Access::Write).await?;
    let mut left = max_rows.max(1) as u64;
    for deletion in DELETIONS {
        let deletion = Statement::new(deletion).bind(run_id).bind(name).bind(bound_i64(left));
        left = left.saturating_sub(tx.execute(deletion).await?);
        if left == 0 {
            tx.commit().await?;
            return Ok(false);
        }
    }
    let delete = Statement::new("DELETE FROM analyses WHERE run_id = $1 AND name = $2 AND state = 'deleting'");
    tx.execute(delete.bind(run_id).bind(name)).await?;
    tx.commit().await?;
    Ok(true)
}
