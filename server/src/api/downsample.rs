//! Fewer points for a chart, without losing a spike: buckets of steps with their extremes.

use std::collections::BTreeMap;

use gradwatch_store::{RollupPoint, SeriesPoint, lineage::SegmentRange};

/// Steps per rollup bucket, coarse to fine. The pipeline writes both levels.
pub(crate) const ROLLUP_STEPS: [u64; 2] = [16_384, 256];

/// Buckets at least this wide are read from rollups: then no more than this many raw rows are read for each bucket
/// that was asked for.
const RAW_WIDTH: u64 = 128;

/// Steps a bucket must span so that `steps` of them fit into `max_points` buckets. A width that rollups can serve is a
/// multiple of theirs, so that no rollup bucket falls into two of ours.
pub(crate) fn width(steps: u64, max_points: usize, has_rollups: bool) -> u64 {
    let width = steps.div_ceil(max_points.max(1) as u64).max(1);
    let [coarse, fine] = ROLLUP_STEPS;
    if !has_rollups || width < RAW_WIDTH {
        width
    } else if width < coarse / 2 {
        width.next_multiple_of(fine)
    } else {
        width.next_multiple_of(coarse)
    }
}

/// The rollup levels that a width can be read from, coarse to fine.
pub(crate) fn levels(width: u64, has_rollups: bool) -> impl Iterator<Item = u64> {
    ROLLUP_STEPS.into_iter().filter(move |steps| has_rollups && width.is_multiple_of(*steps))
}

/// What of `ranges` the full buckets found do not cover.
///
/// Invariant: every finite value inside the ranges is in exactly one of `found` and what is answered here. Buckets of
/// a metric are written in order, each once a value of a later bucket arrived, and the store answers only those wholly
/// inside the ranges. So before the last bucket found, a missing bucket is empty; steps of a bucket that a range cuts
/// at its start, and all steps behind the last bucket found, are not covered: there a bucket may be open, or hold
/// steps that were rewound.
pub(crate) fn uncovered(ranges: &[SegmentRange], found: &[RollupPoint], bucket_steps: u64) -> Vec<SegmentRange> {
    let mut rest = Vec::new();
    for range in ranges {
        let first_full = range.from_step.div_ceil(bucket_steps);
        // A segment may have two ranges, before and behind the coarser buckets found.
        let inside = |point: &&RollupPoint| {
            point.segment == range.segment && (range.from_step..=range.to_step).contains(&(point.bucket * bucket_steps))
        };
        let last = found.iter().filter(inside).map(|point| point.bucket).max();
        let Some(last) = last else {
            rest.push(*range);
            continue;
        };
        if range.from_step < first_full * bucket_steps {
            rest.push(SegmentRange { to_step: first_full * bucket_steps - 1, ..*range });
        }
        let behind = (last + 1) * bucket_steps;
        if behind <= range.to_step {
            rest.push(SegmentRange { from_step: behind, ..*range });
        }
    }
    rest
}

/// A bucket of steps of one segment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bucket {
    pub(crate) segment: u32,
    /// The first step with a value; where rollups were read, the first step of the first of them.
    pub(crate) step: u64,
    /// (last step with a finite value, min, max, last); none when no value was finite.
    pub(crate) finite: Option<Finite>,
    /// Number of finite values.
    pub(crate) count: u64,
    /// Number of values that were not finite; `None` where any rollup was read: those count finite values only.
    pub(crate) nonfinite: Option<u64>,
}

/// The finite values of a bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Finite {
    pub(crate) last_step: u64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) last: f64,
}

impl Finite {
    fn merge(self, other: Self) -> Self {
        let later = if other.last_step > self.last_step { other } else { self };
        Self { min: self.min.min(other.min), max: self.max.max(other.max), ..later }
    }
}

/// Collects values and rollups into buckets. They may come in any order.
#[derive(Debug)]
pub(crate) struct Fold {
    width: u64,
    /// The ranges with their place on the line, by segment.
    places: BTreeMap<u32, (usize, SegmentRange)>,
    buckets: BTreeMap<(usize, u64), Bucket>,
    /// Where raw rows are read; `None` when non-finite values are known everywhere.
    raw: Option<Vec<SegmentRange>>,
}

