//! Promise 5 against brute force: whatever was rewound, answers on the live line are those of a reader who takes the raw
//! rows of all segments and applies the definition of *live* to each.

use gradwatch_proto::v1::Frame;
use gradwatch_tests::{Peer, Rest, TestServer, frame, next_attempt, open_request, payload_f32, spec};
use serde_json::Value;

/// Attempts in their order as (segment, the step it resumes), by hand for each situation.
type Order = [(u64, Option<u64>)];

/// The definition: t ≤ the resume step of every later segment; one that resumes nothing leaves nothing before it.
fn is_live(order: &Order, segment: u64, step: u64) -> bool {
    let place = order.iter().position(|(number, _)| *number == segment).expect("a segment of the run");
    order[place + 1..].iter().all(|(_, resumes)| resumes.is_some_and(|resumed| step <= resumed))
}

fn number(row: &Value, name: &str) -> u64 {
    row[name].as_u64().unwrap_or_else(|| panic!("{name}: {row}"))
}

/// Live rows of all rows, in the order of attempts.
fn live_rows(order: &Order, all: &[Value]) -> Vec<Value> {
    let of_segment = |number_of: u64| all.iter().filter(move |row| number(row, "segment") == number_of);
    let live = |row: &&Value| is_live(order, number(row, "segment"), number(row, "step"));
    order.iter().flat_map(|(segment, _)| of_segment(*segment).filter(live)).cloned().collect()
}

/// What a bucket has to hold.
#[derive(Debug, PartialEq)]
struct Bucket {
    segment: u64,
    number: u64,
    min: f64,
    max: f64,
    last: f64,
    last_step: u64,
    count: u64,
}

fn buckets(rows: &[Value], width: u64, value: impl Fn(&Value) -> Option<f64>) -> Vec<Bucket> {
    let mut buckets: Vec<Bucket> = Vec::new();
    for row in rows {
        let Some(value) = value(row) else { continue };
        let (segment, step) = (number(row, "segment"), number(row, "step"));
        match buckets.last_mut() {
            Some(bucket) if (bucket.segment, bucket.number) == (segment, step / width) => {
                bucket.min = bucket.min.min(value);
                bucket.max = bucket.max.max(value);
                (bucket.last, bucket.last_step) = (value, step);
                bucket.count += 1;
            }
            _ => buckets.push(Bucket {
                segment,
                number: step / width,
                min: value,
                max: value,
                last: value,
                last_step: step,
                count: 1,
            }),
        }
    }
    buckets
}

/// A series as the server answers it. Buckets without a finite value hold nothing to compare.
fn answered(series: &Value, width: u64) -> Vec<Bucket> {
    let points = series["points"].as_array().expect("points").iter();
    let finite = points.filter(|point| number(point, "count") > 0).map(|point| {
        let value = |name: &str| point[name].as_f64().unwrap_or_else(|| panic!("{name}: {point}"));
        let bucket = number(point, "step") / width;
        assert!(number(point, "step") <= number(point, "last_step"), "{point}");
        assert_eq!(number(point, "last_step") / width, bucket, "{point}");
        Bucket {
            segment: number(point, "segment"),
            number: bucket,
            min: value("min"),
            max: value("max"),
            last: value("last"),
            last_step: number(point, "last_step"),
            count: number(point, "count"),
        }
    });
    finite.collect()
}

/// What the row of a metric is called in rows of readings or steps.
fn value_of<'a>(metric: &'a str) -> impl Fn(&Value) -> Option<f64> + 'a {
    move |row| match metric.split_once('.').expect("instrument.reading") {
        ("scalar", name) => row["scalars"][name].as_f64(),
        (_, "sigma_1") => row["sigma"][0].as_f64(),
        (_, "overlap_1") => row["overlap"][0].as_f64(),
        (_, name) => row[name].as_f64(),
    }
}

/// Three with rollups and two that are read from rows alone.
const METRICS: [&str; 5] = ["edge.update_norm", "edge.ratio", "scalar.loss", "edge.sigma_1", "edge.overlap_1"];

