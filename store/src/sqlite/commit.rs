//! Settling: steps, readings, rollups, events, follower states and marks of many runs in one transaction.

use std::collections::HashSet;

use sqlx::SqliteConnection;

use super::{
    SqliteStore,
    bulk::{Bulk, Values},
    codec::{self, to_i64},
    events, readings, rollups, rows, steps,
};
use crate::{
    error::StoreError,
    model::{FollowerSnapshot, MarkMove, RunCommit, RunId},
};

/// Changes the run's own row where the epoch still is the owner's.
static CLAIM_RUNS: Bulk = Bulk::new(
    "UPDATE runs SET
         state = coalesce(claim.column3, state),
         regime = coalesce(claim.column4, regime),
         last_step = coalesce(claim.column5, last_step),
         last_seen_us = coalesce(claim.column6, last_seen_us),
         steps_count = steps_count + claim.column7,
         rejected_count = rejected_count + claim.column8,
         dropped_count = dropped_count + claim.column9,
         incomplete_count = incomplete_count + claim.column10,
         nonfinite_count = nonfinite_count + claim.column11
     FROM (VALUES",
    11,
    ") AS claim
     WHERE runs.run_id = claim.column1 AND runs.owner_epoch = claim.column2 AND runs.deleting = 0
     RETURNING run_id",
);

/// Moves marks that stand where they must.
static MOVE_MARKS: Bulk = Bulk::new(
    "UPDATE shard_marks SET committed_seq = move.column5, keep_from_seq = move.column6 FROM (VALUES",
    6,
    ") AS move
     WHERE shard_marks.run_id = move.column1 AND shard_marks.segment = move.column2
       AND shard_marks.shard = move.column3 AND shard_marks.committed_seq = move.column4
     RETURNING run_id, segment, shard",
);

/// Replaces follower states that are there.
static UPDATE_FOLLOWERS: Bulk = Bulk::new(
    "UPDATE follower_snapshots SET step = new.column6, state = new.column7 FROM (VALUES",
    7,
    ") AS new
     WHERE follower_snapshots.run_id = new.column1 AND follower_snapshots.segment = new.column2
       AND follower_snapshots.group_name = new.column3 AND follower_snapshots.kind = new.column4
       AND follower_snapshots.window = new.column5
     RETURNING run_id, segment, group_name, kind, window",
);

static INSERT_FOLLOWERS: Bulk =
    Bulk::new("INSERT INTO follower_snapshots (run_id, segment, group_name, kind, window, step, state) VALUES", 7, "");

static INSERT_SCALAR_NAMES: Bulk = Bulk::new("INSERT INTO scalar_names (run_id, name) VALUES", 2, "");

pub(super) async fn last_commit_seq(store: &SqliteStore) -> Result<u64, StoreError> {
    let seq: i64 = sqlx::query_scalar("SELECT commit_seq FROM meta").fetch_one(&store.readers).await?;
    codec::narrow("commit_seq", seq)
}

/// Invariant: everything in `runs` is stored or nothing is, and nothing unless every run still belongs to the committer
/// and every mark still stands where the committer believes it to stand. The transaction is dropped, and so rolled
/// back, on every way out but the last.
pub(super) async fn commit(store: &SqliteStore, runs: &[RunCommit]) -> Result<(u64, Vec<Vec<u64>>), StoreError> {
    named_once(runs)?;
    let mut tx = store.begin().await?;
    claim(&mut tx, runs).await?;
    let (commit_seq, event_ids) = number(&mut tx, runs).await?;
    steps::insert(&mut tx, &gather(runs, |run| &run.steps)).await?;
    readings::insert(&mut tx, &gather(runs, |run| &run.readings)).await?;
    rollups::insert(&mut tx, &gather(runs, |run| &run.rollups)).await?;
    events::insert(&mut tx, runs, &event_ids).await?;
    put_followers(&mut tx, runs).await?;
    INSERT_SCALAR_NAMES
        .run(&mut tx, &gather(runs, |run| &run.scalar_names), |(run_id, name), values| {
            values.push(run_id.0.as_bytes().as_slice())?;
            values.push(name.as_str())
        })
        .await?;
    tx.commit().await?;
    Ok((commit_seq, event_ids))
}

/// A run that came twice would have one of its patches lost.
fn named_once(runs: &[RunCommit]) -> Result<(), StoreError> {
    let mut seen = HashSet::with_capacity(runs.len());
    match runs.iter().find(|run| !seen.insert(run.run_id)) {
        Some(run) => Err(StoreError::Data(format!("runs: {} comes twice in one commit", run.run_id))),
        None => Ok(()),
    }
}

/// The rows of one kind, of all runs.
fn gather<'a, T>(runs: &'a [RunCommit], of: impl Fn(&'a RunCommit) -> &'a Vec<T>) -> Vec<(RunId, &'a T)> {
    runs.iter().flat_map(|run| of(run).iter().map(|row| (run.run_id, row))).collect()
}

/// Compare-and-set of every owner epoch and every mark, before anything else is written.
async fn claim(connection: &mut SqliteConnection, runs: &[RunCommit]) -> Result<(), StoreError> {
    let claimed = CLAIM_RUNS
        .run(connection, runs, |run, values| {
            let (patch, counters) = (&run.patch, &run.patch.counters);
            values.push(run.run_id.0.as_bytes().as_slice())?;
            values.push(to_i64("owner_epoch", run.owner_epoch)?)?;
            values.push(patch.state.map(|state| state.as_str()))?;
            values.push(patch.regime.map(|regime| regime.as_str()))?;
            values.push(patch.last_step.map(|step| to_i64("patch.last_step", step)).transpose()?)?;
            values.push(patch.last_seen_us)?;
            values.push(to_i64("patch.counters.steps", counters.steps)?)?;
            values.push(to_i64("patch.counters.rejected", counters.rejected)?)?;
            values.push(to_i64("patch.counters.dropped", counters.dropped)?)?;
            values.push(to_i64("patch.counters.incomplete", counters.incomplete)?)?;
            values.push(to_i64("patch.counters.nonfinite", counters.nonfinite)?)
        })
        .await?;
    let claimed = claimed.iter().map(codec::run_id).collect::<Result<HashSet<_>, _>>()?;
    let moved = MOVE_MARKS
        .run(connection, &gather(runs, |run| &run.marks), |(run_id, mark), values| {
            values.push(run_id.0.as_bytes().as_slice())?;
            values.push(mark.segment)?;
            values.push(mark.shard)?;
            values.push(to_i64("marks.from_seq", mark.from_seq)?)?;
            values.push(to_i64("marks.to_seq", mark.to_seq)?)?;
            values.push(to_i64("marks.keep_from_seq", mark.keep_from_seq)?)
        })
        .await?;
    let moved = moved
        .iter()
        .map(|row| Ok((codec::run_id(row)?, codec::unsigned(row, "segment")?, codec::unsigned(row, "shard")?)))
        .collect::<Result<HashSet<(RunId, u32, u32)>, StoreError>>()?;
    let holds = |run: &RunCommit| {
        let stood = |mark: &MarkMove| moved.contains(&(run.run_id, mark.segment, mark.shard));
        claimed.contains(&run.run_id) && run.marks.iter().all(stood)
    };
    match runs.iter().find(|run| !holds(run)) {
        Some(run) => Err(StoreError::OwnershipLost(run.run_id)),
        None => Ok(()),
    }
}

/// Gives the commit its sequence and the events their ids.
async fn number(connection: &mut SqliteConnection, runs: &[RunCommit]) -> Result<(u64, Vec<Vec<u64>>), StoreError> {
    let count: usize = runs.iter().map(|run| run.events.len()).sum();
    let row = sqlx::query(
        "UPDATE meta SET commit_seq = commit_seq + 1, last_event_id = last_event_id + ?
         RETURNING commit_seq, last_event_id",
    )
    .bind(codec::size_i64(count))
    .fetch_one(connection)
    .await?;
    let last: u64 = codec::unsigned(&row, "last_event_id")?;
    let mut next = last - count as u64 + 1;
    let event_ids = runs
        .iter()
        .map(|run| {
            let first = next;
            next += run.events.len() as u64;
            (first..next).collect()
        })
        .collect();
    Ok((codec::unsigned(&row, "commit_seq")?, event_ids))
}

/// Invariant: each stream has one snapshot at most, the last one given.
async fn put_followers(connection: &mut SqliteConnection, runs: &[RunCommit]) -> Result<(), StoreError> {
    let mut seen = HashSet::new();
    let mut newest = gather(runs, |run| &run.followers);
    newest.reverse();
    newest.retain(|(run_id, snapshot)| seen.insert((*run_id, snapshot.segment, &snapshot.stream)));
    let updated = UPDATE_FOLLOWERS
        .run(connection, &newest, encode_follower)
        .await?
        .iter()
        .map(|row| {
            let stream = rows::stream_or_none(row)?;
            Ok((codec::run_id(row)?, codec::unsigned::<u32>(row, "segment")?, stream))
        })
        .collect::<Result<HashSet<_>, StoreError>>()?;
    newest.retain(|(run_id, snapshot)| !updated.contains(&(*run_id, snapshot.segment, snapshot.stream.clone())));
    INSERT_FOLLOWERS.run(connection, &newest, encode_follower).await?;
    Ok(())
}

fn encode_follower((run_id, snapshot): &(RunId, &FollowerSnapshot), values: &mut Values) -> Result<(), StoreError> {
    let (group, kind, window) = rows::stream_key(snapshot.stream.as_ref());
    values.push(run_id.0.as_bytes().as_slice())?;
    values.push(snapshot.segment)?;
    values.push(group)?;
    values.push(kind)?;
    values.push(window)?;
    values.push(to_i64("followers.step", snapshot.step)?)?;
    values.push(snapshot.state.as_slice())
}
