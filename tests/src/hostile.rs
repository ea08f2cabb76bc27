//! What may be at a server's address besides a server.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket},
    task::{JoinHandle, JoinSet},
};

use crate::server::any_port;

/// A port where nobody listens, and which nobody else is given as long as this is held: it is bound, so connections are
/// refused, and a server that is told this very port may take it.
pub struct ReservedPort {
    _socket: TcpSocket,
    address: SocketAddr,
}

impl ReservedPort {
    /// Reserves a free port.
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        // Lets the server bind it as well.
        socket.set_reuseaddr(true).expect("an option of every socket");
        socket.bind(any_port()).expect("a free port");
        let address = socket.local_addr().expect("a bound socket has an address");
        Self { _socket: socket, address }
    }

    /// The address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Default for ReservedPort {
    fn default() -> Self {
        Self::new()
    }
}

/// Accepts every connection, reads what comes and answers with bytes that are no protocol.
pub struct GarbageServer {
    accepting: JoinHandle<()>,
}

impl GarbageServer {
    /// Listens at an address.
    pub async fn start(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.expect("the port is free");
        let accepting = tokio::spawn(async move {
            // Dropped with the task, which ends them.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(async move {
                    let (mut reader, mut writer) = stream.into_split();
                    let mut heard = vec![0; 4_096];
                    let mut state = 1_u64;
                    while let Ok(1..) = reader.read(&mut heard).await {
                        let garbage: Vec<u8> = (0..256).map(|_| next_byte(&mut state)).collect();
                        if writer.write_all(&garbage).await.is_err() {
                            break;
                        }
                    }
                });
            }
        });
        Self { accepting }
    }

    /// Stops listening and drops all connections.
    pub async fn stop(self) {
        self.accepting.abort();
        // It was aborted, which is what this waits for.
        let _ = self.accepting.await;
    }
}

fn next_byte(state: &mut u64) -> u8 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 56) as u8
}