impl Fold {
    /// Buckets of `width` steps over `ranges`, of which each names another segment.
    pub(crate) fn new(width: u64, ranges: &[SegmentRange]) -> Self {
        let places = ranges.iter().enumerate().map(|(place, range)| (range.segment, (place, *range)));
        Self { width, places: places.collect(), buckets: BTreeMap::new(), raw: None }
    }

    /// Says that non-finite values are seen in these parts of the ranges only: elsewhere rollups are read, which leave
    /// them out.
    pub(crate) fn sees_nonfinite_only_in(&mut self, raw: &[SegmentRange]) {
        self.raw = Some(raw.to_vec());
    }

    /// Takes in a value.
    pub(crate) fn value(&mut self, point: SeriesPoint) {
        let SeriesPoint { segment, step, value } = point;
        let finite = value.is_finite().then_some(Finite { last_step: step, min: value, max: value, last: value });
        let count = u64::from(finite.is_some());
        self.add(Bucket { segment, step, finite, count, nonfinite: Some(1 - count) });
    }

    /// Takes in a full bucket of a rollup, whose steps divide our width.
    pub(crate) fn rollup(&mut self, point: RollupPoint, bucket_steps: u64) {
        debug_assert!(self.width.is_multiple_of(bucket_steps), "{} {bucket_steps}", self.width);
        let RollupPoint { segment, bucket, last_step, min, max, last, count } = point;
        let finite = Some(Finite { last_step, min, max, last });
        self.add(Bucket { segment, step: bucket * bucket_steps, finite, count, nonfinite: Some(0) });
    }

    fn add(&mut self, part: Bucket) {
        let Some(&(place, _)) = self.places.get(&part.segment) else { return };
        let empty = Bucket { finite: None, count: 0, nonfinite: Some(0), ..part };
        let bucket = self.buckets.entry((place, part.step / self.width)).or_insert(empty);
        bucket.step = bucket.step.min(part.step);
        bucket.count += part.count;
        bucket.nonfinite = bucket.nonfinite.zip(part.nonfinite).map(|(a, b)| a + b);
        bucket.finite = match (bucket.finite, part.finite) {
            (Some(a), Some(b)) => Some(a.merge(b)),
            (a, b) => a.or(b),
        };
    }

    /// The buckets that hold values, by place of their segment and step, and their width. There are at most
    /// `max_points` of them, but at least one for each segment that has values; to get there the width is doubled.
    pub(crate) fn finish(mut self, max_points: usize) -> (u64, Vec<Bucket>) {
        while self.buckets.len() > max_points.max(self.segments_with_values()) {
            self.width = self.width.saturating_mul(2);
            for (_, bucket) in std::mem::take(&mut self.buckets) {
                self.add(bucket);
            }
        }
        let mut buckets = std::mem::take(&mut self.buckets);
        for ((_, number), bucket) in &mut buckets {
            if !self.is_raw(*number, bucket.segment) {
                bucket.nonfinite = None;
            }
        }
        (self.width, buckets.into_values().collect())
    }

    /// Whether raw rows were read for every step of a bucket that its range holds.
    fn is_raw(&self, number: u64, segment: u32) -> bool {
        let (Some(raw), Some((_, range))) = (&self.raw, self.places.get(&segment)) else { return true };
        let from_step = (number * self.width).max(range.from_step);
        let to_step = (number * self.width).saturating_add(self.width - 1).min(range.to_step);
        let inside = raw
            .iter()
            .filter(|part| part.segment == segment)
            .map(|part| (part.to_step.min(to_step) + 1).saturating_sub(part.from_step.max(from_step)));
        inside.sum::<u64>() == to_step + 1 - from_step
    }

