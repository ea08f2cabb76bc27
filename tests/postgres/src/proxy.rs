//! A TCP proxy between server and database that breaks on demand.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the database.
    ToDatabase,
    /// From the database to the client.
    ToClient,
}

/// How the proxy behaves now.
#[derive(Clone, Copy, Debug, Default)]
struct Behaviour {
    /// Connections made before this was last raised are cut.
    generation: u64,
    refuse: bool,
    stall: bool,
    /// Bytes that still pass each way before everything is cut.
    to_database: Option<u64>,
    to_client: Option<u64>,
}

impl Behaviour {
    fn left(&mut self, direction: Direction) -> &mut Option<u64> {
        match direction {
            Direction::ToDatabase => &mut self.to_database,
            Direction::ToClient => &mut self.to_client,
        }
    }

    fn cut(&mut self) {
        self.generation += 1;
        (self.to_database, self.to_client) = (None, None);
    }
}

/// Passes bytes through until told otherwise. Ends when dropped.
pub struct Proxy {
    address: SocketAddr,
    database: SocketAddr,
    behaviour: Arc<watch::Sender<Behaviour>>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Listens on loopback, in front of `database`.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start(database: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let behaviour = Arc::new(watch::Sender::new(Behaviour::default()));
        let accepting = tokio::spawn(accept(listener, database, Arc::clone(&behaviour)));
        Ok(Self { address, database, behaviour, accepting })
    }

    /// The same database behind the proxy.
    #[must_use]
    pub fn url(&self, url: &str) -> String {
        url.replace(&self.database.to_string(), &self.address.to_string())
    }

    /// Cuts all connections.
    pub fn cut(&self) {
        self.behaviour.send_modify(Behaviour::cut);
    }

    /// Closes new connections as soon as they are made, or lets them through again.
    pub fn refuse(&self, refuse: bool) {
        self.behaviour.send_modify(|it| it.refuse = refuse);
    }

    /// Holds all bytes back, or lets them flow again.
    pub fn stall(&self, stall: bool) {
        self.behaviour.send_modify(|it| it.stall = stall);
    }

    /// Cuts all connections once `bytes` more have passed in a direction. With 0 the next byte is not passed any more:
    /// to the client, an answer is lost to what was sent.
    pub fn cut_after(&self, direction: Direction, bytes: u64) {
        self.behaviour.send_modify(|it| *it.left(direction) = Some(bytes));
    }

    /// Whether what [`Proxy::cut_after`] asked for is still to come.
    #[must_use]
    pub fn is_armed(&self) -> bool {
        let behaviour = self.behaviour.borrow();
        behaviour.to_client.is_some() || behaviour.to_database.is_some()
    }

    /// Takes back what [`Proxy::cut_after`] asked for.
    pub fn disarm(&self) {
        self.behaviour.send_modify(|it| (it.to_database, it.to_client) = (None, None));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, database: SocketAddr, behaviour: Arc<watch::Sender<Behaviour>>) {
    while let Ok((client, _)) = listener.accept().await {
        if behaviour.borrow().refuse {
            continue;
        }
        // A database that is down closes the connection, as it would without us.
        let Ok(server) = TcpStream::connect(database).await else { continue };
        let generation = behaviour.borrow().generation;
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        for (from, to, direction) in
            [(from_client, to_server, Direction::ToDatabase), (from_server, to_client, Direction::ToClient)]
        {
            tokio::spawn(pass(from, to, direction, generation, Arc::clone(&behaviour)));
        }
    }
}

/// Passes bytes one way until either side ends or the connection is cut.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    direction: Direction,
    generation: u64,
    behaviour: Arc<watch::Sender<Behaviour>>,
) {
    let mut changes = behaviour.subscribe();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = tokio::select! {
            _ = changes.wait_for(|it| it.generation > generation) => return,
            read = from.read(&mut buffer) => read,
        };
        let Ok(count @ 1..) = read else {
            // The other side hears of the end.
            let _ = to.shutdown().await;
            return;
        };
        if changes.wait_for(|it| !it.stall || it.generation > generation).await.is_err() {
            return;
        }
        let mut passing = count;
        behaviour.send_if_modified(|it| {
            let Some(left) = it.left(direction) else { return false };
            let fits = usize::try_from(*left).unwrap_or(usize::MAX);
            if fits < count {
                passing = fits;
                it.cut();
                return true;
            }
            *left -= count as u64;
            false
        });
        if to.write_all(&buffer[..passing]).await.is_err() || passing < count {
            return;
        }
    }
}
