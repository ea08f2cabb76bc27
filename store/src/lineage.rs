//! Which steps of which segments are live. Nothing is rewritten on a rewind: queries compute it from the segments.

use std::collections::HashMap;

use crate::model::{AttemptId, Segment};

/// Steps `from_step ..= to_step` of one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentRange {
    /// The segment.
    pub segment: u32,
    /// First step wanted.
    pub from_step: u64,
    /// Last step wanted.
    pub to_step: u64,
}

/// Segment numbers in the order of attempts: an attempt stands behind what it resumes; where that does not decide,
/// the earlier start comes first, then the lower segment number.
#[must_use]
pub fn order(segments: &[Segment]) -> Vec<u32> {
    let index_of: HashMap<AttemptId, usize> =
        segments.iter().enumerate().map(|(index, segment)| (segment.attempt_id, index)).collect();
    let mut placed = vec![false; segments.len()];
    let mut ordered = Vec::with_capacity(segments.len());
    while ordered.len() < segments.len() {
        let ready = |index: usize| {
            let parent = segments[index].resumes.and_then(|resumes| index_of.get(&resumes.attempt_id).copied());
            parent.is_none_or(|parent| placed[parent])
        };
        let key = |index: &usize| (segments[*index].started_at_us, segments[*index].segment);
        let waiting = || (0..segments.len()).filter(|&index| !placed[index]);
        // An attempt can only resume one that was opened before it, so there is always one that is ready; should the
        // data say otherwise, start order still gives an answer.
        let next = waiting().filter(|&index| ready(index)).min_by_key(key).or_else(|| waiting().min_by_key(key));
        let Some(next) = next else { break };
        placed[next] = true;
        ordered.push(segments[next].segment);
    }
    ordered
}

/// The live line between `from_step` and `to_step`, in the order of attempts. Invariant: a step t of segment s is
/// live iff t ≤ the resume step of every later segment. A segment that resumes nothing replaces all before it.
#[must_use]
pub fn live(segments: &[Segment], from_step: u64, to_step: u64) -> Vec<SegmentRange> {
    let by_number: HashMap<u32, &Segment> = segments.iter().map(|segment| (segment.segment, segment)).collect();
    let mut ranges = Vec::with_capacity(segments.len());
    // `Some(t)`: nothing above t is live any more; `None`: nothing at all is.
    let mut bound = Some(u64::MAX);
    for number in order(segments).into_iter().rev() {
        if let Some(bound) = bound {
            let last = bound.min(to_step);
            if from_step <= last {
                ranges.push(SegmentRange { segment: number, from_step, to_step: last });
            }
        }
        let resume_step = by_number[&number].resumes.map(|resumes| resumes.step);
        bound = bound.zip(resume_step).map(|(bound, step)| bound.min(step));
    }
    ranges.reverse();
    ranges
}

/// All segments whole, by number.
#[must_use]
pub fn all(segments: &[Segment], from_step: u64, to_step: u64) -> Vec<SegmentRange> {
    segments.iter().map(|segment| SegmentRange { segment: segment.segment, from_step, to_step }).collect()
}

#[cfg(test)]
mod tests;
