//! Promise 5: resuming at an earlier step keeps both histories, and charts show the live line.

use gradwatch_proto::v1::OpenRunRequest;
use gradwatch_tests::{
    Backend, Job, JobOptions, Peer, Rest, SseStream, TestServer, frame, next_attempt, on_both_backends, open_request,
    payload_f32, random_walk, spec, violated_field,
};
use serde_json::Value;
use tonic::Code;
use uuid::Uuid;

on_both_backends!(
    a_job_that_goes_back_keeps_both_histories,
    late_frames_of_a_rewound_attempt_are_kept_and_fire_nothing,
);

/// (segment, step) of rows.
fn places(rows: &[Value]) -> Vec<(u64, u64)> {
    let number = |row: &Value, name: &str| row[name].as_u64().expect("a number");
    rows.iter().map(|row| (number(row, "segment"), number(row, "step"))).collect()
}

fn line(parts: &[(u64, std::ops::RangeInclusive<u64>)]) -> Vec<(u64, u64)> {
    parts.iter().flat_map(|(segment, steps)| steps.clone().map(|step| (*segment, step))).collect()
}

async fn readings(rest: &Rest, run_id: &str, segment: &str) -> Vec<Value> {
    rest.all(&format!("/api/v1/runs/{run_id}/readings/edge?segment={segment}")).await
}

async fn steps(rest: &Rest, run_id: &str, segment: &str) -> Vec<Value> {
    rest.all(&format!("/api/v1/runs/{run_id}/steps?segment={segment}")).await
}

/// The next `count` messages of a stream.
async fn messages(stream: &mut SseStream, count: usize) -> Vec<Value> {
    let mut found = Vec::new();
    while found.len() < count {
        let event = stream.next().await.expect("the stream goes on");
        if event.event == "reading" || event.event == "event" {
            found.push(event.data);
        }
    }
    found
}

async fn a_job_that_goes_back_keeps_both_histories(backend: Backend) {
    let server = TestServer::start_on(backend).await;
    let rest = server.rest();
    let options = JobOptions::default();
    let (first, second) = (random_walk(1, 300, options.len), random_walk(2, 400, options.len));
    let mut job = Job::open(&server.url(), &options);
    let run_id = job.run_id().to_string();
    let mut live = rest.events(&format!("/api/v1/stream?run={run_id}&types=reading"), None).await;
    for step in 1..=300 {
        job.submit(step, &first[step as usize]);
    }
    for step in 201..=400 {
        job.submit(step, &second[step as usize]);
    }
    // The first frame of an attempt only gives the base of its first update.
    let first_readings = line(&[(1, 2..=300)]);
    let second_readings = line(&[(2, 202..=400)]);
    let streamed = messages(&mut live, first_readings.len() + second_readings.len()).await;
    job.close().await;

    // Steps 201 to 300 of the first attempt were live when they were committed.
    assert_eq!(places(&streamed), [&first_readings[..], &second_readings[..]].concat());
    assert!(streamed.iter().all(|message| message["live"] == true));

    let segments = rest.get(&format!("/api/v1/runs/{run_id}/segments")).await;
    let [old, new] = segments["items"].as_array().expect("items").as_slice() else { panic!("{segments}") };
    assert_eq!((&old["live_to_step"], &old["last_step"]), (&200.into(), &300.into()));
    assert_eq!((&new["resumes"]["segment"], &new["resumes"]["step"]), (&1.into(), &200.into()));
    assert_eq!((&new["live_to_step"], &new["last_step"]), (&Value::Null, &400.into()));

    let all = readings(&rest, &run_id, "all").await;
    assert_eq!(places(&all), [&first_readings[..], &second_readings[..]].concat());
    assert_eq!(readings(&rest, &run_id, "1").await, all[..299]);
    assert_eq!(readings(&rest, &run_id, "2").await, all[299..]);
    // The new attempt's windows start again: nothing of the rewound rows is in them.
    assert!(all[299..].iter().zip(1_u64..).all(|(reading, nth)| reading["rows"] == nth.min(10)));

    let expected = line(&[(1, 2..=200), (2, 202..=400)]);
    let live_readings = rest.all(&format!("/api/v1/runs/{run_id}/readings/edge?limit=37")).await;
    assert_eq!(places(&live_readings), expected);
    assert!(live_readings.iter().all(|reading| all.contains(reading)));
    let on_the_line = line(&[(1, 1..=200), (2, 201..=400)]);
    assert_eq!(places(&steps(&rest, &run_id, "live").await), on_the_line);
    assert_eq!(places(&steps(&rest, &run_id, "all").await), line(&[(1, 1..=300), (2, 201..=400)]));

    let path = format!("/api/v1/runs/{run_id}/series?metric=edge.update_norm&metric=scalar.loss");
    let series = rest.get(&path).await;
    let [norm, loss] = series["items"].as_array().expect("items").as_slice() else { panic!("{series}") };
    let points = |series: &Value| series["points"].as_array().expect("points").clone();
    assert_eq!((&norm["bucket_steps"], &loss["bucket_steps"]), (&1.into(), &1.into()));
    assert_eq!(places(&points(norm)), expected);
    assert_eq!(places(&points(loss)), on_the_line);
    for (point, reading) in points(norm).iter().zip(&live_readings) {
        assert_eq!((&point["last"], &point["count"]), (&reading["update_norm"], &1.into()));
    }
    let run = rest.get(&format!("/api/v1/runs/{run_id}")).await;
    assert_eq!((&run["last_step"], &run["counters"]["steps"]), (&400.into(), &500.into()));
}

