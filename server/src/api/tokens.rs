//! `tokens`: who may do what.

use std::{collections::BTreeSet, time::Duration};

use axum::{
    Json,
    extract::{FromRequest, FromRequestParts, Request, State},
    http::{StatusCode, request::Parts},
};
use gradwatch_store::{Scope, Token, TokenId};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    json_body,
    openapi::Problems,
    params::{self, Query},
    refusal::{Answer, Refusal},
    time::Time,
};
use crate::{
    access::{Caller, TokenRequest},
    clock,
    error::{Error, ErrorCode},
    state::AppState,
};

/// A token, without its text.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TokenView {
    /// UUID; names the token without being it.
    token_id: String,
    /// What it is for.
    name: String,
    /// The only project it is good for; null: all.
    project: Option<String>,
    /// `ingest`, `read`, `admin`.
    scopes: Vec<&'static str>,
    created_at: Time,
    /// Null: never.
    expires_at: Option<Time>,
    /// When it was taken back; null while it was not.
    revoked_at: Option<Time>,
}

impl From<&Token> for TokenView {
    fn from(token: &Token) -> Self {
        Self {
            token_id: token.token_id.to_string(),
            name: token.name.clone(),
            project: token.project.clone(),
            scopes: token.scopes.iter().map(|scope| scope.as_str()).collect(),
            created_at: Time(token.created_at_us),
            expires_at: token.expires_at_us.map(Time),
            revoked_at: token.revoked_at_us.map(Time),
        }
    }
}

/// A token that was just made.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NewTokenView {
    /// The token itself. It is shown here and never again.
    token: String,
    #[serde(flatten)]
    view: TokenView,
}

/// All tokens.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TokenList {
    items: Vec<TokenView>,
    /// Always null: there is one page.
    next_cursor: Option<String>,
}

/// A token as JSON, as `tokens` lists it.
#[must_use]
pub fn token_json(token: &Token) -> Value {
    // Texts and nulls always have a JSON form.
    serde_json::to_value(TokenView::from(token)).unwrap_or_default()
}

/// What a token is to be.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"name": "cluster A", "project": "vision", "scopes": ["ingest"], "expires_in_s": 2_592_000}))]
#[expect(dead_code, reason = "describes the body; `parse` reads it, naming the member at fault")]
pub(crate) struct NewToken {
    /// What it is for.
    name: String,
    /// The only project it is good for; null or absent: all.
    project: Option<String>,
    /// `ingest`, `read`, `admin`.
    scopes: Vec<String>,
    /// How long it is good, in seconds; null or absent: until it is revoked.
    expires_in_s: Option<u64>,
}

/// Lists tokens, also expired and revoked ones, oldest first. Their texts are kept nowhere.
#[utoipa::path(get, operation_id = "listTokens", path = "/api/v1/tokens", tag = "tokens",
    responses((status = 200, body = TokenList), Problems))]
pub(crate) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    Query(()): Query<()>,
) -> Answer<Json<TokenList>> {
    let tokens = state.store.tokens().await?;
    let items = tokens.iter().filter(|token| manages(&caller, token)).map(TokenView::from).collect();
    Ok(Json(TokenList { items, next_cursor: None }))
}

/// Makes a token. The answer is the only place where its text is ever shown.
#[utoipa::path(post, operation_id = "createToken", path = "/api/v1/tokens", tag = "tokens",
    request_body = NewToken, responses((status = 201, body = NewTokenView), Problems))]
pub(crate) async fn create(
    State(state): State<AppState>,
    caller: Caller,
    Query(()): Query<()>,
    NewTokenBody(request): NewTokenBody,
) -> Answer<(StatusCode, Json<NewTokenView>)> {
    // A token for all projects is more than one of a project may give away: the empty name is nobody's project.
    caller.require_project(request.project.as_deref().unwrap_or_default())?;
    let (token, secret) = request.create(&*state.store).await?;
    let view = NewTokenView { token: secret.expose().to_owned(), view: TokenView::from(&token) };
    Ok((StatusCode::CREATED, Json(view)))
}

/// Takes a token back. New requests with it are refused at once, its open streams end within five seconds.
#[utoipa::path(delete, operation_id = "revokeToken", path = "/api/v1/tokens/{token_id}", tag = "tokens", params(("token_id" = String, Path, description = "UUID")),
    responses((status = 200, body = TokenView), Problems))]
