//! Stands in front of every route and every RPC.

use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderValue, header, request::Parts},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use gradwatch_store::Scope;

use super::{
    Caller, host,
    requirement::{self, Requirement},
};
use crate::{
    error::{Error, ErrorCode},
    metrics::Metrics,
    state::AppState,
};

/// Puts the guard in front of all that was routed so far.
pub(crate) fn protect(router: Router, state: AppState) -> Router {
    router.layer(middleware::from_fn_with_state(state, guard))
}

async fn guard(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    match admit(&state, &parts).await {
        Ok(caller) => {
            if let Some(caller) = caller {
                parts.extensions.insert(caller);
            }
            next.run(Request::from_parts(parts, body)).await
        }
        Err(Refused { error, allow }) => {
            Metrics::count(&state.metrics.errors, error.code.label());
            let mut response = answer(error, &parts.headers);
            if let Some(allow) = allow.and_then(|methods| HeaderValue::from_str(&methods).ok()) {
                response.headers_mut().insert(header::ALLOW, allow);
            }
            response
        }
    }
}

struct Refused {
    error: Error,
    /// What the path knows, when it was asked for another method.
    allow: Option<String>,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { error, allow: None }
    }
}

/// Who is let through; `None` where nobody is asked.
///
/// Invariant: what is not declared is not reachable.
async fn admit(state: &AppState, request: &Parts) -> Result<Option<Caller>, Refused> {
    if state.access.is_local_only {
        host::require_local(request)?;
    }
    let matched = request.extensions.get::<MatchedPath>().map(MatchedPath::as_str);
    // The methods of a gRPC service share one route.
    let path = match matched {
        Some(route) if !route.ends_with("/{*rest}") => route,
        Some(_) => request.uri.path(),
        None => return Err(no_such_path(&request.headers).into()),
    };
    let requirement = requirement::of(&request.method, path);
    let scope = match requirement {
        Some(Requirement::Open) => return Ok(None),
        Some(Requirement::Read | Requirement::ReadAll) => Scope::Read,
        Some(Requirement::Ingest) => Scope::Ingest,
        Some(Requirement::Admin | Requirement::AdminAll) => Scope::Admin,
        None => {
            return Err(match requirement::allowed_methods(path) {
                Some(methods) => Refused { error: no_such_method(), allow: Some(methods) },
                None => no_such_path(&request.headers).into(),
            });
        }
    };
    let caller = state.access.authenticate(&request.headers).await?;
    caller.require(scope)?;
    if matches!(requirement, Some(Requirement::ReadAll | Requirement::AdminAll)) {
        caller.require_all_projects()?;
    }
    // What a page of another origin may send without asking is never this. Calls of the REST API ask for JSON themselves.
    let is_rpc = scope == Scope::Ingest && !path.starts_with("/api/");
    if is_rpc && !is_grpc(&request.headers) {
        return Err(Error::invalid("content-type", "must be application/grpc").into());
    }
    caller.allowance().request()?;
    Ok(Some(caller))
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

fn answer(error: Error, headers: &HeaderMap) -> Response {
    if is_grpc(headers) { tonic::Status::from(error).into_http() } else { error.into_response() }
}

fn no_such_path(headers: &HeaderMap) -> Error {
    if is_grpc(headers) {
        Error::new(ErrorCode::Unimplemented, "no such service or method")
    } else {
        Error::new(ErrorCode::NotFound, "no such path; /docs lists them")
    }
}

fn no_such_method() -> Error {
    Error::new(ErrorCode::MethodNotAllowed, "this path does not know the method; the Allow header lists what it knows")
}
