//! Updates and gradients of one group side by side: each has its own window, and neither enters the other's.

use gradwatch_client::{Frame, Kind};
use gradwatch_spectral::{
    encoding::{EncodedSketch, Encoding, decode_f16, encode},
    sketch::{Sketcher, TensorName},
};
use gradwatch_tests::{
    Job, JobOptions, LEARNING_RATE, Offline, Row, TENSOR, TestServer, assert_readings, exact_sketches, random_walk,
    rows,
};

const STEPS: u64 = 60;

fn sketch(sketcher: &Sketcher, values: &[f32]) -> Vec<f64> {
    let mut sketch = vec![0.0; sketcher.dim()];
    sketcher.add(&mut sketch, TensorName::new(TENSOR), 0, values).expect("the right length");
    sketch
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gradients_have_windows_of_their_own() {
    let server = TestServer::start().await;
    let options = JobOptions { windows: vec![10], ..JobOptions::default() };
    let parameters = random_walk(3, STEPS as usize, options.len);
    let gradients = random_walk(4, STEPS as usize, options.len);
    let mut run = Job::builder(&server.url(), &options).kinds([Kind::Update, Kind::Gradient]).open().expect("valid");
    let run_id = run.run_id();
    for (step, (parameters, gradient)) in (0..).zip(parameters.iter().zip(&gradients)) {
        let frame = Frame::new()
            .learning_rate(LEARNING_RATE)
            .parameters("all", [(TENSOR, parameters)])
            .gradient("all", [(TENSOR, gradient)]);
        run.submit(step, frame).expect("a valid frame");
    }
    let report = tokio::task::spawn_blocking(move || run.close()).await.expect("close does not panic");
    assert_eq!(report.settled, report.submitted, "{report}");

    let updates = rows(exact_sketches(&parameters, TENSOR, options.dim, options.seed), 1);
    let sketcher = Sketcher::new(options.dim, options.seed).expect("a valid sketch");
    let row = |step, sketch: Vec<f64>| Row {
        step,
        base_step: step - 1,
        sketch: sketch.into_iter().map(|value| value as f32).collect(),
    };
    let gradients: Vec<Row> =
        (1..).zip(&gradients[1..]).map(|(step, gradient)| row(step, sketch(&sketcher, gradient))).collect();
    let rest = server.rest();
    for (kind, rows) in [("update", updates), ("gradient", gradients)] {
        let expected = Offline::compute(&rows, &options.windows, options.len);
        let items = rest.all(&format!("/api/v1/runs/{run_id}/readings/edge?kind={kind}&limit=100")).await;
        assert_readings(&items, &expected.readings[0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_precision_is_read_as_what_was_sent() {
    let server = TestServer::start().await;
    let options = JobOptions { windows: vec![10], ..JobOptions::default() };
    let parameters = random_walk(5, STEPS as usize, options.len);
    let mut job = Job::open_with(&server.url(), &options, |builder| builder.encoding(Encoding::F16));
    let run_id = job.run_id();
    for (step, parameters) in (0..).zip(&parameters) {
        job.submit(step, parameters);
    }
    job.close().await;

    let sketcher = Sketcher::new(options.dim, options.seed).expect("a valid sketch");
    let sketches: Vec<Vec<f64>> = parameters.iter().map(|values| sketch(&sketcher, values)).collect();
    let halved = sketches.windows(2).map(|pair| {
        let update: Vec<f64> = pair[1].iter().zip(&pair[0]).map(|(after, before)| after - before).collect();
        let EncodedSketch::F16 { scale, bytes } = encode(&update, Encoding::F16) else { panic!("finite values") };
        let mut row = vec![0.0; options.dim];
        decode_f16(scale, &bytes, &mut row).expect("what was just encoded");
        row
    });
    let expected = Offline::compute(&rows(halved.collect(), 1), &options.windows, options.len);
    let items = server.rest().all(&format!("/api/v1/runs/{run_id}/readings/edge?limit=100")).await;
    assert_readings(&items, &expected.readings[0]);
}
