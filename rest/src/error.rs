//! A call that got no usable answer.

/// A call that got no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum RestError {
    /// The server's address, the token or the authority cannot be used.
    #[error("{field}: {problem}")]
    Argument {
        /// `server`, `token` or `ca_certificate`.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Nobody answers there, or nobody who can prove to be the server.
    #[error("{what}: {cause}")]
    Unreachable {
        /// What was asked for.
        what: String,
        /// What went wrong.
        cause: String,
    },
    /// The server refused.
    #[error("{what}: {status}: {body}")]
    Status {
        /// What was asked for.
        what: String,
        /// The HTTP status.
        status: u16,
        /// The problem document.
        body: String,
    },
    /// The answer is not what the API documents.
    #[error("{what}: unexpected answer: {cause}")]
    Answer {
        /// What was asked for.
        what: String,
        /// What does not fit.
        cause: serde_json::Error,
    },
}

impl RestError {
    pub(crate) fn argument(field: &'static str, problem: &str) -> Self {
        Self::Argument { field, problem: problem.to_owned() }
    }
}
