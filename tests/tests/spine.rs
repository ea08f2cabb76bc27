//! The whole way of the data, with nothing going wrong: what a job streams is what the API answers, to the bit.

use gradwatch_tests::{
    Backend, Job, JobOptions, LEARNING_RATE, Offline, PATIENCE, Peer, Rest, SseEvent, SseStream, TENSOR, TestServer,
    assert_detected, assert_readings, exact_sketches, frame, loss, on_both_backends, open_request, random_walk, rows,
    spec,
};
use http::{Method, StatusCode};
use serde_json::{Value, json};

on_both_backends!(what_was_streamed_is_what_is_read, deletion_leaves_nothing,);

const STEPS: u64 = 120;

/// A made training job and what the server must read off it.
struct Made {
    options: JobOptions,
    parameters: Vec<Vec<f32>>,
    expected: Offline,
}

fn made() -> Made {
    let options = JobOptions { windows: vec![10, 20], ..JobOptions::default() };
    let parameters = random_walk(11, STEPS as usize, options.len);
    let sketches = exact_sketches(&parameters, TENSOR, options.dim, options.seed);
    let expected = Offline::compute(&rows(sketches, 1), &options.windows, options.len);
    Made { options, parameters, expected }
}

async fn what_was_streamed_is_what_is_read(backend: Backend) {
    let server = TestServer::start_on(backend).await;
    let made = made();
    let mut job = Job::open(&server.url(), &made.options);
    let run_id = job.run_id();
    for (step, parameters) in (0..).zip(&made.parameters) {
        job.submit(step, parameters);
    }
    job.close().await;

    let rest = server.rest();
    let run = format!("/api/v1/runs/{run_id}");
    for (window, expected) in made.options.windows.iter().zip(&made.expected.readings) {
        // A page size that does not divide the rows: nothing is lost or doubled between pages.
        let items = rest.all(&format!("{run}/readings/edge?window={window}&limit=37")).await;
        assert_readings(&items, expected);
        let page = rest.get(&format!("{run}/readings/edge?window={window}")).await;
        assert_eq!((&page["window"], &page["group"], &page["kind"]), (&json!(window), &json!("all"), &json!("update")));
        assert_eq!(page["items"].as_array().expect("items"), &items);
    }
    let default = rest.get(&format!("{run}/readings/edge")).await;
    assert_eq!(default["window"], 10, "the first declared");
    let events = rest.all(&format!("{run}/events?limit=7")).await;
    assert!(!made.expected.detections.is_empty(), "the planted change is not detected offline either");
    assert_detected(&events, &made.expected.detections);

    steps_are_those_submitted(&rest, &run).await;
    series_are_the_same_values(&rest, &run, &made).await;
    lists_name_the_run(&rest, &run, &run_id.to_string(), &made).await;
    labels_can_be_changed(&rest, &run).await;
}

async fn steps_are_those_submitted(rest: &Rest, run: &str) {
    let steps = rest.all(&format!("{run}/steps?limit=50")).await;
    let numbers: Vec<u64> = steps.iter().filter_map(|step| step["step"].as_u64()).collect();
    assert_eq!(numbers, (0..=STEPS).collect::<Vec<_>>());
    for (step, item) in (0..).zip(&steps) {
        assert_eq!(item["seqs"], json!([(step + 1_u64).to_string()]));
        assert_eq!(item["scalars"]["loss"].as_f64().map(f64::to_bits), Some(loss(step).to_bits()));
        assert_eq!(item["lr"].as_f64(), Some(LEARNING_RATE));
        assert_eq!((&item["segment"], &item["complete"], &item["phase"]), (&json!(1), &json!(true), &json!(0)));
    }
}

async fn series_are_the_same_values(rest: &Rest, run: &str, made: &Made) {
    let metrics = ["edge.ratio", "edge.adiabatic", "edge.position", "update.norm_z", "scalar.loss"];
    let query: String = metrics.iter().map(|metric| format!("&metric={metric}")).collect();
    let series = rest.all(&format!("{run}/series?max_points=10000&window=20{query}")).await;
    assert_eq!(series.len(), metrics.len());
    for (series, metric) in series.iter().zip(metrics) {
        assert_eq!((&series["metric"], &series["bucket_steps"]), (&json!(metric), &json!(1)));
        let got: Vec<(u64, u64)> = series["points"].as_array().expect("points").iter().map(point).collect();
        let want: Vec<(u64, u64)> = match metric.split_once('.') {
            Some(("scalar", _)) => (0..=STEPS).map(|step| (step, loss(step).to_bits())).collect(),
            Some((_, name)) => {
                let value = |it: &gradwatch_tests::Expected| Some((it.step, it.reading.value(name)?.to_bits()));
                made.expected.readings[1].iter().filter_map(value).collect()
            }
            None => unreachable!("a full name has a dot"),
        };
        assert!(!want.is_empty());
        assert_eq!(got, want, "{metric}");
    }
}