/// A frame of seq = step; from step 36 on its update is a thousand times as long, which is a spike.
fn spiking(step: u64) -> gradwatch_proto::v1::Frame {
    let scale = if step >= 36 { 1e3 } else { 1.0 };
    let row: Vec<f32> = (0..64).map(|column| scale * ((step * 64 + column) as f32 * 0.7).sin()).collect();
    let mut frame = frame(step, step);
    frame.payloads = vec![payload_f32(0, step - 1, &row)];
    frame
}

async fn events(rest: &Rest, run_id: &str) -> Vec<Value> {
    rest.all(&format!("/api/v1/runs/{run_id}/events?segment=all")).await
}

async fn late_frames_of_a_rewound_attempt_are_kept_and_fire_nothing(backend: Backend) {
    let server = TestServer::start_on(backend).await;
    let rest = server.rest();
    let mut peer = Peer::connect(&server.url()).await;

    // The same frames without a rewind: their spike is found.
    let undisturbed = open_request(spec());
    let (mut stream, _) = peer.open(&undisturbed).await.unwrap();
    stream.frames((1..=40).map(spiking).collect()).await;
    stream.acknowledged(40).await;
    let spikes = |events: &[Value]| events.iter().filter(|event| event["type"] == "update.spike").count();
    let undisturbed_events = events(&rest, &undisturbed.run_id).await;
    assert_eq!(spikes(&undisturbed_events), 1, "{undisturbed_events:?}");
    let undisturbed_readings = readings(&rest, &undisturbed.run_id, "all").await;

    let old = open_request(spec());
    let run_id = old.run_id.clone();
    let (mut old_stream, _) = peer.open(&old).await.unwrap();
    old_stream.frames((1..=25).map(spiking).collect()).await;
    old_stream.acknowledged(25).await;
    let new = next_attempt(&old, Some((&old, 30)));
    let (mut new_stream, opened) = peer.open(&new).await.unwrap();
    assert_eq!(opened.segment, 2);
    let mut live = rest.events(&format!("/api/v1/stream?run={run_id}&types=reading,event"), None).await;
    let mut everything = rest.events(&format!("/api/v1/stream?run={run_id}&types=reading&segment=all"), None).await;

    // Steps 26 to 30 still stand, 31 to 40 were rewound before they came.
    old_stream.frames((26..=40).map(spiking).collect()).await;
    old_stream.acknowledged(40).await;
    new_stream.frames((1..=5).map(|seq| frame(seq, 30 + seq)).collect()).await;
    new_stream.acknowledged(5).await;

    assert_eq!(places(&steps(&rest, &run_id, "1").await), line(&[(1, 1..=40)]));
    let kept = readings(&rest, &run_id, "1").await;
    assert_eq!(places(&kept), line(&[(1, 1..=40)]));
    assert_eq!(kept, undisturbed_readings, "as if nothing had been rewound");
    assert_eq!(places(&readings(&rest, &run_id, "all").await), line(&[(1, 1..=40), (2, 31..=35)]));
    let expected = line(&[(1, 1..=30), (2, 31..=35)]);
    assert_eq!(places(&readings(&rest, &run_id, "live").await), expected);
    assert_eq!(places(&steps(&rest, &run_id, "live").await), expected);

    // What was told while they came: the steps that stand, then the new attempt.
    let told = messages(&mut live, 11).await;
    let (told_events, told_readings): (Vec<Value>, Vec<Value>) =
        told.into_iter().partition(|message| message["type"].is_string());
    assert_eq!(places(&told_readings), line(&[(1, 26..=30), (2, 31..=35)]));
    let types: Vec<&Value> = told_events.iter().map(|event| &event["type"]).collect();
    assert_eq!(types, ["segment.started"]);
    let told = messages(&mut everything, 20).await;
    assert_eq!(places(&told), line(&[(1, 26..=40), (2, 31..=35)]));
    for message in &told {
        let stands = message["segment"] == 2 || message["step"].as_u64().expect("a step") <= 30;
        assert_eq!(message["live"], stands, "{message}");
    }

    let recorded = events(&rest, &run_id).await;
    let late: Vec<&Value> =
        recorded.iter().filter(|event| event["segment"] == 1 && event["step"].as_u64() > Some(30)).collect();
    assert!(late.is_empty(), "{late:?}");
    let run = rest.get(&format!("/api/v1/runs/{run_id}")).await;
    assert_eq!((&run["last_step"], &run["counters"]["steps"]), (&35.into(), &45.into()));
    assert_eq!(run["state"], "running");
}

