//! The real binary as a process of its own, for what a process alone can show: SIGKILL, SIGSTOP, exit codes.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use crate::disk;

/// `gradwatch serve` on a data directory.
pub struct ServerProcess {
    child: Child,
    address: SocketAddr,
}

impl ServerProcess {
    /// Starts and waits until it listens. `address` with port 0 takes any free port.
    pub fn start(data_dir: &Path, address: SocketAddr) -> Self {
        Self::start_with(data_dir, address, &[])
    }

    /// The same with further settings, as environment variables.
    pub fn start_with(data_dir: &Path, address: SocketAddr, settings: &[(&str, &str)]) -> Self {
        // What is ignored stays ignored over exec: a file that may not grow is then an error of the write.
        let mut child = Command::new("sh")
            .args(["-c", r#"trap '' XFSZ; exec "$0" "$@""#])
            .arg(binary())
            .args(["serve", "--listen", &address.to_string(), "--data-dir"])
            .arg(data_dir)
            .env("GRADWATCH_LOG__FORMAT", "json")
            .env("GRADWATCH_LOG__FILTER", "info")
            .envs(settings.iter().copied())
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
