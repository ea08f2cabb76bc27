//! A training job that streams itself: what any user of the client writes, with a progress bar.

use std::time::Duration;

use gradwatch_client::{CloseReport, Frame, OpenError, Run, SubmitError, WaitError};
use indicatif::ProgressBar;
use serde_json::json;
use uuid::Uuid;

use crate::{ConfigError, ModularAddition, Server, TrainingConfig};

/// W of the demo's windows, in epochs.
pub(crate) const WINDOW: u32 = 20;
/// The group watched: the first layer's weights.
pub(crate) const GROUP: &str = "hidden";
/// Long enough for a server that has to be waited for, short enough for a person.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the server may take to settle the first frame.
const FIRST_FRAME_PATIENCE: Duration = Duration::from_secs(60);

/// Why a job did not get to its end.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The configuration cannot be trained.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The run cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A frame was refused before it was sent.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The server did not take the first frame, so that nothing was trained.
    #[error("the server takes no frames: {0}")]
    FirstFrame(#[from] WaitError),
    /// The server did not settle everything.
    #[error("{0}")]
    Undelivered(CloseReport),
}

/// Trains `config` and streams it to `server` as run `name`; answers the run's id. Blocks until it is done.
pub(crate) fn train(
    server: &Server,
    project: &str,
    name: &str,
    config: TrainingConfig,
    bar: &ProgressBar,
) -> Result<Uuid, JobError> {
    let mut job = ModularAddition::new(config.clone())?;
    let (eta, decay) = (decimal(config.learning_rate), decimal(config.weight_decay));
    let mut builder = Run::builder(&server.url);
    if let Some(token) = &server.token {
        builder = builder.token(token);
    }
    if let Some(pem) = &server.ca_certificate {
        builder = builder.ca_certificate(pem);
    }
    let mut run = builder
        .project(project)
        .name(name)
        .label("task", "modular-addition")
        .label("seed", config.seed.to_string())
        .config(json!({
            "modulus": config.modulus,
            "train_pairs": config.train_pairs,
            "width": config.width,
            "epochs": config.epochs,
            "learning_rate": eta,
            "weight_decay": decay,
            "optimizer": "adam",
            "seed": config.seed,
        }))
        .group(GROUP, [("W", job.hidden().len())])
        .window(WINDOW)
        .seed(config.seed)
        .close_timeout(CLOSE_TIMEOUT)
        .open()?;
    // The weights before the first step: every later frame carries the change since the one before.
    run.submit(0, Frame::new().parameters(GROUP, [("W", job.hidden())]))?;
    // A job would train on, whatever the server says. Nobody wants to watch a demo train for a server that refuses it.
    run.wait_until_settled(FIRST_FRAME_PATIENCE)?;
    while !job.is_finished() {
        let report = job.epoch();
        let mut frame = Frame::new()
            .learning_rate(eta)
            .weight_decay(decay)
            .scalar("loss", report.loss)
            .scalar("train_accuracy", report.train_accuracy)
            .parameters(GROUP, [("W", job.hidden())]);
        if let Some(accuracy) = report.test_accuracy {
            frame = frame.scalar("test_accuracy", accuracy);
            bar.set_message(format!("train {:5.1} %  test {:5.1} %", 100.0 * report.train_accuracy, 100.0 * accuracy));
        }
        run.submit(u64::from(report.epoch), frame)?;
        bar.inc(1);
    }
    let run_id = run.run_id();
    let report = run.close();
    bar.finish();
    if report.settled == report.submitted { Ok(run_id) } else { Err(JobError::Undelivered(report)) }
}

/// The decimal number that a float32 setting was written as: 0.001, not 0.0010000000474974513.
fn decimal(setting: f32) -> f64 {
    setting.to_string().parse().unwrap_or_else(|_| f64::from(setting))
}
