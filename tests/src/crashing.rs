//! A server that can be made to crash without a process of its own: its tasks are dropped wherever they are.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use gradwatch_server::{ServeError, ServerHandle, config::Config, serve_on};
use gradwatch_store::Store;
use tokio::{
    runtime::{Builder, Runtime},
    sync::Mutex,
    time::{sleep, timeout},
};

use crate::{PATIENCE, server::any_port};

/// One address at which one server after another is started on a store that outlives them all.
pub struct CrashingServer {
    store: Arc<dyn Store>,
    config: Config,
    running: Mutex<Option<(Runtime, ServerHandle)>>,
}

impl CrashingServer {
    /// Starts the first server. Owners are looked at often, so that idle ones leave while a test looks.
    pub async fn start(store: Arc<dyn Store>, data_dir: &Path, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::embedded(any_port(), data_dir).expect("the defaults are valid");
        config.liveness.check_every_ms = 20;
        config.numeric_threads = 1;
        change(&mut config);
        let mut server = Self { store, config, running: Mutex::new(None) };
        let running = server.run().await;
        server.config.listen = running.1.address();
        *server.running.get_mut() = Some(running);
        server
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.config.listen
    }

    /// `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.config.listen)
    }

    /// Shuts the server down and starts the next.
    pub async fn restart(&self) {
        let mut running = self.running.lock().await;
        if let Some((runtime, handle)) = running.take() {
            let ended = runtime.spawn(handle.shutdown()).await;
            ended.expect("a shutdown does not panic");
            runtime.shutdown_background();
        }
        *running = Some(self.run().await);
    }

    /// Drops everything that the server is doing, in the middle of it, and starts the next, while the last may still
    /// be at work for an instant.
    pub async fn crash(&self) {
        let mut running = self.running.lock().await;
        if let Some((runtime, _)) = running.take() {
            runtime.shutdown_background();
        }
        *running = Some(self.run().await);
    }

    /// Shuts down for good.
    pub async fn stop(&self) {
        if let Some((runtime, handle)) = self.running.lock().await.take() {
            let ended = runtime.spawn(handle.shutdown()).await;
            ended.expect("a shutdown does not panic");
            runtime.shutdown_background();
        }
    }

    async fn run(&self) -> (Runtime, ServerHandle) {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let starting = async {
            loop {
                let served = runtime.spawn(serve_on(self.config.clone(), Arc::clone(&self.store)));
                match served.await.expect("a start does not panic") {
                    Ok(handle) => return handle,
                    // The port of a server that crashed is free in an instant; a fault of the store passes.
                    Err(ServeError::Listen { .. } | ServeError::Store(_)) => sleep(Duration::from_millis(2)).await,
                    Err(error) => panic!("{error}"),
                }
            }
        };
        let handle = timeout(PATIENCE, starting).await.expect("a server that starts");
        (runtime, handle)
    }
}

impl Drop for CrashingServer {
    fn drop(&mut self) {
        // A runtime must not be dropped where tasks of another one run.
        if let Some((runtime, _)) = self.running.get_mut().take() {
            runtime.shutdown_background();
        }
    }
}
