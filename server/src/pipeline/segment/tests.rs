use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
};

use gradwatch_store::{AttemptId, Encoding, GroupSpec, Kind, RunId, StreamSpec, TensorSpec};

use super::*;
use crate::{
    metrics::Metrics,
    pipeline::{
        budget::Budget,
        frame::{Body, Frame, Payload},
    },
};

const DIM: usize = 64;
/// Steps that the attempt has when its owner begins.
const SETTLED: u64 = 10;

/// An attempt of two shards and two groups, with all but `SETTLED` steps to come.
fn taken_up() -> SegmentOwner {
    let group = |name: &str| GroupSpec {
        name: name.to_owned(),
        tensors: vec![TensorSpec { name: format!("{name}.w"), elements: 1_000 }],
    };
    let segment = Segment {
        segment: 1,
        attempt_id: AttemptId(uuid::Uuid::from_u128(1)),
        started_at_us: 1,
        opened_at_us: 1,
        resumes: None,
        shard_count: 2,
        spec: StreamSpec {
            sketch_dim: DIM,
            sketch_seed: 7,
            encoding: Encoding::F32,
            window_lengths: vec![20],
            groups: vec![group("first"), group("second")],
            kinds: vec![Kind::Update],
            update_interval: 1,
            layers: Vec::new(),
        },
        environment: String::new(),
        last_step: Some(SETTLED),
    };
    let mark =
        |shard| ShardMark { shard, writer_id: format!("writer of {shard}"), committed_seq: SETTLED, keep_from_seq: 1 };
    let config = Config::embedded(SocketAddr::from(([127, 0, 0, 1], 0)), "unused".as_ref()).expect("valid defaults");
    let marks = [mark(0), mark(1)];
    SegmentOwner::new(segment, &marks, &config, &config.detectors, Arc::default(), BTreeSet::new())
        .expect("valid windows")
}

/// What is recorded of a step that every shard sent with seq = step.
fn row(step: u64) -> StepRow {
    StepRow {
        segment: 1,
        step,
        seqs: vec![Some(step), Some(step)],
        wall_time_us: 0,
        received_at_us: 0,
        learning_rate: None,
        weight_decay: None,
        phase: 0,
        complete: true,
        scalars: BTreeMap::new(),
        nonfinite_payloads: Vec::new(),
    }
}

/// A frame with a row of each of `groups`.
fn frame(step: u64, groups: &[usize]) -> Item {
    let payload = |&group: &usize| Payload {
        group,
        kind: Kind::Update,
        base_step: step - 1,
        body: Body::F32([step as f32; DIM].iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into()),
    };
    Item::Frame(Frame {
        seq: step,
        step,
        wall_time_us: 0,
        phase: 0,
        learning_rate: None,
        weight_decay: None,
        group_learning_rates: BTreeMap::new(),
        group_weight_decays: BTreeMap::new(),
        scalars: BTreeMap::new(),
        payloads: groups.iter().map(payload).collect(),
        snapshots: Vec::new(),
        predictions: Vec::new(),
        edge_terms: Vec::new(),
        happened: Vec::new(),
    })
}

