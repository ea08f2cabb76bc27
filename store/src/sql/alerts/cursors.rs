//! How far rules were evaluated, and where they have something to say.

use crate::{
    backend::{Access, Backend, Columns, Session, Statement, Values},
    codec::{self, to_i64},
    error::StoreError,
    model::{AlertCommit, AlertCursor, RunId},
};

pub(super) fn encode(commit: &&AlertCommit, values: &mut impl Values) -> Result<(), StoreError> {
    let cursor = &commit.cursor;
    let (segment, step) = cursor.at.unzip();
    values.uuid(commit.run_id.0)?;
    values.text(cursor.lane.as_str())?;
    values.integer(segment.map(i64::from))?;
    values.integer(step.map(|step| to_i64("cursor.step", step)).transpose()?)?;
    values.integer(to_i64("cursor.event_id", cursor.event_id)?)?;
    values.integer(to_i64("cursor.number", cursor.number)?)?;
    values.integer(to_i64("cursor.run_revision", cursor.run_revision.0)?)?;
    values.integer(to_i64("cursor.run_revision", cursor.run_revision.1)?)
}

fn cursor(row: &impl Columns) -> Result<AlertCursor, StoreError> {
    let segment: Option<u32> = codec::unsigned_or_null(row, "segment")?;
    Ok(AlertCursor {
        lane: codec::word(row, "lane")?,
        at: segment.zip(codec::unsigned_or_null(row, "step")?),
        event_id: codec::unsigned(row, "event_id")?,
        number: codec::unsigned(row, "number")?,
        run_revision: (codec::unsigned(row, "run_owner_epoch")?, codec::unsigned(row, "run_owner_commits")?),
    })
}

pub(in crate::sql) async fn alert_cursors(
    backend: &impl Backend,
    run_id: RunId,
) -> Result<Vec<AlertCursor>, StoreError> {
    let select = Statement::new("SELECT * FROM alert_cursors WHERE run_id = $1 ORDER BY lane DESC").bind(run_id);
    backend.session(Access::Single).await?.fetch_all(select).await?.iter().map(cursor).collect()
}

pub(in crate::sql) async fn runs_to_evaluate(backend: &impl Backend, since_us: i64) -> Result<Vec<RunId>, StoreError> {
    let select = Statement::new(
        "SELECT run_id FROM runs
         WHERE NOT deleting
           AND (last_seen_us >= $1
                AND (state NOT IN ('finished', 'failed', 'preempted')
                     OR NOT EXISTS (SELECT 1 FROM alert_cursors WHERE alert_cursors.run_id = runs.run_id)
                     OR EXISTS (SELECT 1 FROM alert_cursors
                                WHERE alert_cursors.run_id = runs.run_id
                                  AND (run_owner_epoch <> runs.owner_epoch
                                       OR run_owner_commits <> runs.owner_commits)))
                OR EXISTS (SELECT 1 FROM alerts WHERE alerts.run_id = runs.run_id AND alerts.state <> 'resolved'))
         ORDER BY run_id",
    );
    let rows = backend.session(Access::Single).await?.fetch_all(select.bind(since_us)).await?;
    rows.iter().map(codec::run_id).collect()
}
