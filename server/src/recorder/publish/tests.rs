use std::sync::Weak;

use gradwatch_spectral::{
    detectors::Regime,
    edge::{EdgeParams, edge_readings},
};
use gradwatch_store::{Kind, LIVE_ANALYSIS, ReadingRow, StreamKey};
use uuid::Uuid;

use super::*;

/// Room for every commit of a test.
const ROOMY: usize = 1 << 30;

fn event(step: u64) -> EventRow {
    EventRow {
        event_type: "edge.regime".into(),
        segment: 1,
        step: Some(step),
        at_us: 0,
        group: None,
        kind: None,
        window: None,
        from: Some("plateau".into()),
        to: Some("transition".into()),
        evidence: serde_json::json!({"reading": "edge.dk", "values": [1.0, 2.0]}),
    }
}

fn readings(count: u64) -> Vec<Reading> {
    let updates: Vec<[f64; 2]> = (0..count).map(|step| [1.0, (step as f64).sin()]).collect();
    let params = EdgeParams { window: 3, parameter_count: 64, sketch_dim: None };
    let edges = edge_readings(&updates, params, &vec![1e-3; updates.len()]).unwrap();
    let row = |(step, edge)| ReadingRow {
        analysis: LIVE_ANALYSIS.into(),
        stream: StreamKey { group: "all".into(), kind: Kind::Update, window: 3 },
        segment: 1,
        step,
        regime: Regime::Warming,
        edge,
    };
    (0..count).zip(edges).map(row).map(|row| Reading { row, wall_time_us: 0 }).collect()
}

fn run(number: u64, reading_count: u64, event_count: u64) -> PublishedRun {
    PublishedRun {
        run_id: RunId(Uuid::from_u64_pair(1, number)),
        project: Arc::from("vision"),
        live_to_step: Arc::new(BTreeMap::from([(1, 10)])),
        readings: readings(reading_count),
        layer_readings: Vec::new(),
        events: (0..event_count).map(|step| (step, event(step))).collect(),
        patch: RunPatch { last_step: Some(number), ..RunPatch::default() },
    }
}

fn publication(commit_seq: u64) -> Publication {
    Publication { commit_seq, runs: vec![run(1, 0, 2)] }
}

/// The commit that follows `seq`, when it consists of one part.
fn next(hub: &Hub, seq: u64) -> Option<u64> {
    match hub.after(seq, 0) {
        Resume::Part { part, is_last: true } => Some(part.commit_seq),
        Resume::UpToDate => None,
        other => panic!("{other:?} behind {seq}"),
    }
}

fn reset(hub: &Hub, seq: u64, parts: usize) -> u64 {
    match hub.after(seq, parts) {
        Resume::Reset { last_seq } => last_seq,
        other => panic!("{other:?} behind {seq}"),
    }
}

#[test]
fn a_place_leads_to_the_next_commit_to_nothing_newer_or_to_a_reset() {
    let hub = Hub::new(7, ROOMY);
    assert_eq!(next(&hub, 7), None);
    // Committed before the hub began, and never given out.
    assert_eq!((reset(&hub, 6, 0), reset(&hub, 8, 0), reset(&hub, u64::MAX, 0)), (7, 7, 7));
    hub.publish(publication(8));
    hub.publish(publication(9));
    assert_eq!((next(&hub, 7), next(&hub, 8), next(&hub, 9)), (Some(8), Some(9), None));
    assert_eq!((reset(&hub, 6, 0), reset(&hub, 10, 0)), (9, 9));
    // Commit 10 landed, but its answer was lost: what it settled was never published.
    hub.publish(publication(11));
    assert_eq!((next(&hub, 8), reset(&hub, 9, 0), next(&hub, 10)), (Some(9), 11, Some(11)));
}

#[test]
fn who_never_reads_holds_nothing_once_the_ring_has_moved_on() {
    let (parts, bytes) = parts::split(publication(1));
    assert_eq!(parts.len(), 1);
    // Room for two.
    let hub = Hub::new(0, 2 * bytes);
    let never_reads = hub.subscribe();
    let published: Vec<Weak<BTreeMap<u32, u64>>> = (1..=5)
        .map(|commit_seq| {
            let publication = publication(commit_seq);
            let weak = Arc::downgrade(&publication.runs[0].live_to_step);
            hub.publish(publication);
            weak
        })
        .collect();
    let held: Vec<usize> = published.iter().map(Weak::strong_count).collect();
    assert_eq!(held, [0, 0, 0, 1, 1]);
    assert_eq!(hub.kept.lock().unwrap().bytes, 2 * bytes);
    assert_eq!((*never_reads.borrow(), reset(&hub, 0, 0), next(&hub, 3)), (5, 5, Some(4)));
}

