//! What each route and RPC asks of its caller.

use axum::http::Method;

/// What a caller must be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Requirement {
    /// Nothing, not even a token.
    Open,
    /// `read`; what is shown is that of the token's project.
    Read,
    /// `read` on all projects.
    ReadAll,
    /// `ingest`; the run must be of the token's project.
    Ingest,
    /// `admin`; what is changed must be of the token's project.
    Admin,
    /// `admin` on all projects.
    AdminAll,
}

use Requirement::{Admin, AdminAll, Ingest, Open, Read, ReadAll};

/// Method, path as it is routed (RPCs by their full path), requirement. What is not here is answered as if it did not
/// exist.
const TABLE: &[(Method, &str, Requirement)] = &[
    (Method::GET, "/healthz", Open),
    (Method::GET, "/readyz", Open),
    (Method::GET, "/openapi.json", Open),
    (Method::GET, "/docs", Open),
    (Method::GET, "/metrics", ReadAll),
    (Method::GET, "/api/v1/overview", Read),
    (Method::GET, "/api/v1/runs", Read),
    (Method::GET, "/api/v1/runs/{run_id}", Read),
    (Method::PATCH, "/api/v1/runs/{run_id}", Admin),
    (Method::DELETE, "/api/v1/runs/{run_id}", Admin),
    (Method::GET, "/api/v1/runs/{run_id}/groups", Read),
    (Method::GET, "/api/v1/runs/{run_id}/layers", Read),
    (Method::GET, "/api/v1/runs/{run_id}/segments", Read),
    (Method::GET, "/api/v1/runs/{run_id}/readings/{instrument}", Read),
    (Method::GET, "/api/v1/runs/{run_id}/series", Read),
    (Method::GET, "/api/v1/runs/{run_id}/steps", Read),
    (Method::GET, "/api/v1/runs/{run_id}/events", Read),
    (Method::POST, "/api/v1/runs/{run_id}/reanalyze", Ingest),
    (Method::GET, "/api/v1/runs/{run_id}/analyses", Read),
    (Method::GET, "/api/v1/runs/{run_id}/analyses/{name}", Read),
    (Method::DELETE, "/api/v1/runs/{run_id}/analyses/{name}", Ingest),
    (Method::GET, "/api/v1/runs/{run_id}/analyses/{name}/progress", Read),
    (Method::GET, "/api/v1/series", Read),
    (Method::GET, "/api/v1/events", Read),
    (Method::GET, "/api/v1/stream", Read),
    (Method::POST, "/api/v1/fleet/dimension", Read),
    (Method::POST, "/api/v1/fleet/error_split", Read),
    (Method::GET, "/api/v1/fleet/families", Read),
    (Method::GET, "/api/v1/fleet/{computation_id}", Read),
    (Method::POST, "/api/v1/alerts/backtest", Read),
    (Method::GET, "/api/v1/alerts", Read),
    (Method::GET, "/api/v1/alerts/{alert_id}", Read),
    (Method::GET, "/api/v1/alerts/rules", Read),
    (Method::POST, "/api/v1/alerts/rules", Admin),
    (Method::GET, "/api/v1/alerts/rules/{name}", Read),
    (Method::PUT, "/api/v1/alerts/rules/{name}", Admin),
    (Method::DELETE, "/api/v1/alerts/rules/{name}", Admin),
    (Method::POST, "/api/v1/alerts/rules/check", Read),
    (Method::POST, "/api/v1/alerts/rules/reload", AdminAll),
    (Method::GET, "/api/v1/alerts/silences", Read),
    (Method::POST, "/api/v1/alerts/silences", Admin),
    (Method::GET, "/api/v1/alerts/silences/{silence_id}", Read),
    (Method::DELETE, "/api/v1/alerts/silences/{silence_id}", Admin),
    (Method::GET, "/api/v1/alerts/receivers", ReadAll),
    (Method::POST, "/api/v1/alerts/receivers", AdminAll),
    (Method::GET, "/api/v1/alerts/receivers/{name}", ReadAll),
    (Method::PUT, "/api/v1/alerts/receivers/{name}", AdminAll),
    (Method::DELETE, "/api/v1/alerts/receivers/{name}", AdminAll),
    (Method::POST, "/api/v1/alerts/receivers/{name}/test", AdminAll),
    (Method::POST, "/api/v1/alerts/receivers/{name}/enable", AdminAll),
    (Method::GET, "/api/v1/alerts/messages", ReadAll),
    (Method::GET, "/api/v1/alerts/messages/{message_id}", ReadAll),
    (Method::POST, "/api/v1/alerts/messages/{message_id}/redeliver", AdminAll),
    (Method::GET, "/api/v1/alerts/deliveries", ReadAll),
    (Method::GET, "/api/v1/tokens", Admin),
    (Method::POST, "/api/v1/tokens", Admin),
    (Method::DELETE, "/api/v1/tokens/{token_id}", Admin),
    (Method::POST, "/gradwatch.v1.Telemetry/OpenRun", Ingest),
    (Method::POST, "/gradwatch.v1.Telemetry/StreamFrames", Ingest),
    (Method::POST, "/gradwatch.v1.Telemetry/CloseRun", Ingest),
    (Method::POST, "/grpc.health.v1.Health/Check", Open),
    (Method::POST, "/grpc.health.v1.Health/Watch", Open),
    (Method::POST, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Open),
];

/// What a method of a path asks; `None` when nobody declared it. HEAD is GET without the body.
pub(super) fn of(method: &Method, path: &str) -> Option<Requirement> {
    let method = if method == Method::HEAD { &Method::GET } else { method };
    let found = TABLE.iter().find(|(declared, route, _)| declared == method && *route == path);
    found.map(|(_, _, requirement)| *requirement)
}

/// The methods of a path, as the `Allow` header lists them; `None` when there is no such path.
pub(super) fn allowed_methods(path: &str) -> Option<String> {
    let mut methods: Vec<&str> = Vec::new();
    for (method, ..) in TABLE.iter().filter(|(_, route, _)| *route == path) {
        methods.push(method.as_str());
        if method == Method::GET {
            methods.push(Method::HEAD.as_str());
        }
    }
    (!methods.is_empty()).then(|| methods.join(","))
}
