//! Sends a request where it may go, and nowhere else.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use gradwatch_rest::{Answer, Endpoint, ExchangeError, Tls, exchange};
use http::{Request, header};
use http_body_util::Full;
use ipnet::IpNet;
use jiff::Timestamp;
use tokio::{
    net::{TcpStream, lookup_host},
    time::{timeout, timeout_at},
};

use super::{
    address::may_be_reached,
    outcome::{Attempted, Outcome, text, without},
    request::Outgoing,
    retry,
};

/// The most of an answer that is read.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// The most addresses of a name that are tried.
const MAX_ADDRESSES: usize = 4;

/// Makes connections. Settings of proxies are not obeyed: what is checked here is what is connected to.
pub(super) struct Connector {
    allowed: Vec<IpNet>,
    tls: Tls,
}

impl Connector {
    pub(super) fn new(allowed: Vec<IpNet>) -> Self {
        Self { allowed, tls: Tls::of_system() }
    }

    /// Sends a request, within `patience` from the look-up of the name to the end of the answer.
    pub(super) async fn post(&self, request: Outgoing, patience: Duration) -> Attempted {
        let secrets = request.secrets.clone();
        let shown = |detail: &str| text(&without(detail, &secrets));
        let deadline = Instant::now() + patience;
        let exchanged = timeout_at(deadline.into(), self.exchange(request, deadline)).await;
        let mut attempted = match exchanged {
            Ok(Ok(answer)) => attempted(answer, deadline, shown).await,
            Ok(Err(attempted)) => attempted,
            Err(_) => Attempted::failed(Outcome::Timeout, &format!("no answer within {} s", patience.as_secs())),
        };
        attempted.detail = shown(&attempted.detail);
        attempted
    }

    async fn exchange(&self, request: Outgoing, deadline: Instant) -> Result<Answer, Attempted> {
        let endpoint = Endpoint::parse(&request.url)
            .map_err(|error| Attempted::failed(Outcome::Definition, &format!("url: {error}")))?;
        let stream = self.connect(&endpoint, deadline).await?;
        let mut head = Request::post(&endpoint.target).header(header::HOST, &endpoint.authority);
        if let Some(headers) = head.headers_mut() {
            headers.extend(request.headers);
        }
        let request = head
            .body(Full::new(request.body))
            .map_err(|error| Attempted::failed(Outcome::Definition, &format!("url: {error}")))?;
        let tls = endpoint.is_tls.then_some((&self.tls, endpoint.host.as_str()));
        exchange(stream, tls, request).await.map_err(|error| {
            let outcome = match error {
                ExchangeError::Tls(_) => Outcome::Tls,
                ExchangeError::Http(_) => Outcome::Protocol,
            };
            Attempted::failed(outcome, &error.full_text())
        })
    }

    /// Invariant: what is connected to is an address that was checked, not a name that could mean another one by then.
    async fn connect(&self, endpoint: &Endpoint, deadline: Instant) -> Result<TcpStream, Attempted> {
        // Also an address in the URL: the system's resolver knows more ways of writing one than we do.
        let found = lookup_host((endpoint.host.as_str(), endpoint.port)).await;
        let found: Vec<SocketAddr> =
            found.map_err(|error| Attempted::failed(Outcome::Resolve, &error.to_string()))?.collect();
        let Some(first) = found.first() else {
            return Err(Attempted::failed(Outcome::Resolve, "the name has no address"));
        };
        let may_be = |address: &SocketAddr| may_be_reached(address.ip(), &self.allowed);
        let checked: Vec<SocketAddr> = found.iter().copied().filter(may_be).take(MAX_ADDRESSES).collect();
        if checked.is_empty() {
            let detail = format!("{} is not in the public Internet, nor in alerts.allow_addresses", first.ip());
            return Err(Attempted::failed(Outcome::RefusedAddress, &detail));
        }
        let mut refusal = None;
        for (index, address) in checked.iter().enumerate() {
            // One address that swallows everything does not keep the others from being tried.
            let share = deadline.saturating_duration_since(Instant::now()) / (checked.len() - index) as u32;
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => refusal = Some(Attempted::failed(Outcome::Connect, &error.to_string())),
                Err(_) => refusal = Some(Attempted::failed(Outcome::Timeout, "no connection in time")),
            }
        }
        Err(refusal.unwrap_or_else(|| Attempted::failed(Outcome::Connect, "no address")))
    }
}

/// Reads an answer. Its status says whether the receiver has taken the message, also when the rest is endless, slow or
/// breaks off.
async fn attempted(mut answer: Answer, deadline: Instant, shown: impl Fn(&str) -> String) -> Attempted {
    let status = answer.head.status.as_u16();
    let retry_after = answer.head.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = retry_after.and_then(|text| retry::retry_after(text, Timestamp::now()));
    let body = timeout_at(deadline.into(), answer.body(MAX_ANSWER_BYTES)).await;
    let body = body.ok().and_then(Result::ok).unwrap_or_default();
    Attempted {
        outcome: Outcome::of_status(status),
        status: Some(status),
        retry_after,
        detail: shown(&String::from_utf8_lossy(&body)),
    }
}
