//! Settling: steps, readings, rollups, events, follower states, snapshots, predictions and marks of many runs in one
//! transaction.

use std::collections::HashSet;

use super::{events, layer_readings, predictions, readings, rollups, rows, sketches, snapshots, steps};
use crate::{
    backend::{Access, Backend, Bulk, Columns, Session, Statement, Values},
    codec::{self, to_i64},
    error::StoreError,
    model::{FollowerSnapshot, MarkMove, RunCommit, RunId},
};

/// Bytes of long rows in one statement: the drivers hold a statement's rows once more, and PostgreSQL takes no more than
/// 1 GiB of them.
const BYTES_PER_STATEMENT: usize = 8 << 20;

pub(super) async fn last_commit_seq(backend: &impl Backend) -> Result<u64, StoreError> {
    let row = backend.session(Access::Single).await?.fetch_one(Statement::new("SELECT commit_seq FROM meta")).await?;
    codec::unsigned(&row, "commit_seq")
}

/// Invariant: everything in `runs` is stored or nothing is, and nothing unless every run still belongs to the committer,
/// its last commit is the one that the committer believes it to be, and every mark still stands where the committer
/// believes it to stand. The transaction is dropped, and so rolled back, on every way out but the last.
pub(super) async fn commit<B: Backend>(backend: &B, runs: &[RunCommit]) -> Result<(u64, Vec<Vec<u64>>), StoreError> {
    named_once(runs)?;
    let mut tx = backend.session(Access::Commit).await?;
    // First of all, because it locks the row that every commit changes: commits of different servers come one behind the
    // other, and cannot wait for each other's runs in a circle.
    let (commit_seq, event_ids) = number::<B>(&mut tx, runs).await?;
    claim(&mut tx, runs).await?;
    segments_exist(&mut tx, runs).await?;
    tx.bulk(Bulk::InsertSteps, &gather(runs, |run| &run.steps), steps::encode).await?;
    tx.bulk(Bulk::InsertReadings, &gather(runs, |run| &run.readings), readings::encode).await?;
    tx.bulk(Bulk::InsertRollups, &gather(runs, |run| &run.rollups), rollups::encode).await?;
    tx.bulk(Bulk::InsertEvents, &events::numbered(runs, &event_ids), events::encode).await?;
    put_followers(&mut tx, runs).await?;
    tx.bulk(Bulk::InsertScalarNames, &gather(runs, |run| &run.scalar_names), |(run_id, name), values| {
        values.uuid(run_id.0)?;
        values.text(name.as_str())
    })
    .await?;
    put_layers(&mut tx, runs).await?;
    put_predictions(&mut tx, runs).await?;
    put_sketches(&mut tx, runs).await?;
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

/// Gives the commit its sequence and the events their ids.
async fn number<B: Backend>(tx: &mut B::Session, runs: &[RunCommit]) -> Result<(u64, Vec<Vec<u64>>), StoreError> {
    let count: usize = runs.iter().map(|run| run.events.len()).sum();
    let numbered = tx.fetch_one(Statement::new(B::DIALECT.number_commit).bind(codec::size_i64(count))).await?;
    // Invariant (promise 1): nothing is acknowledged that the database would not keep, also when somebody weakened its
    // settings after the server started.
    if !codec::present("durable", numbered.flag("durable")?)? {
        let message = "its settings have become weaker than an acknowledgement promises; see /readyz";
        return Err(StoreError::Unavailable(message.to_owned()));
    }
    let last: u64 = codec::unsigned(&numbered, "last_event_id")?;
    let mut next = last - count as u64 + 1;
    let event_ids = runs
        .iter()
        .map(|run| {
            let first = next;
            next += run.events.len() as u64;
            (first..next).collect()
        })
        .collect();
    Ok((codec::unsigned(&numbered, "commit_seq")?, event_ids))
}

/// Compare-and-set of every owner epoch, every owner's commit number and every mark, before any row is written.
async fn claim(tx: &mut impl Session, runs: &[RunCommit]) -> Result<(), StoreError> {
    let claimed = tx.bulk(Bulk::ClaimRuns, runs, encode_claim).await?;
    let claimed = claimed.iter().map(codec::run_id).collect::<Result<HashSet<_>, _>>()?;
    let moved = tx.bulk(Bulk::MoveMarks, &gather(runs, |run| &run.marks), encode_mark).await?;
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

fn encode_claim(run: &RunCommit, values: &mut impl Values) -> Result<(), StoreError> {
    let (patch, counters) = (&run.patch, &run.patch.counters);
    values.uuid(run.run_id.0)?;
    values.integer(to_i64("owner_epoch", run.owner_epoch)?)?;
    values.integer(to_i64("after_commit", run.after_commit)?)?;
    values.integer(to_i64("commit_number", run.commit_number)?)?;
    values.text(patch.state.map(|state| state.as_str()))?;
    values.text(patch.regime.map(|regime| regime.as_str()))?;
    values.integer(patch.last_step.map(|step| to_i64("patch.last_step", step)).transpose()?)?;
    values.integer(patch.last_seen_us)?;
    values.integer(to_i64("patch.counters.steps", counters.steps)?)?;
    values.integer(to_i64("patch.counters.rejected", counters.rejected)?)?;
    values.integer(to_i64("patch.counters.dropped", counters.dropped)?)?;
    values.integer(to_i64("patch.counters.incomplete", counters.incomplete)?)?;
    values.integer(to_i64("patch.counters.nonfinite", counters.nonfinite)?)?;
    values.integer(to_i64("patch.counters.skipped", counters.skipped)?)
}

fn encode_mark((run_id, mark): &(RunId, &MarkMove), values: &mut impl Values) -> Result<(), StoreError> {
    values.uuid(run_id.0)?;
    values.integer(i64::from(mark.segment))?;
    values.integer(i64::from(mark.shard))?;
    values.integer(to_i64("marks.from_seq", mark.from_seq)?)?;
    values.integer(to_i64("marks.to_seq", mark.to_seq)?)?;
    values.integer(to_i64("marks.keep_from_seq", mark.keep_from_seq)?)
}

/// Invariant: rows belong to segments that exist. A mark that was moved shows that its segment does, because marks
/// reference segments; what comes without a mark is looked up.
async fn segments_exist(tx: &mut impl Session, runs: &[RunCommit]) -> Result<(), StoreError> {
    let mut wanted = HashSet::new();
    for run in runs {
        let steps = run.steps.iter().map(|row| row.segment);
        let readings = run.readings.iter().map(|row| row.segment);
        let rollups = run.rollups.iter().map(|row| row.segment);
        let marked = |segment: &u32| run.marks.iter().any(|mark| mark.segment == *segment);
        let snapshots = run.snapshots.iter().map(|row| row.key.segment);
        let layer_readings = run.layer_readings.iter().map(|row| row.segment);
        let predictions = run.predictions.iter().map(|row| row.segment);
        let sketches = run.sketches.iter().map(|block| block.stream.segment);
        let of_layers = snapshots.chain(layer_readings).chain(predictions).chain(sketches);
        let unmarked = steps.chain(readings).chain(rollups).chain(of_layers).filter(|segment| !marked(segment));
        wanted.extend(unmarked.map(|segment| (run.run_id, segment)));
    }
    let asked: Vec<_> = wanted.iter().copied().collect();
    let found = tx
        .bulk(Bulk::FindSegments, &asked, |(run_id, segment), values| {
            values.uuid(run_id.0)?;
            values.integer(i64::from(*segment))
        })
        .await?;
    for row in &found {
        wanted.remove(&(codec::run_id(row)?, codec::unsigned(row, "segment")?));
    }
    match wanted.iter().next() {
        Some((run_id, segment)) => Err(StoreError::Data(format!("segment: run {run_id} has no segment {segment}"))),
        None => Ok(()),
    }
}

/// Invariant: each stream has one snapshot at most, the last one given.
async fn put_followers(tx: &mut impl Session, runs: &[RunCommit]) -> Result<(), StoreError> {
    let mut seen = HashSet::new();
    let mut newest = gather(runs, |run| &run.followers);
    newest.reverse();
    newest.retain(|(run_id, snapshot)| seen.insert((*run_id, snapshot.segment, &snapshot.key)));
    let updated = tx
        .bulk(Bulk::UpdateFollowers, &newest, encode_follower)
        .await?
        .iter()
        .map(|row| {
            let key = rows::follower_key(row)?;
            Ok((codec::run_id(row)?, codec::unsigned::<u32>(row, "segment")?, key))
        })
        .collect::<Result<HashSet<_>, StoreError>>()?;
    newest.retain(|(run_id, snapshot)| !updated.contains(&(*run_id, snapshot.segment, snapshot.key.clone())));
    tx.bulk(Bulk::InsertFollowers, &newest, encode_follower).await?;
    Ok(())
}

fn encode_follower(
    (run_id, snapshot): &(RunId, &FollowerSnapshot),
    values: &mut impl Values,
) -> Result<(), StoreError> {
    let (group, kind, window) = rows::follower_columns(&snapshot.key);
    values.uuid(run_id.0)?;
    values.integer(i64::from(snapshot.segment))?;
    values.text(group)?;
    values.text(kind)?;
    values.integer(window)?;
    values.integer(to_i64("followers.step", snapshot.step)?)?;
    values.bytes(snapshot.state.as_slice())
}

/// Invariant: a snapshot is pending until the transaction that records its reading, and no longer: it is read once, and
/// one that was acknowledged is never lost. What is put comes before what is deleted, because one commit may hold both.
async fn put_layers(tx: &mut impl Session, runs: &[RunCommit]) -> Result<(), StoreError> {
    let snapshots = gather(runs, |run| &run.snapshots);
    for chunk in by_bytes(&snapshots, |(_, snapshot)| snapshot.payload.len()) {
        tx.bulk(Bulk::InsertPendingSnapshots, chunk, snapshots::encode).await?;
    }
    let mut readings = gather(runs, |run| &run.layer_readings);
    readings.sort_by_key(|(_, row)| row.layer.instrument);
    for of_instrument in readings.chunk_by(|(_, a), (_, b)| a.layer.instrument == b.layer.instrument) {
        let instrument = of_instrument[0].1.layer.instrument;
        tx.bulk(Bulk::InsertLayerReadings(instrument), of_instrument, layer_readings::encode).await?;
    }
    tx.bulk(Bulk::DeletePendingSnapshots, &readings, snapshots::encode_read).await?;
    Ok(())
}

/// What is put comes before what is deleted, because one commit may hold both.
async fn put_predictions(tx: &mut impl Session, runs: &[RunCommit]) -> Result<(), StoreError> {
    let predictions = gather(runs, |run| &run.predictions);
    for chunk in by_bytes(&predictions, |(_, row)| 4 * (row.values.len() + row.targets.len())) {
        tx.bulk(Bulk::InsertPredictions, chunk, predictions::encode).await?;
    }
    let dropped = gather(runs, |run| &run.dropped_predictions);
    tx.bulk(Bulk::DeletePredictions, &dropped, predictions::encode_dropped).await?;
    Ok(())
}

/// What is put comes before what is deleted, because one commit may hold both.
async fn put_sketches(tx: &mut impl Session, runs: &[RunCommit]) -> Result<(), StoreError> {
    let blocks = gather(runs, |run| &run.sketches);
    for chunk in by_bytes(&blocks, |(_, block)| block.payload.len()) {
        tx.bulk(Bulk::InsertSketchBlocks, chunk, sketches::encode).await?;
    }
    let dropped = gather(runs, |run| &run.dropped_sketches);
    tx.bulk(Bulk::DeleteSketchBlocks, &dropped, sketches::encode_dropped).await?;
    Ok(())
}

/// Rows in the order given, in chunks of at most [`BYTES_PER_STATEMENT`] or of one row.
fn by_bytes<T>(rows: &[T], bytes_of: impl Fn(&T) -> usize) -> impl Iterator<Item = &[T]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let mut bytes = 0_usize;
        let fits = |row: &&T| {
            bytes = bytes.saturating_add(bytes_of(row));
            bytes <= BYTES_PER_STATEMENT
        };
        let fitting = rest.iter().take_while(fits).count().max(1);
        let (chunk, behind) = rest.split_at_checked(fitting)?;
        rest = behind;
        Some(chunk)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_whole_and_in_order() {
        let rows = [BYTES_PER_STATEMENT + 1, 1, BYTES_PER_STATEMENT - 1, 1, BYTES_PER_STATEMENT, 0, 0];
        let chunks: Vec<_> = by_bytes(&rows, |bytes| *bytes).collect();
        assert_eq!(chunks, [&rows[..1], &rows[1..3], &rows[3..4], &rows[4..]]);
        assert_eq!(by_bytes(&[0; 0], |bytes| *bytes).count(), 0);
    }
}
