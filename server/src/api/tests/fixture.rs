//! A run with a rewind, its readings, scalars, rollups and events, behind a router.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Method, Request, StatusCode, header},
};
use gradwatch_spectral::{
    catalogue::EDGE_METRICS,
    detectors::Regime,
    edge::{EdgeParams, EdgeReading, edge_readings},
};
use gradwatch_store::{
    AttemptDeclaration, AttemptId, Encoding, EventRow, GroupSpec, Kind, LIVE_ANALYSIS, NonFinitePayload, OpenAttempt,
    ReadingRow, ResumeFrom, Resumes, RollupRow, RunCommit, RunDeclaration, RunId, RunPatch, StepRow, Store, StreamKey,
    StreamSpec, TensorSpec, sqlite::SqliteStore,
};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use uuid::Uuid;

use super::layer_fixture::layers;
use crate::{
    access::{Access, protect},
    config::Config,
    metrics::Metrics,
    pipeline::Pipeline,
    readiness::Readiness,
    recorder::{self, Hub},
    state::AppState,
};

/// Segment 1 holds steps 1 to 2,000; segment 2 resumes at 1,500 and ends at 3,000.
pub(super) const RESUMED_AT: u64 = 1_500;
pub(super) const FIRST: std::ops::RangeInclusive<u64> = 1..=2_000;
pub(super) const SECOND: std::ops::RangeInclusive<u64> = 1_501..=3_000;
/// Where segment 1's and segment 2's loss is NaN.
pub(super) const NAN_STEPS: [u64; 3] = [700, 1_600, 2_999];
/// One spike on the live line, and a higher one that was rewound.
pub(super) const SPIKES: [(u32, u64); 2] = [(2, 1_777), (1, 1_777)];

/// The header of a body that is read.
pub(super) const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

pub(super) fn run_id(number: u64) -> RunId {
    RunId(Uuid::from_u64_pair(1, number))
}

pub(super) fn stream() -> StreamKey {
    StreamKey { group: "all".into(), kind: Kind::Update, window: 3 }
}

/// The loss that the job sent.
pub(super) fn loss(segment: u32, step: u64) -> f64 {
    if NAN_STEPS.contains(&step) {
        f64::NAN
    } else if (segment, step) == SPIKES[0] {
        1e6
    } else if (segment, step) == SPIKES[1] {
        1e9
    } else {
        f64::from(segment) + (step as f64 * 0.7).sin()
    }
}

pub(super) struct Api {
    pub(super) router: Router,
    pub(super) state: AppState,
    _dir: TempDir,
    _queue: mpsc::Receiver<recorder::Settlement>,
}

pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

impl Reply {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// Checks that it is a problem document and answers its (status, code, field).
    pub(super) fn problem(&self) -> (u16, String, Option<String>) {
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json", "{}", self.text);
        let problem = self.json();
        let code = problem["code"].as_str().unwrap().to_owned();
        assert_eq!(problem["status"], self.status.as_u16());
        assert_eq!(problem["type"], format!("/docs#problem-{code}"));
        (self.status.as_u16(), code, problem["field"].as_str().map(str::to_owned))
    }
}

