//! Accepts connections and serves HTTP/1 and HTTP/2 on them: REST and gRPC share one port.

use std::{
    future::pending,
    io,
    task::{Context, Poll},
    time::Duration,
};

use axum::Router;
use http::Request;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::Service;

/// After this long a connection is asked to end, so that clients spread over servers again and nothing lives for ever.
const MAX_CONNECTION_AGE: Duration = Duration::from_secs(6 * 3_600);
/// How long an aged connection may take to end.
const AGED_GRACE: Duration = Duration::from_secs(60);
/// How long a client may take to its first request: one that sends nothing, or no request, holds no connection.
pub(crate) const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may take to agree on TLS.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Finds peers that vanished without a word.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Room for frames of many streams on one connection; the default of 64 KiB makes every batch wait for a round trip. It
/// is memory that a client can fill before anything is counted, so it is no larger than a few batches.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
const STREAM_WINDOW_BYTES: u32 = 1 << 20;

/// When connections have to end.
#[derive(Clone, Debug)]
pub(crate) struct Ends {
    /// Nothing new is accepted; what is open finishes what it is at.
    pub(crate) draining: CancellationToken,
    /// The deadline is over.
    pub(crate) cut_off: CancellationToken,
    /// How long a connection may take to its first request, [`FIRST_REQUEST_TIMEOUT`]; TLS has its own time before.
    pub(crate) first_request_timeout: Duration,
}

/// Notices the first request of a connection.
#[derive(Clone)]
struct Noticing {
    app: Router,
    requested: CancellationToken,
}

impl<B> Service<Request<B>> for Noticing
where
    Router: Service<Request<B>>,
{
    type Response = <Router as Service<Request<B>>>::Response;
    type Error = <Router as Service<Request<B>>>::Error;
    type Future = <Router as Service<Request<B>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::<Request<B>>::poll_ready(&mut self.app, cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.requested.cancel();
        self.app.call(request)
    }
}

/// Accepts until draining, then lets open connections finish what they are at.
///
/// Handshakes happen in the connection's own task, so that one that is slow or wrong delays nobody.
pub(crate) async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    app: Router,
    ends: Ends,
    connections: TaskTracker,
) {
    loop {
        let accepted = tokio::select! {
            () = ends.draining.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                if let Err(error) = prepare(&stream) {
                    tracing::debug!(%error, "a connection was gone before it was served");
                    continue;
                }
                let (app, ends) = (app.clone(), ends.clone());
                match tls.clone() {
                    Some(tls) => connections.spawn(serve_tls(tls, stream, app, ends)),
                    None => connections.spawn(serve(stream, app, ends)),
                };
            }
            Err(error) => {
                // Out of file descriptors, most likely: others have to end first.
                tracing::warn!(%error, "cannot accept connections");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
    connections.close();
}

/// Small messages go out at once: waiting to fill a packet costs 40 ms an acknowledgement.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)
}

/// A client that speaks no TLS is found out by its first bytes, and is left.
async fn serve_tls(tls: TlsAcceptor, stream: TcpStream, app: Router, ends: Ends) {
    let handshake = tokio::select! {
        () = ends.draining.cancelled() => return,
        handshake = timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)) => handshake,
    };
    match handshake {
        Ok(Ok(stream)) => serve(stream, app, ends).await,
        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => tracing::debug!("TLS handshake took too long"),
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, app: Router, ends: Ends) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(30));
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES);
    let requested = CancellationToken::new();
    let app = TowerToHyperService::new(Noticing { app, requested: requested.clone() });
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), app);
    tokio::pin!(connection);
    let aged = tokio::select! {
        result = connection.as_mut() => return log(result),
        () = ends.draining.cancelled() => false,
        () = sleep(MAX_CONNECTION_AGE) => true,
        () = silent(&requested, ends.first_request_timeout) => {
            return tracing::debug!("a connection sent no request");
        }
    };
    connection.as_mut().graceful_shutdown();
    if aged {
        tokio::select! {
            result = connection.as_mut() => log(result),
            () = sleep(AGED_GRACE) => {}
        }
    } else {
        tokio::select! {
            result = connection.as_mut() => log(result),
            () = ends.cut_off.cancelled() => {}
        }
    }
}

/// When a connection has had its time to the first request and there was none.
async fn silent(requested: &CancellationToken, first_request_timeout: Duration) {
    if timeout(first_request_timeout, requested.cancelled()).await.is_ok() {
        pending::<()>().await;
    }
}

fn log(result: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = result {
        tracing::debug!(%error, "connection ended");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

    /// Sends a request and reads the whole answer.
    async fn ask(stream: &mut TcpStream) {
        stream.write_all(REQUEST).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nhere") {
            let read = timeout(PATIENCE, stream.read_buf(&mut answer)).await.expect("an answer").unwrap();
            assert!(read > 0, "closed after {}", String::from_utf8_lossy(&answer));
        }
    }

    #[tokio::test]
    async fn a_connection_without_a_request_is_closed_and_others_stay() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let ends = Ends {
            draining: CancellationToken::new(),
            cut_off: CancellationToken::new(),
            first_request_timeout: Duration::from_millis(200),
        };
        let app = Router::new().route("/", get(async || "here"));
        let accepting = tokio::spawn(accept(listener, None, app, ends.clone(), TaskTracker::new()));
        let mut used = TcpStream::connect(address).await.unwrap();
        ask(&mut used).await;
        for sent in [&b""[..], b"PRI *", b"GET / HT", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
            let mut silent = TcpStream::connect(address).await.unwrap();
            silent.write_all(sent).await.unwrap();
            let mut told = Vec::new();
            // A reset is an end, too.
            let _ = timeout(PATIENCE, silent.read_to_end(&mut told)).await.expect("it is closed");
        }
        ask(&mut used).await;
        ends.draining.cancel();
        accepting.await.unwrap();
    }
}
