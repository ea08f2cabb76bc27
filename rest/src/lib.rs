//! Calls the REST API of a gradwatch server, as the commands and the demo do: few calls, so that each has a connection
//! of its own. And what such a call is made of ([`Endpoint`], [`exchange()`]), for who chooses the connection itself.

mod endpoint;
mod error;
mod exchange;
mod tls;

use std::{fmt, future::Future, time::Duration};

use bytes::Bytes;
pub use http::Method;
use http::{Request, header};
use http_body_util::Full;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};

pub use endpoint::{Endpoint, EndpointError};
pub use error::RestError;
pub use exchange::{Answer, ExchangeError, exchange};
pub use tls::Tls;

/// How long a server may take for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// One server, and who is calling.
#[derive(Clone)]
pub struct RestClient {
    server: String,
    token: Option<String>,
    tls: Tls,
}

impl fmt::Debug for RestClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RestClient").field("server", &self.server).finish_non_exhaustive()
    }
}

impl RestClient {
    /// Calls a server such as `https://gradwatch.example.org:7700`. An `https` server must be certified by the authority
    /// in `ca_certificate` (PEM), or else by one that the system trusts.
    ///
    /// # Errors
    /// [`RestError::Argument`] when `ca_certificate` or `token` is none.
    pub fn new(server: &str, token: Option<&str>, ca_certificate: Option<&str>) -> Result<Self, RestError> {
        let token = token.filter(|token| !token.is_empty());
        if token.is_some_and(|token| !token.chars().all(|character| character.is_ascii_graphic())) {
            return Err(RestError::argument("token", "holds a character that no token has"));
        }
        let server = server.trim_end_matches('/').to_owned();
        Ok(Self { server, token: token.map(str::to_owned), tls: Tls::new(ca_certificate)? })
    }

    /// GET. `path` begins with a slash.
    ///
    /// # Errors
    /// When the server does not answer, refuses, or answers something else.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, RestError> {
        self.call(Method::GET, path, None).await
    }

    /// Any call.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, RestError> {
        let what = format!("{method} {}{path}", self.server);
        let mut answer = in_time(&what, self.send(method, path, body, "application/json")).await?;
        let body = in_time(&what, whole(&mut answer)).await?;
        if !answer.head.status.is_success() {
            return Err(refusal(what, &answer, &body));
        }
        serde_json::from_slice(&body).map_err(|cause| RestError::Answer { what, cause })
    }

    /// A call that is answered line by line (`application/x-ndjson`). Each line is handed over as it comes; the server may
    /// take as long as it says something now and then.
    ///
    /// # Errors
    /// As [`get`](Self::get); also when the answer breaks off within a line.
    pub async fn lines<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        mut take: impl FnMut(T),
    ) -> Result<(), RestError> {
        let what = format!("{method} {}{path}", self.server);
        let mut answer = in_time(&what, self.send(method, path, body, "application/x-ndjson")).await?;
        if !answer.head.status.is_success() {
            let body = in_time(&what, whole(&mut answer)).await?;
            return Err(refusal(what, &answer, &body));
        }
        let mut line = Vec::new();
        while let Some(piece) = in_time(&what, async { answer.piece().await.map_err(network) }).await? {
            for part in piece.split_inclusive(|byte| *byte == b'\n') {
                line.extend_from_slice(part);
                if line.ends_with(b"\n") {
                    let read = serde_json::from_slice(&line);
                    take(read.map_err(|cause| RestError::Answer { what: what.clone(), cause })?);
                    line.clear();
                }
            }
        }
        match line.is_empty() {
            true => Ok(()),
            false => Err(RestError::Unreachable { what, cause: "the answer broke off".to_owned() }),
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        accept: &'static str,
    ) -> Result<Answer, CallError> {
        let endpoint = Endpoint::parse(&format!("{}{path}", self.server)).map_err(|_| {
            RestError::argument("server", &format!("{:?} is not of the form http://host:port", self.server))
        })?;
        let mut request = Request::builder()
            .method(method)
            .uri(&endpoint.target)
            .header(header::HOST, &endpoint.authority)
            .header(header::ACCEPT, accept)
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = request.body(Full::new(Bytes::from(body))).map_err(network)?;
        let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await.map_err(network)?;
        let tls = endpoint.is_tls.then_some((&self.tls, endpoint.host.as_str()));
        exchange(stream, tls, request).await.map_err(network)
    }
}

async fn whole(answer: &mut Answer) -> Result<Bytes, CallError> {
    answer.body(usize::MAX).await.map_err(network)
}

fn refusal(what: String, answer: &Answer, body: &[u8]) -> RestError {
    RestError::Status { what, status: answer.head.status.as_u16(), body: String::from_utf8_lossy(body).into_owned() }
}

async fn in_time<T>(what: &str, work: impl Future<Output = Result<T, CallError>>) -> Result<T, RestError> {
    let unreachable = |cause: String| RestError::Unreachable { what: what.to_owned(), cause };
    let done = timeout(PATIENCE, work).await;
    done.map_err(|_| unreachable(format!("no answer within {PATIENCE:?}")))?.map_err(|error| match error {
        CallError::Argument(error) => error,
        CallError::Network(cause) => unreachable(exchange::full_text(&*cause)),
    })
}

enum CallError {
    Argument(RestError),
    Network(Box<dyn std::error::Error + Send + Sync>),
}

impl From<RestError> for CallError {
    fn from(error: RestError) -> Self {
        Self::Argument(error)
    }
}

fn network(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> CallError {
    CallError::Network(error.into())
}
