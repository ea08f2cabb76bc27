//! Made runs, whose cascades grow with their width as it is wanted.

use bytes::Bytes;
use gradwatch_proto::v1::{self, OpenRunRequest, cascade_snapshot::Whole, client_message, snapshot::Body};
use gradwatch_tests::{Peer, PeerStream, Rest, next_attempt, open_request, spec};
use http::Method;
use serde_json::{Value, json};

/// A run that sends what a test says.
pub(crate) struct Made {
    peer: Peer,
    pub(crate) request: OpenRunRequest,
    stream: PeerStream,
    seq: u64,
}

/// A step that brings nothing yet.
pub(crate) fn at(step: u64) -> v1::Frame {
    v1::Frame { step, wall_time_us: 1_700_000_000_000_000 + step as i64, ..v1::Frame::default() }
}

/// The same with the cascade of a whole gradient: N and ln s.
pub(crate) fn whole(frame: v1::Frame, sites: u64, ln_size: f64) -> v1::Frame {
    let phi = (ln_size - (sites as f64).ln()).exp();
    with_whole(frame, Whole::WholeFraction(v1::WholeFraction { sites, phi }))
}

/// The same with all entries of a gradient.
pub(crate) fn gradient(frame: v1::Frame, entries: &[f32]) -> v1::Frame {
    with_whole(frame, Whole::WholeF32(bytes(entries)))
}

fn with_whole(frame: v1::Frame, whole: Whole) -> v1::Frame {
    let whole = Some(whole);
    let body = Some(Body::Cascade(v1::CascadeSnapshot { whole, ..v1::CascadeSnapshot::default() }));
    v1::Frame { snapshots: vec![v1::Snapshot { layer: 0, body }], ..frame }
}

/// The same with a scalar.
pub(crate) fn scalar(mut frame: v1::Frame, name: &str, value: f64) -> v1::Frame {
    frame.scalars.insert(name.to_owned(), value);
    frame
}

/// The same with something that happened.
pub(crate) fn happened(mut frame: v1::Frame, name: &str) -> v1::Frame {
    frame.happened.push(name.to_owned());
    frame
}

/// The same with predictions on a probe batch.
pub(crate) fn predicted(mut frame: v1::Frame, probe: &str, values: &[f32], targets: &[f32]) -> v1::Frame {
    frame.predictions.push(v1::Predictions {
        probe: probe.to_owned(),
        values_f32: bytes(values),
        targets_f32: bytes(targets),
    });
    frame
}

fn bytes(values: &[f32]) -> Bytes {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

impl Made {
    /// Opens a run of project `tests` with a layer `all` for cascade.
    pub(crate) async fn open(url: &str, name: &str, labels: &[(&str, &str)]) -> Self {
        let layer =
            v1::Layer { name: "all".into(), instrument: v1::LayerInstrument::Cascade.into(), ..v1::Layer::default() };
        Self::open_with(url, name, labels, vec![layer]).await
    }

    /// Opens a run with other layers.
    pub(crate) async fn open_with(url: &str, name: &str, labels: &[(&str, &str)], layers: Vec<v1::Layer>) -> Self {
        let request = OpenRunRequest {
            name: name.to_owned(),
            labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            ..open_request(v1::StreamSpec { layers, ..spec() })
        };
        let mut peer = Peer::connect(url).await;
        let (stream, _) = peer.open(&request).await.expect("opened");
        Self { peer, request, stream, seq: 0 }
    }

    pub(crate) fn run_id(&self) -> &str {
        &self.request.run_id
    }

    /// Sends frames and waits until they are settled.
    pub(crate) async fn send(&mut self, frames: impl IntoIterator<Item = v1::Frame>) {
        let mut batch = Vec::new();
        for frame in frames {
            self.seq += 1;
            batch.push(v1::Frame { seq: self.seq, ..frame });
        }
        self.stream.frames(batch).await;
        let others = self.stream.acknowledged(self.seq).await;
        assert_eq!(others, [], "{}", self.request.name);
    }

    /// Goes on with a new attempt behind a step.
    pub(crate) async fn rewind_to(&mut self, step: u64) {
        let request = next_attempt(&self.request, Some((&self.request, step)));
        let (stream, _) = self.peer.open(&request).await.expect("opened");
        (self.request, self.stream, self.seq) = (request, stream, 0);
    }

    /// Ends the run and waits until every snapshot was read: nothing of it changes by itself any more.
    pub(crate) async fn finish(&mut self, rest: &Rest) {
        let outcome = v1::Outcome::Finished.into();
        self.stream.send(client_message::Message::Finish(v1::Finish { outcome, last_seq: self.seq })).await;
        let path = format!("/api/v1/runs/{}", self.run_id());
        rest.until(&path, "the end of the run", |run| run["state"] == "finished").await;
        self.stream.half_close();
        while let Ok(Some(_)) = self.stream.next().await {}
        self.read(rest).await;
    }

    /// Waits until every snapshot was read.
    pub(crate) async fn read(&self, rest: &Rest) {
        let path = format!("/api/v1/runs/{}/layers", self.run_id());
        let is_read = |layers: &Value| layers["items"].as_array().expect("items").iter().all(|it| it["pending"] == 0);
        rest.until(&path, "that all snapshots are read", is_read).await;
    }
}

/// Asks for a computation and waits until it is over.
pub(crate) async fn computed(rest: &Rest, what: &str, request: &Value) -> Value {
    let path = format!("/api/v1/fleet/{what}");
    let (head, body) = rest.exchange(Method::POST, &path, &request.to_string()).await;
    assert!(head.status == 200 || head.status == 202, "{request}: {body}");
    let answer: Value = serde_json::from_str(&body).expect("JSON");
    let location = head.headers["location"].to_str().expect("text").to_owned();
    assert_eq!(location, format!("/api/v1/fleet/{}", answer["id"].as_str().expect("an id")));
    rest.until(&location, "the end of the computation", |it| it["state"] != "running").await
}

/// The result of a computation that has to succeed.
pub(crate) async fn result(rest: &Rest, what: &str, request: Value) -> Value {
    let computation = computed(rest, what, &request).await;
    assert_eq!((&computation["state"], &computation["error"]), (&json!("done"), &Value::Null), "{computation}");
    let progress = &computation["progress"];
    assert_eq!(progress["done"], progress["total"], "{computation}");
    computation["result"].clone()
}

/// The problem of a computation that has to fail.
pub(crate) async fn failed(rest: &Rest, what: &str, request: Value) -> Value {
    let computation = computed(rest, what, &request).await;
    assert_eq!((&computation["state"], &computation["result"]), (&json!("failed"), &Value::Null), "{computation}");
    computation["error"].clone()
}

pub(crate) fn assert_near(found: &Value, expected: f64, what: &str) {
    let number = found.as_f64().unwrap_or_else(|| panic!("{what}: {found}"));
    assert!((number - expected).abs() < 1e-9, "{what}: {number}, not {expected}");
}

/// One member of every item.
pub(crate) fn members<'a>(items: &'a Value, member: &str) -> Vec<&'a Value> {
    items.as_array().expect("items").iter().map(|item| &item[member]).collect()
}