    fn segments_with_values(&self) -> usize {
        let mut places: Vec<usize> = self.buckets.keys().map(|(place, _)| *place).collect();
        places.dedup();
        places.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Rows of one segment as the store would hold them, with the rollups that the pipeline would have written: a
    /// bucket once a finite value of a later bucket arrived.
    #[derive(Clone, Debug)]
    struct Stored {
        rows: Vec<SeriesPoint>,
    }

    impl Stored {
        fn series(&self, ranges: &[SegmentRange]) -> Vec<SeriesPoint> {
            let inside = |point: &&SeriesPoint, range: &SegmentRange| {
                point.segment == range.segment && (range.from_step..=range.to_step).contains(&point.step)
            };
            ranges
                .iter()
                .flat_map(|range| self.rows.iter().filter(move |point| inside(point, range)))
                .copied()
                .collect()
        }

        fn rollups(&self, ranges: &[SegmentRange], bucket_steps: u64) -> Vec<RollupPoint> {
            let mut found = Vec::new();
            for range in ranges {
                let mut buckets: BTreeMap<u64, RollupPoint> = BTreeMap::new();
                for point in self.rows.iter().filter(|p| p.segment == range.segment && p.value.is_finite()) {
                    let bucket = point.step / bucket_steps;
                    let entry = buckets.entry(bucket).or_insert(RollupPoint {
                        segment: point.segment,
                        bucket,
                        last_step: point.step,
                        min: point.value,
                        max: point.value,
                        last: point.value,
                        count: 0,
                    });
                    entry.last_step = point.step;
                    entry.min = entry.min.min(point.value);
                    entry.max = entry.max.max(point.value);
                    entry.last = point.value;
                    entry.count += 1;
                }
                buckets.pop_last();
                found.extend(buckets.into_values().filter(|point| {
                    point.bucket * bucket_steps >= range.from_step
                        && (point.bucket + 1) * bucket_steps - 1 <= range.to_step
                }));
            }
            found
        }
    }

    /// As the handler does it: coarse rollups, finer ones where those end, raw rows where all end.
    fn through_rollups(
        stored: &Stored,
        ranges: &[SegmentRange],
        width: u64,
        max_points: usize,
    ) -> (u64, Vec<Bucket>, usize) {
        let mut fold = Fold::new(width, ranges);
        let mut rest = ranges.to_vec();
        let mut read = 0;
        for bucket_steps in levels(width, true) {
            let found = stored.rollups(&rest, bucket_steps);
            read += found.len();
            rest = uncovered(&rest, &found, bucket_steps);
            found.into_iter().for_each(|point| fold.rollup(point, bucket_steps));
        }
        fold.sees_nonfinite_only_in(&rest);
        let raw = stored.series(&rest);
        read += raw.len();
        raw.into_iter().for_each(|point| fold.value(point));
        let (width, buckets) = fold.finish(max_points);
        (width, buckets, read)
    }

    fn brute_force(stored: &Stored, ranges: &[SegmentRange], width: u64) -> Vec<Bucket> {
        let mut buckets = Vec::new();
        for range in ranges {
            let rows = stored.series(std::slice::from_ref(range));
            let mut numbers: Vec<u64> = rows.iter().map(|row| row.step / width).collect();
            numbers.dedup();
            for number in numbers {
                let inside: Vec<&SeriesPoint> = rows.iter().filter(|row| row.step / width == number).collect();
                let finite: Vec<&&SeriesPoint> = inside.iter().filter(|row| row.value.is_finite()).collect();
                let values = || finite.iter().map(|row| row.value);
                buckets.push(Bucket {
                    segment: range.segment,
                    step: inside[0].step,
                    finite: finite.last().map(|last| Finite {
                        last_step: last.step,
                        min: values().fold(f64::INFINITY, f64::min),
                        max: values().fold(f64::NEG_INFINITY, f64::max),
                        last: last.value,
                    }),
                    count: finite.len() as u64,
                    nonfinite: Some((inside.len() - finite.len()) as u64),
                });
            }
        }
        buckets
    }

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![
            20 => -1e3..1e3_f64,
            1 => Just(f64::NAN),
            1 => Just(f64::INFINITY),
            1 => Just(f64::NEG_INFINITY),
            1 => Just(1e300),
        ]
    }

