//! PostgreSQL's server programs, which tests start a private server with.

use std::{env, path::Path, process::Command};

use anyhow::{Context, Result, ensure};

use crate::run;

/// Installs them with apt where they are missing. Nothing of what is installed is started or changed by the tests.
pub(crate) fn install_if_missing() -> Result<()> {
    if is_installed() {
        return Ok(());
    }
    ensure!(
        Command::new("apt-get").arg("--version").output().is_ok_and(|output| output.status.success()),
        "PostgreSQL's server programs (initdb, postgres) are missing, and there is no apt-get to install them with; put \
         them into the PATH"
    );
    apt_get(["update", "--quiet"])?;
    apt_get(["install", "--yes", "--quiet", "--no-install-recommends", "postgresql"])
}

fn is_installed() -> bool {
    let said = Command::new("pg_config").arg("--bindir").output().ok();
    let said = said.map(|output| String::from_utf8_lossy(&output.stdout).trim().into());
    let debian = Path::new("/usr/lib/postgresql").read_dir().into_iter().flatten().flatten();
    let path = env::var_os("PATH").unwrap_or_default();
    said.into_iter()
        .chain(debian.map(|entry| entry.path().join("bin")))
        .chain(env::split_paths(&path))
        .any(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file())
}

fn apt_get<const N: usize>(arguments: [&str; N]) -> Result<()> {
    let user = Command::new("id").arg("--user").output().context("cannot run id")?;
    let is_root = String::from_utf8_lossy(&user.stdout).trim() == "0";
    let mut command = if is_root { Command::new("apt-get") } else { Command::new("sudo") };
    if !is_root {
        command.args(["--non-interactive", "apt-get"]);
    }
    run(command.args(arguments))
}
