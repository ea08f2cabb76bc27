//! Taking a run over from an earlier owner.

use sqlx::{Row, sqlite::SqliteRow};

use super::{SqliteStore, codec, rows, runs};
use crate::{
    error::StoreError,
    model::{FollowerSnapshot, OwnedRun, RunId, ShardMark},
};

/// Invariant: of all owners that a run has had only the last can commit, because each raises the epoch that every
/// commit names.
pub(super) async fn take_ownership(store: &SqliteStore, run_id: RunId) -> Result<OwnedRun, StoreError> {
    let mut tx = store.begin().await?;
    let run = runs::read_run(&mut tx, run_id).await?.ok_or(StoreError::UnknownRun(run_id))?;
    if run.deleting {
        return Err(StoreError::RunDeleting(run_id));
    }
    let owner_epoch: i64 =
        sqlx::query_scalar("UPDATE runs SET owner_epoch = owner_epoch + 1 WHERE run_id = ? RETURNING owner_epoch")
            .bind(run_id.0.as_bytes().as_slice())
            .fetch_one(&mut *tx)
            .await?;
    let mut segments: Vec<_> =
        runs::read_segments(&mut tx, run_id).await?.into_iter().map(|segment| (segment, Vec::new())).collect();
    let marks = sqlx::query("SELECT * FROM shard_marks WHERE run_id = ? ORDER BY segment, shard")
        .bind(run_id.0.as_bytes().as_slice())
        .fetch_all(&mut *tx)
        .await?;
    for row in &marks {
        let number: u32 = codec::unsigned(row, "segment")?;
        // A foreign key makes sure that the segment exists.
        if let Some((_, marks)) = segments.iter_mut().find(|(segment, _)| segment.segment == number) {
            marks.push(mark(row)?);
        }
    }
    tx.commit().await?;
    Ok(OwnedRun { run, owner_epoch: codec::narrow("owner_epoch", owner_epoch)?, segments })
}

pub(super) async fn shard_marks(
    store: &SqliteStore,
    run_id: RunId,
    segment: u32,
) -> Result<Vec<ShardMark>, StoreError> {
    sqlx::query("SELECT * FROM shard_marks WHERE run_id = ? AND segment = ? ORDER BY shard")
        .bind(run_id.0.as_bytes().as_slice())
        .bind(segment)
        .fetch_all(&store.readers)
        .await?
        .iter()
        .map(mark)
        .collect()
}

fn mark(row: &SqliteRow) -> Result<ShardMark, StoreError> {
    Ok(ShardMark {
        shard: codec::unsigned(row, "shard")?,
        writer_id: row.try_get("writer_id")?,
        committed_seq: codec::unsigned(row, "committed_seq")?,
        keep_from_seq: codec::unsigned(row, "keep_from_seq")?,
    })
}

pub(super) async fn follower_snapshots(
    store: &SqliteStore,
    run_id: RunId,
    segment: u32,
) -> Result<Vec<FollowerSnapshot>, StoreError> {
    sqlx::query("SELECT * FROM follower_snapshots WHERE run_id = ? AND segment = ? ORDER BY group_name, kind, window")
        .bind(run_id.0.as_bytes().as_slice())
        .bind(segment)
        .fetch_all(&store.readers)
        .await?
        .iter()
        .map(|row| {
            Ok(FollowerSnapshot {
                segment,
                stream: rows::stream_or_none(row)?,
                step: codec::unsigned(row, "step")?,
                state: row.try_get("state")?,
            })
        })
        .collect()
}
