//! Puts the parts together, and takes them apart again in the right order.

use std::{net::SocketAddr, sync::Arc};

use gradwatch_store::{RunQuery, RunSort, RunState, Store, StoreError};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    access::{self, Access},
    alerts::{Alerts, BookError, Dispatcher, Surroundings},
    api, clock,
    config::{Config, ConfigError, DatabaseUrl},
    http_server, ingest,
    metrics::Metrics,
    pipeline::Pipeline,
    readiness::Readiness,
    reanalysis::Reanalysis,
    recorder::{self, Hub, Recorder, StoreTrouble},
    retention,
    state::AppState,
    tls,
};

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A setting cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store cannot be opened, or is not as safe as an acknowledgement promises.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The address cannot be listened on.
    #[error("listen: {address}: {cause}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        cause: std::io::Error,
    },
    /// The numeric threads cannot be started.
    #[error("numeric_threads: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// The file of rules cannot be used; each line says where and why.
    #[error("{0}")]
    Rules(String),
    /// The gRPC reflection service cannot be built from the descriptors compiled in.
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// A running server.
#[derive(Debug)]
pub struct ServerHandle {
    address: SocketAddr,
    draining: CancellationToken,
    stopped: JoinHandle<Drained>,
}

/// How a shutdown went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Every stream was settled, acknowledged and ended.
    Completely,
    /// The deadline cut something off. What was acknowledged is safe all the same.
    CutOff,
}

impl ServerHandle {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts the shutdown without waiting for it.
    pub fn start_shutdown(&self) {
        self.draining.cancel();
    }

    /// Shuts down and waits for the end, which comes within `shutdown_deadline_s`.
    pub async fn shutdown(self) -> Drained {
        self.draining.cancel();
        self.stopped.await.unwrap_or(Drained::CutOff)
    }
}

/// Starts a server. Everything is read and checked before anything listens.
///
/// # Errors
/// When a setting, the store or the address cannot be used.
pub async fn serve(config: Config) -> Result<ServerHandle, ServeError> {
    config.validate()?;
    let database_url = config.database_url.as_ref().map(DatabaseUrl::expose);
    let store = gradwatch_store::open_alone(database_url, &config.data_dir).await?;
    match &config.database_url {
        Some(database_url) => tracing::info!(%database_url, "store opened"),
        None => tracing::info!(data_dir = %config.data_dir.display(), "store opened"),
    }
    serve_on(config, store).await
}

/// Opens the store that the settings name, for a command.
///
/// # Errors
/// When it cannot be opened; a data directory is open only once.
pub async fn open_store(config: &Config) -> Result<Arc<dyn Store>, StoreError> {
    gradwatch_store::open(config.database_url.as_ref().map(DatabaseUrl::expose), &config.data_dir).await
}

