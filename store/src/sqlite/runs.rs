//! Runs and their segments.

use sqlx::{Executor, QueryBuilder, Sqlite, SqliteConnection};

use super::{SqliteStore, codec, rows};
use crate::{
    error::StoreError,
    model::{Run, RunId, Segment},
    query::{Page, RunQuery, RunSort},
};

pub(super) async fn run(store: &SqliteStore, run_id: RunId) -> Result<Run, StoreError> {
    let mut connection = store.readers.acquire().await?;
    match read_run(&mut connection, run_id).await? {
        Some(run) if !run.deleting => Ok(run),
        _ => Err(StoreError::UnknownRun(run_id)),
    }
}

/// A run, also one that is being deleted.
pub(super) async fn read_run(connection: &mut SqliteConnection, run_id: RunId) -> Result<Option<Run>, StoreError> {
    sqlx::query("SELECT * FROM runs JOIN run_configs USING (run_id) WHERE run_id = ?")
        .bind(run_id.0.as_bytes().as_slice())
        .fetch_optional(connection)
        .await?
        .as_ref()
        .map(rows::run)
        .transpose()
}

pub(super) async fn segments(store: &SqliteStore, run_id: RunId) -> Result<Vec<Segment>, StoreError> {
    let mut snapshot = store.readers.begin().await?;
    match read_run(&mut snapshot, run_id).await? {
        Some(run) if !run.deleting => read_segments(&mut snapshot, run_id).await,
        _ => Err(StoreError::UnknownRun(run_id)),
    }
}

/// All segments of a run, by number.
pub(super) async fn read_segments(
    connection: &mut SqliteConnection,
    run_id: RunId,
) -> Result<Vec<Segment>, StoreError> {
    sqlx::query(
        "SELECT *, (SELECT max(step) FROM steps
                    WHERE steps.run_id = segments.run_id AND steps.segment = segments.segment) AS last_step
         FROM segments WHERE run_id = ? ORDER BY segment",
    )
    .bind(run_id.0.as_bytes().as_slice())
    .fetch_all(connection)
    .await?
    .iter()
    .map(rows::segment)
    .collect()
}

pub(super) async fn runs(store: &SqliteStore, query: &RunQuery) -> Result<Page<Run>, StoreError> {
    let (time_column, direction, behind) = match query.sort {
        RunSort::LastSeenDescending => ("last_seen_us", "DESC", "<"),
        RunSort::LastSeenAscending => ("last_seen_us", "ASC", ">"),
        RunSort::CreatedDescending => ("created_at_us", "DESC", "<"),
        RunSort::CreatedAscending => ("created_at_us", "ASC", ">"),
    };
    let mut sql = QueryBuilder::<Sqlite>::new("SELECT * FROM runs JOIN run_configs USING (run_id) WHERE deleting = 0");
    if let Some(project) = &query.project {
        sql.push(" AND project = ").push_bind(project);
    }
    if let Some(state) = query.state {
        sql.push(" AND state = ").push_bind(state.as_str());
    }
    if let Some(regime) = query.regime {
        sql.push(" AND regime = ").push_bind(regime.as_str());
    }
    if let Some(name) = &query.name {
        sql.push(" AND name = ").push_bind(name);
    }
    for (key, value) in &query.labels {
        sql.push(" AND EXISTS (SELECT 1 FROM json_each(runs.labels) AS label WHERE label.key = ")
            .push_bind(key)
            .push(" AND label.value = ")
            .push_bind(value)
            .push(")");
    }
    if let Some((time_us, run_id)) = query.after {
        sql.push(" AND (").push(time_column).push(", run_id) ").push(behind).push(" (").push_bind(time_us);
        sql.push(", ").push_bind(run_id.0.as_bytes().as_slice()).push(")");
    }
    sql.push(" ORDER BY ").push(time_column).push(" ").push(direction).push(", run_id ").push(direction);
    sql.push(" LIMIT ").push_bind(codec::size_i64(query.limit.saturating_add(1)));
    let found = store.readers.fetch_all(sql.build()).await?;
    let items = found.iter().take(query.limit).map(rows::run).collect::<Result<_, _>>()?;
    Ok(Page { items, more: found.len() > query.limit })
}
