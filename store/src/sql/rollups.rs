//! Rollups.

use gradwatch_spectral::catalogue::EDGE_METRICS;

use super::rows;
use crate::{
    backend::{Access, Backend, Columns, Session, Statement, Values},
    codec::{self, bound_i64, finite, to_i64},
    error::StoreError,
    lineage::SegmentRange,
    model::{RollupRow, RunId},
    query::{RollupPoint, SeriesMetric, SeriesQuery},
};

pub(super) fn encode((run_id, row): &(RunId, &RollupRow), values: &mut impl Values) -> Result<(), StoreError> {
    let (group, kind, window) = rows::stream_key(row.stream.as_ref());
    values.uuid(run_id.0)?;
    values.text(row.analysis.as_str())?;
    values.text(row.metric.as_str())?;
    values.text(group)?;
    values.text(kind)?;
    values.integer(window)?;
    values.integer(i64::from(row.segment))?;
    values.integer(to_i64("rollups.bucket_steps", row.bucket_steps)?)?;
    values.integer(to_i64("rollups.bucket", row.bucket)?)?;
    values.integer(to_i64("rollups.last_step", row.last_step)?)?;
    values.float(finite("rollups.min", row.min)?)?;
    values.float(finite("rollups.max", row.max)?)?;
    values.float(finite("rollups.last", row.last)?)?;
    values.integer(to_i64("rollups.count", row.count)?)
}

/// The name a rollup is kept under. Most edge metrics are `edge.` and their short name, but not all.
fn full_name(metric: &SeriesMetric) -> String {
    match metric {
        SeriesMetric::Edge(short) => match EDGE_METRICS.iter().find(|metric| metric.short == *short) {
            Some(metric) => metric.name.to_owned(),
            None => format!("edge.{short}"),
        },
        SeriesMetric::Layer(layer, field) => format!("{}.{field}", layer.instrument),
        SeriesMetric::Scalar(name) => format!("scalar.{name}"),
    }
}

/// First and last bucket that lie wholly inside a range, if any does.
fn whole_buckets(range: &SegmentRange, bucket_steps: u64) -> Option<(u64, u64)> {
    let first = range.from_step.div_ceil(bucket_steps);
    // Bucket b ends with step (b + 1)·bucket_steps − 1.
    let behind_last = match range.to_step.checked_add(1) {
        Some(behind) => behind / bucket_steps,
        None => u64::MAX / bucket_steps,
    };
    (first < behind_last).then(|| (first, behind_last - 1))
}

fn point(segment: u32, row: &impl Columns) -> Result<RollupPoint, StoreError> {
    Ok(RollupPoint {
        segment,
        bucket: codec::unsigned(row, "bucket")?,
        last_step: codec::unsigned(row, "last_step")?,
        min: codec::float(row, "min")?,
        max: codec::float(row, "max")?,
        last: codec::float(row, "last")?,
        count: codec::unsigned(row, "count")?,
    })
}

pub(super) async fn rollups(
    backend: &impl Backend,
    query: &SeriesQuery,
    bucket_steps: u64,
) -> Result<Vec<RollupPoint>, StoreError> {
    let metric = full_name(&query.metric);
    let (group, kind, window) = match query.metric {
        SeriesMetric::Edge(_) => rows::stream_key(query.stream.as_ref()),
        SeriesMetric::Layer(..) | SeriesMetric::Scalar(_) => rows::stream_key(None),
    };
    let mut snapshot = backend.session(Access::Snapshot).await?;
    let mut points = Vec::new();
    for range in &query.ranges {
        let Some((first, last)) = whole_buckets(range, bucket_steps.max(1)) else { continue };
        let select = Statement::new(
            "SELECT bucket, last_step, min, max, last, count FROM rollups
             WHERE run_id = $1 AND analysis = $2 AND metric = $3 AND group_name = $4 AND kind = $5 AND \"window\" = $6
               AND segment = $7 AND bucket_steps = $8 AND bucket BETWEEN $9 AND $10
             ORDER BY bucket",
        );
        let select = select
            .bind(query.run_id)
            .bind(query.analysis.as_str())
            .bind(metric.as_str())
            .bind(group)
            .bind(kind)
            .bind(window)
            .bind(range.segment)
            .bind(bound_i64(bucket_steps))
            .bind(bound_i64(first))
            .bind(bound_i64(last));
        for row in &snapshot.fetch_all(select).await? {
            points.push(point(range.segment, row)?);
        }
    }
    Ok(points)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_buckets_against_enumeration() {
        for bucket_steps in 1..6 {
            for from_step in 0..20 {
                for to_step in 0..20 {
                    let range = SegmentRange { segment: 1, from_step, to_step };
                    let inside = |bucket: &u64| {
                        let steps = bucket * bucket_steps..(bucket + 1) * bucket_steps;
                        steps.clone().all(|step| (from_step..=to_step).contains(&step))
                    };
                    let found: Vec<u64> = (0..30).filter(inside).collect();
                    let expected = found.first().copied().zip(found.last().copied());
                    assert_eq!(whole_buckets(&range, bucket_steps), expected, "{range:?} by {bucket_steps}");
                }
            }
        }
    }

    #[test]
    fn an_open_end_does_not_overflow() {
        let range = SegmentRange { segment: 1, from_step: 1, to_step: u64::MAX };
        assert_eq!(whole_buckets(&range, 256).map(|(first, _)| first), Some(1));
    }
}