/// Lets an owner do something in a commit of its own, at a time and in an attempt that is live to the end or not at all.
fn at<T>(now_us: i64, live: bool, act: impl FnOnce(&mut Turn<'_>) -> T) -> (T, RunCommit) {
    let mut commit = RunCommit::new(RunId(uuid::Uuid::from_u128(2)), 1);
    let live_to_step = live.then_some(u64::MAX);
    let done = act(&mut Turn {
        now_us,
        overdue_before_us: Some(now_us - 10),
        live_to_step,
        one_step: false,
        commit: &mut commit,
    });
    (done, commit)
}

/// The groups of a commit's `window.restarted` events.
fn restarted(commit: &RunCommit) -> Vec<&str> {
    let events = commit.events.iter().filter(|event| event.event_type == "window.restarted");
    events.filter_map(|event| event.group.as_deref()).collect()
}

#[tokio::test]
async fn a_rejected_frame_at_the_end_of_a_batch_does_not_hold_back_a_refill() {
    let mut owner = taken_up();
    let rows: VecDeque<StepRow> = (1..=SETTLED).filter(|step| *step != 5).map(row).collect();
    owner.refill(&rows, true);
    let budget = Budget::new(1 << 20, Arc::new(Metrics::new()));
    let shares = [budget.share(), budget.share()];
    // So much waits elsewhere that of shard 0 only what it brings first may wait.
    let hog = budget.reserve(&shares[0], 2 * shares[0].part_bytes()).await.expect("there is room");
    assert!(hog.may_wait());
    for (shard, steps) in [(0, 1..=5), (0, 6..=10), (1, 1..=10)] {
        let permit = budget.reserve(&shares[shard as usize], shares[0].part_bytes()).await.expect("there is room");
        at(1, true, |turn| {
            let before_seq = owner.shard(shard).expect("a shard").came_to_seq();
            for step in steps {
                owner.take(shard, frame(step, &[0]), turn);
            }
            owner.advance(turn);
            owner.keep(shard, before_seq, permit);
        });
    }
    assert_eq!(owner.ask_again(0), Some(6), "5 belongs to no step, so that 1 to 5 are done with");
}

#[test]
fn a_shard_that_has_ended_is_not_missed_in_windows_that_get_no_more_rows() {
    let mut owner = taken_up();
    owner.restore_shard(1, ShardEvent::Finished(RunState::Finished));
    owner.refill(&(1..=SETTLED).map(row).collect(), true);
    assert_eq!(owner.refill_from_seq(0), None);
    let ((), commit) = at(1, true, |turn| {
        owner.take(0, frame(SETTLED + 1, &[0]), turn);
        owner.advance(turn);
    });
    assert_eq!(commit.steps.len(), 1);
    assert_eq!(restarted(&commit), ["first"], "by the step that is incomplete, as without a restart");
}

#[test]
fn a_lost_shard_costs_a_refill_only_the_windows_that_had_rows() {
    let mut owner = taken_up();
    owner.restore_shard(1, ShardEvent::Lost);
    owner.refill(&(1..=SETTLED).map(row).collect(), true);
    let ((), commit) = at(1, true, |turn| {
        for step in 1..=SETTLED {
            owner.take(0, frame(step, &[1]), turn);
        }
        owner.advance(turn);
    });
    assert_eq!(restarted(&commit), ["second"]);
}

#[test]
fn a_commit_of_one_step_leaves_the_others_to_the_next() {
    let mut owner = taken_up();
    at(1, true, |turn| {
        for step in 11..=13 {
            owner.take(0, frame(step, &[0]), turn);
        }
        assert_eq!(owner.advance(turn).live_steps, 0);
        let gave_up = Item::Dropped { from_seq: 11, to_seq: 13, first_step: 11, last_step: 13 };
        owner.take(1, gave_up, turn);
    });
    for step in 11..=13 {
        let (advanced, commit) = at(2, true, |turn| {
            turn.one_step = true;
            owner.advance(turn)
        });
        let steps: Vec<u64> = commit.steps.iter().map(|row| row.step).collect();
        assert_eq!((steps, advanced.live_steps), (vec![step], 1));
    }
}

#[test]
fn what_befalls_the_shards_of_a_superseded_attempt_is_recorded() {
    let mut owner = taken_up();
    let types = |commit: &RunCommit| commit.events.iter().map(|event| event.event_type.clone()).collect::<Vec<_>>();
    at(1, false, |turn| {
        for step in 11..=13 {
            owner.take(0, frame(step, &[0]), turn);
        }
    });
    let (advanced, commit) = at(100, false, |turn| owner.advance(turn));
    assert!(advanced.lost);
    assert_eq!(types(&commit), ["run.shard_lost"], "and no window's event");
    let (_, commit) = at(101, false, |turn| owner.take(1, frame(11, &[0]), turn));
    assert_eq!(types(&commit), ["run.shard_returned"]);
}
