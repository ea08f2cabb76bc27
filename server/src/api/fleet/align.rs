//! Where the clock of a run is at zero.

use gradwatch_store::{
    EventQuery, LIVE_ANALYSIS, RollupPoint, SeriesMetric, SeriesQuery, Store, lineage::SegmentRange,
};

use super::{
    super::{
        downsample::{ROLLUP_STEPS, uncovered},
        series,
    },
    condition::Condition,
    members::{LeftOutRun, Member},
    request::Align,
};
use crate::error::Error;

/// Events read at once.
const PAGE: usize = 500;

/// The step of a run that stands at zero, or why there is none.
pub(super) async fn zero(store: &dyn Store, align: &Align, member: &Member) -> Result<Result<u64, LeftOutRun>, Error> {
    let (found, reason, detail) = match align {
        Align::Step => return Ok(Ok(0)),
        Align::Event(event_type) => {
            let detail = format!("no {event_type} on the live line");
            (first_event(store, event_type, member).await?, "no_event", detail)
        }
        Align::Condition(condition) => {
            let detail = format!("{condition} never held on the live line");
            (first_met(store, condition, member).await?, "condition_never_met", detail)
        }
    };
    Ok(found.ok_or_else(|| member.left_out(reason, detail)))
}

/// The lowest step with such an event. Events are kept in the order of recording, which need not be that of steps.
async fn first_event(store: &dyn Store, event_type: &str, member: &Member) -> Result<Option<u64>, Error> {
    let mut query = EventQuery {
        run_id: Some(member.run_id),
        project: None,
        types: vec![event_type.to_owned()],
        group: None,
        ranges: Some(member.live.clone()),
        after: None,
        newest_first: false,
        limit: PAGE,
    };
    let mut first = None;
    loop {
        let page = store.events(&query).await?;
        let steps = page.items.iter().filter_map(|event| event.row.step);
        first = first.into_iter().chain(steps).min();
        query.after = page.items.last().map(|event| event.event_id);
        if !page.more {
            return Ok(first);
        }
    }
}

/// The first step at which a condition holds.
async fn first_met(store: &dyn Store, condition: &Condition, member: &Member) -> Result<Option<u64>, Error> {
    let mut query = SeriesQuery {
        run_id: member.run_id,
        analysis: LIVE_ANALYSIS.to_owned(),
        metric: SeriesMetric::Scalar(condition.scalar.clone()),
        stream: None,
        ranges: member.live.clone(),
    };
    for bucket_steps in ROLLUP_STEPS {
        let found = store.rollups(&query, bucket_steps).await?;
        query.ranges = narrowed(&query.ranges, &found, bucket_steps, condition);
    }
    // The live line is in the order of steps, and so are its parts.
    for ranges in series::parts(&query.ranges) {
        query.ranges = ranges;
        if let Some(point) = store.series(&query).await?.iter().find(|point| condition.is_met(point.value)) {
            return Ok(Some(point.step));
        }
    }
    Ok(None)
}

/// What is left of `ranges` to look for the first step that meets a condition, when these buckets of it are known, in the
/// same order.
///
/// Invariant: the first step that meets it in `ranges` is the first that meets it in what is answered. Extremes are values: a
/// bucket with one that meets it holds such a step, so that none behind it is the first; one without any holds none.
fn narrowed(
    ranges: &[SegmentRange],
    found: &[RollupPoint],
    bucket_steps: u64,
    condition: &Condition,
) -> Vec<SegmentRange> {
    let meets = |point: &RollupPoint| condition.is_met(point.min) || condition.is_met(point.max);
    let Some(place) = found.iter().position(meets) else { return uncovered(ranges, found, bucket_steps) };
    let segment = found[place].segment;
    let (from_step, to_step) = (found[place].bucket * bucket_steps, (found[place].bucket + 1) * bucket_steps - 1);
    let mut before = Vec::new();
    for range in ranges {
        if range.segment == segment && (range.from_step..=range.to_step).contains(&from_step) {
            if range.from_step < from_step {
                before.push(SegmentRange { to_step: from_step - 1, ..*range });
            }
            break;
        }
        before.push(*range);
    }
    let mut left = uncovered(&before, &found[..place], bucket_steps);
    left.push(SegmentRange { segment, from_step, to_step });
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first step of the ranges whose value is above 0, and the same through buckets, for every place of up to two such
    /// values.
    #[test]
    fn buckets_change_nothing_about_what_comes_first() {
        let condition: Condition = "scalar.x > 0".parse().unwrap();
        let range = |segment, from_step, to_step| SegmentRange { segment, from_step, to_step };
        // The live line of two attempts: step 21 of the first was rewound.
        let live = [range(1, 3, 20), range(2, 21, 49)];
        let bucket_steps = 4;
        for one in 3..50 {
            for two in 3..50 {
                let value = |step: u64| if step == one || step == two { 1.0 } else { -1.0 };
                // The last bucket of an attempt is open. No value is sent at steps 8 to 15.
                let is_sent = |step: &u64| !(8..16).contains(step);
                let mut found = Vec::new();
                for range in &live {
                    for bucket in range.from_step.div_ceil(bucket_steps)..range.to_step / bucket_steps {
                        let values = (bucket * bucket_steps..(bucket + 1) * bucket_steps).filter(is_sent).map(value);
                        let values: Vec<f64> = values.collect();
                        if values.is_empty() {
                            continue;
                        }
                        let (segment, last_step) = (range.segment, (bucket + 1) * bucket_steps - 1);
                        let min = values.iter().copied().fold(f64::INFINITY, f64::min);
                        let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                        let last = values[values.len() - 1];
                        found.push(RollupPoint { segment, bucket, last_step, min, max, last, count: 4 });
                    }
                }
                let first = |ranges: &[SegmentRange]| {
                    let steps = ranges.iter().flat_map(|range| range.from_step..=range.to_step).filter(is_sent);
                    steps.clone().find(|step| condition.is_met(value(*step)))
                };
                let left = narrowed(&live, &found, bucket_steps, &condition);
                assert_eq!(first(&left), first(&live), "{one} {two}: {left:?}");
                let steps: u64 = left.iter().map(|range| range.to_step - range.from_step + 1).sum();
                assert!(steps <= 18, "{one} {two}: {left:?}");
            }
        }
    }
}
