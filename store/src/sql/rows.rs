//! Rows of runs, segments and marks as domain types.

use crate::{
    backend::Columns,
    codec,
    error::StoreError,
    model::{AttemptId, FollowerKey, LayerKey, Resumes, Run, RunCounters, Segment, ShardMark, StreamKey},
};

/// A row of `runs` with `config` of `run_configs`.
pub(super) fn run(row: &impl Columns) -> Result<Run, StoreError> {
    Ok(Run {
        run_id: codec::run_id(row)?,
        project: codec::string(row, "project")?,
        name: codec::string(row, "name")?,
        labels: codec::json(row, "labels")?,
        config: codec::json(row, "config")?,
        state: codec::word(row, "state")?,
        regime: codec::word(row, "regime")?,
        created_at_us: codec::signed(row, "created_at_us")?,
        last_seen_us: codec::signed(row, "last_seen_us")?,
        last_step: codec::unsigned_or_null(row, "last_step")?,
        counters: RunCounters {
            steps: codec::unsigned(row, "steps_count")?,
            rejected: codec::unsigned(row, "rejected_count")?,
            dropped: codec::unsigned(row, "dropped_count")?,
            incomplete: codec::unsigned(row, "incomplete_count")?,
            nonfinite: codec::unsigned(row, "nonfinite_count")?,
            skipped: codec::unsigned(row, "skipped_count")?,
        },
        deleting: codec::present("deleting", row.flag("deleting")?)?,
        revision: (codec::unsigned(row, "owner_epoch")?, codec::unsigned(row, "owner_commits")?),
    })
}

/// A row of `segments` with its `last_step`.
pub(super) fn segment(row: &impl Columns) -> Result<Segment, StoreError> {
    let resumed_step: Option<u64> = codec::unsigned_or_null(row, "resumes_step")?;
    let resumes = match resumed_step {
        Some(step) => Some(Resumes { attempt_id: AttemptId(codec::uuid(row, "resumes_attempt_id")?), step }),
        None => None,
    };
    Ok(Segment {
        segment: codec::unsigned(row, "segment")?,
        attempt_id: AttemptId(codec::uuid(row, "attempt_id")?),
        started_at_us: codec::signed(row, "started_at_us")?,
        opened_at_us: codec::signed(row, "opened_at_us")?,
        resumes,
        shard_count: codec::unsigned(row, "shard_count")?,
        spec: codec::json(row, "spec")?,
        environment: codec::string(row, "environment")?,
        last_step: codec::unsigned_or_null(row, "last_step")?,
    })
}

/// A row of `shard_marks`.
pub(super) fn mark(row: &impl Columns) -> Result<ShardMark, StoreError> {
    Ok(ShardMark {
        shard: codec::unsigned(row, "shard")?,
        writer_id: codec::string(row, "writer_id")?,
        committed_seq: codec::unsigned(row, "committed_seq")?,
        keep_from_seq: codec::unsigned(row, "keep_from_seq")?,
    })
}

/// The columns that name a stream, for what belongs to none: no group has an empty name.
const NO_STREAM: (&str, &str, i64) = ("", "", 0);

/// The columns that name a stream.
pub(super) fn stream_key(stream: Option<&StreamKey>) -> (&str, &str, i64) {
    stream.map_or(NO_STREAM, |stream| (&stream.group, stream.kind.as_str(), codec::size_i64(stream.window)))
}

/// The columns that name what a follower follows: those of a stream, or layer and instrument with a window of 0, which no
/// stream has.
pub(super) fn follower_columns(key: &FollowerKey) -> (&str, &str, i64) {
    match key {
        FollowerKey::Scalars => NO_STREAM,
        FollowerKey::Stream(stream) => stream_key(Some(stream)),
        FollowerKey::Layer(LayerKey { instrument, layer }) => (layer, instrument.as_str(), 0),
    }
}

/// The reverse of [`follower_columns`].
pub(super) fn follower_key(row: &impl Columns) -> Result<FollowerKey, StoreError> {
    let key = (codec::text(row, "group_name")?, codec::text(row, "kind")?, codec::signed(row, "window")?);
    Ok(match key {
        NO_STREAM => FollowerKey::Scalars,
        (layer, _, 0) => {
            FollowerKey::Layer(LayerKey { instrument: codec::word(row, "kind")?, layer: layer.to_owned() })
        }
        _ => FollowerKey::Stream(stream(row)?),
    })
}

/// The stream of a row that always has one.
pub(super) fn stream(row: &impl Columns) -> Result<StreamKey, StoreError> {
    Ok(StreamKey {
        group: codec::string(row, "group_name")?,
        kind: codec::word(row, "kind")?,
        window: codec::unsigned(row, "window")?,
    })
}
