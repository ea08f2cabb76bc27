//! What is sent to a receiver.

use std::env;

use bytes::Bytes;
use gradwatch_rest::Endpoint;
use gradwatch_rules::{ReceiverDefinition, ReceiverKind};
use gradwatch_store::Message;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{alertmanager, content::Content, sign, slack, webhook};

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("gradwatch/", env!("CARGO_PKG_VERSION")));

/// A POST that is ready to be sent.
pub(super) struct Outgoing {
    /// May be a secret.
    pub(super) url: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// What must be shown to nobody, should the receiver repeat it.
    pub(super) secrets: Vec<String>,
}

/// The kind's name, in metrics.
pub(super) fn kind_name(kind: &ReceiverKind) -> &'static str {
    match kind {
        ReceiverKind::Webhook { .. } => "webhook",
        ReceiverKind::Slack { .. } => "slack",
        ReceiverKind::Alertmanager { .. } => "alertmanager",
    }
}

/// Makes the request of an attempt.
///
/// # Errors
/// Says what is wrong with the definition or the content, and no secret.
pub(super) fn outgoing(receiver: &ReceiverDefinition, message: &Message, now_us: i64) -> Result<Outgoing, String> {
    let content: Content =
        serde_json::from_value(message.content.clone()).map_err(|error| format!("content: {error}"))?;
    match &receiver.kind {
        ReceiverKind::Webhook { url, secrets, secrets_env } => {
            let body = webhook::body(message, &content).map_err(|error| error.to_string())?;
            let mut all = secrets.clone();
            if let Some(name) = secrets_env {
                all.extend(variable("secrets_env", name)?.split_whitespace().map(str::to_owned));
            }
            let (id, timestamp_s) = (message.message_id.to_string(), now_us.div_euclid(1_000_000));
            let signatures = sign::signatures(&all, &id, timestamp_s, &body)?;
            // A receiver may repeat the key alone, or where it was called.
            let keys = all.iter().filter_map(|secret| secret.strip_prefix(sign::PREFIX)).map(str::to_owned);
            let shown: Vec<String> = all.iter().cloned().chain(keys).chain(secret_parts_of_query(url)).collect();
            let mut request = Outgoing::new(url.clone(), body, shown);
            request.headers.insert(WEBHOOK_ID, value(&id, false)?);
            request.headers.insert(WEBHOOK_TIMESTAMP, timestamp_s.into());
            if !signatures.is_empty() {
                request.headers.insert(WEBHOOK_SIGNATURE, value(&signatures, false)?);
            }
            Ok(request)
        }
        ReceiverKind::Slack { url, url_env } => {
            let url = match (url, url_env) {
                (Some(url), _) => url.clone(),
                (None, Some(name)) => variable("url_env", name)?,
                (None, None) => return Err("url: is missing".to_owned()),
            };
            // A receiver may repeat the path alone, or write its slashes in another way.
            let path = Endpoint::parse(&url).map(|endpoint| endpoint.target).ok().filter(|path| path.len() > 1);
            let parts = path.iter().flat_map(|path| path.split(['/', '?', '&', '='])).filter(|part| is_long(part));
            let parts: Vec<String> = parts.map(str::to_owned).collect();
            let secrets = [url.clone()].into_iter().chain(path).chain(parts).collect();
            Ok(Outgoing::new(url, slack::body(message, &content).to_string().into(), secrets))
        }
        ReceiverKind::Alertmanager { .. } => {
            to_alertmanager(receiver, alertmanager::body(message, &content, now_us).to_string().into())
        }
    }
}

/// Whether a part of an address is long enough to be a secret, and not a word that texts hold anyway.
fn is_long(part: &str) -> bool {
    part.len() >= 8
}

/// The query of an address, which is shown to nobody, as a whole and in its values.
fn secret_parts_of_query(url: &str) -> Vec<String> {
    let Some((_, query)) = url.split_once('?') else { return Vec::new() };
    let values = query.split('&').filter_map(|pair| pair.split_once('=')).map(|(_, value)| value);
    [query].into_iter().chain(values).filter(|part| is_long(part)).map(str::to_owned).collect()
}

/// Makes the request that brings alerts to an Alertmanager.
///
/// # Errors
/// As [`outgoing`].
pub(super) fn to_alertmanager(receiver: &ReceiverDefinition, body: Vec<u8>) -> Result<Outgoing, String> {
    let ReceiverKind::Alertmanager { url, bearer_env } = &receiver.kind else {
        return Err("is no Alertmanager".to_owned());
    };
    let bearer = bearer_env.as_ref().map(|name| variable("bearer_env", name)).transpose()?;
    let url = format!("{}{}", url.trim_end_matches('/'), alertmanager::PATH);
    let mut request = Outgoing::new(url, body, bearer.iter().cloned().collect());
    if let Some(bearer) = bearer {
        request.headers.insert(header::AUTHORIZATION, value(&format!("Bearer {bearer}"), true)?);
    }
    Ok(request)
}

impl Outgoing {
    fn new(url: String, body: Vec<u8>, secrets: Vec<String>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::USER_AGENT, USER_AGENT);
        Self { url, headers, body: body.into(), secrets }
    }
}

fn variable(field: &str, name: &str) -> Result<String, String> {
    let text = env::var(name).unwrap_or_default();
    if text.trim().is_empty() {
        return Err(format!("{field}: the variable {name} is not set"));
    }
    Ok(text.trim().to_owned())
}

fn value(text: &str, is_secret: bool) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(text).map_err(|_| "holds a character that no header may have".to_owned())?;
    value.set_sensitive(is_secret);
    Ok(value)
}
