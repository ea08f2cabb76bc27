//! Pages of steps and readings, over rewinds.

use gradwatch_store::{
    Kind, ReadingQuery, ReadingRow, StepQuery, StreamKey,
    lineage::{self, SegmentRange},
};

use crate::fixture::{AnyStore, Random, edge, open, range, reading, resume, run_id, step, stream, take};

/// Segment 1 has steps 10 to 50, segment 2 resumes it at 30 and goes to 60, segment 3 resumes that at 20 and goes to 25.
/// All other streams and a second run have readings at the same steps, which must never be seen.
async fn rewinds(store: &AnyStore) {
    store.open_attempt(&open(1, 1)).await.unwrap();
    store.open_attempt(&resume(1, 2, 1, 30)).await.unwrap();
    store.open_attempt(&resume(1, 3, 2, 20)).await.unwrap();
    store.open_attempt(&open(2, 9)).await.unwrap();
    let mut random = Random(6);
    let mut commit = take(store, 1).await;
    for (segment, steps) in [(1, 10..=50), (2, 31..=60), (3, 21..=25)] {
        for number in steps {
            commit.steps.push(step(segment, number));
            commit.readings.push(reading(segment, number, &mut random));
            let others = [
                ("live", StreamKey { kind: Kind::Gradient, ..stream() }),
                ("live", StreamKey { window: 20, ..stream() }),
                ("live", StreamKey { group: "blocks.3.mlp".to_owned(), ..stream() }),
                ("again", stream()),
            ];
            for (analysis, stream) in others {
                commit.readings.push(ReadingRow {
                    analysis: analysis.to_owned(),
                    edge: edge(stream.window, &mut random),
                    stream,
                    ..reading(segment, number, &mut random)
                });
            }
        }
    }
    let mut other = take(store, 2).await;
    other.steps = (1..100).map(|number| step(1, number)).collect();
    other.readings = (1..100).map(|number| reading(1, number, &mut random)).collect();
    store.commit(&[commit, other]).await.unwrap();
}

async fn live_line(store: &AnyStore, from_step: u64, to_step: u64) -> Vec<SegmentRange> {
    lineage::live(&store.segments(run_id(1)).await.unwrap(), from_step, to_step)
}

fn expected(from_step: u64, to_step: u64) -> Vec<(u32, u64)> {
    let line = (10..=20).map(|step| (1, step)).chain((21..=25).map(|step| (3, step)));
    line.filter(|(_, step)| (from_step..=to_step).contains(step)).collect()
}

async fn steps(store: &AnyStore, ranges: Vec<SegmentRange>, limit: usize) -> (Vec<(u32, u64)>, bool) {
    let page = store.steps(&StepQuery { run_id: run_id(1), ranges, limit }).await.unwrap();
    (page.items.iter().map(|step| (step.segment, step.step)).collect(), page.more)
}

async fn readings(store: &AnyStore, ranges: Vec<SegmentRange>, limit: usize) -> (Vec<(u32, u64)>, bool) {
    let query = ReadingQuery { run_id: run_id(1), analysis: "live".to_owned(), stream: stream(), ranges, limit };
    let page = store.readings(&query).await.unwrap();
    assert!(page.items.iter().all(|reading| reading.row.stream == stream() && reading.row.analysis == "live"));
    (page.items.iter().map(|reading| (reading.row.segment, reading.row.step)).collect(), page.more)
}

pub(crate) async fn steps_over_a_rewind(store: AnyStore) {
    rewinds(&store).await;
    assert_eq!(steps(&store, live_line(&store, 0, u64::MAX).await, 1000).await, (expected(0, 99), false));
    assert_eq!(steps(&store, live_line(&store, 15, 22).await, 1000).await, (expected(15, 22), false));
    let all = lineage::all(&store.segments(run_id(1)).await.unwrap(), 40, 45);
    let both: Vec<_> = (40..=45).map(|step| (1, step)).chain((40..=45).map(|step| (2, step))).collect();
    assert_eq!(steps(&store, all, 1000).await, (both, false));
    assert_eq!(steps(&store, Vec::new(), 10).await, (Vec::new(), false));
}

pub(crate) async fn readings_over_a_rewind(store: AnyStore) {
    rewinds(&store).await;
    assert_eq!(readings(&store, live_line(&store, 0, u64::MAX).await, 1000).await, (expected(0, 99), false));
    assert_eq!(readings(&store, live_line(&store, 15, 22).await, 1000).await, (expected(15, 22), false));
    // The order of the ranges is that of the answer.
    let backwards = vec![range(3, 24, 99), range(1, 49, 99)];
    assert_eq!(readings(&store, backwards, 10).await.0, [(3, 24), (3, 25), (1, 49), (1, 50)]);
}

pub(crate) async fn every_page_size_gives_the_same(store: AnyStore) {
    rewinds(&store).await;
    let whole = expected(0, 99);
    for limit in 1..=whole.len() + 1 {
        let mut of_steps = Vec::new();
        let mut from: Option<(u32, u64)> = None;
        loop {
            // The next page starts behind the last item of this one.
            let mut ranges = live_line(&store, 0, u64::MAX).await;
            if let Some((segment, step)) = from {
                ranges.drain(..ranges.iter().position(|range| range.segment == segment).unwrap());
                ranges[0].from_step = step + 1;
            }
            let (page, more) = steps(&store, ranges.clone(), limit).await;
            assert_eq!(more, of_steps.len() + page.len() < whole.len(), "limit {limit}");
            assert_eq!(readings(&store, ranges, limit).await, (page.clone(), more));
            from = page.last().copied();
            of_steps.extend(page);
            if !more {
                break;
            }
        }
        assert_eq!(of_steps, whole, "limit {limit}");
    }
}

pub(crate) async fn latest_readings_are_one_a_stream(store: AnyStore) {
    rewinds(&store).await;
    let found = store.latest_readings(run_id(1), 2).await.unwrap();
    let mut streams: Vec<_> = found.iter().map(|reading| reading.row.stream.clone()).collect();
    streams.sort();
    streams.dedup();
    assert_eq!((found.len(), streams.len()), (4, 4));
    for reading in &found {
        assert_eq!((reading.row.segment, reading.row.step, reading.row.analysis.as_str()), (2, 60, "live"));
        let query = ReadingQuery {
            run_id: run_id(1),
            analysis: "live".to_owned(),
            stream: reading.row.stream.clone(),
            ranges: vec![range(2, 60, 60)],
            limit: 1,
        };
        assert_eq!(store.readings(&query).await.unwrap().items, std::slice::from_ref(reading));
    }
    assert_eq!(store.latest_readings(run_id(1), 4).await.unwrap(), []);
}