pub(crate) async fn revoke(
    State(state): State<AppState>,
    caller: Caller,
    TokenPath(token_id): TokenPath,
    Query(()): Query<()>,
) -> Answer<Json<TokenView>> {
    let unknown = || Error {
        field: Some("token_id".into()),
        ..Error::new(ErrorCode::NotFound, format!("token {token_id} is unknown"))
    };
    let known = async || {
        let tokens = state.store.tokens().await?;
        let found = tokens.into_iter().find(|token| token.token_id == token_id && manages(&caller, token));
        found.ok_or_else(unknown)
    };
    known().await?;
    state.store.revoke_token(token_id, clock::now_us()).await?;
    state.access.forget(token_id);
    tracing::info!(%token_id, "token revoked");
    Ok(Json(TokenView::from(&known().await?)))
}

/// Whoever is of one project knows that project's tokens only.
fn manages(caller: &Caller, token: &Token) -> bool {
    caller.project().is_none_or(|own| token.project.as_deref() == Some(own))
}

/// Extracts the path segment `{token_id}`.
pub(crate) struct TokenPath(TokenId);

impl FromRequestParts<AppState> for TokenPath {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Self::Rejection> {
        let text = params::path_segment(parts, state, "token_id").await?;
        let token_id =
            text.parse().map_err(|error| Error::invalid("token_id", format!("{text:?} is no UUID: {error}")))?;
        Ok(Self(token_id))
    }
}

/// The body of a request for a token.
pub(crate) struct NewTokenBody(TokenRequest);

impl FromRequest<AppState> for NewTokenBody {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Self::Rejection> {
        let members = json_body::members(request, state).await?;
        Ok(Self(parse(members)?))
    }
}

/// Reads the body, naming the member at fault.
fn parse(mut members: Map<String, Value>) -> Result<TokenRequest, Error> {
    let request = TokenRequest {
        name: text(&mut members, "name")?.ok_or_else(|| Error::invalid("name", "is missing"))?,
        project: text(&mut members, "project")?,
        scopes: scopes(members.remove("scopes"))?,
        expires_in: match members.remove("expires_in_s") {
            None | Some(Value::Null) => None,
            Some(value) => {
                let seconds = value.as_u64();
                let seconds = seconds.ok_or_else(|| Error::invalid("expires_in_s", "must be a number of seconds"))?;
                Some(Duration::from_secs(seconds))
            }
        },
    };
    match members.into_iter().next() {
        Some((unknown, _)) => {
            Err(Error::invalid(unknown, "is unknown; a token has name, project, scopes and expires_in_s"))
        }
        None => Ok(request),
    }
}

fn text(members: &mut Map<String, Value>, name: &'static str) -> Result<Option<String>, Error> {
    match members.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Error::invalid(name, "must be a text")),
    }
}

fn scopes(value: Option<Value>) -> Result<BTreeSet<Scope>, Error> {
    let wrong = || Error::invalid("scopes", "must be a list of ingest, read, admin");
    let Some(Value::Array(scopes)) = value else { return Err(wrong()) };
    let scope = |value: &Value| {
        let text = value.as_str().ok_or_else(wrong)?;
        text.parse().map_err(|error: String| Error::invalid("scopes", error))
    };
    scopes.iter().map(scope).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_member_at_fault_is_named() {
        for (body, field) in [
            ("", "body"),
            ("[]", "body"),
            ("{}", "name"),
            (r#"{"name": 1, "scopes": ["read"]}"#, "name"),
            (r#"{"name": "x"}"#, "scopes"),
            (r#"{"name": "x", "scopes": "read"}"#, "scopes"),
            (r#"{"name": "x", "scopes": ["write"]}"#, "scopes"),
            (r#"{"name": "x", "scopes": ["read"], "project": 1}"#, "project"),
            (r#"{"name": "x", "scopes": ["read"], "expires_in_s": "1 d"}"#, "expires_in_s"),
            (r#"{"name": "x", "scopes": ["read"], "hash": ""}"#, "hash"),
        ] {
            assert_eq!(
                json_body::object(body.as_bytes()).and_then(parse).unwrap_err().field.as_deref(),
                Some(field),
                "{body}"
            );
        }
        let request = json_body::object(br#"{"name": "x", "scopes": ["read", "ingest"], "expires_in_s": 5}"#)
            .and_then(parse)
            .unwrap();
        assert_eq!(request.scopes, BTreeSet::from([Scope::Read, Scope::Ingest]));
        assert_eq!((request.project, request.expires_in), (None, Some(Duration::from_secs(5))));
    }
}
