//! Runs and their segments.

use super::rows;
use crate::{
    backend::{Access, Backend, Session, Statement},
    codec,
    error::StoreError,
    model::{Run, RunId, Segment},
    query::{Page, RunQuery, RunSort},
};

const SELECT_RUN: &str = "SELECT * FROM runs JOIN run_configs USING (run_id) WHERE run_id = $1";

pub(super) async fn run(backend: &impl Backend, run_id: RunId) -> Result<Run, StoreError> {
    visible(&mut backend.session(Access::Single).await?, run_id).await
}

/// A run that is not being deleted.
async fn visible(session: &mut impl Session, run_id: RunId) -> Result<Run, StoreError> {
    let row = session.fetch_optional(Statement::new(SELECT_RUN).bind(run_id)).await?;
    match row.as_ref().map(rows::run).transpose()? {
        Some(run) if !run.deleting => Ok(run),
        _ => Err(StoreError::UnknownRun(run_id)),
    }
}

/// A run, also one that is being deleted; nobody else changes it until the transaction ends.
pub(super) async fn locked_run<B: Backend>(tx: &mut B::Session, run_id: RunId) -> Result<Option<Run>, StoreError> {
    let mut select = Statement::new(SELECT_RUN).bind(run_id);
    select.push(B::DIALECT.for_update);
    tx.fetch_optional(select).await?.as_ref().map(rows::run).transpose()
}

pub(super) async fn segments(backend: &impl Backend, run_id: RunId) -> Result<Vec<Segment>, StoreError> {
    let mut snapshot = backend.session(Access::Snapshot).await?;
    visible(&mut snapshot, run_id).await?;
    read_segments(&mut snapshot, run_id).await
}

/// All segments of a run, by number.
pub(super) async fn read_segments(session: &mut impl Session, run_id: RunId) -> Result<Vec<Segment>, StoreError> {
    let select = Statement::new(
        "SELECT segments.*, (SELECT max(step) FROM steps
                             WHERE steps.run_id = segments.run_id AND steps.segment = segments.segment) AS last_step
         FROM segments WHERE run_id = $1 ORDER BY segment",
    );
    session.fetch_all(select.bind(run_id)).await?.iter().map(rows::segment).collect()
}

pub(super) async fn runs<B: Backend>(backend: &B, query: &RunQuery) -> Result<Page<Run>, StoreError> {
    let (time_column, direction, behind) = match query.sort {
        RunSort::LastSeenDescending => ("last_seen_us", " DESC", ") < ("),
        RunSort::LastSeenAscending => ("last_seen_us", " ASC", ") > ("),
        RunSort::CreatedDescending => ("created_at_us", " DESC", ") < ("),
        RunSort::CreatedAscending => ("created_at_us", " ASC", ") > ("),
    };
    let mut select = Statement::new("SELECT * FROM runs JOIN run_configs USING (run_id) WHERE NOT deleting");
    if let Some(project) = &query.project {
        select.push(" AND project = ").push_bind(project.as_str());
    }
    if let Some(state) = query.state {
        select.push(" AND state = ").push_bind(state.as_str());
    }
    if let Some(regime) = query.regime {
        select.push(" AND regime = ").push_bind(regime.as_str());
    }
    if let Some(name) = &query.name {
        select.push(" AND name = ").push_bind(name.as_str());
    }
    let [before_key, before_value, behind_value] = B::DIALECT.has_label;
    for (key, value) in &query.labels {
        select.push(" AND ").push(before_key).push_bind(key.as_str());
        select.push(before_value).push_bind(value.as_str()).push(behind_value);
    }
    if let Some((time_us, run_id)) = query.after {
        select.push(" AND (").push(time_column).push(", run_id").push(behind).push_bind(time_us);
        select.push(", ").push_bind(run_id).push(")");
    }
    select.push(" ORDER BY ").push(time_column).push(direction).push(", run_id").push(direction);
    select.push(" LIMIT ").push_bind(codec::size_i64(query.limit.saturating_add(1)));
    let found = backend.session(Access::Single).await?.fetch_all(select).await?;
    let items = found.iter().take(query.limit).map(rows::run).collect::<Result<_, _>>()?;
    Ok(Page { items, more: found.len() > query.limit })
}
