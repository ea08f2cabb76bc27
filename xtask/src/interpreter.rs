//! The machine's Python.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};

use crate::{
    root::{as_root, succeeds},
    run,
};

/// The machine's own first.
const NAMES: [&str; 5] = ["python3", "python3.14", "python3.13", "python3.12", "python3.11"];
/// What PyTorch and others that tests use ask for; the wheel itself runs on 3.10.
const OLDEST: &str = "3.11";
/// Whether it is new enough and can make virtual environments: Debian packs these modules apart.
const CHECK: &str = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))";
/// Makes virtual environments possible.
const INSTALL: &str = "
set -e
export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet || echo 'going on with the package lists as they are' >&2
apt-get install --yes --quiet --no-install-recommends python3-venv
";

/// A Python that can make virtual environments. Debian's is installed where there is none.
pub(crate) fn install_if_missing() -> Result<PathBuf> {
    let find = || NAMES.into_iter().find(|name| succeeds(Command::new(name).args(["-c", CHECK])));
    if let Some(name) = find() {
        return Ok(name.into());
    }
    let missing = format!("tests take Python {OLDEST} or newer with its modules venv and ensurepip");
    eprintln!("{missing}: installing Debian's python3-venv with apt-get");
    let mut shell = as_root().with_context(|| missing.clone())?;
    run(shell.args(["-c", INSTALL])).with_context(|| missing.clone())?;
    let name = find();
    ensure!(name.is_some(), "{missing}, and Debian's python3-venv brings an older one");
    Ok(name.into_iter().collect())
}
