//! Buckets of 256 and of 16,384 steps, so that a chart of a million readings need not read them.

use gradwatch_spectral::{catalogue::EDGE_METRICS, edge::EdgeReading};
use gradwatch_store::{LIVE_ANALYSIS, RollupRow, StreamKey};
use serde::{Deserialize, Serialize};

/// Steps per bucket, per level.
pub(crate) const BUCKET_STEPS: [u64; 2] = [256, 16_384];

/// The open buckets of one metric. A bucket is handed out once a value of a later one arrives; what is still open is
/// read from the rows themselves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rollup {
    open: [Option<Bucket>; BUCKET_STEPS.len()],
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Bucket {
    number: u64,
    last_step: u64,
    min: f64,
    max: f64,
    last: f64,
    count: u64,
}

impl Rollup {
    /// Takes in a value; hands each bucket it closes to `closed` as (steps per bucket, row without its key).
    /// A non-finite value is left out: it must not poison a chart.
    fn push(&mut self, step: u64, value: f64, mut closed: impl FnMut(u64, &Bucket)) {
        if !value.is_finite() {
            return;
        }
        for (open, bucket_steps) in self.open.iter_mut().zip(BUCKET_STEPS) {
            let number = step / bucket_steps;
            match open {
                Some(bucket) if bucket.number == number => {
                    bucket.last_step = step;
                    bucket.min = bucket.min.min(value);
                    bucket.max = bucket.max.max(value);
                    bucket.last = value;
                    bucket.count += 1;
                }
                _ => {
                    if let Some(bucket) = open {
                        closed(bucket_steps, bucket);
                    }
                    *open = Some(Bucket { number, last_step: step, min: value, max: value, last: value, count: 1 });
                }
            }
        }
    }

    /// As [`push`](Self::push), appending rows with their key.
    pub(crate) fn push_rows(
        &mut self,
        metric: &str,
        stream: Option<&StreamKey>,
        segment: u32,
        (step, value): (u64, f64),
        rows: &mut Vec<RollupRow>,
    ) {
        self.push(step, value, |bucket_steps, bucket| {
            rows.push(RollupRow {
                analysis: LIVE_ANALYSIS.to_owned(),
                metric: metric.to_owned(),
                stream: stream.cloned(),
                segment,
                bucket_steps,
                bucket: bucket.number,
                last_step: bucket.last_step,
                min: bucket.min,
                max: bucket.max,
                last: bucket.last,
                count: bucket.count,
            });
        });
    }
}

/// The open buckets of a stream's headline metrics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct EdgeRollups {
    /// One a headline metric, in catalogue order.
    metrics: Vec<Rollup>,
}

impl EdgeRollups {
    pub(crate) fn new() -> Self {
        Self { metrics: vec![Rollup::default(); headline().count()] }
    }

    pub(crate) fn push(
        &mut self,
        stream: &StreamKey,
        segment: u32,
        step: u64,
        edge: &EdgeReading,
        rows: &mut Vec<RollupRow>,
    ) {
        for (rollup, metric) in self.metrics.iter_mut().zip(headline()) {
            if let Some(value) = edge.value(metric.short) {
                rollup.push_rows(metric.name, Some(stream), segment, (step, value), rows);
            }
        }
    }

    /// Whether a state saved by another version fits this catalogue.
    pub(crate) fn fits(&self) -> bool {
        self.metrics.len() == headline().count()
    }
}

fn headline() -> impl Iterator<Item = &'static gradwatch_spectral::catalogue::Metric> {
    EDGE_METRICS.iter().filter(|metric| metric.headline)
}
