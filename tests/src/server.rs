//! The real server inside the test's own process.

use std::net::{Ipv4Addr, SocketAddr};

use crate::{
    place::{Backend, Place},
    rest::Rest,
};
use gradwatch_server::{Drained, ServerHandle, config::Config, serve};

/// A server on a free port with a store of its own.
pub struct TestServer {
    handle: ServerHandle,
    place: Place,
    config: Config,
}

impl TestServer {
    /// Starts with the defaults.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// Starts with the defaults on a backend.
    pub async fn start_on(backend: Backend) -> Self {
        Self::start_in(Place::new(backend), |_| {}).await
    }

    /// Starts with changed settings.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_in(Place::new(Backend::Sqlite), change).await
    }

    /// Starts with changed settings where a test keeps its data.
    pub async fn start_in(place: Place, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::embedded(any_port(), place.data_dir()).expect("the defaults are valid");
        config.database_url = place.database_url().map(Into::into);
        change(&mut config);
        let handle = serve(config.clone()).await.expect("the server starts");
        Self { handle, place, config }
    }

    /// Shuts down and starts again on the same data and port.
    pub async fn restart(self) -> Self {
        self.stop().await.1.start().await
    }

    /// Shuts down; what is left can be started again.
    pub async fn stop(self) -> (Drained, StoppedServer) {
        let Self { handle, place, mut config } = self;
        config.listen = handle.address();
        (handle.shutdown().await, StoppedServer { place, config })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.handle.address()
    }

    /// `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Its REST API.
    pub fn rest(&self) -> Rest {
        Rest::new(&self.url())
    }

    /// Starts the shutdown without waiting.
    pub fn start_shutdown(&self) {
        self.handle.start_shutdown();
    }

    /// Shuts down.
    pub async fn shutdown(self) -> Drained {
        self.handle.shutdown().await
    }
}

/// The data and settings of a server that was shut down.
pub struct StoppedServer {
    place: Place,
    config: Config,
}

impl StoppedServer {
    /// Starts again on the same data and port.
    pub async fn start(self) -> TestServer {
        let Self { place, config } = self;
        let handle = serve(config.clone()).await.expect("the server starts again");
        TestServer { handle, place, config }
    }
}

/// Any free port on loopback.
pub fn any_port() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}
