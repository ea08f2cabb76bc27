//! The demo's experiments: jobs that train, watched by a server, and what the server says of them.

use std::io::{self, IsTerminal};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::task::{JoinError, JoinSet, spawn_blocking};
use uuid::Uuid;

use gradwatch_rest::RestClient;

use crate::{
    DemoReport, FamilyReport, JobError, MemberRun, RestError, RunReport, Server, TrainingConfig,
    family::{self, Family},
    rest::Rest,
    streamed::train,
};

/// Why the demo did not get to its end.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A training job failed.
    #[error("run {name}: {cause}")]
    Job {
        /// Which one.
        name: String,
        /// Why.
        cause: JobError,
    },
    /// The server's answer could not be read.
    #[error(transparent)]
    Rest(#[from] RestError),
    /// The server has taken snapshots, but does not read them.
    #[error("run {run_id}: {pending} snapshots are not read, and none was for a minute")]
    Unread {
        /// Whose.
        run_id: Uuid,
        /// How many.
        pending: u64,
    },
    /// The server failed to compute D(t).
    #[error("the server computes no dimension: {problem}")]
    NotComputed {
        /// Its words.
        problem: String,
    },
    /// A training thread panicked.
    #[error("a training thread panicked: {0}")]
    Panicked(#[from] JoinError),
}

/// Trains a run that groks and its control that memorises, streams both to `server`, and reads back what it stored.
/// `seed` fixes weights, split and sketch, and so the report but for the runs' ids.
///
/// # Errors
/// When the server cannot be reached, or does not settle every frame.
pub async fn run(server: &Server, seed: u64) -> Result<DemoReport, DemoError> {
    let rest = ready(server).await?;
    let bars = MultiProgress::new();
    // Each run trains on one thread, so that its result does not depend on how threads are scheduled.
    let start = |name: &'static str, weight_decay: f32| {
        let config = TrainingConfig { seed, weight_decay, test_every: 1, ..TrainingConfig::default() };
        let bar = bars.add(progress_bar(name, "epoch", u64::from(config.epochs)));
        let server = server.clone();
        (name, spawn_blocking(move || train(&server, name, config, &bar)))
    };
    let jobs = [start("groks", TrainingConfig::GROKKING_WEIGHT_DECAY), start("memorises", 0.0)];
    let mut runs = Vec::with_capacity(jobs.len());
    for (name, job) in jobs {
        let run_id = job.await?.map_err(|cause| DemoError::Job { name: name.to_owned(), cause })?;
        let bar = progress_bar(name, "snapshots left", 0);
        rest.until_read(run_id, |pending| bar.set_position(pending)).await?;
        bar.finish_and_clear();
        runs.push(RunReport::read(&rest, name, run_id).await?);
    }
    Ok(DemoReport { server: server.url.clone(), seed, runs })
}

/// Trains one run of any configuration, streams it to `server` under a name, and waits until the server has read all of it.
///
/// # Errors
/// As for [`run`].
pub async fn run_one(server: &Server, name: &str, config: TrainingConfig) -> Result<Uuid, DemoError> {
    let rest = ready(server).await?;
    let (server, own_name) = (server.clone(), name.to_owned());
    let job = spawn_blocking(move || train(&server, &own_name, config, &ProgressBar::hidden()));
    let run_id = job.await?.map_err(|cause| DemoError::Job { name: name.to_owned(), cause })?;
    rest.until_read(run_id, |_| ()).await?;
    Ok(run_id)
}

/// Trains the XOR family, eight widths with six seeds each, streams every run to `server`, and reads back how the cascades
/// of their gradients grow with the width around the step that solves the task. `seed` fixes the networks.
///
/// # Errors
/// As for [`run`], and when a network does not solve its task.
pub async fn run_xor_family(server: &Server, seed: u64) -> Result<FamilyReport, DemoError> {
    let rest = ready(server).await?;
    let family = Family::new(seed);
    let members: Vec<(usize, u64)> = family.members().collect();
    let bar = progress_bar("xor", "run", members.len() as u64);
    let mut waiting = members.into_iter();
    let (mut jobs, mut runs) = (JoinSet::new(), Vec::new());
    loop {
        while jobs.len() < family::AT_ONCE
            && let Some((width, seed)) = waiting.next()
        {
            let (server, family) = (server.clone(), family.clone());
            jobs.spawn_blocking(move || family.stream(&server, width, seed).map_err(|cause| (width, seed, cause)));
        }
        let Some(job) = jobs.join_next().await else { break };
        let named = |(width, seed, cause)| DemoError::Job { name: family::name(width, seed), cause };
        runs.push(job?.map_err(named)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    // They end in any order.
    runs.sort_by_key(|run: &MemberRun| (run.width, run.seed));
    for run in &runs {
        rest.until_read(run.run_id, |_| ()).await?;
    }
    FamilyReport::read(&rest, server.url.clone(), seed, family, runs).await
}

/// The client waits for a server that is away, which is right for a job, but nobody wants to watch a demo train for a server
/// that is not there.
async fn ready(server: &Server) -> Result<Rest, DemoError> {
    let rest = Rest(RestClient::new(&server.url, server.token.as_deref(), server.ca_certificate.as_deref())?);
    rest.is_ready().await?;
    Ok(rest)
}

fn progress_bar(name: &'static str, unit: &str, length: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = if length == 0 {
        format!("{{prefix:>10}} {{pos}} {unit}")
    } else {
        format!("{{prefix:>10}} {{bar:32}} {unit} {{pos}}/{{len}}  {{msg}}")
    };
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style).with_prefix(name)
}
