//! A disk without room, for a real server and without privileges.

use std::process::Command;

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
