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
    #[error("{what}: {status}: {}", detail(body))]
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

/// What a problem document says to a person; anything else whole.
fn detail(body: &str) -> String {
    let problem: Option<serde_json::Value> = serde_json::from_str(body).ok();
    let detail = problem.as_ref().and_then(|problem| problem["detail"].as_str());
    detail.unwrap_or(body).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_the_problem_document_says() {
        let text = |body: &str| RestError::Status { what: "GET /x".into(), status: 400, body: body.into() }.to_string();
        assert_eq!(
            text(r#"{"status": 400, "detail": "limit: must be a number"}"#),
            "GET /x: 400: limit: must be a number"
        );
        assert_eq!(text("no JSON"), "GET /x: 400: no JSON");
    }
}
