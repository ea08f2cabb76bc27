//! The OpenAPI document, made from the handlers.

use std::{collections::BTreeMap, sync::LazyLock};

use axum::{http::header, response::IntoResponse};
use utoipa::{
    IntoResponses, Modify, OpenApi, ToSchema,
    openapi::{
        ContentBuilder, Ref, RefOr, Response, ResponseBuilder,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use super::{
    alerts, analyses, events, fleet, groups, health,
    layer_message::LayerReadingMessage,
    layers,
    message::{ReadingMessage, RunMessage},
    overview,
    params::Query,
    readings, runs, segments, series, steps, stream, tokens,
};
use crate::error::{ErrorCode, Problem};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "gradwatch",
        version = "1",
        description = "Training jobs seen from the inside. Lists answer items and next_cursor; errors are problem \
                       documents (RFC 9457); times are RFC 3339; ids and 64-bit numbers are texts; unknown query \
                       parameters are refused. /docs defines every metric.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(
        overview::get,
        runs::list,
        runs::get,
        runs::patch,
        runs::delete,
        groups::list,
        layers::list,
        segments::list,
        readings::list,
        analyses::create,
        analyses::list,
        analyses::get,
        analyses::delete,
        analyses::follow,
        series::of_run,
        series::of_runs,
        steps::list,
        events::of_run,
        events::of_all,
        stream::listen,
        fleet::dimension,
        fleet::error_split,
        fleet::families::list,
        fleet::get,
        alerts::backtest::run,
        alerts::listing::list,
        alerts::listing::get,
        alerts::rules::list,
        alerts::rules::create,
        alerts::rules::get,
        alerts::rules::replace,
        alerts::rules::delete,
        alerts::rule_check::check,
        alerts::rules::reload,
        alerts::receivers::list,
        alerts::receivers::create,
        alerts::receivers::get,
        alerts::receivers::replace,
        alerts::receivers::delete,
        alerts::receivers::test,
        alerts::receivers::enable,
        alerts::silences::list,
        alerts::silences::create,
        alerts::silences::get,
        alerts::silences::end,
        alerts::messages::list,
        alerts::messages::get,
        alerts::messages::redeliver,
        alerts::deliveries::list,
        tokens::list,
        tokens::create,
        tokens::revoke,
        health::alive,
        health::ready,
        health::metrics,
    ),
    modifiers(&BearerToken),
    security(("token" = [])),
    components(schemas(Problem, ReadingMessage, LayerReadingMessage, RunMessage)),
    tags(
        (name = "runs", description = "Training jobs and their attempts"),
        (name = "readings", description = "What was recorded, by step"),
        (name = "analyses", description = "Readings computed again"),
        (name = "events", description = "What happened"),
        (name = "fleet", description = "What only several runs tell together"),
        (name = "alerts", description = "Rules on what was recorded, and who is told"),
        (name = "tokens", description = "Who may do what"),
        (name = "server", description = "The server itself"),
    )
)]
struct Document;

/// How callers say who they are, where they are asked.
struct BearerToken;

impl Modify for BearerToken {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let description = "A token as `gradwatch token create` prints it. Not asked for where the server takes anyone.";
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(description)).build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// The problems that a call under `/api/v1` can answer.
pub(crate) enum Problems {}

impl IntoResponses for Problems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        // One response a status; where codes share one, their labels are joined.
        let mut labels: BTreeMap<u16, Vec<&'static str>> = BTreeMap::new();
        for code in ErrorCode::ALL
            .into_iter()
            .filter(|code| !matches!(code, ErrorCode::Unimplemented | ErrorCode::AlreadyExists))
        {
            labels.entry(code.http().as_u16()).or_default().push(code.label());
        }
        let response = |labels: &[&str]| {
            let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(Problem::name()))).build();
            let builder = ResponseBuilder::new().description(labels.join(" or "));
            RefOr::T(builder.content("application/problem+json", content).build())
        };
        labels.into_iter().map(|(status, labels)| (status.to_string(), response(&labels))).collect()
    }
}

static TEXT: LazyLock<String> = LazyLock::new(|| match Document::openapi().to_pretty_json() {
    Ok(text) => text + "\n",
    // A document of texts always has a JSON form, and a test reads it.
    Err(error) => format!("{{\"error\": {:?}}}\n", error.to_string()),
});

/// The OpenAPI document as JSON, ending in a line feed: what `/openapi.json` serves and the repository keeps.
#[must_use]
pub fn openapi_json() -> String {
    TEXT.clone()
}

/// The document, for the page that shows it.
pub(crate) fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

pub(crate) async fn serve(Query(()): Query<()>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], TEXT.as_str())
}
