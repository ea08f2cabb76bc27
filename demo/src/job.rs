//! What every job of the demo does beside training: it begins for a server that takes it, and ends delivered.

use std::time::Duration;

use gradwatch_client::{CloseReport, Frame, OpenError, Run, SubmitError, WaitError};
use uuid::Uuid;

use crate::ConfigError;

/// Long enough for a server that has to be waited for, short enough for a person.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the server may take to settle the first frame.
const FIRST_FRAME_PATIENCE: Duration = Duration::from_secs(60);

/// Why a job did not get to its end.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The configuration cannot be trained.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The network does not learn its task.
    #[error("not solved within {max_steps} steps; another --seed will do")]
    Unsolved {
        /// How long it was trained.
        max_steps: u64,
    },
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
    Undelivered(Box<CloseReport>),
}

/// Submits the first frame and waits for it. A job would train on, whatever the server says. Nobody wants to watch a demo
/// train for a server that refuses it.
pub(crate) fn begin(run: &mut Run, step: u64, frame: Frame<'_>) -> Result<(), JobError> {
    run.submit(step, frame)?;
    Ok(run.wait_until_settled(FIRST_FRAME_PATIENCE)?)
}

/// Ends the run; answers its id when everything of it is settled.
pub(crate) fn end(run: Run) -> Result<Uuid, JobError> {
    let run_id = run.run_id();
    let report = run.close();
    if report.settled == report.submitted { Ok(run_id) } else { Err(JobError::Undelivered(Box::new(report))) }
}

/// The decimal number that a float32 setting was written as: 0.001, not 0.0010000000474974513.
pub(crate) fn decimal(setting: f32) -> f64 {
    setting.to_string().parse().unwrap_or_else(|_| f64::from(setting))
}
