//! What gRPC alone can do: a server that decodes frames and acknowledges them, on the transport settings of the real
//! one (`server/src/http_server.rs`), and keeps nothing.

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;
use gradwatch_proto::v1::{
    self, ClientMessage, CloseRunRequest, CloseRunResponse, OpenRunRequest, OpenRunResponse, ServerMessage,
    client_message::Message,
    server_message,
    telemetry_server::{Telemetry, TelemetryServer},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

const MAX_MESSAGE_BYTES: usize = 16 << 20;
const OUTBOX: usize = 64;

/// Serves until the process is ended.
pub(crate) async fn serve() -> Result<()> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let service = TelemetryServer::new(Bare).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let app = tonic::service::Routes::new(service).into_axum_router();
    eprintln!("{}", serde_json::json!({ "fields": { "message": "listening", "address": listener.local_addr()? } }));
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let app = app.clone();
        tokio::spawn(async move {
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder
                .http2()
                .timer(TokioTimer::new())
                .keep_alive_interval(Duration::from_secs(20))
                .keep_alive_timeout(Duration::from_secs(20))
                .initial_connection_window_size(4 << 20)
                .initial_stream_window_size(1 << 20);
            // A connection that breaks is the client's to report.
            let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(app)).await;
        });
    }
}

struct Bare;

#[tonic::async_trait]
impl Telemetry for Bare {
    type StreamFramesStream = ReceiverStream<Result<ServerMessage, Status>>;

    async fn open_run(&self, _: Request<OpenRunRequest>) -> Result<Response<OpenRunResponse>, Status> {
        Ok(Response::new(OpenRunResponse { segment: 1, limits: None }))
    }

    async fn stream_frames(
        &self,
        request: Request<Streaming<ClientMessage>>,
    ) -> Result<Response<Self::StreamFramesStream>, Status> {
        let mut inbound = request.into_inner();
        let (sender, receiver) = mpsc::channel(OUTBOX);
        tokio::spawn(async move {
            while let Ok(Some(ClientMessage { message: Some(message) })) = inbound.message().await {
                let answer = match message {
                    Message::Open(_) => server_message::Message::Opened(v1::Opened::default()),
                    Message::Frames(batch) => {
                        let committed_seq = batch.frames.last().map_or(0, |frame| frame.seq);
                        server_message::Message::Ack(v1::Ack { committed_seq, keep_from_seq: committed_seq })
                    }
                    _ => continue,
                };
                if sender.send(Ok(ServerMessage { message: Some(answer) })).await.is_err() {
                    break;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn close_run(&self, _: Request<CloseRunRequest>) -> Result<Response<CloseRunResponse>, Status> {
        Err(Status::unimplemented("this server keeps no runs"))
    }
}