impl Api {
    /// Without any run.
    pub(super) async fn empty(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::embedded("127.0.0.1:0".parse().unwrap(), dir.path()).unwrap();
        config.numeric_threads = 1;
        change(&mut config);
        let config = Arc::new(config);
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(dir.path()).await.unwrap());
        let metrics = Arc::new(Metrics::new());
        let (sender, queue) = mpsc::channel(recorder::QUEUE);
        let pipeline = Arc::new(
            Pipeline::new(Arc::clone(&config), Arc::clone(&store), Arc::clone(&metrics), sender, Arc::default())
                .unwrap(),
        );
        let hub = Arc::new(Hub::new(store.last_commit_seq().await.unwrap(), config.api.replay_bytes));
        let access = Arc::new(Access::new(&config, Arc::clone(&store)));
        let router_of = |state: AppState| {
            let guarded = protect(super::super::router(state.clone()), state.clone());
            super::super::with_cors(guarded, &state.config.api.cors_origins)
        };
        let readiness = Arc::new(Readiness::new(Arc::clone(&store)));
        let draining = CancellationToken::new();
        let reanalysis = Arc::new(crate::reanalysis::Reanalysis::new(
            Arc::clone(&config),
            Arc::clone(&store),
            Arc::clone(&pipeline),
            draining.clone(),
        ));
        let alerts = crate::alerts::Alerts::open(&config, Arc::clone(&store), Arc::clone(&metrics)).await.unwrap();
        let alerts = Arc::new(alerts);
        let delivery = Arc::new(crate::alerts::Dispatcher::new(
            &config,
            Arc::clone(&store),
            Arc::clone(&alerts.book),
            Arc::clone(&metrics),
            draining.clone(),
        ));
        let state = AppState {
            delivery,
            config,
            access,
            store,
            readiness,
            hub,
            pipeline,
            reanalysis,
            alerts,
            metrics,
            draining,
        };
        Self { router: router_of(state.clone()), state, _dir: dir, _queue: queue }
    }

    /// With one run that was rewound.
    pub(super) async fn with_run() -> Self {
        let api = Self::empty(|_| {}).await;
        let store = &*api.state.store;
        store.open_attempt(&attempt(1, 1, None)).await.unwrap();
        store.open_attempt(&attempt(1, 2, Some((1, RESUMED_AT)))).await.unwrap();
        let epoch = store.take_ownership(run_id(1)).await.unwrap().owner_epoch;
        for (segment, steps) in [(1, FIRST), (2, SECOND)] {
            let mut commit = empty_commit(1, epoch);
            commit.readings = readings(segment, steps.clone());
            commit.steps = steps.map(|step| step_row(segment, step)).collect();
            commit.rollups = rollups(segment, &commit.steps, &commit.readings);
            if segment == 1 {
                commit.scalar_names = vec!["loss".into()];
                commit.events = vec![
                    event("edge.regime", 1, Some(400), Some("all")),
                    event("run.lossy", 1, None, None),
                    // Rewound.
                    event("edge.rotation", 1, Some(1_900), Some("all")),
                ];
            } else {
                commit.events = vec![
                    event("edge.regime", 2, Some(1_800), Some("all")),
                    event("update.spike", 2, Some(1_777), Some("mlp")),
                ];
                commit.patch = RunPatch {
                    last_step: Some(3_000),
                    last_seen_us: Some(1_700_000_500_000_000),
                    ..RunPatch::default()
                };
            }
            store.commit(&[commit]).await.unwrap();
        }
        api
    }

    pub(super) async fn open_run(&self, number: u64) {
        self.state.store.open_attempt(&attempt(number, 10 + number, None)).await.unwrap();
    }

    pub(super) async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.router.clone().oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Reply { status: parts.status, headers: parts.headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
    }

    pub(super) async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, &[], "").await
    }

    /// The JSON of a call that succeeds.
    pub(super) async fn ok(&self, path: &str) -> Value {
        let reply = self.get(path).await;
        assert_eq!(reply.status, StatusCode::OK, "{path}: {}", reply.text);
        reply.json()
    }

    /// The items of all pages.
    pub(super) async fn pages(&self, path: &str, limit: usize) -> Vec<Value> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let mut items = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.ok(&format!("{path}{separator}limit={limit}{cursor}")).await;
            let found = page["items"].as_array().unwrap();
            assert!(found.len() <= limit);
            items.extend(found.iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return items,
            }
        }
    }
}

/// `runs/{the run with a rewind}` and the rest of a path.
pub(super) fn of_run(rest: &str) -> String {
    format!("/api/v1/runs/{}{rest}", run_id(1))
}

fn attempt(run: u64, attempt: u64, resumes: Option<(u64, u64)>) -> OpenAttempt {
    let attempt_id = |number| AttemptId(Uuid::from_u64_pair(2, number));
    let group = |name: &str| GroupSpec {
        name: name.into(),
        tensors: vec![TensorSpec { name: format!("{name}.weight"), elements: 4_096 }],
    };
    OpenAttempt {
        run: RunDeclaration {
            run_id: run_id(run),
            project: if run.is_multiple_of(2) { "even" } else { "vision" }.into(),
            name: format!("run {run}"),
            labels: BTreeMap::from([("team".into(), "optim".into())]),
            config: json!({"lr": 3e-4}),
        },
        attempt: AttemptDeclaration {
            attempt_id: attempt_id(attempt),
            started_at_us: 1_700_000_000_000_000 + attempt as i64,
            resumes: resumes
                .map(|(attempt, step)| ResumeFrom::Attempt(Resumes { attempt_id: attempt_id(attempt), step })),
            unrelated: false,
            shard_count: 1,
            spec: StreamSpec {
                sketch_dim: 1_024,
                sketch_seed: u64::MAX,
                encoding: Encoding::F16,
                window_lengths: vec![3, 5],
                groups: vec![group("all"), group("mlp")],
                kinds: vec![Kind::Update],
                update_interval: 1,
                layers: if run == 1 { layers(attempt) } else { Vec::new() },
            },
        },
        shard: 0,
        writer_id: "writer".into(),
        now_us: 1_700_000_000_000_000 + 1_000_000 * run as i64,
        environment: "0.1.0 avx2".into(),
    }
}

