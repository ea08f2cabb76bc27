//! Disks without room.

use std::{fs, path::Path, process::Command};

use tempfile::TempDir;

/// Limits how large a process may make any file. What would reach further fails in the middle of the write, as on a full
/// disk; `None` gives the room back.
///
/// The process has to ignore SIGXFSZ, which would end it instead: a [`ServerProcess`](crate::ServerProcess) does.
pub fn limit_file_bytes(pid: u32, bytes: Option<u64>) {
    let limit = bytes.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
    // The soft limit alone: a process without privileges could not raise the hard one again.
    let status = Command::new("prlimit").args([format!("--pid={pid}"), format!("--fsize={limit}:")]).status();
    assert!(status.expect("prlimit, of util-linux, is installed").success(), "prlimit --fsize={limit}");
}

/// A small disk in memory, for what writes many files: PostgreSQL.
pub struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// Mounts one.
    ///
    /// # Panics
    /// Without the right to mount: neither root nor `sudo` without a password.
    pub fn mount(size_mib: u32) -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let options = format!("size={size_mib}m,mode=1777");
        privileged(&["mount", "-t", "tmpfs", "-o", &options, "tmpfs", text(folder.path())]);
        Self { folder }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves no more room than this.
    pub fn fill(&self, left_bytes: u64) {
        let free = Command::new("df").args(["--output=avail", "--block-size=1", text(self.path())]).output();
        let free = String::from_utf8(free.expect("df runs").stdout).expect("text");
        let free: u64 = free.lines().nth(1).and_then(|line| line.trim().parse().ok()).expect("a number of bytes");
        let ballast = vec![1; usize::try_from(free.saturating_sub(left_bytes)).expect("a small disk")];
        fs::write(self.ballast(), ballast).expect("there is as much room as df says");
    }

    /// Gives the room back.
    pub fn free(&self) {
        fs::remove_file(self.ballast()).expect("it was filled");
    }

    fn ballast(&self) -> std::path::PathBuf {
        self.path().join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that still ends must not keep it.
        privileged(&["umount", "--lazy", text(self.path())]);
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have names in UTF-8")
}

/// Runs a command as root.
fn privileged(command: &[&str]) {
    let is_root = nix::unistd::Uid::effective().is_root();
    let command: Vec<&str> = if is_root { command.to_vec() } else { [&["sudo", "-n"], command].concat() };
    let status = Command::new(command[0]).args(&command[1..]).status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "{command:?} failed: a test of a full disk mounts a small one, which takes root or sudo without a password"
    );
}