/// (step, bits) of a point that is one plain value.
fn point(point: &Value) -> (u64, u64) {
    let bits = |name: &str| point[name].as_f64().expect("a number").to_bits();
    assert_eq!((&point["count"], bits("min"), bits("max")), (&json!(1), bits("last"), bits("last")));
    assert_eq!(point["step"], point["last_step"]);
    (point["step"].as_u64().expect("a step"), bits("last"))
}

async fn lists_name_the_run(rest: &Rest, run: &str, run_id: &str, made: &Made) {
    let last = made.expected.readings.iter().map(|readings| readings.last().expect("rows"));
    let regime = last.clone().map(|expected| expected.regime).max().expect("windows").as_str();
    let one = rest.get(run).await;
    assert_eq!((&one["state"], &one["regime"], &one["last_step"]), (&json!("finished"), &json!(regime), &json!(STEPS)));
    assert_eq!(one["counters"]["steps"], STEPS + 1);
    for counter in ["rejected", "dropped", "incomplete", "nonfinite"] {
        assert_eq!(one["counters"][counter], 0, "{counter}");
    }
    assert_eq!(one["scalars"], json!(["loss"]));

    let ids = |items: &Value| {
        let items = items["items"].as_array().expect("items");
        items.iter().map(|run| run["run_id"].as_str().expect("an id").to_owned()).collect::<Vec<_>>()
    };
    let listed = rest.get("/api/v1/runs?project=tests&state=finished&name=job").await;
    assert_eq!(ids(&listed), [run_id]);
    assert!(ids(&rest.get("/api/v1/runs?project=tests&state=running").await).is_empty());
    assert!(ids(&rest.get("/api/v1/runs?project=another").await).is_empty());

    let groups = rest.get(&format!("{run}/groups")).await;
    let [group] = groups["items"].as_array().expect("items").as_slice() else { panic!("one group: {groups}") };
    assert_eq!((&group["group"], &group["parameter_count"]), (&json!("all"), &json!(made.options.len)));
    assert_eq!(group["windows"], json!(made.options.windows));
    let streams = group["streams"].as_array().expect("streams");
    assert_eq!(streams.len(), 2);
    for (stream, expected) in streams.iter().zip(last) {
        assert_readings(&[stream["latest"].clone()], std::slice::from_ref(expected));
    }
    let segments = rest.get(&format!("{run}/segments")).await;
    let [segment] = segments["items"].as_array().expect("items").as_slice() else { panic!("one segment: {segments}") };
    assert_eq!(
        (&segment["segment"], &segment["live"], &segment["last_step"]),
        (&json!(1), &json!(true), &json!(STEPS))
    );
    assert_eq!(segment["spec"]["sketch_dim"], made.options.dim);

    let overview = rest.get("/api/v1/overview?project=tests").await;
    assert_eq!((&overview["by_state"]["finished"], &overview["by_state"]["running"]), (&json!(1), &json!(0)));
    assert_eq!(overview["lossy"], json!([]));
}

async fn labels_can_be_changed(rest: &Rest, run: &str) {
    for (labels, want) in [
        (json!({"verdict": "keep", "team": "optim"}), json!({"verdict": "keep", "team": "optim"})),
        (json!({"verdict": "drop", "team": null}), json!({"verdict": "drop"})),
    ] {
        let (status, body) = rest.call(Method::PATCH, run, &json!({ "labels": labels }).to_string()).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        assert_eq!(rest.get(run).await["labels"], want);
    }
    let found = rest.get("/api/v1/runs?label.verdict=drop").await;
    assert_eq!(found["items"].as_array().map(Vec::len), Some(1));
}

/// A listener that applies commits whole, as the API documentation asks for.
struct Listener {
    last_event_id: Option<String>,
    readings: Vec<Value>,
}