/// Starts a server on a store that is open; tests give one that breaks.
///
/// # Errors
/// When a setting, the store or the address cannot be used.
pub async fn serve_on(config: Config, store: Arc<dyn Store>) -> Result<ServerHandle, ServeError> {
    config.validate()?;
    let config = Arc::new(config);
    let durability = store.durability().await?;
    let metrics = Arc::new(Metrics::new());
    prepare_access(&config, &*store).await?;
    let hub = Arc::new(Hub::new(store.last_commit_seq().await?, config.api.replay_bytes));
    let trouble = Arc::new(StoreTrouble::default());
    let (settlements, queue) = mpsc::channel(recorder::QUEUE);
    let pipeline = Arc::new(Pipeline::new(
        Arc::clone(&config),
        Arc::clone(&store),
        Arc::clone(&metrics),
        settlements,
        Arc::clone(&trouble),
    )?);
    let draining = CancellationToken::new();
    let reanalysis =
        Arc::new(Reanalysis::new(Arc::clone(&config), Arc::clone(&store), Arc::clone(&pipeline), draining.clone()));
    let alerts = Arc::new(open_alerts(&config, &store, &metrics).await?);
    let delivery = Arc::new(Dispatcher::new(
        &config,
        Arc::clone(&store),
        Arc::clone(&alerts.book),
        Arc::clone(&metrics),
        draining.clone(),
    ));
    let state = AppState {
        delivery: Arc::clone(&delivery),
        alerts: Arc::clone(&alerts),
        reanalysis: Arc::clone(&reanalysis),
        config: Arc::clone(&config),
        access: Arc::new(Access::new(&config, Arc::clone(&store))),
        readiness: Arc::new(Readiness::new(Arc::clone(&store))),
        store: Arc::clone(&store),
        hub: Arc::clone(&hub),
        pipeline: Arc::clone(&pipeline),
        metrics: Arc::clone(&metrics),
        draining: draining.clone(),
    };
    let app = app(state.clone()).await?;
    let tls = match (&config.tls_cert, &config.tls_key) {
        (Some(cert), Some(key)) => Some(tls::acceptor(cert, key)?),
        // Validated: both or none.
        _ => None,
    };

    let listen = |cause| ServeError::Listen { address: config.listen, cause };
    let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;

    let (lost_sender, lost) = mpsc::unbounded_channel();
    let evaluation = Surroundings {
        config: Arc::clone(&config),
        store: Arc::clone(&store),
        hub: Arc::clone(&hub),
        pipeline: Arc::clone(&pipeline),
        metrics: Arc::clone(&metrics),
        trouble: Arc::clone(&trouble),
        draining: draining.clone(),
    };
    let recorder = Recorder { store: Arc::clone(&store), hub, metrics, lost: lost_sender, trouble };
    let recorder = tokio::spawn(recorder.run(queue));
    let lost = pipeline.watch_lost(lost);
    adopt_unfinished(&state).await?;
    reanalysis.adopt().await?;
    delivery.start(alerts.recorded());
    let evaluation = alerts.start(evaluation);
    let connections = TaskTracker::new();
    let ends = http_server::Ends {
        draining: draining.clone(),
        cut_off: CancellationToken::new(),
        first_request_timeout: http_server::FIRST_REQUEST_TIMEOUT,
    };
    let accepting = tokio::spawn(http_server::accept(listener, tls, app, ends.clone(), connections.clone()));
    let retention = tokio::spawn(retention::run(
        Arc::clone(&store),
        Arc::clone(&pipeline),
        config.retention.clone(),
        config.alerts.keep_days,
        draining.clone(),
    ));
    tracing::info!(%address, backend = durability.backend, "listening");

    let parts = Parts { state, cut_off: ends.cut_off, connections, accepting, recorder, lost, retention, evaluation };
    Ok(ServerHandle { address, draining, stopped: tokio::spawn(parts.wait_and_stop()) })
}

/// Reads the rules; what is wrong with their file is said as `file:line:column: field: message`.
async fn open_alerts(config: &Config, store: &Arc<dyn Store>, metrics: &Arc<Metrics>) -> Result<Alerts, ServeError> {
    let error = match Alerts::open(config, Arc::clone(store), Arc::clone(metrics)).await {
        Ok(alerts) => return Ok(alerts),
        Err(BookError::Store(error)) => return Err(error.into()),
        Err(error) => error,
    };
    let file = config.alerts.rules_file.as_deref().unwrap_or(std::path::Path::new("alerts")).display();
    let lines = match error {
        BookError::Problems(problems) => problems
            .iter()
            .map(|problem| match problem.position {
                Some(at) => format!("{file}:{}:{}: {}: {}", at.line, at.column, problem.field, problem.message),
                None => format!("{file}: {}: {}", problem.field, problem.message),
            })
            .collect(),
        other => vec![format!("{file}: {other}")],
    };
    Err(ServeError::Rules(lines.join("\n")))
}

async fn app(state: AppState) -> Result<axum::Router, ServeError> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<gradwatch_proto::v1::telemetry_server::TelemetryServer<ingest::Ingest>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(gradwatch_proto::v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let grpc = tonic::service::Routes::new(ingest::service(state.clone()))
        .add_service(health_service)
        .add_service(reflection)
        .into_axum_router();
    // The guard answers unknown paths. It comes last, so that it stands before all of them.
    let app = access::protect(api::router(state.clone()).merge(grpc.reset_fallback()), state.clone());
    Ok(api::with_cors(app, &state.config.api.cors_origins))
}

