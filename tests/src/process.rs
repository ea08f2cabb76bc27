//! The real binary as a process of its own, for what a process alone can show: SIGKILL, SIGSTOP, exit codes.

use std::{
    io::{BufRead, BufReader, Lines},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
};

use crate::{disk, guard::Guard, place::Place};

/// `gradwatch serve` on a data directory.
pub struct ServerProcess {
    child: Child,
    address: SocketAddr,
    errors: Arc<Mutex<Vec<String>>>,
    /// Reads what it logs, until it has ended.
    listening: Option<JoinHandle<()>>,
    _guard: Guard,
}

impl ServerProcess {
    /// Starts and waits until it listens. `address` with port 0 takes any free port.
    pub fn start(data_dir: &Path, address: SocketAddr) -> Self {
        Self::start_on(data_dir, address, &[])
    }

    /// Starts with changed settings, given as the environment does.
    pub fn start_with(data_dir: &Path, address: SocketAddr, variables: &[(&str, &str)]) -> Self {
        let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        Self::start_on(data_dir, address, &variables.iter().map(owned).collect::<Vec<_>>())
    }

    /// The same where a test keeps its data.
    pub fn start_in(place: &Place, address: SocketAddr) -> Self {
        let database_url = place.database_url().map(|url| ("DATABASE_URL".to_owned(), url.to_owned()));
        Self::start_on(place.data_dir(), address, database_url.as_slice())
    }

    fn start_on(data_dir: &Path, address: SocketAddr, environment: &[(String, String)]) -> Self {
        let mut server = Self::spawn(data_dir, address, environment);
        let mut lines = BufReader::new(server.stderr()).lines();
        server.address = loop {
            let line = lines.next().expect("the server says where it listens before it ends").expect("text");
            let Ok(entry) = serde_json::from_str::<serde_json::Value>(&line) else { continue };
            if entry["fields"]["message"] == "listening" {
                break entry["fields"]["address"].as_str().expect("an address").parse().expect("an address");
            }
        };
        server.listen(lines);
        server
    }

    /// Starts without waiting for anything, with more environment variables.
    pub fn launch(data_dir: &Path, address: SocketAddr, environment: &[(String, String)]) -> Self {
        let mut server = Self::spawn(data_dir, address, environment);
        let lines = BufReader::new(server.stderr()).lines();
        server.listen(lines);
        server
    }

    fn spawn(data_dir: &Path, address: SocketAddr, environment: &[(String, String)]) -> Self {
        // What is ignored stays ignored over exec: a file that may not grow is then an error of the write.
        let child = Command::new("sh")
            .args(["-c", r#"trap '' XFSZ; exec "$0" "$@""#])
            .arg(binary())
            .args(["serve", "--listen", &address.to_string(), "--data-dir"])
            .arg(data_dir)
            // Not what whoever runs the tests may have set for something else.
            .env_remove("DATABASE_URL")
            .env_remove("GRADWATCH_DATABASE_URL")
            .env("GRADWATCH_LOG__FORMAT", "json")
            .env("GRADWATCH_LOG__FILTER", "info")
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let guard = Guard::new(&child, data_dir);
        Self { child, address, errors: Arc::default(), listening: None, _guard: guard }
    }

    fn stderr(&mut self) -> ChildStderr {
        self.child.stderr.take().expect("stderr is piped")
    }

    /// Reads what it logs, or it would block one day; keeps the errors.
    fn listen(&mut self, lines: Lines<BufReader<ChildStderr>>) {
        let found = Arc::clone(&self.errors);
        self.listening = Some(thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let is_error = match serde_json::from_str::<serde_json::Value>(&line) {
                    Ok(entry) => entry["level"] == "ERROR",
                    // A panic is no log line, nor is what a killed server was about to write.
                    Err(_) => line.contains("panicked at"),
                };
                if is_error {
                    found.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                }
            }
        }));
    }

    /// What it has logged as an error so far, and its panics.
    pub fn errors(&self) -> Vec<String> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From here on no file may become larger, as on a full disk; `None` makes room again.
    pub fn limit_file_bytes(&self, bytes: Option<u64>) {
        disk::limit_file_bytes(self.child.id(), bytes);
    }

    /// The most resident memory it ever had.
    pub fn peak_resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("the server lives");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        peak.expect("the kernel counts it").parse::<u64>().expect("a number") << 10
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().expect("the server is killed");
        self.child.wait().expect("the server has ended");
        if let Some(listening) = self.listening.take() {
            listening.join().expect("a thread that reads");
        }
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_some()
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
    beside("gradwatch")
}

/// A program of this build.
pub(crate) fn beside(name: &str) -> PathBuf {
    let program = std::env::current_exe().expect("a program has a path");
    let folder = program.parent().expect("a program lies in a folder");
    // Tests lie in target/<profile>/deps, programs in target/<profile>.
    let folder = if folder.ends_with("deps") { folder.parent().expect("target/<profile>") } else { folder };
    let path = folder.join(name);
    assert!(path.is_file(), "{} is missing: run `cargo xtask test`, which builds it", path.display());
    path
}
