//! The one error vocabulary: each code maps once to a gRPC status, an HTTP status, a metric label and whether trying
//! again can help.

use std::{fmt, time::Duration};

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use gradwatch_store::StoreError;
use serde::Serialize;
use tonic_types::{ErrorDetails, StatusExt};

/// What kind of thing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// A field is malformed, out of range or unknown.
    InvalidArgument,
    /// Nobody known is asking.
    Unauthenticated,
    /// Whoever is asking may not.
    PermissionDenied,
    /// The thing named does not exist.
    NotFound,
    /// The method is not allowed on this path.
    MethodNotAllowed,
    /// None of the offered representations is acceptable.
    NotAcceptable,
    /// Someone else holds the place asked for.
    AlreadyExists,
    /// The request contradicts what is there.
    Conflict,
    /// Larger than a limit.
    TooLarge,
    /// A bounded resource is used up for now.
    ResourceExhausted,
    /// Not for this server, or not now.
    Unavailable,
    /// A fault of ours.
    Internal,
    /// Not built.
    Unimplemented,
}

impl ErrorCode {
    /// Every code.
    pub const ALL: [Self; 13] = [
        Self::InvalidArgument,
        Self::Unauthenticated,
        Self::PermissionDenied,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::NotAcceptable,
        Self::AlreadyExists,
        Self::Conflict,
        Self::TooLarge,
        Self::ResourceExhausted,
        Self::Unavailable,
        Self::Internal,
        Self::Unimplemented,
    ];

    /// (label, gRPC status, HTTP status, can trying again help)
    fn row(self) -> (&'static str, tonic::Code, StatusCode, bool) {
        use tonic::Code;
        match self {
            Self::InvalidArgument => ("invalid_argument", Code::InvalidArgument, StatusCode::BAD_REQUEST, false),
            Self::Unauthenticated => ("unauthenticated", Code::Unauthenticated, StatusCode::UNAUTHORIZED, false),
            Self::PermissionDenied => ("permission_denied", Code::PermissionDenied, StatusCode::FORBIDDEN, false),
            Self::NotFound => ("not_found", Code::NotFound, StatusCode::NOT_FOUND, false),
            Self::MethodNotAllowed => {
                ("method_not_allowed", Code::Unimplemented, StatusCode::METHOD_NOT_ALLOWED, false)
            }
            Self::NotAcceptable => ("not_acceptable", Code::InvalidArgument, StatusCode::NOT_ACCEPTABLE, false),
            Self::AlreadyExists => ("already_exists", Code::AlreadyExists, StatusCode::CONFLICT, false),
            Self::Conflict => ("conflict", Code::FailedPrecondition, StatusCode::CONFLICT, false),
            Self::TooLarge => ("too_large", Code::InvalidArgument, StatusCode::PAYLOAD_TOO_LARGE, false),
            Self::ResourceExhausted => {
                ("resource_exhausted", Code::ResourceExhausted, StatusCode::TOO_MANY_REQUESTS, true)
            }
            Self::Unavailable => ("unavailable", Code::Unavailable, StatusCode::SERVICE_UNAVAILABLE, true),
            Self::Internal => ("internal", Code::Internal, StatusCode::INTERNAL_SERVER_ERROR, false),
            Self::Unimplemented => ("unimplemented", Code::Unimplemented, StatusCode::NOT_IMPLEMENTED, false),
        }
    }

    /// The word in problem documents and metric labels.
    #[must_use]
    pub fn label(self) -> &'static str {
        self.row().0
    }

    /// The gRPC status.
    #[must_use]
    pub fn grpc(self) -> tonic::Code {
        self.row().1
    }

    /// The HTTP status.
    #[must_use]
    pub fn http(self) -> StatusCode {
        self.row().2
    }

    /// Whether the same request can succeed later.
    #[must_use]
    pub fn retryable(self) -> bool {
        self.row().3
    }
}

/// An error as callers see it, over gRPC and REST alike.
#[derive(Clone, Debug)]
pub struct Error {
    /// What kind of thing went wrong.
    pub code: ErrorCode,
    /// The field at fault, where there is one.
    pub field: Option<String>,
    /// What is wrong, for a person. Never holds internals when the code is `Internal`.
    pub message: String,
    /// When to try again.
    pub retry_after: Option<Duration>,
    /// All that is wrong, where that is more than one thing or has a place in a text.
    pub problems: Vec<FieldProblem>,
}

