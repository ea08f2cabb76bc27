//! Taking a run over from an earlier owner.

use super::{rows, runs};
use crate::{
    backend::{Access, Backend, Columns, Session, Statement},
    codec,
    error::StoreError,
    model::{FollowerSnapshot, OwnedRun, RunId, ShardMark},
};

/// Invariant: of all owners that a run has had only the last can commit, because each raises the epoch that every
/// commit names; and it counts its commits from 0.
pub(super) async fn take_ownership<B: Backend>(backend: &B, run_id: RunId) -> Result<OwnedRun, StoreError> {
    let mut tx = backend.session(Access::Write).await?;
    let run = runs::locked_run::<B>(&mut tx, run_id).await?.ok_or(StoreError::UnknownRun(run_id))?;
    if run.deleting {
        return Err(StoreError::RunDeleting(run_id));
    }
    let raise = Statement::new(
        "UPDATE runs SET owner_epoch = owner_epoch + 1, owner_commits = 0 WHERE run_id = $1 RETURNING owner_epoch",
    );
    let raised = tx.fetch_one(raise.bind(run_id)).await?;
    let segments = runs::read_segments(&mut tx, run_id).await?;
    tx.commit().await?;
    Ok(OwnedRun { run, owner_epoch: codec::unsigned(&raised, "owner_epoch")?, segments })
}

pub(super) async fn shard_marks(
    backend: &impl Backend,
    run_id: RunId,
    segment: u32,
) -> Result<Vec<ShardMark>, StoreError> {
    let select = Statement::new("SELECT * FROM shard_marks WHERE run_id = $1 AND segment = $2 ORDER BY shard");
    let rows = backend.session(Access::Single).await?.fetch_all(select.bind(run_id).bind(segment)).await?;
    rows.iter().map(rows::mark).collect()
}

pub(super) async fn follower_snapshots(
    backend: &impl Backend,
    run_id: RunId,
    segment: u32,
) -> Result<Vec<FollowerSnapshot>, StoreError> {
    let select = Statement::new(
        "SELECT * FROM follower_snapshots WHERE run_id = $1 AND segment = $2 ORDER BY group_name, kind, \"window\"",
    );
    let rows = backend.session(Access::Single).await?.fetch_all(select.bind(run_id).bind(segment)).await?;
    rows.iter()
        .map(|row| {
            Ok(FollowerSnapshot {
                segment,
                key: rows::follower_key(row)?,
                step: codec::unsigned(row, "step")?,
                state: codec::present("state", row.bytes("state")?)?.to_vec(),
            })
        })
        .collect()
}
