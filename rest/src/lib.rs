//! Calls the REST API of a gradwatch server, as the commands and the demo do: few calls, so that each has a connection
//! of its own.

mod error;
mod tls;

use std::{fmt, future::Future, time::Duration};

use bytes::Bytes;
pub use http::Method;
use http::{Request, Response, Uri, header, uri::Scheme};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};

pub use error::RestError;
use tls::Tls;

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
        let call = Call::new(self, &method, path);
        let response = call.in_time(self.exchange(method, path, body, "application/json")).await?;
        let body = call.in_time(call.whole(response)).await?;
        serde_json::from_slice(&body).map_err(|cause| RestError::Answer { what: call.what, cause })
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
        let call = Call::new(self, &method, path);
        let response = call.in_time(self.exchange(method, path, body, "application/x-ndjson")).await?;
        if !response.status().is_success() {
            return call.in_time(call.whole(response)).await.map(|_| ());
        }
        let mut body = response.into_body();
        let mut line = Vec::new();
        while let Some(frame) = call.in_time(async { body.frame().await.transpose().map_err(network) }).await? {
            // What is no data is a trailer.
            for &byte in frame.data_ref().into_iter().flatten() {
                if byte != b'\n' {
                    line.push(byte);
                    continue;
                }
                let read = serde_json::from_slice(&line);
                take(read.map_err(|cause| RestError::Answer { what: call.what.clone(), cause })?);
                line.clear();
            }
        }
        if line.is_empty() { Ok(()) } else { Err(call.unreachable("the answer broke off".to_owned())) }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        accept: &'static str,
    ) -> Result<Response<Incoming>, ExchangeError> {
        let not_a_url =
            || RestError::argument("server", &format!("{:?} is not of the form http://host:port", self.server));
        let uri: Uri = format!("{}{path}", self.server).parse().map_err(|_| not_a_url())?;
        let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else { return Err(not_a_url().into()) };
        let is_tls = match scheme {
            scheme if *scheme == Scheme::HTTP => false,
            scheme if *scheme == Scheme::HTTPS => true,
            _ => return Err(not_a_url().into()),
        };
        // A host in brackets is an IPv6 address.
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let mut request = Request::builder()
            .method(method)
            .uri(uri.path_and_query().map_or("/", |target| target.as_str()))
            .header(header::HOST, authority.as_str())
            .header(header::ACCEPT, accept)
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = request.body(Full::new(Bytes::from(body))).map_err(network)?;
        let stream = TcpStream::connect((host, port)).await.map_err(network)?;
        if is_tls {
            send(self.tls.connect(host, stream).await.map_err(network)?, request).await
        } else {
            send(stream, request).await
        }
    }
}

/// What is being called, for errors.
struct Call {
    what: String,
}

impl Call {
    fn new(client: &RestClient, method: &Method, path: &str) -> Self {
        Self { what: format!("{method} {}{path}", client.server) }
    }

    fn unreachable(&self, cause: String) -> RestError {
        RestError::Unreachable { what: self.what.clone(), cause }
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, ExchangeError>>) -> Result<T, RestError> {
        let done = timeout(PATIENCE, work).await;
        let done = done.map_err(|_| self.unreachable(format!("no answer within {PATIENCE:?}")))?;
        done.map_err(|error| match error {
            ExchangeError::Rest(error) => error,
            ExchangeError::Network(cause) => self.unreachable(error::full_text(&*cause)),
        })
    }

    /// The body of an answer that is no refusal.
    async fn whole(&self, response: Response<Incoming>) -> Result<Bytes, ExchangeError> {
        let status = response.status();
        let body = response.into_body().collect().await.map_err(network)?.to_bytes();
        if status.is_success() {
            return Ok(body);
        }
        let body = String::from_utf8_lossy(&body).into_owned();
        Err(RestError::Status { what: self.what.clone(), status: status.as_u16(), body }.into())
    }
}

enum ExchangeError {
    Rest(RestError),
    Network(Box<dyn std::error::Error + Send + Sync>),
}

impl From<RestError> for ExchangeError {
    fn from(error: RestError) -> Self {
        Self::Rest(error)
    }
}

fn network(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ExchangeError {
    ExchangeError::Network(error.into())
}

async fn send(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, ExchangeError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(network)?;
    // Ends with the sender; an error shows in the answer as well.
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(network)
}
