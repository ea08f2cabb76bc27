//! The real server inside the test's own process.

use std::net::{Ipv4Addr, SocketAddr};

use gradwatch_server::{Drained, ServerHandle, config::Config, serve};
use tempfile::TempDir;

use crate::rest::Rest;

/// A server on a free port with a data directory of its own.
pub struct TestServer {
    handle: ServerHandle,
    data_dir: TempDir,
    config: Config,
}

impl TestServer {
    /// Starts with the defaults.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// Starts with changed settings.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let data_dir = tempfile::tempdir().expect("a temporary directory");
        let mut config = Config::embedded(any_port(), data_dir.path()).expect("the defaults are valid");
        change(&mut config);
        let handle = serve(config.clone()).await.expect("the server starts");
        Self { handle, data_dir, config }
    }

    /// Shuts down and starts again on the same data and port.
    pub async fn restart(self) -> Self {
        self.stop().await.1.start().await
    }

    /// Shuts down; what is left can be started again.
    pub async fn stop(self) -> (Drained, StoppedServer) {
        let Self { handle, data_dir, mut config } = self;
        config.listen = handle.address();
        (handle.shutdown().await, StoppedServer { data_dir, config })
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
    data_dir: TempDir,
    config: Config,
}

impl StoppedServer {
    /// Starts again on the same data and port.
    pub async fn start(self) -> TestServer {
        let Self { data_dir, config } = self;
        let handle = serve(config.clone()).await.expect("the server starts again");
        TestServer { handle, data_dir, config }
    }
}

/// Any free port on loopback.
pub fn any_port() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}
