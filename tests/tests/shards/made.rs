//! Made partial sketches, and what must be read off their sum.

use std::collections::BTreeSet;

use gradwatch_proto::v1::{self, Frame, OpenRunRequest};
use gradwatch_server::config::Config;
use gradwatch_tests::{
    Offline, Peer, PeerStream, Rest, Row, TestServer, assert_detected, assert_readings, open_request, payload_f32, spec,
};
use serde_json::Value;
use uuid::Uuid;

pub(crate) const DIM: usize = 64;

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn uniform(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 24) as f32 - 0.5
    }
}

/// `parts[shard][step − 1]`: of magnitudes so different that another order of summation gives other bits.
pub(crate) struct Made {
    pub(crate) parts: Vec<Vec<Vec<f32>>>,
}

impl Made {
    pub(crate) fn new(shards: usize, steps: usize, seed: u64) -> Self {
        let mut random = Random(seed);
        let mut part = |shard: usize| {
            let scale = 10_f32.powi(shard as i32 * 3 - 4);
            (0..steps).map(|_| (0..DIM).map(|_| scale * random.uniform()).collect()).collect()
        };
        Self { parts: (0..shards).map(&mut part).collect() }
    }

    pub(crate) fn shards(&self) -> usize {
        self.parts.len()
    }

    pub(crate) fn steps(&self) -> u64 {
        self.parts[0].len() as u64
    }

    /// What a shard sends for a step.
    pub(crate) fn frame(&self, shard: usize, step: u64) -> Frame {
        Frame {
            seq: step,
            step,
            wall_time_us: 1_700_000_000_000_000 + step as i64 * 10 + shard as i64,
            learning_rate: (shard == 0).then_some(1e-3),
            scalars: [(format!("of_shard_{shard}"), step as f64), ("loss".to_owned(), shard as f64)].into(),
            payloads: vec![payload_f32(0, step - 1, &self.parts[shard][step as usize - 1])],
            ..Frame::default()
        }
    }

    /// The sum in float64, in the order of the shards, rounded once.
    pub(crate) fn sum(&self, step: u64) -> Vec<f32> {
        let mut sum = vec![0.0_f64; DIM];
        for (shard, part) in self.parts.iter().enumerate() {
            for (sum, &value) in sum.iter_mut().zip(&part[step as usize - 1]) {
                *sum = if shard == 0 { value.into() } else { *sum + f64::from(value) };
            }
        }
        sum.into_iter().map(|value| value as f32).collect()
    }

    /// What is read when the steps in `incomplete` lack a shard.
    pub(crate) fn expected(&self, incomplete: &BTreeSet<u64>) -> Offline {
        let rows: Vec<Row> = (1..=self.steps())
            .filter(|step| !incomplete.contains(step))
            .map(|step| Row { step, base_step: step - 1, sketch: self.sum(step) })
            .collect();
        Offline::compute(&rows, &[3], 1_000)
    }

    /// Readings, detections and step rows are those of the sums, to the bit; steps in `incomplete` lack a shard.
    pub(crate) async fn assert_read(&self, rest: &Rest, run_id: &str, incomplete: &BTreeSet<u64>) {
        let run = format!("/api/v1/runs/{run_id}");
        let expected = self.expected(incomplete);
        let readings = rest.all(&format!("{run}/readings/edge?segment=all&limit=1000")).await;
        assert_readings(&readings, &expected.readings[0]);
        let events = rest.all(&format!("{run}/events?segment=all&limit=1000")).await;
        assert_detected(&events, &expected.detections);
        let steps = rest.all(&format!("{run}/steps?segment=all&limit=1000")).await;
        let found: Vec<u64> = steps.iter().map(|step| step["step"].as_u64().expect("a step")).collect();
        assert_eq!(found, (1..=self.steps()).collect::<Vec<u64>>());
        for step in &steps {
            let number = step["step"].as_u64().expect("a step");
            let complete = !incomplete.contains(&number);
            assert_eq!(step["complete"], complete, "{step}");
            let seqs = step["seqs"].as_array().expect("seqs");
            assert_eq!(seqs.len(), self.shards());
            assert_eq!(seqs[0], number.to_string(), "{step}");
            assert_eq!(seqs.iter().all(|seq| !seq.is_null()), complete, "{step}");
            if complete {
                assert_eq!(step["lr"], 1e-3, "{step}");
                assert_eq!(step["scalars"]["loss"], 0.0, "that of the lowest shard: {step}");
                let last = format!("of_shard_{}", self.shards() - 1);
                assert_eq!(step["scalars"][last.as_str()], number as f64, "{step}");
            }
        }
        let counters = &rest.get(&run).await["counters"];
        assert_eq!((&counters["steps"], &counters["incomplete"]), (&self.steps().into(), &incomplete.len().into()));
        let (_, metrics) = rest.call(http::Method::GET, "/metrics", "").await;
        assert!(metrics.contains("gradwatch_unique_violations_total 0"), "nothing was ever stored twice");
    }
}

/// The requests of an attempt's shards, each of a process of its own.
pub(crate) fn requests(shards: usize) -> Vec<OpenRunRequest> {
    requests_of(open_request(spec()), shards)
}

pub(crate) fn requests_of(request: OpenRunRequest, shards: usize) -> Vec<OpenRunRequest> {
    let of = |shard| OpenRunRequest {
        shard,
        shard_count: shards as u32,
        writer_id: Uuid::new_v4().to_string(),
        ..request.clone()
    };
    (0..shards as u32).map(of).collect()
}

/// OpenRun and a stream for each shard.
pub(crate) async fn open_all(url: &str, requests: &[OpenRunRequest]) -> Vec<PeerStream> {
    let mut streams = Vec::new();
    for request in requests {
        let mut peer = Peer::connect(url).await;
        streams.push(peer.open(request).await.expect("opened").0);
    }
    streams
}

/// A stream of an attempt that was opened before; answers what it begins with too.
pub(crate) async fn reopen(url: &str, request: &OpenRunRequest) -> (PeerStream, v1::Opened) {
    Peer::connect(url).await.open_stream(request).await.expect("opened")
}

/// A server that waits for a missing shard no longer than a second.
pub(crate) async fn impatient_server() -> TestServer {
    TestServer::start_with(impatient).await
}

pub(crate) fn impatient(config: &mut Config) {
    config.liveness.assembly_timeout_s = 1;
    config.liveness.check_every_ms = 20;
}

/// Events of a type, of all segments.
pub(crate) async fn events(rest: &Rest, run_id: &str, event_type: &str) -> Vec<Value> {
    rest.all(&format!("/api/v1/runs/{run_id}/events?segment=all&types={event_type}&limit=1000")).await
}

/// Waits until a run has settled a step.
pub(crate) async fn reached(rest: &Rest, run_id: &str, step: u64) {
    let reached = |run: &Value| run["last_step"].as_u64() >= Some(step);
    rest.until(&format!("/api/v1/runs/{run_id}"), "the step", reached).await;
}