    /// Up to three segments with rows at uneven steps.
    fn stored() -> impl Strategy<Value = Stored> {
        let segment = (0_u64..3_000, prop::collection::vec((1_u64..400, value()), 0..150));
        prop::collection::vec(segment, 1..4).prop_map(|segments| {
            let mut rows = Vec::new();
            for (number, (start, steps)) in (1..).zip(segments) {
                let mut step = start;
                for (gap, value) in steps {
                    step += gap;
                    rows.push(SeriesPoint { segment: number, step, value });
                }
            }
            Stored { rows }
        })
    }

    proptest! {
        #[test]
        fn rollups_and_raw_rows_together_equal_brute_force(
            stored in stored(),
            bounds in prop::collection::vec((0_u64..5_000, 0_u64..60_000), 3),
            width in prop_oneof![(1_u64..6).prop_map(|n| 256 * n), (1_u64..3).prop_map(|n| 16_384 * n)],
            max_points in 1_usize..400,
        ) {
            let ranges: Vec<SegmentRange> = (1..).zip(bounds)
                .map(|(segment, (from_step, steps))| SegmentRange { segment, from_step, to_step: from_step + steps })
                .collect();
            let (width, buckets, _) = through_rollups(&stored, &ranges, width, max_points);
            let expected = brute_force(&stored, &ranges, width);
            // Where rollups were read, a bucket that holds nothing finite is not seen, and nobody counts.
            let expected: Vec<Bucket> = expected.into_iter()
                .filter(|bucket| bucket.count > 0 || buckets.iter().any(|b| (b.segment, b.step / width) == (bucket.segment, bucket.step / width)))
                .collect();
            prop_assert_eq!(buckets.len(), expected.len());
            for (bucket, expected) in buckets.iter().zip(&expected) {
                let nonfinite = bucket.nonfinite.and(expected.nonfinite);
                prop_assert_eq!(bucket.step / width, expected.step / width);
                prop_assert!(expected.finite.is_none_or(|finite| bucket.step <= finite.last_step));
                if bucket.nonfinite.is_some() {
                    prop_assert_eq!(bucket.step, expected.step);
                }
                prop_assert_eq!(*bucket, Bucket { step: bucket.step, nonfinite, ..*expected });
            }
            prop_assert!(buckets.len() <= max_points.max(3));
        }

        #[test]
        fn raw_rows_alone_equal_brute_force_with_their_nonfinite_values(
            stored in stored(), width in 1_u64..700, max_points in 1_usize..400, from_step in 0_u64..5_000,
        ) {
            let ranges: Vec<SegmentRange> =
                (1..=3).map(|segment| SegmentRange { segment, from_step, to_step: 1 << 53 }).collect();
            let mut fold = Fold::new(width, &ranges);
            stored.series(&ranges).into_iter().for_each(|point| fold.value(point));
            let (width, buckets) = fold.finish(max_points);
            prop_assert_eq!(buckets, brute_force(&stored, &ranges, width));
        }

        #[test]
        fn a_width_fits_the_points_and_the_rollups(steps in 0_u64..1 << 53, max_points in 1_usize..10_000) {
            for has_rollups in [false, true] {
                let width = width(steps, max_points, has_rollups);
                prop_assert!(steps.div_ceil(width) <= max_points as u64);
                if has_rollups && width >= RAW_WIDTH {
                    prop_assert!(levels(width, true).next().is_some());
                }
            }
        }
    }

    #[test]
    fn few_points_are_read_for_a_long_chart() {
        let rows = (0..1_000_000).map(|step| SeriesPoint { segment: 1, step, value: (step % 977) as f64 }).collect();
        let stored = Stored { rows };
        let ranges = [SegmentRange { segment: 1, from_step: 100, to_step: 999_999 }];
        for (max_points, most) in [(1_000, 10_000), (10, 1_000)] {
            let width = width(999_900, max_points, true);
            let (_, buckets, read) = through_rollups(&stored, &ranges, width, max_points);
            assert!(buckets.len() <= max_points);
            assert!(read <= most, "{read} points read for {max_points}");
            assert_eq!(buckets.iter().map(|bucket| bucket.count).sum::<u64>(), 999_900);
        }
    }
}
