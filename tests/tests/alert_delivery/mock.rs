//! A receiver that behaves as a test says.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use gradwatch_tests::PATIENCE;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) target: String,
    /// By names in small letters.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
    pub(crate) at: Instant,
}

impl Received {
    /// The body.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// What tells duplicates.
    pub(crate) fn message_id(&self) -> &str {
        &self.headers["webhook-id"]
    }

    /// Number and status of each alert of a webhook.
    pub(crate) fn alerts(&self) -> Vec<(u64, String)> {
        let of = |alert: &Value| {
            let id: uuid::Uuid = alert["alert_id"].as_str().expect("an id").parse().expect("an id");
            (id.as_u64_pair().1, alert["status"].as_str().expect("a status").to_owned())
        };
        self.json()["alerts"].as_array().expect("alerts").iter().map(of).collect()
    }
}

/// What it does with a request.
pub(crate) enum Reply {
    /// Answers with this status.
    Status(u16),
    /// Answers with this status, these headers and this body.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// Reads it and says nothing more.
    Hang,
    /// Closes the connection.
    Close,
    /// Closes the connection in the middle of an answer's head.
    Break,
    /// A status and a body that never ends.
    Endless(u16),
    /// Answers with this status when it is told to.
    When(watch::Receiver<bool>, u16),
}

/// A receiver on loopback.
pub(crate) struct Mock {
    pub(crate) address: SocketAddr,
    scheme: &'static str,
    received: watch::Receiver<Vec<Received>>,
    connections: Arc<AtomicUsize>,
    most_at_once: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Mock {
    /// Does with each request, counted from 0, what `reply` says.
    pub(crate) async fn start(reply: impl Fn(usize, &Received) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_with(None, reply).await
    }

    /// Takes everything.
    pub(crate) async fn taking() -> Self {
        Self::start(|_, _| Reply::Status(200)).await
    }

    /// The same behind TLS.
    pub(crate) async fn start_with(
        tls: Option<TlsAcceptor>,
        reply: impl Fn(usize, &Received) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (sender, received) = watch::channel(Vec::new());
        let (sender, reply) = (Arc::new(sender), Arc::new(reply));
        let connections = Arc::new(AtomicUsize::new(0));
        let most_at_once = Arc::new(AtomicUsize::new(0));
        let (at_once, most) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&most_at_once));
        let (counted, scheme) = (Arc::clone(&connections), if tls.is_some() { "https" } else { "http" });
        let task = tokio::spawn(async move {
            let mut tasks = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                counted.fetch_add(1, Ordering::SeqCst);
                let (sender, reply, tls) = (Arc::clone(&sender), Arc::clone(&reply), tls.clone());
                let (at_once, most) = (Arc::clone(&at_once), Arc::clone(&most));
                tasks.spawn(async move {
                    most.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    match tls {
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &sender, &*reply).await;
                            }
                        }
                        None => serve(stream, &sender, &*reply).await,
                    }
                    at_once.fetch_sub(1, Ordering::SeqCst);
                });
                while tasks.try_join_next().is_some() {}
            }
        });
        Self { address, scheme, received, connections, most_at_once, task: task.abort_handle() }
    }

    /// Its URL, without a path.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Everything so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.borrow().clone()
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The most connections that it had at the same time.
    pub(crate) fn most_at_once(&self) -> usize {
        self.most_at_once.load(Ordering::SeqCst)
    }

    /// Waits until what it has received is enough.
    pub(crate) async fn until(&self, what: &str, is_enough: impl Fn(&[Received]) -> bool) -> Vec<Received> {
        let mut received = self.received.clone();
        let waited = timeout(PATIENCE, received.wait_for(|all| is_enough(all)))
            .await
            .map(|all| all.expect("the receiver lives").clone());
        waited.unwrap_or_else(|_| panic!("never: {what}; but {:#?}", self.received()))
    }

    /// Waits for so many requests.
    pub(crate) async fn requests(&self, count: usize) -> Vec<Received> {
        self.until(&format!("{count} requests"), |all| all.len() >= count).await
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One request a connection, as gradwatch makes them.
async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    sender: &watch::Sender<Vec<Received>>,
    reply: &(impl Fn(usize, &Received) -> Reply + Sync),
) {
    // A server that is killed leaves half a request.
    let Some(request) = read(&mut stream).await else { return };
    let mut place = 0;
    sender.send_modify(|all| {
        place = all.len();
        all.push(request.clone());
    });
    // Whoever asked may be gone.
    let _ = match reply(place, &request) {
        Reply::Status(status) => answer(&mut stream, status, &[], "").await,
        Reply::Answer(status, headers, body) => answer(&mut stream, status, &headers, &body).await,
        Reply::Hang => stream.read_u8().await.map(drop),
        Reply::Close => Ok(()),
        Reply::Break => stream.write_all(b"HTTP/1.1 200 OK\r\nconte").await,
        Reply::Endless(status) => endless(&mut stream, status).await,
        Reply::When(mut told, status) => {
            let _ = told.wait_for(|told| *told).await;
            answer(&mut stream, status, &[], "").await
        }
    };
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Received> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        stream.read_buf(&mut bytes).await.ok().filter(|read| *read > 0)?;
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).expect("a head is text");
    let mut lines = head.split("\r\n");
    let target = lines.next()?.strip_prefix("POST ").expect("POST").split(' ').next()?.to_owned();
    let header = |line: &str| {
        let (name, value) = line.split_once(':').expect("a header");
        (name.to_ascii_lowercase(), value.trim().to_owned())
    };
    let headers: BTreeMap<String, String> = lines.map(header).collect();
    let length: usize = headers["content-length"].parse().expect("a length");
    let mut body = bytes.split_off(head_end + 4);
    while body.len() < length {
        stream.read_buf(&mut body).await.ok().filter(|read| *read > 0)?;
    }
    Some(Received { target, headers, body: String::from_utf8(body).expect("a body is text"), at: Instant::now() })
}

async fn answer(
    stream: &mut (impl AsyncWrite + Unpin),
    status: u16,
    headers: &[(&str, String)],
    body: &str,
) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {status} Made\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n{body}").as_bytes()).await?;
    stream.shutdown().await
}

async fn endless(stream: &mut (impl AsyncWrite + Unpin), status: u16) -> std::io::Result<()> {
    stream.write_all(format!("HTTP/1.1 {status} Made\r\n\r\n").as_bytes()).await?;
    loop {
        stream.write_all(&[b'x'; 4_096]).await?;
    }
}