/// A launch with a new process and nothing to resume.
fn launch(run: &OpenRunRequest, unrelated: bool) -> OpenRunRequest {
    let mut launch = next_attempt(run, None);
    launch.writer_id = "another process".into();
    launch.attempt.as_mut().expect("an attempt").unrelated = unrelated;
    launch
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unrelated_launch_has_to_say_so_and_then_replaces_the_line() {
    let server = TestServer::start().await;
    let rest = server.rest();
    let mut peer = Peer::connect(&server.url()).await;
    let first = open_request(spec());
    let run_id = first.run_id.clone();
    let (mut stream, _) = peer.open(&first).await.unwrap();
    stream.frames((1..=20).map(|seq| frame(seq, seq)).collect()).await;
    stream.acknowledged(20).await;

    let refused = launch(&first, false);
    let status = peer.open_run(&refused).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    assert_eq!(violated_field(&status).as_deref(), Some("attempt.resumes"));
    assert!(status.message().contains("unrelated"), "{status}");
    // Nothing of it is there.
    let status = peer.open_stream(&refused).await.err().expect("the attempt was not opened");
    assert_eq!((status.code(), violated_field(&status).as_deref()), (Code::NotFound, Some("attempt_id")));
    assert_eq!(places(&readings(&rest, &run_id, "live").await), line(&[(1, 1..=20)]));

    let unrelated = launch(&first, true);
    let (mut other, opened) = peer.open(&unrelated).await.unwrap();
    assert_eq!(opened.segment, 2);
    assert_eq!(places(&readings(&rest, &run_id, "live").await), [], "the first line is replaced at once");
    other.frames((1..=3).map(|seq| frame(seq, 9 + seq)).collect()).await;
    other.acknowledged(3).await;
    assert_eq!(places(&readings(&rest, &run_id, "live").await), line(&[(2, 10..=12)]));
    assert_eq!(places(&readings(&rest, &run_id, "all").await), line(&[(1, 1..=20), (2, 10..=12)]));
    let segments = rest.get(&format!("/api/v1/runs/{run_id}/segments")).await;
    assert_eq!((&segments["items"][0]["live"], &segments["items"][1]["live"]), (&false.into(), &true.into()));

    // A resume of something the run does not have is no way in either.
    let stranger = open_request(spec());
    let mut lost = next_attempt(&first, Some((&stranger, 5)));
    lost.writer_id = "a third process".into();
    let status = peer.open_run(&lost).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(violated_field(&status).as_deref(), Some("attempt.resumes.attempt_id"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_launch_that_knows_no_attempt_goes_on_with_the_newest() {
    let server = TestServer::start().await;
    let rest = server.rest();
    let options = JobOptions::default();
    let parameters = random_walk(1, 60, options.len);
    let run_id = Uuid::new_v4();
    // The first finds no run and begins it; each goes on behind a step of the one before.
    for (resumed, steps) in [(0, 1..=30), (20, 21..=40), (40, 41..=60)] {
        let mut job = Job::open_with(&server.url(), &options, |builder| builder.run_id(run_id).resume_newest(resumed));
        for step in steps {
            job.submit(step, &parameters[step as usize]);
        }
        job.close().await;
    }
    let on_the_line = line(&[(1, 1..=20), (2, 21..=40), (3, 41..=60)]);
    assert_eq!(places(&steps(&rest, &run_id.to_string(), "live").await), on_the_line);
    let segments = rest.get(&format!("/api/v1/runs/{run_id}/segments")).await;
    let resumed: Vec<&Value> = (0..3).map(|index| &segments["items"][index]["resumes"]["segment"]).collect();
    assert_eq!(resumed, [&Value::Null, &1.into(), &2.into()]);
}
