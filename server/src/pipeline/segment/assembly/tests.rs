use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const FAR: Option<i64> = Some(i64::MAX);

fn frame(seq: u64, step: u64) -> Item {
    Item::Frame(Frame {
        seq,
        step,
        wall_time_us: 0,
        phase: 0,
        learning_rate: None,
        weight_decay: None,
        group_learning_rates: BTreeMap::new(),
        group_weight_decays: BTreeMap::new(),
        scalars: BTreeMap::new(),
        payloads: Vec::new(),
        snapshots: Vec::new(),
        predictions: Vec::new(),
        edge_terms: Vec::new(),
        happened: Vec::new(),
    })
}

/// All that is ready: steps with the shards that take part, and items that belong to none.
fn drain(assembler: &mut Assembler, overdue_before_us: Option<i64>) -> Vec<(Option<u64>, Vec<u32>)> {
    std::iter::from_fn(|| match assembler.next(overdue_before_us)? {
        Next::Pass { shard, .. } => Some((None, vec![shard])),
        Next::Step(parts) => {
            assembler.settled(parts.step);
            Some((Some(parts.step), parts.frames.iter().map(|(shard, _)| *shard).collect()))
        }
    })
    .collect()
}

#[test]
fn a_step_waits_for_every_shard_and_no_longer() {
    let mut assembler = Assembler::new(3, None);
    assembler.push(0, frame(1, 1), 0);
    assembler.push(2, frame(1, 1), 0);
    assert_eq!(drain(&mut assembler, None), []);
    assembler.push(1, frame(1, 2), 0);
    assert_eq!(drain(&mut assembler, None), [(Some(1), vec![0, 2])], "shard 1 went past it");
    assembler.push(1, Item::Dropped { from_seq: 2, to_seq: 3, first_step: 3, last_step: 4 }, 0);
    for shard in [0, 2] {
        (2..=5).for_each(|step| assembler.push(shard, frame(step, step), 0));
    }
    let ready = [(Some(2), vec![0, 1, 2]), (None, vec![1]), (Some(3), vec![0, 2]), (Some(4), vec![0, 2])];
    assert_eq!(drain(&mut assembler, None), ready, "5 was not given up");
    assembler.end(1);
    assert_eq!(drain(&mut assembler, None), [(Some(5), vec![0, 2])]);
}

#[test]
fn three_steps_in_vain_are_a_loss_and_a_frame_in_between_is_none() {
    let mut assembler = Assembler::new(2, Some(10));
    for step in 11..=12 {
        assembler.push(0, frame(step, step), 5);
    }
    assert_eq!(drain(&mut assembler, Some(4)), [], "not yet");
    assert_eq!(drain(&mut assembler, Some(5)).len(), 2);
    assert!(!assembler.is_lost(1));
    assembler.push(1, frame(1, 11), 6);
    assert_eq!(drain(&mut assembler, None), [(None, vec![1])], "late");
    for step in 13..=16 {
        assembler.push(0, frame(step, step), 7);
    }
    assert_eq!(drain(&mut assembler, Some(6)), [], "what it waits for came later");
    assert_eq!(drain(&mut assembler, FAR).len(), 4);
    assert!(assembler.is_lost(1));
    assembler.push(0, frame(17, 17), 8);
    assert_eq!(drain(&mut assembler, None).len(), 1, "nobody waits for it");
    assert!(assembler.find(1));
    assembler.push(0, frame(18, 18), 9);
    assert_eq!(drain(&mut assembler, None), []);
}

#[test]
fn a_shard_that_has_to_find_back_gets_the_time_for_that() {
    let mut assembler = Assembler::new(2, None);
    assembler.expect_back(0, 100);
    assembler.expect_back(1, 100);
    assembler.came_back(0, 5);
    (1..=3).for_each(|step| assembler.push(0, frame(step, step), 6));
    assert_eq!(drain(&mut assembler, Some(99)), [], "it may still come");
    assembler.came_back(1, 50);
    assert_eq!(drain(&mut assembler, Some(49)), [], "it has come");
    assert_eq!(drain(&mut assembler, Some(50)).len(), 3, "and brings nothing");
    assembler.came_back(1, 200);
    assembler.push(0, frame(4, 4), 201);
    assert_eq!(drain(&mut assembler, Some(201)).len(), 1, "connecting again and again is no sign of a frame");
}

#[test]
fn what_is_taken_back_was_never_there() {
    let mut assembler = Assembler::new(2, None);
    (1..=4).for_each(|step| assembler.push(0, frame(step, step), 0));
    assembler.forget_behind(0, 2);
    (1..=4).for_each(|step| assembler.push(1, frame(step, step), 0));
    assert_eq!(drain(&mut assembler, None), [(Some(1), vec![0, 1]), (Some(2), vec![0, 1])]);
}

proptest! {
    /// Which steps are settled, with whom and in which order, is a function of what each shard brings.
    #[test]
    fn the_order_of_arrival_decides_nothing(
        steps in prop::collection::vec(prop::collection::btree_set(1_u64..30, 1..20), 1..5),
        order in prop::collection::vec(0_usize..5, 0..200),
    ) {
        let shards = steps.len();
        let frames: Vec<Vec<Item>> =
            steps.iter().map(|steps| (1..).zip(steps).map(|(seq, &step)| frame(seq, step)).collect()).collect();
        let settle = |order: &[usize]| {
            let mut assembler = Assembler::new(shards as u32, None);
            let mut rest: Vec<_> = frames.iter().map(|frames| frames.iter().cloned()).collect();
            let mut settled = Vec::new();
            let all = (0..shards).flat_map(|shard| std::iter::repeat_n(shard, 30));
            for shard in order.iter().map(|shard| shard % shards).chain(all) {
                if let Some(item) = rest[shard].next() {
                    assembler.push(shard as u32, item, 0);
                    settled.extend(drain(&mut assembler, None));
                }
            }
            (0..shards as u32).for_each(|shard| assembler.end(shard));
            settled.extend(drain(&mut assembler, None));
            settled
        };
        let settled = settle(&order);
        prop_assert_eq!(&settled, &settle(&[]));
        let expected: std::collections::BTreeSet<u64> = steps.iter().flatten().copied().collect();
        prop_assert!(settled.iter().map(|(step, _)| *step).eq(expected.iter().map(|&step| Some(step))));
        for (step, with) in settled {
            let has = |shard: &u32| steps[*shard as usize].contains(&step.unwrap_or_default());
            prop_assert!(with.iter().copied().eq((0..shards as u32).filter(has)));
        }
    }
}
