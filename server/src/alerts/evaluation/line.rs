//! Places on the live line of a run.

use gradwatch_store::{
    Segment,
    lineage::{self, SegmentRange},
};

/// A segment and a step in it. It may lie between two steps that were recorded.
pub(crate) type Place = (u32, u64);

/// The live line: which steps of which segments, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    ranges: Vec<SegmentRange>,
    /// All segments, live or not, in the order of attempts.
    order: Vec<u32>,
}

impl Line {
    pub(crate) fn new(segments: &[Segment]) -> Self {
        Self { ranges: lineage::live(segments, 0, u64::MAX), order: lineage::order(segments) }
    }

    fn range(&self, segment: u32) -> Option<(usize, &SegmentRange)> {
        self.ranges.iter().enumerate().find(|(_, range)| range.segment == segment)
    }

    /// Whether a place is on it.
    pub(crate) fn holds(&self, (segment, step): Place) -> bool {
        self.range(segment).is_some_and(|(_, range)| step <= range.to_step)
    }

    /// What orders places that are on it.
    pub(crate) fn rank(&self, (segment, step): Place) -> (usize, u64) {
        // One that is not on the line comes last; nobody asks for it.
        (self.range(segment).map_or(usize::MAX, |(index, _)| index), step)
    }

    /// Its stretches behind a place (from the beginning, without one) up to another, which is included.
    pub(crate) fn between(&self, after: Option<Place>, through: Place) -> Vec<SegmentRange> {
        let first = after.map(|place| self.rank(place));
        let last = self.rank(through);
        let mut ranges = Vec::new();
        for (index, range) in self.ranges.iter().enumerate() {
            let from_step = match first {
                Some((at, _)) if index < at => continue,
                Some((at, step)) if index == at => step.saturating_add(1),
                _ => range.from_step,
            };
            let to_step = match index.cmp(&last.0) {
                std::cmp::Ordering::Less => range.to_step,
                std::cmp::Ordering::Equal => range.to_step.min(last.1),
                std::cmp::Ordering::Greater => break,
            };
            if from_step <= to_step {
                ranges.push(SegmentRange { segment: range.segment, from_step, to_step });
            }
        }
        ranges
    }

    /// The place right before another; none at the beginning.
    pub(crate) fn before(&self, (segment, step): Place) -> Option<Place> {
        if step > 0 {
            return Some((segment, step - 1));
        }
        let (index, _) = self.range(segment)?;
        let earlier = index.checked_sub(1).and_then(|index| self.ranges.get(index))?;
        Some((earlier.segment, earlier.to_step))
    }

    /// The last step on it that is recorded.
    pub(crate) fn end(&self, segments: &[Segment]) -> Option<Place> {
        self.ranges.iter().rev().find_map(|range| {
            let last_step = segments.iter().find(|it| it.segment == range.segment)?.last_step?;
            Some((range.segment, last_step.min(range.to_step)))
        })
    }

    /// Where the line on which a place was, that is no longer on it, parts from it: the last place that both have. None:
    /// they have nothing in common.
    pub(crate) fn parted(&self, (segment, _): Place) -> Option<Place> {
        let age = |segment: u32| self.order.iter().position(|number| *number == segment);
        let own = age(segment)?;
        let earlier = |range: &&SegmentRange| age(range.segment).is_some_and(|age| age <= own);
        self.ranges.iter().rev().find(earlier).map(|range| (range.segment, range.to_step))
    }

    /// Whether it is what the owner of the run had for the line: the last live step of each segment.
    pub(crate) fn is(&self, live_to_step: &std::collections::BTreeMap<u32, u64>) -> bool {
        self.ranges.len() == live_to_step.len()
            && self.ranges.iter().all(|range| live_to_step.get(&range.segment) == Some(&range.to_step))
    }

    /// The segment that goes on.
    pub(crate) fn newest(&self) -> Option<u32> {
        self.ranges.last().map(|range| range.segment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Segment 1, which 2 resumes behind step 200, which 3 resumes behind step 250.
    fn line(ranges: &[(u32, u64)], order: &[u32]) -> Line {
        let range = |&(segment, to_step): &(u32, u64)| SegmentRange { segment, from_step: 0, to_step };
        Line { ranges: ranges.iter().map(range).collect(), order: order.to_vec() }
    }

    fn range(segment: u32, from_step: u64, to_step: u64) -> SegmentRange {
        SegmentRange { segment, from_step, to_step }
    }

    #[test]
    fn stretches_follow_the_line_over_rewinds() {
        let line = line(&[(1, 200), (2, 250), (3, u64::MAX)], &[1, 2, 3]);
        assert_eq!(line.between(None, (2, 240)), [range(1, 0, 200), range(2, 0, 240)]);
        assert_eq!(line.between(Some((1, 150)), (3, 300)), [range(1, 151, 200), range(2, 0, 250), range(3, 0, 300)]);
        assert_eq!(line.between(Some((1, 200)), (2, 240)), [range(2, 0, 240)]);
        assert_eq!(line.between(Some((3, 300)), (3, 300)), []);
        assert_eq!(line.before((2, 0)), Some((1, 200)));
        assert_eq!(line.before((1, 0)), None);
        assert_eq!(line.before((3, 251)), Some((3, 250)));
    }

    #[test]
    fn what_was_rewound_parts_where_the_newer_attempt_begins() {
        // 1 up to 200, then 2.
        let once = line(&[(1, 200), (2, u64::MAX)], &[1, 2]);
        assert!(once.holds((1, 200)) && !once.holds((1, 201)));
        assert_eq!(once.parted((1, 300)), Some((1, 200)));
        // 3 resumes 1 before 2 had begun: 2 has no live step above 100.
        let twice = line(&[(1, 100), (2, 100), (3, u64::MAX)], &[1, 2, 3]);
        assert_eq!(twice.parted((2, 260)), Some((2, 100)));
        assert_eq!(twice.between(Some((2, 100)), (3, 110)), [range(3, 0, 110)]);
        // An unrelated launch has nothing in common with what was there.
        let other = line(&[(2, u64::MAX)], &[1, 2]);
        assert_eq!(other.parted((1, 300)), None);
    }
}