#[test]
fn empty_commits_take_room_too() {
    let hub = Hub::new(0, 10 * size_of::<Publication>());
    for commit_seq in 1..=1_000 {
        hub.publish(Publication { commit_seq, runs: Vec::new() });
    }
    assert_eq!(hub.kept.lock().unwrap().commits.len(), 10);
}

#[test]
fn a_commit_larger_than_the_ring_reaches_who_keeps_up() {
    let hub = Hub::new(0, 1);
    for seq in 0..3 {
        hub.publish(publication(seq + 1));
        assert_eq!(next(&hub, seq), Some(seq + 1));
    }
    // Who stands within a commit when it leaves the ring is not given the rest of another.
    hub.publish(Publication { commit_seq: 4, runs: vec![run(1, 500, 0)] });
    assert!(matches!(hub.after(3, 1), Resume::Part { .. }));
    hub.publish(publication(5));
    assert_eq!(reset(&hub, 3, 1), 5);
}

#[test]
fn parts_hold_every_row_once_in_order_and_are_small() {
    let whole = Publication { commit_seq: 1, runs: vec![run(1, 300, 200), run(2, 0, 0), run(3, 5, 700)] };
    let bytes = parts::split(whole.clone()).1;
    // The estimate is no less than what the rows take by themselves.
    assert!(bytes > 305 * size_of::<Reading>() + 900 * size_of::<EventRow>(), "{bytes} bytes");
    let hub = Hub::new(0, ROOMY);
    hub.publish(whole.clone());
    let mut together: Vec<PublishedRun> = Vec::new();
    for seen in 0.. {
        let Resume::Part { part, is_last } = hub.after(0, seen) else { panic!("no part behind {seen}") };
        assert_eq!(part.commit_seq, 1);
        let rows = part.runs.iter().map(|run| run.readings.len() + run.events.len()).sum::<usize>();
        assert!(rows < 400, "{rows} rows in one part");
        for run in &part.runs {
            match together.last_mut().filter(|last| last.run_id == run.run_id) {
                Some(last) => {
                    // A run's readings come before its events, and its patch behind both.
                    assert!(last.patch == RunPatch::default() && (last.events.is_empty() || run.readings.is_empty()));
                    last.readings.extend(run.readings.iter().cloned());
                    last.events.extend(run.events.iter().cloned());
                    last.patch = run.patch.clone();
                }
                None => together.push(run.clone()),
            }
        }
        if is_last {
            assert!(seen > 3, "{seen}");
            assert_eq!(reset(&hub, 0, seen + 1), 1);
            break;
        }
    }
    assert_eq!(together.len(), whole.runs.len());
    for (run, published) in together.iter().zip(&whole.runs) {
        assert_eq!((run.run_id, &run.patch), (published.run_id, &published.patch));
        assert_eq!((&run.readings, &run.events), (&published.readings, &published.events));
    }
}

/// Listeners that come at any moment while commits are published get each commit behind their start once, in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_or_doubled_between_subscribing_and_publishing() {
    const LAST: u64 = 3_000;
    let hub = Arc::new(Hub::new(0, ROOMY));
    let listen = |hub: Arc<Hub>| async move {
        let mut commits = hub.subscribe();
        let start = *commits.borrow();
        let mut seen = start;
        while seen < LAST {
            match next(&hub, seen) {
                Some(commit_seq) => {
                    assert_eq!(commit_seq, seen + 1);
                    seen = commit_seq;
                }
                // Would wait for ever if a wake-up were lost.
                None => commits.changed().await.unwrap(),
            }
        }
        assert!(matches!(hub.after(seen, 0), Resume::UpToDate));
        start
    };
    let mut listeners = vec![tokio::spawn(listen(Arc::clone(&hub)))];
    for commit_seq in 1..=LAST {
        hub.publish(publication(commit_seq));
        if commit_seq % 100 == 0 {
            listeners.push(tokio::spawn(listen(Arc::clone(&hub))));
            tokio::task::yield_now().await;
        }
    }
    for listener in listeners {
        assert!(listener.await.unwrap() <= LAST);
    }
}
