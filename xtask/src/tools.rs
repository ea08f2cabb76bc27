//! Programs of others that tests compare ours with, kept in target/tools.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{
    interpreter,
    root::{as_root, succeeds},
    run,
};

/// The independent implementation of Standard Webhooks.
const STANDARD_WEBHOOKS: &str = "standardwebhooks==1.1.0";
/// Debian's Alertmanager.
const ALERTMANAGER: &str = "prometheus-alertmanager";
/// Without these Debian's program does not start.
const TEMPLATES: [&str; 2] =
    ["usr/share/prometheus/alertmanager/default.tmpl", "usr/share/prometheus/alertmanager/email.tmpl"];

/// Installs those that are missing. None of the machine's own programs and services is touched.
pub(crate) fn install_if_missing(target: &Path) -> Result<()> {
    let tools = target.join("tools");
    standard_webhooks(&tools.join("standardwebhooks"))?;
    alertmanager(&tools.join("alertmanager"))
}

/// A virtual environment with the package from PyPI.
fn standard_webhooks(folder: &Path) -> Result<()> {
    let python = folder.join("bin/python");
    if succeeds(Command::new(&python).args(["-c", "import standardwebhooks"])) {
        return Ok(());
    }
    let interpreter = interpreter::install_if_missing()?;
    run(Command::new(interpreter).args(["-m", "venv", "--clear"]).arg(folder))?;
    run(Command::new(&python).args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        STANDARD_WEBHOOKS,
    ]))
}

/// The package is unpacked and not installed, so that it becomes no service of the machine. What it reads from a fixed place
/// is put there.
fn alertmanager(folder: &Path) -> Result<()> {
    let is_there = |root: &Path, file: &str| root.join(file).is_file();
    let program = format!("usr/bin/{ALERTMANAGER}");
    if !is_there(Path::new("/"), &program) && !is_there(folder, &program) {
        ensure!(
            succeeds(Command::new("apt-get").arg("--version")) && succeeds(Command::new("dpkg").arg("--version")),
            "tests send alerts to an Alertmanager, and there is no apt-get to fetch Debian's {ALERTMANAGER} with: install \
             it as /{program}"
        );
        fs::create_dir_all(folder)?;
        let download = || run(Command::new("apt-get").args(["download", "--quiet", ALERTMANAGER]).current_dir(folder));
        if download().is_err() {
            // A new machine has no package lists, and old ones name packages that are gone.
            run(as_root()?.args(["-c", "apt-get update --quiet"]))?;
            download()?;
        }
        run(Command::new("dpkg").arg("-x").arg(package(folder)?).arg(folder))?;
        ensure!(is_there(folder, &program), "Debian's {ALERTMANAGER} holds no {program}");
    }
    for template in TEMPLATES {
        if !is_there(Path::new("/"), template) {
            let place = Path::new("/").join(template);
            let shell = as_root().with_context(|| format!("{} is missing; install {ALERTMANAGER}", place.display()));
            run(shell?.args(["-c", r#"install -D -m 644 "$0" "$1""#]).arg(folder.join(template)).arg(place))?;
        }
    }
    Ok(())
}

/// The package file in a folder.
fn package(folder: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut packages = entries.filter(|path| path.extension().is_some_and(|extension| extension == "deb"));
    packages.next().with_context(|| format!("there is no package in {}", folder.display()))
}