pub(super) fn empty_commit(run: u64, owner_epoch: u64) -> RunCommit {
    RunCommit::new(run_id(run), owner_epoch)
}

fn step_row(segment: u32, step: u64) -> StepRow {
    StepRow {
        segment,
        step,
        seqs: vec![Some(step)],
        wall_time_us: 1_700_000_000_000_000 + step as i64,
        received_at_us: 1_700_000_000_000_000 + step as i64,
        learning_rate: Some(1e-3),
        weight_decay: None,
        phase: 0,
        complete: true,
        scalars: BTreeMap::from([("loss".into(), loss(segment, step))]),
        nonfinite_payloads: if step == 700 {
            vec![NonFinitePayload {
                group: "all".into(),
                kind: Kind::Update,
                nan: 2,
                positive_infinity: 1,
                negative_infinity: 0,
            }]
        } else {
            Vec::new()
        },
    }
}

/// Real readings of made-up updates.
pub(super) fn readings(segment: u32, steps: std::ops::RangeInclusive<u64>) -> Vec<ReadingRow> {
    let row = |step: u64| {
        let t = step as f64 + f64::from(segment);
        vec![t.sin(), (2.0 * t).cos(), (0.3 * t).sin() * 2.0, 1.0, (1.7 * t).cos()]
    };
    let updates: Vec<Vec<f64>> = steps.clone().map(row).collect();
    let params = EdgeParams { window: 3, parameter_count: 4_096, sketch_dim: Some(1_024) };
    let edges = edge_readings(&updates, params, &vec![1e-3; updates.len()]).unwrap();
    let reading = |(step, edge): (u64, EdgeReading)| ReadingRow {
        analysis: LIVE_ANALYSIS.into(),
        stream: stream(),
        segment,
        step,
        regime: if edge.is_warming() { Regime::Warming } else { Regime::Plateau },
        edge,
    };
    steps.zip(edges).map(reading).collect()
}

pub(super) fn event(event_type: &str, segment: u32, step: Option<u64>, group: Option<&str>) -> EventRow {
    EventRow {
        event_type: event_type.into(),
        segment,
        step,
        at_us: 1_700_000_000_000_000,
        group: group.map(str::to_owned),
        kind: group.map(|_| Kind::Update),
        window: group.map(|_| 3),
        from: (event_type == "edge.regime").then(|| "plateau".into()),
        to: (event_type == "edge.regime").then(|| "transition".into()),
        evidence: json!({"reading": "edge.dk"}),
    }
}

/// The rollups that the pipeline would have written: a bucket once a value of a later one arrived.
fn rollups(segment: u32, steps: &[StepRow], readings: &[ReadingRow]) -> Vec<RollupRow> {
    let mut rows = Vec::new();
    for bucket_steps in [256, 16_384] {
        let losses = steps.iter().map(|row| (row.step, row.scalars["loss"]));
        rows.extend(rollup("scalar.loss", None, segment, bucket_steps, losses));
        for metric in EDGE_METRICS.iter().filter(|metric| metric.headline) {
            let values = readings.iter().filter_map(|row| Some((row.step, row.edge.value(metric.short)?)));
            rows.extend(rollup(metric.name, Some(stream()), segment, bucket_steps, values));
        }
    }
    rows
}

fn rollup(
    metric: &str,
    stream: Option<StreamKey>,
    segment: u32,
    bucket_steps: u64,
    values: impl Iterator<Item = (u64, f64)>,
) -> Vec<RollupRow> {
    let mut buckets: BTreeMap<u64, Vec<(u64, f64)>> = BTreeMap::new();
    for (step, value) in values.filter(|(_, value)| value.is_finite()) {
        buckets.entry(step / bucket_steps).or_default().push((step, value));
    }
    buckets.pop_last();
    let row = |(bucket, values): (u64, Vec<(u64, f64)>)| RollupRow {
        analysis: LIVE_ANALYSIS.into(),
        metric: metric.into(),
        stream: stream.clone(),
        segment,
        bucket_steps,
        bucket,
        last_step: values[values.len() - 1].0,
        min: values.iter().map(|(_, value)| *value).fold(f64::INFINITY, f64::min),
        max: values.iter().map(|(_, value)| *value).fold(f64::NEG_INFINITY, f64::max),
        last: values[values.len() - 1].1,
        count: values.len() as u64,
    };
    buckets.into_iter().map(row).collect()
}
