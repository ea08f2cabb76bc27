//! Servers that are away, stopped, or no servers: training goes on, memory is bounded, and what is lost is counted.

use std::time::Duration;

use gradwatch_client::CloseReport;
use gradwatch_tests::{
    GarbageServer, Job, JobOptions, Offline, PATIENCE, ReservedPort, Rest, Row, ServerProcess, TENSOR, TestServer,
    any_port, assert_readings, exact_sketches, random_walk, rows,
};
use serde_json::{Value, json};
use uuid::Uuid;

/// About a hundred frames; the steps of an outage need ten times that.
const BUFFER_BYTES: usize = 128 << 10;
/// What the client documents: the buffer, and a quarter of it for the hand-over.
const BUFFERED_BYTES_MAX: usize = BUFFER_BYTES + BUFFER_BYTES / 4;
const BEFORE: u64 = 40;
const OUTAGE: u64 = 1_000;
const AFTER: u64 = 60;

/// A made training job.
struct Made {
    options: JobOptions,
    parameters: Vec<Vec<f32>>,
    next_step: u64,
}

impl Made {
    fn new() -> Self {
        let options = JobOptions { len: 500, ..JobOptions::default() };
        let parameters = random_walk(3, (BEFORE + OUTAGE + AFTER) as usize, options.len);
        Self { options, parameters, next_step: 0 }
    }

    fn open(&self, url: &str) -> Job {
        Job::open_with(url, &self.options, |builder| builder.buffer_bytes(BUFFER_BYTES))
    }

    /// Submits so many steps; none is refused and memory stays bounded.
    fn submit(&mut self, job: &mut Job, steps: u64) {
        for _ in 0..steps {
            // Panics when it is refused.
            job.submit(self.next_step, &self.parameters[self.next_step as usize]);
            self.next_step += 1;
            let buffered_bytes = job.run.status().buffered_bytes;
            assert!(buffered_bytes <= BUFFERED_BYTES_MAX, "{buffered_bytes} bytes at step {}", self.next_step);
        }
    }

    /// Trains through an outage, which overflows the buffer.
    fn outage(&mut self, job: &mut Job) {
        let dropped = job.run.status().dropped;
        self.submit(job, OUTAGE);
        assert!(job.run.status().dropped > dropped, "the buffer was too large for this test");
    }

    /// Trains on with a server that is back, and ends.
    async fn recover(&mut self, mut job: Job) -> CloseReport {
        let settled = job.run.status().settled;
        until(&job, |job| job.run.status().settled > settled).await;
        self.train(&mut job, AFTER).await;
        job.close_lossy().await
    }

