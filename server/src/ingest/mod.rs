//! gRPC: validates, hands over. Who calls was found out by the guard (`access`).

mod declaration;
mod edge_terms;
mod frames;
mod layers;
mod predictions;
mod snapshots;
mod stream;
pub(crate) mod text;

use std::{pin::Pin, time::Duration};

use futures_util::Stream;
use gradwatch_proto::v1::{
    self, ClientMessage, CloseRunRequest, CloseRunResponse, OpenRunRequest, OpenRunResponse, Outcome, ServerMessage,
    telemetry_server::{Telemetry, TelemetryServer},
};
use gradwatch_store::{RunState, StoreError};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    access::Caller,
    clock,
    config::Limits,
    error::{Error, ErrorCode},
    metrics::Metrics,
    state::AppState,
};

/// Steps and sequence numbers stay below: exact in JSON, in float64 and in every database.
const STEP_LIMIT: u64 = 1 << 53;

/// The `gradwatch.v1.Telemetry` service.
pub(crate) struct Ingest {
    state: AppState,
}

/// The service, with its message limit.
pub(crate) fn service(state: AppState) -> TelemetryServer<Ingest> {
    let limit = state.config.limits.max_message_bytes;
    TelemetryServer::new(Ingest { state }).max_decoding_message_size(limit)
}

impl Ingest {
    fn refuse(&self, error: Error) -> Status {
        Metrics::count(&self.state.metrics.errors, error.code.label());
        error.into()
    }

    async fn open(&self, caller: &Caller, request: OpenRunRequest) -> Result<OpenRunResponse, Error> {
        if self.state.draining.is_cancelled() {
            let error = Error::new(ErrorCode::Unavailable, "the server is shutting down");
            return Err(error.retry_after(Duration::from_secs(1)));
        }
        let open = declaration::open_attempt(request, &self.state.config, clock::now_us(), &environment())?;
        let run_id = open.run.run_id;
        caller.require_project(&open.run.project)?;
        let opened = match self.state.store.open_attempt(&open).await {
            // The run is another project's, which a token of this one must not be told.
            Err(StoreError::Conflict { field: "project", .. }) if caller.project().is_some() => {
                return Err(StoreError::UnknownRun(run_id).into());
            }
            opened => opened?,
        };
        if opened.created {
            tracing::info!(%run_id, segment = opened.segment, project = open.run.project, "attempt opened");
            self.state.pipeline.segments_changed(run_id).await;
        }
        Ok(OpenRunResponse { segment: opened.segment, limits: Some(wire_limits(&self.state.config.limits)) })
    }

    async fn close(&self, caller: &Caller, request: CloseRunRequest) -> Result<CloseRunResponse, Error> {
        let run_id = declaration::run_id(&request.run_id)?;
        let outcome = run_state(request.outcome())?;
        // An unknown run is told so before an owner is made for it.
        caller.run(&*self.state.store, run_id).await?;
        self.state.pipeline.close_run(run_id, outcome).await?;
        Ok(CloseRunResponse {})
    }
}

#[tonic::async_trait]
impl Telemetry for Ingest {
    type StreamFramesStream = Pin<Box<dyn Stream<Item = Result<ServerMessage, Status>> + Send>>;

    async fn open_run(&self, request: Request<OpenRunRequest>) -> Result<Response<OpenRunResponse>, Status> {
        let answer = async { self.open(&caller(&request)?, request.into_inner()).await };
        answer.await.map(Response::new).map_err(|error| self.refuse(error))
    }

    async fn stream_frames(
        &self,
        request: Request<Streaming<ClientMessage>>,
    ) -> Result<Response<Self::StreamFramesStream>, Status> {
        let caller = caller(&request).map_err(|error| self.refuse(error))?;
        Ok(Response::new(Box::pin(stream::serve(self.state.clone(), caller, request.into_inner()))))
    }

    async fn close_run(&self, request: Request<CloseRunRequest>) -> Result<Response<CloseRunResponse>, Status> {
        let answer = async { self.close(&caller(&request)?, request.into_inner()).await };
        answer.await.map(Response::new).map_err(|error| self.refuse(error))
    }
}

/// Who the guard let through.
fn caller<T>(request: &Request<T>) -> Result<Caller, Error> {
    let caller = request.extensions().get::<Caller>().cloned();
    caller.ok_or_else(|| Error::internal("a call came around the guard"))
}

fn run_state(outcome: Outcome) -> Result<RunState, Error> {
    match outcome {
        Outcome::Finished => Ok(RunState::Finished),
        Outcome::Failed => Ok(RunState::Failed),
        Outcome::Preempted => Ok(RunState::Preempted),
        Outcome::Unspecified => {
            Err(Error::invalid("outcome", "must be OUTCOME_FINISHED, OUTCOME_FAILED or OUTCOME_PREEMPTED"))
        }
    }
}

fn wire_limits(limits: &Limits) -> v1::Limits {
    let u32_of = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    v1::Limits {
        max_window_bytes: limits.max_window_bytes,
        max_message_bytes: limits.max_message_bytes as u64,
        max_scalars_per_frame: u32_of(limits.max_scalars_per_frame),
        max_name_bytes: u32_of(limits.max_name_bytes),
        max_labels: u32_of(limits.max_labels),
        max_layers: u32_of(limits.max_layers),
        max_backlog_bytes: limits.max_backlog_bytes,
    }
}

/// What the bits of a reading depend on besides its frames: the binary and the instructions it may use.
fn environment() -> String {
    let simd = gradwatch_spectral::sketch::SimdPath::best().name();
    format!("gradwatch {} {} {simd}", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH)
}
