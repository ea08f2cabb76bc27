//! What is computed: the bits of the live readings, and those of an offline computation.

use gradwatch_client::Encoding;
use gradwatch_proto::v1;
use gradwatch_spectral::{
    detectors::{Bands, DetectorConfig},
    edge::{EdgeStream, PositionRule},
    followers::Followers,
};
use gradwatch_tests::{
    Backend, Expected, LEARNING_RATE, Made as MadeFrames, Slot, TestServer, Writer, assert_readings, next_attempt,
    on_both_backends, open_request,
};
use serde_json::{Value, json};

use crate::support::{Made, STEPS, analyse, readings};

on_both_backends!(
    the_live_windows_give_the_live_readings,
    other_windows_give_what_they_would_have_given,
    rewinds_holes_and_shards_give_the_live_readings,
);

async fn the_live_windows_give_the_live_readings(backend: Backend) {
    let server = TestServer::start_on(backend).await;
    let rest = server.rest();
    for encoding in [Encoding::F16, Encoding::F32] {
        let run_id = Made::new(&[("often", 1), ("seldom", 3)]).stream(&server.url(), encoding).await;
        let analysis = analyse(&rest, run_id, json!({ "name": "same", "windows": [10, 5] })).await;
        assert_eq!(analysis["rows_total"], STEPS + STEPS / 3, "{analysis}");
        assert_eq!(analysis["readings"], 2 * (STEPS + STEPS / 3), "{analysis}");
        let mut transitions = 0;
        for stream in ["group=often&window=10", "group=often&window=5", "group=seldom&window=10"] {
            let live = readings(&rest, run_id, "live", stream).await;
            assert!(live.len() > 70);
            assert_eq!(readings(&rest, run_id, "same", stream).await, live, "{stream}");
            // Charts too: coarse enough for rollups, and fine.
            for points in [3, 1000] {
                let chart = async |analysis: &str| {
                    let query = format!("metric=edge.ratio&metric=scalar.loss&max_points={points}&analysis={analysis}");
                    rest.get(&format!("/api/v1/runs/{run_id}/series?{query}&{stream}")).await["items"].clone()
                };
                let (mut same, live) = (chart("same").await, chart("live").await);
                assert_eq!((&same[0]["analysis"], &same[1]["analysis"]), (&json!("same"), &json!("live")));
                same[0]["analysis"] = json!("live");
                assert_eq!(same, live, "{stream}");
            }
        }
        for event in rest.all(&format!("/api/v1/runs/{run_id}/events?types=edge.regime&limit=100")).await {
            transitions += usize::from(event["type"] == "edge.regime");
        }
        assert!(transitions > 0, "the planted change is not seen live either");
        assert_eq!(analysis["transitions"], transitions, "{analysis}");
    }
    server.shutdown().await;
}

async fn other_windows_give_what_they_would_have_given(backend: Backend) {
    let server = TestServer::start_on(backend).await;
    let rest = server.rest();
    let made = Made::new(&[("often", 1), ("seldom", 3)]);
    let run_id = made.stream(&server.url(), Encoding::F32).await;
    analyse(&rest, run_id, json!({ "name": "wide", "windows": [7, 20] })).await;
    for (group, every) in &made.options.groups {
        for (window, expected) in [7, 20].iter().zip(&made.offline(*every, &[7, 20]).readings) {
            let stream = format!("group={group}&window={window}");
            assert_readings(&readings(&rest, run_id, "wide", &stream).await, expected);
        }
    }
    // The first of the analysis is its default.
    let page = rest.get(&format!("/api/v1/runs/{run_id}/readings/edge?analysis=wide&limit=1")).await;
    assert_eq!((&page["window"], &page["analysis"], &page["group"]), (&json!(7), &json!("wide"), &json!("often")));
    // The live ones are what they were.
    let live = made.offline(1, &made.options.windows);
    assert_readings(&readings(&rest, run_id, "live", "group=often&window=10").await, &live.readings[0]);

    let narrow = json!({
        "name": "narrow", "windows": [12], "position": "plain", "bands": "absolute",
        "group": "often", "kind": "update", "from_step": 50, "to_step": 149,
    });
    let analysis = analyse(&rest, run_id, narrow.clone()).await;
    for (member, value) in narrow.as_object().expect("an object") {
        assert_eq!(analysis[member], *value, "{analysis}");
    }
    assert_eq!(analysis["readings"], 100, "{analysis}");
    let expected = by_rule(&made, 12, PositionRule::Plain, Bands::Absolute);
    let wanted: Vec<Expected> = expected.into_iter().filter(|it| (50..150).contains(&it.step)).collect();
    assert!(wanted.iter().any(|it| it.reading.position != by_mass(&made, it.step)), "the rules do not differ");
    let found = readings(&rest, run_id, "narrow", "").await;
    assert_readings(&found, &wanted);
    assert!(found.iter().all(|reading| reading["position"] == reading["position_plain"]));
    server.shutdown().await;
}

