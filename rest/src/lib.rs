//! Calls the REST API of a gradwatch server, as the commands and the demo do: few calls, so that each has a connection
//! of its own. And what such a call is made of ([`Endpoint`], [`exchange()`]), for who chooses the connection itself.

mod endpoint;
mod error;
mod exchange;
mod tls;

use std::{fmt, time::Duration};

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
        let unreachable = |cause: String| RestError::Unreachable { what: what.clone(), cause };
        let answer = timeout(PATIENCE, self.exchange(method, path, body)).await;
        let (status, body) = answer.map_err(|_| unreachable(format!("no answer within {PATIENCE:?}")))?.map_err(
            |error| match error {
                CallError::Argument(error) => error,
                CallError::Network(cause) => unreachable(exchange::full_text(&*cause)),
            },
        )?;
        if !status.is_success() {
            let body = String::from_utf8_lossy(&body).into_owned();
            return Err(RestError::Status { what, status: status.as_u16(), body });
        }
        serde_json::from_slice(&body).map_err(|cause| RestError::Answer { what, cause })
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(http::StatusCode, Bytes), CallError> {
        let endpoint = Endpoint::parse(&format!("{}{path}", self.server)).map_err(|_| {
            RestError::argument("server", &format!("{:?} is not of the form http://host:port", self.server))
        })?;
        let mut request = Request::builder()
            .method(method)
            .uri(&endpoint.target)
            .header(header::HOST, &endpoint.authority)
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = request.body(Full::new(Bytes::from(body))).map_err(network)?;
        let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await.map_err(network)?;
        let tls = endpoint.is_tls.then_some((&self.tls, endpoint.host.as_str()));
        let mut answer = exchange(stream, tls, request).await.map_err(network)?;
        let body = answer.body(usize::MAX).await.map_err(network)?;
        Ok((answer.head.status, body))
    }
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
