//! A peer that speaks the protocol by hand, so that a test can say exactly what a client would never say.

use gradwatch_proto::v1::{
    self, ClientMessage, OpenRunRequest, ServerMessage, client_message, payload, server_message,
    telemetry_client::TelemetryClient,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Status, Streaming,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;
use uuid::Uuid;

use crate::PATIENCE;

/// A raw connection.
#[derive(Clone)]
pub struct Peer {
    /// The generated client.
    pub telemetry: TelemetryClient<Channel>,
}

/// A raw stream of frames.
pub struct PeerStream {
    sender: Option<mpsc::Sender<ClientMessage>>,
    inbound: Streaming<ServerMessage>,
}

impl Peer {
    /// Connects.
    pub async fn connect(url: &str) -> Self {
        let telemetry = TelemetryClient::connect(url.to_owned()).await.expect("the server listens");
        Self { telemetry }
    }

    /// Connects, if somebody listens.
    pub async fn try_connect(url: &str) -> Result<Self, tonic::transport::Error> {
        Ok(Self { telemetry: TelemetryClient::connect(url.to_owned()).await? })
    }

    /// Connects with room for so many bytes that a stream's reader has not read yet.
    pub async fn connect_with_window(url: &str, window_bytes: u32) -> Self {
        let endpoint = Endpoint::from_shared(url.to_owned()).expect("a URL").initial_stream_window_size(window_bytes);
        Self { telemetry: TelemetryClient::new(endpoint.connect().await.expect("the server listens")) }
    }

    /// OpenRun.
    pub async fn open_run(&mut self, request: &OpenRunRequest) -> Result<u32, Status> {
        Ok(self.telemetry.open_run(request.clone()).await?.into_inner().segment)
    }

    /// A stream without any message sent yet.
    pub async fn stream(&mut self) -> Result<PeerStream, Status> {
        let (sender, receiver) = mpsc::channel(1_024);
        let inbound = self.telemetry.stream_frames(ReceiverStream::new(receiver)).await?.into_inner();
        Ok(PeerStream { sender: Some(sender), inbound })
    }

    /// OpenRun and a stream that is open.
    pub async fn open(&mut self, request: &OpenRunRequest) -> Result<(PeerStream, v1::Opened), Status> {
        self.open_run(request).await?;
        self.open_stream(request).await
    }

    /// A stream that is open, of an attempt that was opened before.
    pub async fn open_stream(&mut self, request: &OpenRunRequest) -> Result<(PeerStream, v1::Opened), Status> {
        let mut stream = self.stream().await?;
        stream
            .send(client_message::Message::Open(v1::Open {
                run_id: request.run_id.clone(),
                attempt_id: request.attempt.as_ref().expect("an attempt").attempt_id.clone(),
                shard: request.shard,
                writer_id: request.writer_id.clone(),
            }))
            .await;
        match stream.next().await? {
            Some(server_message::Message::Opened(opened)) => Ok((stream, opened)),
            other => panic!("Opened was expected, not {other:?}"),
        }
    }
}

impl PeerStream {
    /// Sends a message.
    pub async fn send(&self, message: client_message::Message) {
        let sender = self.sender.as_ref().expect("the stream was not closed");
        // A server that has closed the stream says why in its status, which is what a test looks at.
        let _ = sender.send(ClientMessage { message: Some(message) }).await;
    }

    /// Sends frames.
    pub async fn frames(&self, frames: Vec<v1::Frame>) {
        self.send(client_message::Message::Frames(v1::FrameBatch { frames })).await;
    }

    /// Says that nothing more comes.
    pub fn half_close(&mut self) {
        self.sender = None;
    }

    /// The next message; `None` at the end of the stream.
    pub async fn next(&mut self) -> Result<Option<server_message::Message>, Status> {
        let message = timeout(PATIENCE, self.inbound.message()).await.expect("a message, or the end")?;
        Ok(message.map(|message| message.message.expect("a message that is not empty")))
    }

    /// Waits until everything up to `seq` is acknowledged; answers the other messages that came meanwhile.
    pub async fn acknowledged(&mut self, seq: u64) -> Vec<server_message::Message> {
        let mut others = Vec::new();
        loop {
            match self.next().await.expect("an open stream").expect("an open stream") {
                server_message::Message::Ack(ack) if ack.committed_seq >= seq => return others,
                server_message::Message::Ack(_) => {}
                other => others.push(other),
            }
        }
    }
}

/// The field at fault that a status names.
pub fn violated_field(status: &Status) -> Option<String> {
    let violations = status.get_details_bad_request()?.field_violations;
    violations.into_iter().next().map(|violation| violation.field)
}

/// The request of an attempt that resumes another of the same run and writer behind `step`, or, with `None`, is
/// unrelated to all.
pub fn next_attempt(run: &OpenRunRequest, resumes: Option<(&OpenRunRequest, u64)>) -> OpenRunRequest {
    let started_at_us = run.attempt.as_ref().expect("an attempt").started_at_us;
    let resumes = resumes.map(|(resumed, step)| v1::Resumes {
        attempt_id: resumed.attempt.as_ref().expect("an attempt").attempt_id.clone(),
        step,
    });
    OpenRunRequest {
        attempt: Some(v1::Attempt {
            attempt_id: Uuid::new_v4().to_string(),
            started_at_us: started_at_us + 1_000_000,
            unrelated: resumes.is_none(),
            resumes,
        }),
        ..run.clone()
    }
}

/// One group `all` with one tensor of 1,000 parameters, d = 64, W = 3, float32, updates.
pub fn spec() -> v1::StreamSpec {
    v1::StreamSpec {
        sketch_dim: 64,
        sketch_seed: 7,
        encoding: v1::Encoding::F32.into(),
        window_lengths: vec![3],
        groups: vec![group_spec("all")],
        kinds: vec![v1::Kind::Update.into()],
        update_interval: 1,
        layers: Vec::new(),
    }
}

/// A group with one tensor of 1,000 parameters.
pub fn group_spec(name: &str) -> v1::Group {
    v1::Group { name: name.into(), tensors: vec![v1::Tensor { name: format!("{name}.w"), elements: 1_000 }] }
}

/// A new run with a new attempt.
pub fn open_request(spec: v1::StreamSpec) -> OpenRunRequest {
    OpenRunRequest {
        run_id: Uuid::new_v4().to_string(),
        project: "tests".into(),
        name: "run".into(),
        attempt: Some(v1::Attempt {
            attempt_id: Uuid::new_v4().to_string(),
            started_at_us: 1_700_000_000_000_000,
            resumes: None,
            unrelated: false,
        }),
        shard: 0,
        shard_count: 1,
        writer_id: Uuid::new_v4().to_string(),
        spec: Some(spec),
        ..OpenRunRequest::default()
    }
}

/// A frame of step = seq with one float32 update of group 0 whose entries depend on the step.
pub fn frame(seq: u64, step: u64) -> v1::Frame {
    let row: Vec<f32> = (0..64).map(|column| ((step * 64 + column) as f32 * 0.7).sin()).collect();
    v1::Frame {
        seq,
        step,
        wall_time_us: 1_700_000_000_000_000 + step as i64,
        learning_rate: Some(1e-3),
        scalars: [("loss".to_owned(), 1.0 / step as f64)].into(),
        payloads: vec![payload_f32(0, step - 1, &row)],
        ..v1::Frame::default()
    }
}

/// A float32 update.
pub fn payload_f32(group: u32, base_step: u64, row: &[f32]) -> v1::Payload {
    let bytes: Vec<u8> = row.iter().flat_map(|value| value.to_le_bytes()).collect();
    v1::Payload { group, kind: v1::Kind::Update.into(), base_step, body: Some(payload::Body::SketchF32(bytes.into())) }
}

/// Checks a refusal: its code, the field it names, and a part of its message.
pub fn assert_status(status: &Status, code: Code, field: &str, part: &str) {
    assert_eq!((status.code(), violated_field(status).as_deref()), (code, Some(field)), "{status:?}");
    assert!(status.message().contains(part), "{status:?}");
}