/// What a window reads off group `often` by another rule.
fn by_rule(made: &Made, window: usize, rule: PositionRule, bands: Bands) -> Vec<Expected> {
    let (dim, parameters) = (made.options.dim, made.options.len as u64);
    let stream = EdgeStream::new(dim, &[window], parameters, true).expect("valid arguments");
    let mut stream = stream.with_position_rule(rule);
    let mut config = DetectorConfig::default();
    config.regime.bands = bands;
    let mut followers = Followers::new(window, &config);
    let expected = made.rows(1).into_iter().map(|row| {
        let mut readings = stream.push(&row.sketch, Some(LEARNING_RATE)).expect("a finite row");
        let mut reading = readings.remove(0);
        followers.follow(row.step, &mut reading);
        Expected { step: row.step, reading, regime: followers.regime() }
    });
    expected.collect()
}

fn by_mass(made: &Made, step: u64) -> Option<u32> {
    let offline = made.offline(1, &[12]);
    offline.readings[0].iter().find(|it| it.step == step).and_then(|it| it.reading.position)
}

/// Two shards whose parts add up, payloads that are not finite, frames that were given up, and an attempt that goes back.
async fn rewinds_holes_and_shards_give_the_live_readings(backend: Backend) {
    let server = TestServer::start_on(backend).await;
    let rest = server.rest();
    let first = v1::OpenRunRequest { shard_count: 2, ..open_request(MadeFrames::spec()) };
    let second = next_attempt(&first, Some((&first, 40 * 30)));
    for (request, start) in [(first, 0), (second, 40 * 30)] {
        let mut writers: Vec<Writer> = (0..2)
            .map(|shard| {
                let made = MadeFrames { seed: 5, start, shards: 2 };
                Writer::new(server.url(), v1::OpenRunRequest { shard, ..request.clone() }, made)
            })
            .collect();
        for writer in &mut writers {
            writer.make([Slot::Frame; 20]);
            writer.make([Slot::NonFinite; 2]);
            writer.make([Slot::Frame; 9]);
            writer.connected().await;
        }
        for writer in &mut writers {
            writer.send(1..=31, 7).await;
        }
        for writer in &mut writers {
            writer.make([Slot::Frame; 3]);
            writer.give_up().await;
            writer.make([Slot::Frame; 30]);
            writer.send(35..=64, 7).await;
        }
        for writer in &mut writers {
            writer.settled().await;
        }
        let run_id = &request.run_id;
        let name = format!("behind-{start}");
        analyse(&rest, run_id, json!({ "name": name, "windows": [3, 5] })).await;
        for stream in ["group=all&window=3", "group=all&window=5", "group=seldom&window=3", "group=seldom&window=5"] {
            let live = readings(&rest, run_id, "live", stream).await;
            assert!(live.len() > 18 && live.iter().filter(|reading| reading["rows"] == 1).count() > 1);
            assert_eq!(readings(&rest, run_id, &name, stream).await, live, "{stream}");
        }
        let segments: Vec<Value> = readings(&rest, run_id, &name, "").await;
        assert_eq!(segments.last().map(|reading| &reading["segment"]), Some(&json!(if start == 0 { 1 } else { 2 })));
        writers.iter_mut().for_each(Writer::disconnect);
    }
    server.shutdown().await;
}
