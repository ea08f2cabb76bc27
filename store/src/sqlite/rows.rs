//! Rows of runs and segments as domain types.

use sqlx::{Row, sqlite::SqliteRow};

use super::codec;
use crate::{
    error::StoreError,
    model::{AttemptId, Resumes, Run, RunCounters, Segment, StreamKey},
};

/// A row of `runs` with `config` of `run_configs`.
pub(super) fn run(row: &SqliteRow) -> Result<Run, StoreError> {
    Ok(Run {
        run_id: codec::run_id(row)?,
        project: row.try_get("project")?,
        name: row.try_get("name")?,
        labels: codec::json(row, "labels")?,
        config: codec::json(row, "config")?,
        state: codec::word(row, "state")?,
        regime: codec::word(row, "regime")?,
        created_at_us: row.try_get("created_at_us")?,
        last_seen_us: row.try_get("last_seen_us")?,
        last_step: codec::unsigned_or_null(row, "last_step")?,
        counters: RunCounters {
            steps: codec::unsigned(row, "steps_count")?,
            rejected: codec::unsigned(row, "rejected_count")?,
            dropped: codec::unsigned(row, "dropped_count")?,
            incomplete: codec::unsigned(row, "incomplete_count")?,
            nonfinite: codec::unsigned(row, "nonfinite_count")?,
        },
        deleting: row.try_get("deleting")?,
    })
}

/// A row of `segments` with its `last_step`.
pub(super) fn segment(row: &SqliteRow) -> Result<Segment, StoreError> {
    let resumed_step: Option<u64> = codec::unsigned_or_null(row, "resumes_step")?;
    let resumes = match resumed_step {
        Some(step) => Some(Resumes { attempt_id: AttemptId(codec::uuid(row, "resumes_attempt_id")?), step }),
        None => None,
    };
    Ok(Segment {
        segment: codec::unsigned(row, "segment")?,
        attempt_id: AttemptId(codec::uuid(row, "attempt_id")?),
        started_at_us: row.try_get("started_at_us")?,
        opened_at_us: row.try_get("opened_at_us")?,
        resumes,
        shard_count: codec::unsigned(row, "shard_count")?,
        spec: codec::json(row, "spec")?,
        environment: row.try_get("environment")?,
        last_step: codec::unsigned_or_null(row, "last_step")?,
    })
}

/// The columns that name a stream, for what belongs to none: no group has an empty name.
const NO_STREAM: (&str, &str, i64) = ("", "", 0);

/// The columns that name a stream.
pub(super) fn stream_key(stream: Option<&StreamKey>) -> (&str, &str, i64) {
    stream.map_or(NO_STREAM, |stream| (&stream.group, stream.kind.as_str(), codec::size_i64(stream.window)))
}

/// The reverse of [`stream_key`].
pub(super) fn stream_or_none(row: &SqliteRow) -> Result<Option<StreamKey>, StoreError> {
    let key: (&str, &str, i64) = (row.try_get("group_name")?, row.try_get("kind")?, row.try_get("window")?);
    if key == NO_STREAM { Ok(None) } else { stream(row).map(Some) }
}

/// The stream of a row that always has one.
pub(super) fn stream(row: &SqliteRow) -> Result<StreamKey, StoreError> {
    Ok(StreamKey {
        group: row.try_get("group_name")?,
        kind: codec::word(row, "kind")?,
        window: codec::unsigned(row, "window")?,
    })
}
