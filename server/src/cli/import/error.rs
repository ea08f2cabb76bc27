//! Why an import ended, and with which exit code.

use std::{io, path::PathBuf};

use gradwatch_client::{CloseReport, OpenError, SubmitError, WaitError};

use crate::cli::{FAILED, Failure, UNREACHABLE, USAGE};

#[derive(Debug, thiserror::Error)]
pub(super) enum ImportError {
    /// The command line says something that cannot be done.
    #[error("{0}")]
    Usage(String),
    #[error("{}: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: io::Error },
    /// The file is no whole checkpoint, or not of the same model as the first one.
    #[error("{}: {problem}", path.display())]
    Checkpoint { path: PathBuf, problem: String },
    #[error("no server answers at {server}: {cause}; is `gradwatch serve` running there?")]
    Unreachable { server: String, cause: String },
    #[error("{0}")]
    Rest(String),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Submit(#[from] SubmitError),
    #[error(transparent)]
    Wait(#[from] WaitError),
    #[error("not everything was delivered: {0}")]
    Undelivered(Box<CloseReport>),
}

impl ImportError {
    pub(super) fn checkpoint(path: impl Into<PathBuf>, problem: impl Into<String>) -> Self {
        Self::Checkpoint { path: path.into(), problem: problem.into() }
    }

    fn exit_code(&self) -> u8 {
        match self {
            // Whatever the client refuses at the door was an argument of ours.
            Self::Usage(_) | Self::Open(OpenError::Argument { .. }) => USAGE,
            Self::Unreachable { .. } | Self::Wait(WaitError::Stalled { .. }) => UNREACHABLE,
            _ => FAILED,
        }
    }
}

impl From<ImportError> for Failure {
    fn from(error: ImportError) -> Self {
        Self::new(error.exit_code(), error)
    }
}
