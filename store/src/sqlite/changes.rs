//! What users change.

use std::collections::BTreeMap;

use super::{SqliteStore, codec, runs};
use crate::{
    error::StoreError,
    model::{Run, RunId},
};

pub(super) async fn patch_labels(
    store: &SqliteStore,
    run_id: RunId,
    labels: &BTreeMap<String, Option<String>>,
) -> Result<Run, StoreError> {
    let mut tx = store.begin().await?;
    let mut run = runs::read_run(&mut tx, run_id).await?.ok_or(StoreError::UnknownRun(run_id))?;
    if run.deleting {
        return Err(StoreError::RunDeleting(run_id));
    }
    for (key, value) in labels {
        match value {
            Some(value) => run.labels.insert(key.clone(), value.clone()),
            None => run.labels.remove(key),
        };
    }
    sqlx::query("UPDATE runs SET labels = ? WHERE run_id = ?")
        .bind(codec::to_json("labels", &run.labels)?)
        .bind(run_id.0.as_bytes().as_slice())
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(run)
}

pub(super) async fn mark_deleting(store: &SqliteStore, run_id: RunId) -> Result<(), StoreError> {
    let mut tx = store.begin().await?;
    let marked = sqlx::query("UPDATE runs SET deleting = 1 WHERE run_id = ?")
        .bind(run_id.0.as_bytes().as_slice())
        .execute(&mut *tx)
        .await?
        .rows_affected();
    tx.commit().await?;
    if marked == 0 { Err(StoreError::UnknownRun(run_id)) } else { Ok(()) }
}
