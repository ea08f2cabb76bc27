//! What is read is what was stored, bit for bit.

use std::collections::BTreeMap;

use gradwatch_spectral::edge::EdgeReading;
use gradwatch_store::{Kind, NonFinitePayload, ReadingQuery, ReadingRow, ResumeFrom, StepQuery, StepRow, StoreError};

use crate::fixture::{AnyStore, Random, exactly, owned, reading, resume, run_id, spec, step, stream, whole};

pub(crate) async fn steps(store: AnyStore) {
    let mut random = Random(1);
    let mut commit = owned(&store, 1).await;
    let special = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 5e-324, f64::MAX, 0.1, 1e16, 123_456_789.0];
    let drawn: Vec<f64> = (0..60).map(|_| random.finite()).collect();
    for (number, value) in special.into_iter().chain(drawn).enumerate() {
        let number = number as u64;
        let names = ["loss", "", "a.b", "quote\"d", "grüße", "NaN", "[0]"];
        commit.steps.push(StepRow {
            seqs: vec![Some(1 << 40), None, Some(random.below(9))],
            wall_time_us: -(number as i64),
            learning_rate: Some(value),
            weight_decay: number.is_multiple_of(2).then_some(-value),
            phase: u32::MAX,
            complete: number.is_multiple_of(3),
            scalars: names.iter().map(|name| ((*name).to_owned(), value)).collect(),
            nonfinite_payloads: (0..number % 3)
                .map(|nan| NonFinitePayload {
                    group: "all".to_owned(),
                    kind: Kind::Gradient,
                    nan,
                    positive_infinity: 1 << 40,
                    negative_infinity: 0,
                })
                .collect(),
            ..step(1, (1 << 53) - 1 - number)
        });
    }
    commit.steps.push(StepRow { learning_rate: None, seqs: Vec::new(), ..step(1, 0) });
    let mut expected = commit.steps.clone();
    expected.sort_by_key(|step| step.step);
    store.commit(&[commit]).await.unwrap();
    let page = store.steps(&StepQuery { run_id: run_id(1), ranges: whole(1), limit: 1000 }).await.unwrap();
    assert!(!page.more);
    assert_eq!(exactly(&page.items), exactly(&expected));
}

async fn all_readings(store: &AnyStore) -> Vec<ReadingRow> {
    let query = ReadingQuery {
        run_id: run_id(1),
        analysis: "live".to_owned(),
        stream: stream(),
        ranges: whole(1),
        limit: 10_000,
    };
    let page = store.readings(&query).await.unwrap();
    page.items
        .into_iter()
        .map(|reading| {
            assert_eq!(reading.wall_time_us, step(1, reading.row.step).wall_time_us);
            reading.row
        })
        .collect()
}

pub(crate) async fn readings(store: AnyStore) {
    let mut random = Random(2);
    let mut commit = owned(&store, 1).await;
    commit.steps = (1..=300).map(|number| step(1, number)).collect();
    commit.readings = (1..=300).map(|number| reading(1, number, &mut random)).collect();
    store.commit(std::slice::from_ref(&commit)).await.unwrap();
    assert_eq!(exactly(&all_readings(&store).await), exactly(&commit.readings));
}

