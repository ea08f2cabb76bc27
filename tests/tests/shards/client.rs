//! Attempts of several shards through the real client.

use gradwatch_client::{CloseReport, Encoding, Frame, Launch, Run, SubmitError, Uuid};
use gradwatch_tests::{TestServer, random_walk};
use serde_json::Value;

const LEN: usize = 3_000;

/// Opens a process of a launch, told of it as text.
fn open(url: &str, launch: &str, shard: u32, count: u32) -> Run {
    let launch: Launch = launch.parse().expect("a launch");
    let builder = Run::builder(url).project("tests").name("sharded").launch(launch).shard(shard, count);
    builder
        .group("all", [("w", LEN)])
        .window(5)
        .sketch_dim(256)
        .encoding(Encoding::F32)
        .open()
        .expect("valid arguments")
}

/// Which elements a shard owns, first and behind the last: unequal parts, of which one is in two pieces and one empty.
fn pieces(shard: u32, count: u32) -> &'static [(usize, usize)] {
    match (shard, count) {
        (_, 1) => &[(0, LEN)],
        (0, 2) => &[(0, 1_000)],
        (1, 2) => &[(1_000, LEN)],
        (0, _) => &[(0, 700)],
        (1, _) => &[(900, 1_000), (1_500, LEN)],
        (2, _) => &[(700, 900), (1_000, 1_500)],
        _ => &[],
    }
}

fn submit(run: &mut Run, step: u64, parameters: &[f32], shard: u32, count: u32) {
    let pieces = pieces(shard, count);
    let slices: Vec<(&str, u64, &[f32])> =
        pieces.iter().map(|&(from, to)| ("w", from as u64, &parameters[from..to])).collect();
    let mut frame = Frame::new().learning_rate(1e-3).parameters("all", slices);
    if shard == 0 {
        frame = frame.scalar("loss", 1.0 / (1.0 + step as f64));
    }
    run.submit(step, frame).expect("a valid frame");
}

/// Trains `steps` (going back where a step is not above the last one) with `count` processes.
async fn train(url: &str, count: u32, steps: &[u64], parameters: &[Vec<f32>]) -> Uuid {
    let launch = Launch::new();
    let mut runs: Vec<Run> = (0..count).map(|shard| open(url, &launch.to_string(), shard, count)).collect();
    let mut last_step = None;
    for &step in steps {
        if count > 1 && last_step.is_some_and(|last| step <= last) {
            runs.iter_mut().for_each(|run| run.rewind_to(step).expect("an open run"));
        }
        last_step = Some(step);
        for (shard, run) in (0..).zip(&mut runs) {
            submit(run, step, &parameters[step as usize], shard, count);
        }
        let attempts: Vec<Uuid> = runs.iter().map(Run::attempt_id).collect();
        assert!(attempts.iter().all(|id| *id == attempts[0]), "all processes know the attempt: {attempts:?}");
    }
    let closing: Vec<_> = runs.into_iter().map(|run| tokio::task::spawn_blocking(move || run.close())).collect();
    for report in closing {
        let report: CloseReport = report.await.expect("close does not panic");
        assert_eq!((report.settled, &report.reason), (steps.len() as u64, &None), "{report}");
    }
    launch.run_id()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slices_of_several_processes_read_like_the_whole_also_behind_a_rewind() {
    let server = TestServer::start().await;
    let rest = server.rest();
    let parameters = random_walk(51, 60, LEN);
    let steps: Vec<u64> = (0..40).chain(25..=60).collect();
    let mut readings = Vec::new();
    for count in [1, 2, 4] {
        let run_id = train(&server.url(), count, &steps, &parameters).await;
        let run = rest.get(&format!("/api/v1/runs/{run_id}")).await;
        assert_eq!((&run["state"], &run["last_step"]), (&"finished".into(), &60.into()));
        assert_eq!(run["counters"]["incomplete"], 0, "{count} processes");
        let segments = rest.get(&format!("/api/v1/runs/{run_id}/segments")).await;
        let resumed: Vec<&Value> =
            segments["items"].as_array().unwrap().iter().map(|segment| &segment["resumes"]["step"]).collect();
        assert_eq!(resumed, [&Value::Null, &24.into()]);
        readings.push(rest.all(&format!("/api/v1/runs/{run_id}/readings/edge?segment=all&limit=1000")).await);
    }
    let [whole, others @ ..] = &readings[..] else { panic!("three runs") };
    assert_eq!(whole.len(), 39 + 35);
    for other in others {
        assert_eq!(other.len(), whole.len());
        for (other, whole) in other.iter().zip(whole) {
            assert_eq!((&other["segment"], &other["step"]), (&whole["segment"], &whole["step"]));
            // Each part is rounded to float32 once: the sum is off by no more than that.
            for field in ["update_norm", "spectrum_1", "ratio"] {
                let (Some(other), Some(whole)) = (other[field].as_f64(), whole[field].as_f64()) else { continue };
                assert!((other - whole).abs() <= 1e-4 * whole.abs(), "{field}: {other} and {whole}");
            }
        }
    }
    let norms = whole.iter().filter(|reading| reading["update_norm"].as_f64().is_some()).count();
    assert_eq!(norms, whole.len(), "there is something to compare");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_got_to_different_steps_go_back_together() {
    let server = TestServer::start().await;
    let parameters = random_walk(52, 21, LEN);
    let launch = Launch::new().to_string();
    let mut runs = [open(&server.url(), &launch, 0, 2), open(&server.url(), &launch, 1, 2)];
    for (shard, last) in [(0, 10), (1, 9)] {
        let run = &mut runs[shard as usize];
        (0..=last).for_each(|step| submit(run, step, &parameters[step as usize], shard, 2));
        let alone = run.submit(6, Frame::new()).unwrap_err();
        assert_eq!(alone, SubmitError::RewindAlone { step: 6, last_step: last });
    }
    for (shard, run) in (0..).zip(&mut runs) {
        run.rewind_to(6).expect("an open run");
        (6..=20).for_each(|step| submit(run, step, &parameters[step as usize], shard, 2));
    }
    assert_eq!(runs[0].attempt_id(), runs[1].attempt_id());
    let run_id = runs[0].run_id();
    let closing = runs.map(|run| tokio::task::spawn_blocking(move || run.close()));
    for (report, frames) in closing.into_iter().zip([11 + 15, 10 + 15]) {
        let report: CloseReport = report.await.expect("close does not panic");
        assert_eq!((report.settled, &report.reason), (frames, &None), "{report}");
    }
    let rest = server.rest();
    let run = rest.get(&format!("/api/v1/runs/{run_id}")).await;
    assert_eq!((&run["state"], &run["last_step"]), (&"finished".into(), &20.into()));
    assert_eq!(run["counters"]["incomplete"], 1, "step 10 of the first attempt");
    let lost = rest.all(&format!("/api/v1/runs/{run_id}/events?segment=all&types=run.shard_lost&limit=10")).await;
    assert_eq!(lost, [Value::Null; 0]);
}
