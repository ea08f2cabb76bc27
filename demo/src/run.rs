//! The demo: two training jobs at once, watched by a server, and what the server says of them.

use std::io::{self, IsTerminal};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::task::{JoinError, spawn_blocking};

use gradwatch_rest::RestClient;

use crate::{DemoReport, JobError, RestError, RunReport, TrainingConfig, rest::Rest, streamed::train};

/// What the demo's runs are filed under.
pub const PROJECT: &str = "demo";

/// Why the demo did not get to its end.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A training job failed.
    #[error("run {name}: {cause}")]
    Job {
        /// Which one.
        name: &'static str,
        /// Why.
        cause: JobError,
    },
    /// The server's answer could not be read.
    #[error(transparent)]
    Rest(#[from] RestError),
    /// A training thread panicked.
    #[error("a training thread panicked: {0}")]
    Panicked(#[from] JoinError),
}

/// Where the demo streams to.
#[derive(Clone, Default)]
pub struct Server {
    /// Such as `http://127.0.0.1:7700`.
    pub url: String,
    /// A token for the project [`PROJECT`] that may send and read, where the server asks for one.
    pub token: Option<String>,
    /// PEM certificates of the authority that an `https` server is certified by, unless the system trusts it.
    pub ca_certificate: Option<String>,
}

/// Trains a run that groks and its control that memorises, streams both to `server`, and reads back what it stored.
/// `seed` fixes weights, split and sketch, and so the report but for the runs' ids.
///
/// # Errors
/// When the server cannot be reached, or does not settle every frame.
pub async fn run(server: &Server, seed: u64) -> Result<DemoReport, DemoError> {
    let rest = Rest(RestClient::new(&server.url, server.token.as_deref(), server.ca_certificate.as_deref())?);
    // The client waits for a server that is away, which is right for a job, but nobody wants to watch a demo train for
    // a server that is not there.
    rest.is_ready().await?;
    let bars = MultiProgress::new();
    // Each run trains on one thread, so that its result does not depend on how threads are scheduled.
    let start = |name: &'static str, weight_decay: f32| {
        let config = TrainingConfig { seed, weight_decay, test_every: 1, ..TrainingConfig::default() };
        let bar = bars.add(progress_bar(name, u64::from(config.epochs)));
        let server = server.clone();
        (name, spawn_blocking(move || train(&server, PROJECT, name, config, &bar)))
    };
    let jobs = [start("groks", TrainingConfig::GROKKING_WEIGHT_DECAY), start("memorises", 0.0)];
    let mut runs = Vec::with_capacity(jobs.len());
    for (name, job) in jobs {
        let run_id = job.await?.map_err(|cause| DemoError::Job { name, cause })?;
        runs.push(RunReport::read(&rest, name, run_id).await?);
    }
    Ok(DemoReport { server: server.url.clone(), seed, runs })
}

fn progress_bar(name: &'static str, epochs: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = "{prefix:>10} {bar:32} epoch {pos}/{len}  {msg}";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(epochs).with_style(style).with_prefix(name)
}