/// One of the things that are wrong with what was sent, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct FieldProblem {
    /// Which field, such as `rules[2].when`.
    pub field: String,
    /// Counted from 1, in the YAML text, or else in the text of the field. Null where it is no matter of a place.
    pub line: Option<usize>,
    /// In characters, counted from 1.
    pub column: Option<usize>,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl From<gradwatch_rules::Problem> for FieldProblem {
    fn from(problem: gradwatch_rules::Problem) -> Self {
        let gradwatch_rules::Problem { field, position, message } = problem;
        let (line, column) = position.map(|position| (position.line, position.column)).unzip();
        Self { field, line, column, message }
    }
}

impl Error {
    /// An error without a field.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, field: None, message: message.into(), retry_after: None, problems: Vec::new() }
    }

    /// A malformed, unknown or out-of-range field.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..Self::new(ErrorCode::InvalidArgument, message) }
    }

    /// Everything that is wrong with rules or receivers. The first stands for all where there is room for one only.
    pub fn problems(problems: Vec<gradwatch_rules::Problem>) -> Self {
        let problems: Vec<FieldProblem> = problems.into_iter().map(FieldProblem::from).collect();
        let Some(first) = problems.first() else {
            return Self::internal("rules were refused without a reason");
        };
        let place = match (first.line, first.column) {
            (Some(line), Some(column)) => format!("line {line}, column {column}: "),
            _ => String::new(),
        };
        let others = match problems.len() - 1 {
            0 => String::new(),
            count => format!(" (and {count} more)"),
        };
        let error = Self::invalid(first.field.clone(), format!("{place}{}{others}", first.message));
        Self { problems, ..error }
    }

    /// A fault of ours: the cause is logged, the caller only learns that there was one.
    pub fn internal(cause: impl fmt::Display) -> Self {
        tracing::error!(%cause, "internal error");
        Self::new(ErrorCode::Internal, "internal error; the server's log has the cause")
    }

    /// The same error, saying when to try again.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.field {
            Some(field) => write!(f, "{field}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Error {}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::UnknownRun(_) => {
                Self { field: Some("run_id".into()), ..Self::new(ErrorCode::NotFound, error.to_string()) }
            }
            StoreError::RunDeleting(_) => {
                Self { field: Some("run_id".into()), ..Self::new(ErrorCode::Conflict, error.to_string()) }
            }
            StoreError::Conflict { field, message } => {
                Self { field: Some(field.into()), ..Self::new(ErrorCode::Conflict, message) }
            }
            StoreError::SecondWriter { .. } => {
                Self { field: Some("writer_id".into()), ..Self::new(ErrorCode::AlreadyExists, error.to_string()) }
            }
            StoreError::OwnershipLost(_) | StoreError::Unavailable(_) => {
                tracing::warn!(%error, "store unavailable");
                Self::new(ErrorCode::Unavailable, "the store cannot answer now").retry_after(Duration::from_secs(1))
            }
            StoreError::UniqueViolation(_)
            | StoreError::Data(_)
            | StoreError::Durability(_)
            | StoreError::Database(_)
            | StoreError::DataDir(_) => Self::internal(error),
        }
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        let mut details = ErrorDetails::new();
        if let Some(field) = &error.field {
            details.add_bad_request_violation(field.clone(), error.message.clone());
        }
        if error.code.retryable() {
            details.set_retry_info(error.retry_after);
        }
        Self::with_error_details(error.code.grpc(), error.to_string(), details)
    }
}

/// RFC 9457.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Problem {
    /// Where the kind of problem is described.
    #[serde(rename = "type")]
    pub problem_type: String,
    /// The kind of problem in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong here.
    pub detail: String,
    /// The error code.
    pub code: String,
    /// The field at fault: a query parameter, path segment, header or body member.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// All that is wrong, where rules or receivers are at fault; absent otherwise.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<FieldProblem>,
}

impl From<&Error> for Problem {
    fn from(error: &Error) -> Self {
        let status = error.code.http();
        Self {
            problem_type: format!("/docs#problem-{}", error.code.label()),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: error.to_string(),
            code: error.code.label().to_owned(),
            field: error.field.clone(),
            problems: error.problems.clone(),
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = (self.code.http(), Json(Problem::from(&self))).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.code == ErrorCode::Unauthenticated {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"gradwatch\""));
        }
        if let Some(delay) = self.retry_after {
            // Whole seconds: less would be too early.
            headers.insert(header::RETRY_AFTER, HeaderValue::from(delay.as_secs_f64().ceil().max(1.0) as u64));
        }
        response
    }
}