pub(crate) async fn absent_and_present_readings_differ(store: AnyStore) {
    let mut commit = owned(&store, 1).await;
    let full = |value: f64, triple: Option<[Option<f64>; 3]>| EdgeReading {
        window: 10,
        rows: 10,
        update_norm: value,
        norm_z: Some(value),
        sigma: Some(vec![value; 64]),
        modes: Some(1),
        position: Some(2),
        position_plain: Some(3),
        position_edge: Some(4),
        position_edge_published: Some(5),
        ratio: Some(value + 1.0),
        ratio_1: Some(value + 2.0),
        ratio_2: Some(value + 3.0),
        ratio_3: Some(value + 4.0),
        gap: Some(value + 5.0),
        gap23: Some(value + 6.0),
        gap23_rel: Some(value + 7.0),
        gram_change: Some(value + 8.0),
        gram_change_spectral: Some(value + 9.0),
        adiabatic: Some(value + 10.0),
        instability: Some(value + 11.0),
        dk: Some(value + 12.0),
        alpha: triple,
        alpha_spectral: triple.map(|triple| triple.map(|value| value.map(|value| value + 100.0))),
        overlap: triple.map(|triple| triple.map(|value| value.map(|value| value + 200.0))),
        overlap_unresolved: [true, false, true],
        drift: Some(value + 13.0),
        pc1: Some(value + 14.0),
        entropy_rank: Some(value + 15.0),
        participation: Some(value + 16.0),
        k95: Some(6),
        noise_edge: Some(value + 17.0),
        noise_edge_mean: Some(value + 18.0),
        bbp_ratio: Some(value + 19.0),
        gap_flow_rate: Some(value + 20.0),
        gap_flow_equilibrium: Some(value + 21.0),
        gap_flow_r2: Some(value + 22.0),
        gap_flow_curvature: Some(value + 23.0),
        gap_flow_damping: Some(value + 24.0),
        gap_flow_driving: Some(value + 25.0),
        gap_flow_r2_unit: Some(value + 26.0),
        gap_flow_r2_free: Some(value + 27.0),
        loss_terms: triple.map(|triple| triple.map(|value| value.map(|value| value + 300.0))),
    };
    let none = EdgeReading {
        norm_z: None,
        sigma: None,
        modes: None,
        position: None,
        position_plain: None,
        position_edge: None,
        position_edge_published: None,
        ratio: None,
        ratio_1: None,
        ratio_2: None,
        ratio_3: None,
        gap: None,
        gap23: None,
        gap23_rel: None,
        gram_change: None,
        gram_change_spectral: None,
        adiabatic: None,
        instability: None,
        dk: None,
        alpha: None,
        alpha_spectral: None,
        overlap: None,
        overlap_unresolved: [false, true, false],
        drift: None,
        pc1: None,
        entropy_rank: None,
        participation: None,
        k95: None,
        noise_edge: None,
        noise_edge_mean: None,
        bbp_ratio: None,
        gap_flow_rate: None,
        gap_flow_equilibrium: None,
        gap_flow_r2: None,
        gap_flow_curvature: None,
        gap_flow_damping: None,
        gap_flow_driving: None,
        gap_flow_r2_unit: None,
        gap_flow_r2_free: None,
        loss_terms: None,
        ..full(0.5, None)
    };
    let edges = [
        full(0.25, Some([Some(0.1), Some(0.2), Some(0.3)])),
        full(-0.0, Some([Some(-0.0), None, Some(0.3)])),
        // A triple of nothing is not the same as no triple.
        full(0.5, Some([None; 3])),
        full(0.5, None),
        EdgeReading { sigma: Some(Vec::new()), ..none.clone() },
        none,
    ];
    for (number, edge) in edges.into_iter().enumerate() {
        let number = number as u64 + 1;
        commit.steps.push(step(1, number));
        commit.readings.push(ReadingRow { edge, ..reading(1, number, &mut Random(number)) });
    }
    store.commit(std::slice::from_ref(&commit)).await.unwrap();
    assert_eq!(exactly(&all_readings(&store).await), exactly(&commit.readings));
}

pub(crate) async fn non_finite_readings_are_refused(store: AnyStore) {
    let commit = owned(&store, 1).await;
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for place in 0..3 {
            let mut bad = reading(1, 1, &mut Random(4));
            match place {
                0 => bad.edge.ratio = Some(value),
                1 => bad.edge.update_norm = value,
                _ => bad.edge.overlap = Some([None, Some(value), None]),
            }
            let mut commit = commit.clone();
            commit.readings = vec![bad];
            assert!(matches!(store.commit(&[commit]).await, Err(StoreError::Data(_))), "{value} at {place}");
        }
    }
}

pub(crate) async fn segments_and_runs(store: AnyStore) {
    let mut commit = owned(&store, 1).await;
    commit.steps = vec![step(1, 40), step(1, 41)];
    store.commit(&[commit]).await.unwrap();
    let mut second = resume(1, 101, 100, 40);
    second.run.labels = BTreeMap::from([("kind".to_owned(), "\"quoted\" – grüße".to_owned())]);
    second.run.config = serde_json::json!({"nested": [1, 2.5, null, {"a": "b"}], "float": 1e-300});
    second.environment = "other".to_owned();
    second.now_us = 8_000;
    store.open_attempt(&second).await.unwrap();
    let run = store.run(run_id(1)).await.unwrap();
    assert_eq!((run.project.as_str(), run.name.as_str()), ("vision", "run 1"));
    assert_eq!((run.labels, run.config), (second.run.labels.clone(), second.run.config.clone()));
    let segments = store.segments(run_id(1)).await.unwrap();
    assert_eq!(segments.len(), 2);
    assert_eq!((segments[0].segment, segments[0].last_step, segments[0].resumes), (1, Some(41), None));
    let last = &segments[1];
    assert_eq!((last.segment, last.attempt_id), (2, second.attempt.attempt_id));
    assert_eq!((last.started_at_us, last.opened_at_us), (second.attempt.started_at_us, 8_000));
    assert_eq!((last.resumes.map(ResumeFrom::Attempt), last.shard_count), (second.attempt.resumes, 1));
    assert_eq!(last.last_step, None);
    assert_eq!((&last.spec, last.environment.as_str()), (&spec(), "other"));
}
