//! The live line against its definition, on random trees of attempts.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::model::{Encoding, Resumes, StreamSpec};

/// What a random segment is made of: start time, parent (by index, if below its own), resume step.
type Drawn = (i64, Option<(usize, u64)>);

const LAST_STEP: u64 = 12;

fn segment(number: u32, started_at_us: i64, resumes: Option<Resumes>) -> Segment {
    Segment {
        segment: number,
        attempt_id: attempt_id(number),
        started_at_us,
        opened_at_us: 0,
        resumes,
        shard_count: 1,
        spec: StreamSpec {
            sketch_dim: 1,
            sketch_seed: 0,
            encoding: Encoding::F32,
            window_lengths: Vec::new(),
            groups: Vec::new(),
            kinds: Vec::new(),
            update_interval: 1,
            layers: Vec::new(),
        },
        environment: String::new(),
        last_step: None,
    }
}

fn attempt_id(number: u32) -> AttemptId {
    AttemptId(Uuid::from_u128(u128::from(number)))
}

/// Segments numbered from 1, each resuming one of a lower number or nothing, as the store hands them out.
fn segments() -> impl Strategy<Value = Vec<Segment>> {
    let drawn = (0_i64..4, prop::option::weighted(0.8, (0_usize..6, 0..=LAST_STEP)));
    prop::collection::vec(drawn, 0..6).prop_map(|drawn: Vec<Drawn>| {
        let made = drawn.iter().enumerate().map(|(index, (started_at_us, parent))| {
            let resumes = parent
                .filter(|_| index > 0)
                .map(|(parent, step)| Resumes { attempt_id: attempt_id((parent % index) as u32 + 1), step });
            segment(index as u32 + 1, *started_at_us, resumes)
        });
        made.collect()
    })
}

/// All orders of the numbers `0..count`.
fn permutations(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let insert_everywhere = |shorter: Vec<usize>| {
        (0..count).map(move |at| {
            let mut longer = shorter.clone();
            longer.insert(at, count - 1);
            longer
        })
    };
    permutations(count - 1).into_iter().flat_map(insert_everywhere).collect()
}

/// The definition of the order: of all orders in which every attempt stands behind what it resumes, the one that has
/// the earliest start first, then the earliest second, and so on.
fn order_by_enumeration(segments: &[Segment]) -> Vec<u32> {
    let place = |order: &[usize], id: AttemptId| order.iter().position(|index| segments[*index].attempt_id == id);
    let allowed = |order: &Vec<usize>| {
        order.iter().enumerate().all(|(at, index)| {
            segments[*index].resumes.is_none_or(|resumes| place(order, resumes.attempt_id).unwrap() < at)
        })
    };
    let key = |order: &Vec<usize>| -> Vec<(i64, u32)> {
        order.iter().map(|index| (segments[*index].started_at_us, segments[*index].segment)).collect()
    };
    let best = permutations(segments.len()).into_iter().filter(allowed).min_by_key(key).unwrap();
    best.into_iter().map(|index| segments[index].segment).collect()
}

/// The definition of the live line: step t of segment s is live iff every later segment resumes at t or above.
fn is_live(segments: &[Segment], number: u32, step: u64) -> bool {
    let order = order_by_enumeration(segments);
    let at = order.iter().position(|other| *other == number).unwrap();
    order[at + 1..].iter().all(|later| {
        let later = segments.iter().find(|segment| segment.segment == *later).unwrap();
        later.resumes.is_some_and(|resumes| step <= resumes.step)
    })
}

proptest! {
    #[test]
    fn order_is_the_least_that_puts_children_behind(segments in segments()) {
        prop_assert_eq!(order(&segments), order_by_enumeration(&segments));
    }

    #[test]
    fn order_does_not_depend_on_the_list(segments in segments(), seed: u64) {
        let mut shuffled = segments.clone();
        let count = shuffled.len().max(1);
        shuffled.rotate_left(seed as usize % count);
        prop_assert_eq!(order(&shuffled), order(&segments));
    }

    #[test]
    fn live_is_what_its_definition_says(segments in segments(), from_step in 0..=LAST_STEP, to_step in 0..=LAST_STEP) {
        let ranges = live(&segments, from_step, to_step);
        for segment in &segments {
            let of_segment: Vec<_> = ranges.iter().filter(|range| range.segment == segment.segment).collect();
            prop_assert!(of_segment.len() <= 1, "a segment comes twice");
            for step in 0..=LAST_STEP + 1 {
                let found = of_segment.iter().any(|range| (range.from_step..=range.to_step).contains(&step));
                let expected = (from_step..=to_step).contains(&step) && is_live(&segments, segment.segment, step);
                prop_assert_eq!(found, expected, "segment {} step {}", segment.segment, step);
            }
        }
        let order = order(&segments);
        let place = |range: &SegmentRange| order.iter().position(|number| *number == range.segment);
        prop_assert!(ranges.is_sorted_by_key(place), "not in the order of attempts");
        prop_assert!(ranges.iter().all(|range| range.from_step <= range.to_step), "an empty range");
    }

    /// A segment records steps above the one it resumes at. Then each step is live in one segment at most, and the
    /// live line, range behind range, ascends: a chart of it never doubles back.
    #[test]
    fn the_live_line_ascends(segments in segments()) {
        let mut last = None;
        for range in live(&segments, 0, LAST_STEP) {
            let segment = segments.iter().find(|segment| segment.segment == range.segment).unwrap();
            let first = segment.resumes.map_or(0, |resumes| resumes.step + 1).max(range.from_step);
            if first <= range.to_step {
                prop_assert!(last.is_none_or(|last| last < first), "step {first} after {last:?}");
                last = Some(range.to_step);
            }
        }
    }

    #[test]
    fn all_is_every_segment_whole(segments in segments(), from_step: u64, to_step: u64) {
        let ranges = all(&segments, from_step, to_step);
        prop_assert!(ranges.iter().map(|range| range.segment).eq(segments.iter().map(|segment| segment.segment)));
        prop_assert!(ranges.iter().all(|range| (range.from_step, range.to_step) == (from_step, to_step)));
    }
}

#[test]
fn a_resumed_run_shows_the_old_line_up_to_the_resume_step_and_the_new_one_behind() {
    let resumes = Some(Resumes { attempt_id: attempt_id(1), step: 10 });
    let segments = [segment(1, 0, None), segment(2, 5, resumes)];
    let range = |segment, to_step| SegmentRange { segment, from_step: 0, to_step };
    assert_eq!(live(&segments, 0, u64::MAX), [range(1, 10), range(2, u64::MAX)]);
}

#[test]
fn an_attempt_that_claims_an_early_start_still_stands_behind_what_it_resumes() {
    let resumes = Some(Resumes { attempt_id: attempt_id(1), step: 10 });
    let segments = [segment(1, 100, None), segment(2, -100, resumes)];
    assert_eq!(order(&segments), [1, 2]);
}

#[test]
fn a_cycle_still_gives_every_segment_a_place() {
    let resumes = |number| Some(Resumes { attempt_id: attempt_id(number), step: 10 });
    let segments = [segment(1, 2, resumes(2)), segment(2, 1, resumes(1))];
    assert_eq!(order(&segments), [2, 1]);
}
