//! The servers that are measured, each a process of its own.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

/// A server that listens.
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    /// It has no end of its own.
    is_bare: bool,
}

impl Server {
    /// `gradwatch serve` on a data directory; with further settings as environment variables.
    pub(crate) fn gradwatch(data_dir: &Path, settings: &BTreeMap<&str, String>) -> Result<Self> {
        let own = std::env::current_exe()?;
        let binary = own.with_file_name("gradwatch");
        ensure!(binary.is_file(), "{} is missing: run `cargo xtask bench`, which builds it", binary.display());
        // What is ignored stays ignored over exec: a file that may not grow is then an error of the write.
        let mut command = Command::new("sh");
        command
            .args(["-c", r#"trap '' XFSZ; exec "$0" "$@""#])
            .arg(binary)
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(data_dir)
            .env_remove("DATABASE_URL")
            .env("GRADWATCH_LOG__FORMAT", "json")
            .envs(settings);
        Self::start(&mut command, false)
    }

    /// The server of [`crate::bare`].
    pub(crate) fn bare() -> Result<Self> {
        Self::start(Command::new(std::env::current_exe()?).arg("bare-server"), true)
    }

    fn start(command: &mut Command, is_bare: bool) -> Result<Self> {
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let stderr = child.stderr.take().context("stderr is piped")?;
        let mut server = Self { child, address: SocketAddr::from(([127, 0, 0, 1], 0)), is_bare };
        let mut lines = BufReader::new(stderr).lines();
        let mut said = Vec::new();
        loop {
            let Some(line) = lines.next().transpose()? else {
                bail!("{command:?} ended before it listened:\n{}", said.join("\n"))
            };
            let entry: Value = serde_json::from_str(&line).unwrap_or_default();
            if entry["fields"]["message"] == "listening"
                && let Some(address) = entry["fields"]["address"].as_str()
            {
                server.address = address.parse()?;
                break;
            }
            said.push(line);
        }
        // Somebody has to read what it logs, or it would block one day. Warnings are worth seeing beside figures.
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if !line.contains(r#""level":"INFO""#) {
                    eprintln!("server: {line}");
                }
            }
        });
        Ok(server)
    }

    /// `http://127.0.0.1:port`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end, and waits: everything has to be in order then.
    pub(crate) fn stop(mut self) -> Result<()> {
        if self.is_bare {
            return Ok(());
        }
        kill(Pid::from_raw(i32::try_from(self.child.id())?), Signal::SIGTERM)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