/// Compares everything that answers the live line with brute force over the raw rows. Answers the widths of buckets
/// that were seen.
async fn compare(rest: &Rest, run_id: &str, order: &Order) -> Vec<u64> {
    let run = format!("/api/v1/runs/{run_id}");
    let all_readings = rest.all(&format!("{run}/readings/edge?segment=all&limit=10000")).await;
    let all_steps = rest.all(&format!("{run}/steps?segment=all&limit=10000")).await;
    let segments = rest.get(&format!("{run}/segments")).await;
    let segments: Vec<u64> =
        segments["items"].as_array().expect("items").iter().map(|it| number(it, "segment")).collect();
    assert_eq!(segments, order.iter().map(|(segment, _)| *segment).collect::<Vec<_>>());
    let readings = live_rows(order, &all_readings);
    let steps = live_rows(order, &all_steps);
    let steps_of = |rows: &[Value]| rows.iter().map(|row| number(row, "step")).collect::<Vec<_>>();
    assert!(steps_of(&steps).is_sorted_by(|a, b| a < b), "on the live line steps only grow");
    assert_eq!(rest.all(&format!("{run}/readings/edge?limit=301")).await, readings);
    assert_eq!(rest.all(&format!("{run}/steps?limit=301")).await, steps);

    let mut widths = Vec::new();
    for (from_step, to_step) in [(0, u64::MAX), (257, 1_023), (300, 301)] {
        let within = |rows: &[Value]| -> Vec<Value> {
            let inside = |row: &&Value| (from_step..=to_step).contains(&number(row, "step"));
            rows.iter().filter(inside).cloned().collect()
        };
        let (readings, steps) = (within(&readings), within(&steps));
        for max_points in [10_000, 100, 7, 3, 1] {
            let mut path = format!("{run}/series?max_points={max_points}&from_step={from_step}&to_step={to_step}");
            METRICS.iter().for_each(|metric| path += &format!("&metric={metric}"));
            let answer = rest.get(&path).await;
            for (metric, series) in METRICS.into_iter().zip(answer["items"].as_array().expect("items")) {
                let what = format!("{metric} of {path}");
                assert_eq!(series["metric"], metric, "{what}");
                let width = number(series, "bucket_steps");
                let rows = if metric.starts_with("scalar.") { &steps } else { &readings };
                let expected = buckets(rows, width, value_of(metric));
                let points = answered(series, width);
                for (point, expected) in points.iter().zip(&expected) {
                    assert_eq!(point, expected, "{what}");
                }
                assert_eq!(points.len(), expected.len(), "{what}");
                let mut with_values: Vec<u64> = expected.iter().map(|bucket| bucket.segment).collect();
                with_values.dedup();
                assert!(points.len() <= max_points.max(with_values.len()), "{what}: {} points", points.len());
                widths.push(width);
            }
        }
    }
    widths
}

/// Frames of an attempt: every `stride` steps, with a spike here and there that a chart must not lose.
fn frames(first_step: u64, last_step: u64, stride: u64, attempt: u64) -> Vec<Frame> {
    let steps = (first_step..=last_step).step_by(stride as usize);
    let made = (1..).zip(steps).map(|(seq, step)| {
        let wave = |column: u64| ((step * 64 + column + 977 * attempt) as f32 * 0.7).sin();
        let scale = if step % 113 == attempt { 50.0 } else { 1.0 };
        let row: Vec<f32> = (0..64).map(|column| scale * wave(column)).collect();
        let mut frame = frame(seq, step);
        frame.payloads = vec![payload_f32(0, step - stride, &row)];
        let loss = if step % 89 == attempt { -1e6 } else { step as f64 + 0.1 * attempt as f64 };
        frame.scalars = [("loss".to_owned(), loss)].into();
        frame
    });
    made.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_live_line_after_nested_rewinds_equals_brute_force() {
    let server = TestServer::start().await;
    let rest = server.rest();
    let mut peer = Peer::connect(&server.url()).await;
    let started_at = |request: &mut gradwatch_proto::v1::OpenRunRequest, second: i64| {
        let attempt = request.attempt.as_mut().expect("an attempt");
        attempt.started_at_us = 1_700_000_000_000_000 + second * 1_000_000;
    };

    let first = open_request(spec());
    let run_id = first.run_id.clone();
    let (mut stream, _) = peer.open(&first).await.unwrap();
    stream.frames(frames(1, 700, 1, 1)).await;
    stream.acknowledged(700).await;
    let widths = compare(&rest, &run_id, &[(1, None)]).await;
    assert!(widths.contains(&256) && widths.contains(&1), "rollups and rows are both read: {widths:?}");

    let mut second = next_attempt(&first, Some((&first, 411)));
    started_at(&mut second, 100);
    let (mut stream, _) = peer.open(&second).await.unwrap();
    compare(&rest, &run_id, &[(1, None), (2, Some(411))]).await;
    stream.frames(frames(412, 1_100, 1, 2)).await;
    stream.acknowledged(689).await;
    compare(&rest, &run_id, &[(1, None), (2, Some(411))]).await;

    // Nested, and with a row every three steps.
    let mut third = next_attempt(&second, Some((&second, 767)));
    started_at(&mut third, 200);
    let (mut stream, _) = peer.open(&third).await.unwrap();
    stream.frames(frames(770, 2_600, 3, 3)).await;
    stream.acknowledged(611).await;
    let order = [(1, None), (2, Some(411)), (3, Some(767))];
    let widths = compare(&rest, &run_id, &order).await;
    assert!(widths.iter().any(|&width| width > 256), "{widths:?}");

    // Opened last, but started before the second attempt: it stands behind the first, and what came later stands.
    let mut fourth = next_attempt(&first, Some((&first, 299)));
    started_at(&mut fourth, 50);
    let (mut stream, _) = peer.open(&fourth).await.unwrap();
    let order = [(1, None), (4, Some(299)), (2, Some(411)), (3, Some(767))];
    compare(&rest, &run_id, &order).await;
    stream.frames(frames(300, 900, 1, 4)).await;
    stream.acknowledged(601).await;
    compare(&rest, &run_id, &order).await;

    // The second attempt again, started last: what the third said is rewound as a whole.
    let mut fifth = next_attempt(&second, Some((&second, 500)));
    started_at(&mut fifth, 300);
    let (mut stream, _) = peer.open(&fifth).await.unwrap();
    stream.frames(frames(501, 1_150, 1, 5)).await;
    stream.acknowledged(650).await;
    let order = [(1, None), (4, Some(299)), (2, Some(411)), (3, Some(767)), (5, Some(500))];
    compare(&rest, &run_id, &order).await;

    // The same from what is stored alone.
    drop(stream);
    let server = server.restart().await;
    compare(&server.rest(), &run_id, &order).await;
}