    /// Submits at the pace of training rather than of a loop, so that not everything overflows at the hand-over.
    async fn train(&mut self, job: &mut Job, steps: u64) {
        for _ in 0..steps {
            self.submit(job, 1);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Trains with a server that is there, until it has everything.
    async fn before(&mut self, job: &mut Job) {
        self.train(job, BEFORE).await;
        until(job, |job| {
            let status = job.run.status();
            status.settled > 0 && status.settled + status.dropped == BEFORE
        })
        .await;
    }

    /// Everything submitted was either settled or dropped, and the server knows which.
    async fn assert_accounted(&self, rest: &Rest, run_id: Uuid, report: &CloseReport) {
        assert_eq!((report.submitted, &report.reason), (self.next_step, &None), "{report}");
        assert_eq!((report.rejected, report.undelivered), (0, 0), "{report}");
        assert_eq!(report.settled + report.dropped, report.submitted, "{report}");
        assert!(report.dropped > 0, "{report}");

        let run = format!("/api/v1/runs/{run_id}");
        let counters = rest.get(&run).await;
        assert_eq!(counters["counters"]["dropped"], report.dropped);
        assert_eq!(counters["counters"]["steps"], report.settled);
        assert_eq!(counters["state"], "finished");
        let lossy = rest.get("/api/v1/overview").await["lossy"].clone();
        assert_eq!(lossy[0]["run_id"], json!(run_id.to_string()));

        let steps = rest.all(&format!("{run}/steps?limit=1000")).await;
        let settled: Vec<u64> = steps.iter().filter_map(|step| step["step"].as_u64()).collect();
        let stretches = rest.all(&format!("{run}/events?types=run.lossy&limit=1000")).await;
        assert!(!stretches.is_empty());
        let dropped = stretches.iter().flat_map(|event| stretch(&event["evidence"]));
        // A frame's seq is its step + 1: nothing is both, and nothing is neither.
        let mut all: Vec<u64> = settled.iter().map(|step| step + 1).chain(dropped).collect();
        all.sort_unstable();
        assert_eq!(all, (1..=report.submitted).collect::<Vec<_>>());

        let kept = self.kept_rows(&settled);
        let expected = Offline::compute(&kept, &self.options.windows, self.options.len);
        assert_readings(&rest.all(&format!("{run}/readings/edge?limit=1000")).await, &expected.readings[0]);
        let restarted = rest.all(&format!("{run}/events?types=window.restarted&limit=1000")).await;
        let restarted: Vec<(u64, &str)> = restarted
            .iter()
            .map(|event| (event["step"].as_u64().expect("a step"), event["evidence"]["reason"].as_str().unwrap_or("")))
            .collect();
        let holes = kept.windows(2).filter(|pair| pair[0].step != pair[1].base_step);
        assert_eq!(restarted, holes.map(|pair| (pair[1].step, "hole")).collect::<Vec<_>>());
    }

    /// The rows of the steps that were settled. Step 0 has none: it is only a base.
    fn kept_rows(&self, settled: &[u64]) -> Vec<Row> {
        let sketches = exact_sketches(&self.parameters, TENSOR, self.options.dim, self.options.seed);
        rows(sketches, 1).into_iter().filter(|row| settled.binary_search(&row.step).is_ok()).collect()
    }
}

fn stretch(evidence: &Value) -> std::ops::RangeInclusive<u64> {
    let seq = |name: &str| evidence[name].as_str().and_then(|text| text.parse().ok()).expect("a seq");
    seq("from_seq")..=seq("to_seq")
}

async fn until(job: &Job, condition: impl Fn(&Job) -> bool) {
    let looking = async {
        while !condition(job) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let status = || job.run.status();
    tokio::time::timeout(PATIENCE, looking)
        .await
        .unwrap_or_else(|_| panic!("the client never got there: {:?}", status()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_late_gets_what_was_not_dropped() {
    let port = ReservedPort::new();
    let mut made = Made::new();
    let mut job = made.open(&port.url());
    let run_id = job.run_id();
    made.outage(&mut job);
    let status = job.run.status();
    assert_eq!((status.settled, status.connected, status.segment), (0, false, None));
    let server = TestServer::start_with(|config| config.listen = port.address()).await;
    let report = made.recover(job).await;
    made.assert_accounted(&server.rest(), run_id, &report).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_buffer_that_is_large_enough_loses_nothing() {
    let port = ReservedPort::new();
    let made = Made::new();
    let mut job = Job::open(&port.url(), &made.options);
    let run_id = job.run_id();
    for (step, parameters) in (0..=BEFORE + AFTER).zip(&made.parameters) {
        job.submit(step, parameters);
    }
    let server = TestServer::start_with(|config| config.listen = port.address()).await;
    job.close().await;
    let steps: Vec<u64> = (0..=BEFORE + AFTER).collect();
    let expected = Offline::compute(&made.kept_rows(&steps), &made.options.windows, made.options.len);
    let run = format!("/api/v1/runs/{run_id}");
    let rest = server.rest();
    assert_readings(&rest.all(&format!("{run}/readings/edge?limit=1000")).await, &expected.readings[0]);
    let events = rest.all(&format!("{run}/events?types=run.lossy,window.restarted&limit=10")).await;
    assert_eq!(events, Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_is_survived_until_a_server_comes() {
    let port = ReservedPort::new();
    let garbage = GarbageServer::start(port.address()).await;
    let mut made = Made::new();
    let mut job = made.open(&port.url());
    let run_id = job.run_id();
    made.submit(&mut job, BEFORE);
    // Long enough for several attempts to talk to it.
    tokio::time::sleep(Duration::from_millis(500)).await;
    made.outage(&mut job);
    assert_eq!(job.run.status().settled, 0);
    garbage.stop().await;
    let server = TestServer::start_with(|config| config.listen = port.address()).await;
    let report = made.recover(job).await;
    made.assert_accounted(&server.rest(), run_id, &report).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_server_goes_on_where_it_was() {
    // Patience that outlasts the stop, and patience that tries again and again meanwhile.
    for stall_timeout in [Duration::from_secs(60), Duration::from_millis(200)] {
        let data_dir = tempfile::tempdir().expect("a temporary directory");
        let server = ServerProcess::start(data_dir.path(), any_port());
        let mut made = Made::new();
        let mut job = Job::open_with(&server.url(), &made.options, |builder| {
            builder.buffer_bytes(BUFFER_BYTES).stall_timeout(stall_timeout)
        });
        let run_id = job.run_id();
        made.before(&mut job).await;
        server.signal("STOP");
        made.outage(&mut job);
        // The impatient client notices.
        tokio::time::sleep(Duration::from_millis(700)).await;
        server.signal("CONT");
        let report = made.recover(job).await;
        made.assert_accounted(&Rest::new(&server.url()), run_id, &report).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_is_taken_up_by_the_next() {
    let data_dir = tempfile::tempdir().expect("a temporary directory");
    let mut server = ServerProcess::start(data_dir.path(), any_port());
    let mut made = Made::new();
    let mut job = made.open(&server.url());
    let run_id = job.run_id();
    made.before(&mut job).await;
    server.kill();
    made.outage(&mut job);
    let server = ServerProcess::start(data_dir.path(), server.address());
    let report = made.recover(job).await;
    made.assert_accounted(&Rest::new(&server.url()), run_id, &report).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_without_a_server_says_what_was_not_delivered() {
    let port = ReservedPort::new();
    let mut made = Made::new();
    let close_timeout = Duration::from_millis(300);
    let mut job = Job::open_with(&port.url(), &made.options, |builder| {
        builder.buffer_bytes(BUFFER_BYTES).close_timeout(close_timeout)
    });
    made.outage(&mut job);
    let report = job.close_lossy().await;
    assert_eq!((report.submitted, report.settled, report.rejected), (OUTAGE, 0, 0), "{report}");
    assert!(report.dropped > 0 && report.undelivered > 0, "{report}");
    assert_eq!(report.undelivered + report.dropped, OUTAGE, "{report}");
    let reason = report.reason.clone().expect("a reason");
    assert!(reason.contains("not confirmed within 300ms"), "{reason}");
    let text = report.to_string();
    assert!(text.contains(&format!("0 of {OUTAGE} frames settled")), "{text}");
    assert!(text.contains(&format!("{} not delivered", report.undelivered)), "{text}");
}
