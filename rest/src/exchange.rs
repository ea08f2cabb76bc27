//! One request and its answer over a connection that is open already.

use std::{error::Error, io};

use bytes::{Bytes, BytesMut};
use http::{Request, response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinSet,
};

use crate::tls::Tls;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// Who is there cannot prove to be the one called.
    #[error(transparent)]
    Tls(io::Error),
    /// The connection broke, or what came is no HTTP.
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

impl ExchangeError {
    /// The error with its reasons: hyper's own words for a refused connection do not say that it was refused.
    #[must_use]
    pub fn full_text(&self) -> String {
        full_text(self)
    }
}

/// An error with its reasons.
pub(crate) fn full_text(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// The head of an answer, and the connection that the body comes over, which is closed when this is dropped.
#[derive(Debug)]
pub struct Answer {
    /// Status and headers.
    pub head: response::Parts,
    body: Incoming,
    /// Drives the connection.
    _connection: JoinSet<()>,
}

impl Answer {
    /// The next piece of the body; none behind the last.
    ///
    /// # Errors
    /// When the connection breaks in the middle of it.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, ExchangeError> {
        while let Some(frame) = self.body.frame().await {
            // What is no data is a trailer.
            if let Ok(data) = frame?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// The body, or as much of it as `max_bytes` allow.
    ///
    /// # Errors
    /// When the connection breaks in the middle of it.
    pub async fn body(&mut self, max_bytes: usize) -> Result<Bytes, ExchangeError> {
        let mut body = BytesMut::new();
        while let Some(data) = self.piece().await? {
            body.extend_from_slice(&data[..data.len().min(max_bytes - body.len())]);
            if body.len() == max_bytes {
                break;
            }
        }
        Ok(body.freeze())
    }
}

/// Sends a request over `stream`, within TLS where there is a name that the other side has to prove.
///
/// # Errors
/// When there is no answer.
pub async fn exchange(
    stream: TcpStream,
    tls: Option<(&Tls, &str)>,
    request: Request<Full<Bytes>>,
) -> Result<Answer, ExchangeError> {
    match tls {
        Some((tls, host)) => send(tls.connect(host, stream).await.map_err(ExchangeError::Tls)?, request).await,
        None => send(stream, request).await,
    }
}

async fn send(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Answer, ExchangeError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut driver = JoinSet::new();
    // Ends with the sender; an error shows in the answer as well.
    driver.spawn(async move {
        let _ = connection.await;
    });
    let (head, body) = sender.send_request(request).await?.into_parts();
    Ok(Answer { head, body, _connection: driver })
}