impl Listener {
    /// Listens until the last reading of a step has come; then the connection is dropped, wherever it is.
    async fn listen(&mut self, stream: &mut SseStream, step: u64, readings_a_step: usize) {
        let mut commit = Vec::new();
        while self.readings.iter().filter(|reading| reading["step"] == step).count() < readings_a_step {
            let SseEvent { id, event, data } = stream.next().await.expect("the stream goes on");
            assert_ne!(event, "reset", "nothing was missed: {data}");
            if event == "reading" {
                commit.push(data);
            }
            if id.is_some() {
                self.last_event_id = id;
                self.readings.append(&mut commit);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_streams_say_the_same_and_resume_without_loss() {
    let server = TestServer::start().await;
    let rest = server.rest();
    let made = made();
    let mut job = Job::open(&server.url(), &made.options);
    let run = format!("/api/v1/runs/{}", job.run_id());
    let path = format!("/api/v1/stream?types=reading&run={}", job.run_id());
    let mut submitted = made.parameters.iter().enumerate().map(|(step, parameters)| (step as u64, parameters));
    let mut listener = Listener { last_event_id: None, readings: Vec::new() };
    let windows = made.options.windows.len();

    // The first connection is open before there is anything to say.
    let mut stream = rest.events(&path, None).await;
    let mut next = 0;
    for until in [40, 80, STEPS] {
        // Half of the part is heard live.
        let halfway = until - 20;
        for (step, parameters) in submitted.by_ref().take((halfway + 1 - next) as usize) {
            job.submit(step, parameters);
        }
        listener.listen(&mut stream, halfway, windows).await;
        drop(stream);
        // The other half is missed and replayed.
        for (step, parameters) in submitted.by_ref().take((until - halfway) as usize) {
            job.submit(step, parameters);
        }
        next = until + 1;
        rest.until(&run, "the part's last step", |run| run["last_step"] == until).await;
        stream = rest.events(&path, listener.last_event_id.as_deref()).await;
        listener.listen(&mut stream, until, windows).await;
    }
    job.close().await;
    for (&window, expected) in made.options.windows.iter().zip(&made.expected.readings) {
        let heard: Vec<Value> = listener.readings.iter().filter(|it| it["window"] == window).cloned().collect();
        assert_readings(&heard, expected);
    }
}

async fn deletion_leaves_nothing(backend: Backend) {
    let server = TestServer::start_on(backend).await;
    let rest = server.rest();
    let mut peer = Peer::connect(&server.url()).await;
    let request = open_request(spec());
    let run = format!("/api/v1/runs/{}", request.run_id);
    let (mut stream, _) = peer.open(&request).await.expect("opened");
    stream.frames((1..=50).map(|seq| frame(seq, seq)).collect()).await;
    stream.acknowledged(50).await;
    let kept = open_request(spec());
    let (mut other, _) = peer.open(&kept).await.expect("opened");
    other.frames((1..=5).map(|seq| frame(seq, seq)).collect()).await;
    other.acknowledged(5).await;

    let (status, _) = rest.call(Method::DELETE, &run, "").await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let paths = ["", "/steps", "/readings/edge", "/events", "/segments", "/groups", "/series?metric=edge.ratio"];
    for path in paths {
        let (status, problem) = rest.refused(&format!("{run}{path}")).await;
        assert_eq!((status, &problem["code"]), (404, &json!("not_found")), "{path}");
    }
    let left = rest.get("/api/v1/runs").await;
    assert_eq!(left["items"].as_array().map(Vec::len), Some(1));

    // The same id is free again once the rows are gone: until then it is refused, and then nothing of it is left.
    let again = tokio::time::timeout(PATIENCE, async {
        loop {
            match peer.open(&request).await {
                Ok(opened) => return opened,
                Err(status) => assert_eq!(status.code(), tonic::Code::FailedPrecondition, "{status}"),
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
    let (mut stream, opened) = again.await.expect("the rows are purged one day");
    assert_eq!((opened.segment, opened.committed_seq), (1, 0));
    for path in ["/steps?limit=500", "/readings/edge?limit=500", "/events?limit=500"] {
        assert_eq!(rest.all(&format!("{run}{path}")).await, Vec::<Value>::new(), "{path}");
    }
    let counters = rest.get(&run).await;
    assert_eq!((&counters["counters"]["steps"], &counters["scalars"]), (&json!(0), &json!([])));
    stream.frames((1..=4).map(|seq| frame(seq, seq)).collect()).await;
    stream.acknowledged(4).await;
    assert_eq!(rest.all(&format!("{run}/readings/edge?limit=500")).await.len(), 4);
    assert_eq!(rest.all(&format!("/api/v1/runs/{}/steps?limit=500", kept.run_id)).await.len(), 5);
}
