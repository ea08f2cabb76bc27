//! What the request handlers share.

use std::sync::Arc;

use gradwatch_store::Store;
use tokio_util::sync::CancellationToken;

use crate::{
    access::Access,
    alerts::{Alerts, Dispatcher},
    config::Config,
    metrics::Metrics,
    pipeline::Pipeline,
    readiness::Readiness,
    reanalysis::Reanalysis,
    recorder::Hub,
};

/// Everything a handler needs; cheap to clone.
#[derive(Clone)]
pub(crate) struct AppState {
    /// What is told of alerts.
    pub delivery: Arc<Dispatcher>,
    /// The validated configuration.
    pub config: Arc<Config>,
    /// Who may do what.
    pub access: Arc<Access>,
    /// What is committed.
    pub store: Arc<dyn Store>,
    /// Whether it answers as promised.
    pub readiness: Arc<Readiness>,
    /// What is being committed.
    pub hub: Arc<Hub>,
    /// Where frames go.
    pub pipeline: Arc<Pipeline>,
    /// Readings computed again.
    pub reanalysis: Arc<Reanalysis>,
    /// Rules and what they say.
    pub alerts: Arc<Alerts>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Cancelled when the server starts to shut down: long-lived responses end themselves.
    pub draining: CancellationToken,
}