/// Makes the first token, and says what an operator should know about who may come in.
async fn prepare_access(config: &Config, store: &dyn Store) -> Result<(), StoreError> {
    if let Some(secret) = &config.bootstrap_token {
        access::bootstrap(store, secret).await?;
    }
    let is_local = config.listen.ip().is_loopback();
    if !config.requires_tokens() {
        if !is_local {
            tracing::warn!("insecure: whoever reaches this server can read and change everything");
        }
        return Ok(());
    }
    if config.tls_cert.is_none() && !is_local {
        tracing::warn!("tokens travel in clear: set tls_cert and tls_key, or put a proxy with TLS in front");
    }
    let now_us = clock::now_us();
    if !store.tokens().await?.iter().any(|token| token.is_valid(now_us)) {
        tracing::warn!(
            "tokens are asked for and there is none: make one with `gradwatch token create` while the server is \
             stopped, or set GRADWATCH_BOOTSTRAP_TOKEN"
        );
    }
    Ok(())
}

/// Runs that were going on when the last server stopped get an owner, so that their silence is noticed, and so do those
/// whose snapshots are still to be read.
async fn adopt_unfinished(state: &AppState) -> Result<(), StoreError> {
    for run_state in [RunState::Running, RunState::Stalled] {
        let mut query = RunQuery {
            project: None,
            state: Some(run_state),
            regime: None,
            name: None,
            labels: std::collections::BTreeMap::new(),
            sort: RunSort::LastSeenDescending,
            after: None,
            limit: 500,
        };
        loop {
            let page = state.store.runs(&query).await?;
            for run in &page.items {
                state.pipeline.adopt(run.run_id);
            }
            query.after = page.items.last().map(|run| (run.last_seen_us, run.run_id));
            if !page.more {
                break;
            }
        }
    }
    for run_id in state.store.runs_with_pending_snapshots().await? {
        state.pipeline.adopt(run_id);
    }
    Ok(())
}

/// What runs, to be stopped in the order of the data: connections, owners, recorder, store.
struct Parts {
    state: AppState,
    cut_off: CancellationToken,
    connections: TaskTracker,
    accepting: JoinHandle<()>,
    recorder: JoinHandle<()>,
    lost: JoinHandle<()>,
    retention: JoinHandle<()>,
    evaluation: JoinHandle<()>,
}

impl Parts {
    /// Invariant (promise 9): the end comes within the deadline, whatever clients do. Nothing acknowledged depends on
    /// what is cut off: it is committed.
    async fn wait_and_stop(mut self) -> Drained {
        self.state.draining.cancelled().await;
        let deadline = self.state.config.shutdown_deadline();
        tracing::info!(deadline_s = deadline.as_secs(), "shutting down");
        let drained = match timeout(deadline, self.drain()).await {
            Ok(drained) => drained,
            Err(_) => {
                tracing::warn!("shutdown deadline reached; cutting off what remains");
                self.cut_off.cancel();
                Drained::CutOff
            }
        };
        for task in [&self.accepting, &self.recorder, &self.lost, &self.retention, &self.evaluation] {
            task.abort();
        }
        tracing::info!(?drained, "stopped");
        drained
    }

    async fn drain(&mut self) -> Drained {
        // A task that panicked has ended as well; its panic was printed when it happened.
        let _ = (&mut self.accepting).await;
        // Connections get most of the time; what they do not end with is cut off, so that owners, recorder and store
        // still close in order.
        let patience = self.state.config.shutdown_deadline() * 3 / 4;
        let ended = timeout(patience, self.connections.wait()).await.is_ok();
        if !ended {
            tracing::warn!("connections do not end; cutting them off");
            self.cut_off.cancel();
            self.connections.wait().await;
        }
        self.state.reanalysis.drain().await;
        self.state.pipeline.drain().await;
        let _ = (&mut self.recorder).await;
        let _ = (&mut self.lost).await;
        let _ = (&mut self.retention).await;
        let _ = (&mut self.evaluation).await;
        self.state.delivery.drain().await;
        self.state.store.close().await;
        if ended { Drained::Completely } else { Drained::CutOff }
    }
}
