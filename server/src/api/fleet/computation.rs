//! A computation: something that was asked for, how far it is, and what came out.

use std::sync::Arc;

use serde::{Serialize, Serializer};
use tokio::sync::watch;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{super::time::Time, dimension::FleetDimensionResult, request::FleetRequest, split::ErrorSplitResult};
use crate::{
    clock,
    error::{Error, Problem},
};

/// What came out.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum FleetResult {
    /// Of `fleet/dimension`.
    Dimension(FleetDimensionResult),
    /// Of `fleet/error_split`.
    ErrorSplit(ErrorSplitResult),
}

/// Something computed on request.
#[derive(Debug)]
pub(super) struct Computation {
    pub(super) id: Uuid,
    pub(super) request: FleetRequest,
    /// Of the data when it was asked for.
    pub(super) data_version: String,
    status: watch::Sender<Status>,
}

/// How far a computation is.
#[derive(Clone, Debug)]
pub(super) enum Status {
    Running(Steps),
    Done { result: Arc<FleetResult>, at_us: i64, steps: Steps },
    Failed { error: Error, at_us: i64, steps: Steps },
}

/// Pieces of work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = FleetProgress)]
pub(crate) struct Steps {
    /// Runs read and points computed.
    pub(super) done: usize,
    /// Of so many; grows when it becomes known how many points there are.
    pub(super) total: usize,
}

impl Status {
    pub(super) fn is_over(&self) -> bool {
        !matches!(self, Self::Running(_))
    }

    pub(super) fn steps(&self) -> Steps {
        match self {
            Self::Running(steps) | Self::Done { steps, .. } | Self::Failed { steps, .. } => *steps,
        }
    }
}

impl Computation {
    pub(super) fn new(request: FleetRequest, data_version: String) -> Self {
        let (status, _) = watch::channel(Status::Running(Steps::default()));
        Self { id: Uuid::new_v4(), request, data_version, status }
    }

    pub(super) fn progress(self: &Arc<Self>) -> Progress {
        Progress(Arc::clone(self))
    }

    /// Ends it.
    pub(super) fn finish(&self, result: Result<FleetResult, Error>) {
        let at_us = clock::now_us();
        self.status.send_modify(|status| {
            let steps = status.steps();
            *status = match result {
                Ok(result) => Status::Done { result: Arc::new(result), at_us, steps },
                Err(error) => Status::Failed { error, at_us, steps },
            };
        });
    }

    /// Tells of every change.
    pub(super) fn subscribe(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    pub(super) fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Waits until it is over.
    pub(super) async fn over(&self) {
        // The sender is ours: it cannot be gone.
        let _ = self.subscribe().wait_for(Status::is_over).await;
    }

    /// As it is shown.
    pub(super) fn view(&self) -> ComputationView {
        let status = self.status();
        let steps = status.steps();
        let (state, result, error, at_us) = match status {
            Status::Running(_) => ("running", None, None, None),
            Status::Done { result, at_us, .. } => ("done", Some(result), None, Some(at_us)),
            Status::Failed { error, at_us, .. } => ("failed", None, Some(Problem::from(&error)), Some(at_us)),
        };
        ComputationView {
            id: self.id.to_string(),
            kind: self.request.kind(),
            state,
            progress: steps,
            request: self.request.clone(),
            result,
            error,
            computed_at: at_us.map(Time),
            data_version: self.data_version.clone(),
        }
    }
}

/// Something computed on request, as it stands.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ComputationView {
    /// UUID.
    id: String,
    /// `dimension` or `error_split`.
    kind: &'static str,
    /// `running`, `done` or `failed`.
    state: &'static str,
    progress: Steps,
    /// As it was understood.
    request: FleetRequest,
    /// Null until it is done.
    #[serde(serialize_with = "through")]
    #[schema(value_type = Option<FleetResult>)]
    result: Option<Arc<FleetResult>>,
    /// Why it failed; else null.
    error: Option<Problem>,
    /// When it was over; null while it runs.
    computed_at: Option<Time>,
    /// Of the runs when it was asked for: as long as it stays, the answer does.
    data_version: String,
}

fn through<S: Serializer>(result: &Option<Arc<FleetResult>>, serializer: S) -> Result<S::Ok, S::Error> {
    result.as_deref().serialize(serializer)
}

/// Where a computation says how far it is.
#[derive(Debug)]
pub(super) struct Progress(Arc<Computation>);

impl Progress {
    /// There is more to do.
    pub(super) fn expect(&self, more: usize) {
        self.change(|steps| steps.total += more);
    }

    /// Some of it is done.
    pub(super) fn advance(&self, done: usize) {
        self.change(|steps| steps.done += done);
    }

    fn change(&self, change: impl FnOnce(&mut Steps)) {
        self.0.status.send_modify(|status| {
            if let Status::Running(steps) = status {
                change(steps);
            }
        });
    }
}
