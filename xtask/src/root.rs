//! What has to be done as root.

use std::process::{Command, Stdio};

use anyhow::{Result, ensure};

/// A shell of root's.
pub(crate) fn as_root() -> Result<Command> {
    if is_root() {
        return Ok(Command::new("sh"));
    }
    ensure!(
        succeeds(Command::new("sudo").args(["--non-interactive", "true"])),
        "this takes root, which is to be had neither directly nor by sudo without a password"
    );
    let mut sudo = Command::new("sudo");
    sudo.args(["--non-interactive", "sh"]);
    Ok(sudo)
}

/// Whether a command can be run and ends well.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn is_root() -> bool {
    let user = Command::new("id").arg("--user").output();
    user.is_ok_and(|user| String::from_utf8_lossy(&user.stdout).trim() == "0")
}
