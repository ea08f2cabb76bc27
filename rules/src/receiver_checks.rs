//! What is checked of a receiver, wherever it comes from.

use std::ops::RangeInclusive;

use base64::{Engine, engine::general_purpose::STANDARD};
use http::Uri;

use crate::{
    Problem, ReceiverDefinition, ReceiverKind,
    checks::{Finding, Findings},
    yaml::{Step, field},
};

/// The longest address.
const MAX_URL_BYTES: usize = 2048;
/// The most secrets: two are enough to change one.
const MAX_SECRETS: usize = 8;
/// What the secret of a webhook begins with.
const SECRET_PREFIX: &str = "whsec_";
/// The length of a secret, decoded.
const SECRET_BYTES: RangeInclusive<usize> = 24..=64;
const MAX_ENV_BYTES: usize = 200;

impl ReceiverDefinition {
    /// Checks a receiver that comes alone, as JSON over REST.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn check(&self) -> Result<(), Vec<Problem>> {
        let findings = findings(self);
        if findings.is_empty() {
            return Ok(());
        }
        let problem =
            |finding: Finding| Problem { field: field("", &finding.path), position: None, message: finding.message };
        Err(findings.into_iter().map(problem).collect())
    }
}

/// Everything that is wrong with a receiver.
pub(crate) fn findings(receiver: &ReceiverDefinition) -> Vec<Finding> {
    let mut findings = Findings::default();
    findings.name(&["name"], &receiver.name);
    match &receiver.kind {
        ReceiverKind::Webhook { url: to, secrets: with, secrets_env } => {
            url(&["webhook", "url"], to, &mut findings);
            secrets(with, &mut findings);
            if let Some(name) = secrets_env {
                env(&["webhook", "secrets_env"], name, &mut findings);
            } else if with.is_empty() {
                findings.add(&["webhook"], "needs `secrets` or `secrets_env`: messages are signed");
            }
        }
        ReceiverKind::Slack { url: to, url_env } => match (to, url_env) {
            (Some(to), None) => url(&["slack", "url"], to, &mut findings),
            (None, Some(name)) => env(&["slack", "url_env"], name, &mut findings),
            (None, None) => findings.add(&["slack"], "needs `url` or `url_env`"),
            (Some(_), Some(_)) => findings.add(&["slack"], "has both `url` and `url_env`; leave one out"),
        },
        ReceiverKind::Alertmanager { url: to, bearer_env } => {
            url(&["alertmanager", "url"], to, &mut findings);
            if to.contains('?') {
                findings.add(
                    &["alertmanager", "url"],
                    "has a query (`?…`); write the address that /api/v2/alerts is appended to",
                );
            }
            if let Some(name) = bearer_env {
                env(&["alertmanager", "bearer_env"], name, &mut findings);
            }
        }
    }
    if receiver.group_by.is_empty() {
        findings.add(&["group_by"], "is empty; it takes one or more of rule, project and run");
    }
    let twice =
        (1..receiver.group_by.len()).find(|index| receiver.group_by[..*index].contains(&receiver.group_by[*index]));
    if let Some(index) = twice {
        findings.add_at(vec![Step::Key("group_by".to_owned()), Step::Index(index)], None, "comes twice");
    }
    let numbers = [
        ("group_wait_s", receiver.group_wait_s, 0..=3600),
        ("max_concurrency", receiver.max_concurrency, 1..=32),
        ("max_per_minute", receiver.max_per_minute, 1..=6000),
        ("timeout_s", receiver.timeout_s, 1..=60),
    ];
    for (name, number, range) in numbers {
        if !range.contains(&number) {
            findings.add(&[name], format!("{number} is out of range; it is {} to {}", range.start(), range.end()));
        }
    }
    findings.0
}

/// What is wrong with it is said without its text: addresses may be secret.
fn url(path: &[&str], url: &str, findings: &mut Findings) {
    if url.len() > MAX_URL_BYTES {
        findings.add(path, format!("is {} bytes long; the limit is {MAX_URL_BYTES}", url.len()));
        return;
    }
    let Ok(uri) = url.parse::<Uri>() else {
        findings.add(path, "is no URL such as https://example.org/alerts");
        return;
    };
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        findings.add(path, "begins with neither https:// nor http://");
    } else if uri.host().is_none_or(|host| host.trim_matches(['[', ']']).is_empty()) {
        findings.add(path, "names no host");
    } else if authority.contains('@') {
        findings.add(path, "holds a user name or password; use what the receiver has for signing in");
    } else if url.contains('#') {
        findings.add(path, "has a fragment (`#…`), which is never sent; leave it out");
    } else if has_port(authority) && uri.port_u16().is_none_or(|port| port == 0) {
        findings.add(path, "has a port that is no number from 1 to 65535");
    }
}

/// Whether something follows the host, which may be an IPv6 address in brackets.
fn has_port(authority: &str) -> bool {
    authority.rsplit(']').next().is_some_and(|behind| behind.contains(':'))
}

fn secrets(secrets: &[String], findings: &mut Findings) {
    let secret = |index| vec![Step::Key("webhook".to_owned()), Step::Key("secrets".to_owned()), Step::Index(index)];
    if secrets.len() > MAX_SECRETS {
        findings.add(&["webhook", "secrets"], format!("are {} secrets; the limit is {MAX_SECRETS}", secrets.len()));
        return;
    }
    for (index, text) in secrets.iter().enumerate() {
        if !is_secret(text) {
            let (least, most) = SECRET_BYTES.into_inner();
            let message = format!("a secret is `{SECRET_PREFIX}` and the base64 of {least} to {most} bytes");
            findings.add_at(secret(index), None, message);
        } else if secrets[..index].contains(text) {
            findings.add_at(secret(index), None, "comes twice");
        }
    }
}

/// Whether a text can be the secret of a webhook: `whsec_` and the base64 of 24 to 64 bytes.
fn is_secret(text: &str) -> bool {
    let bytes = text.strip_prefix(SECRET_PREFIX).and_then(|encoded| STANDARD.decode(encoded).ok());
    bytes.is_some_and(|bytes| SECRET_BYTES.contains(&bytes.len()))
}

fn env(path: &[&str], name: &str, findings: &mut Findings) {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let begins_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if name.len() > MAX_ENV_BYTES || !begins_well || !name.chars().all(is_plain) {
        findings.add(path, "the name of an environment variable has letters, digits and `_`, and begins with no digit");
    }
}
