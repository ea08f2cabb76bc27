//! The real binary as a process of its own, for what a process alone can show: SIGKILL, SIGSTOP, exit codes.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use crate::place::Place;

/// `gradwatch serve` on a data directory.
pub struct ServerProcess {
    child: Child,
    address: SocketAddr,
}

impl ServerProcess {
    /// Starts and waits until it listens. `address` with port 0 takes any free port.
    pub fn start(data_dir: &Path, address: SocketAddr) -> Self {
        Self::start_on(data_dir, None, address, &[])
    }

    /// Starts with changed settings, given as the environment does.
    pub fn start_with(data_dir: &Path, address: SocketAddr, variables: &[(&str, &str)]) -> Self {
        Self::start_on(data_dir, None, address, variables)
    }

    /// The same where a test keeps its data.
    pub fn start_in(place: &Place, address: SocketAddr) -> Self {
        Self::start_on(place.data_dir(), place.database_url(), address, &[])
    }

    fn start_on(data_dir: &Path, database_url: Option<&str>, address: SocketAddr, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(binary());
        // Not what whoever runs the tests may have set for something else.
        command.env_remove("DATABASE_URL").env_remove("GRADWATCH_DATABASE_URL");
        if let Some(database_url) = database_url {
            command.env("DATABASE_URL", database_url);
        }
        let mut child = command
            .args(["serve", "--listen", &address.to_string(), "--data-dir"])
            .arg(data_dir)
            .env("GRADWATCH_LOG__FORMAT", "json")
            .env("GRADWATCH_LOG__FILTER", "info")
            .envs(variables.iter().copied())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let stderr = child.stderr.take().expect("stderr is piped");
        let mut lines = BufReader::new(stderr).lines();
        let address = loop {
            let line = lines.next().expect("the server says where it listens before it ends").expect("text");
            let Ok(entry) = serde_json::from_str::<serde_json::Value>(&line) else { continue };
            if entry["fields"]["message"] == "listening" {
                break entry["fields"]["address"].as_str().expect("an address").parse().expect("an address");
            }
        };
        // Somebody has to read what it logs, or it would block one day.
        thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().expect("the server is killed");
        self.child.wait().expect("the server has ended");
    }

    /// Sends a signal by its name, such as `STOP`, `CONT`, `TERM`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status();
        assert!(status.expect("kill runs").success(), "kill -{name}");
    }

    /// Waits for its end; answers the exit code.
    pub fn wait(&mut self) -> Option<i32> {
        self.child.wait().expect("the server has ended").code()
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The `gradwatch` binary that belongs to this build.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let path = test.parent().and_then(Path::parent).expect("target/<profile>/deps/<test>").join("gradwatch");
    assert!(path.is_file(), "{} is missing: run `cargo xtask test`, which builds it", path.display());
    path
}
