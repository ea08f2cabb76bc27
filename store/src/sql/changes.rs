//! What users change.

use std::collections::BTreeMap;

use super::runs;
use crate::{
    backend::{Access, Backend, Session, Statement},
    codec,
    error::StoreError,
    model::{Run, RunId},
};

pub(super) async fn patch_labels<B: Backend>(
    backend: &B,
    run_id: RunId,
    labels: &BTreeMap<String, Option<String>>,
) -> Result<Run, StoreError> {
    let mut tx = backend.session(Access::Write).await?;
    let mut run = runs::locked_run::<B>(&mut tx, run_id).await?.ok_or(StoreError::UnknownRun(run_id))?;
    if run.deleting {
        return Err(StoreError::RunDeleting(run_id));
    }
    for (key, value) in labels {
        match value {
            Some(value) => run.labels.insert(key.clone(), value.clone()),
            None => run.labels.remove(key),
        };
    }
    let update = Statement::new("UPDATE runs SET labels = $1 WHERE run_id = $2")
        .bind(codec::to_json("labels", &run.labels)?)
        .bind(run_id);
    tx.execute(update).await?;
    tx.commit().await?;
    Ok(run)
}

pub(super) async fn mark_deleting(backend: &impl Backend, run_id: RunId) -> Result<(), StoreError> {
    let mut tx = backend.session(Access::Write).await?;
    let marked = tx.execute(Statement::new("UPDATE runs SET deleting = TRUE WHERE run_id = $1").bind(run_id)).await?;
    tx.commit().await?;
    if marked == 0 { Err(StoreError::UnknownRun(run_id)) } else { Ok(()) }
}
