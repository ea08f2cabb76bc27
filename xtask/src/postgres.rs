//! PostgreSQL's server programs, which tests start a private server with.

use std::{env, path::Path, process::Command};

use anyhow::{Context, Result, ensure};

use crate::{
    root::{as_root, succeeds},
    run,
};

/// What the tests run, all in one folder.
const PROGRAMS: [&str; 4] = ["initdb", "postgres", "createdb", "dropdb"];

/// Installs the programs as root.
///
/// Debian's package starts a server and makes it one of the machine's services unless it is told not to. The file that
/// tells it is read beside its own configuration, so that nothing of the machine's is changed, and goes again.
const INSTALL: &str = "
set -e
export DEBIAN_FRONTEND=noninteractive
folder=/etc/postgresql-common/createcluster.d
mkdir -p \"$folder\"
trap 'rm -f \"$folder/gradwatch-tests.conf\"; rmdir \"$folder\" 2>/dev/null || true' EXIT
echo 'create_main_cluster = false' >\"$folder/gradwatch-tests.conf\"
apt-get update --quiet || echo 'going on with the package lists as they are' >&2
apt-get install --yes --quiet --no-install-recommends postgresql
";

/// Installs them with apt where they are missing. No server is left running by this, and none of the machine's own is
/// touched.
pub(crate) fn install_if_missing() -> Result<()> {
    if is_installed() {
        return Ok(());
    }
    let missing = format!("PostgreSQL's server programs ({}) are missing", PROGRAMS.join(", "));
    ensure!(
        succeeds(Command::new("apt-get").arg("--version")),
        "{missing}, and there is no apt-get to install them with: install PostgreSQL, and put them into the PATH or \
         `pg_config` where it says where they are"
    );
    let by_hand = format!("{missing}. By hand: sudo apt-get install postgresql");
    eprintln!("{missing}: installing them with apt-get");
    run(as_root().context(by_hand)?.args(["-c", INSTALL]))?;
    ensure!(is_installed(), "{missing}, also after `apt-get install postgresql`");
    Ok(())
}

/// Looks where the tests will: what `pg_config` says, Debian's folders, the PATH.
fn is_installed() -> bool {
    let said = Command::new("pg_config").arg("--bindir").output().ok().filter(|output| output.status.success());
    let said = said.map(|output| String::from_utf8_lossy(&output.stdout).trim().into());
    let debian = Path::new("/usr/lib/postgresql").read_dir().into_iter().flatten().flatten();
    let path = env::var_os("PATH").unwrap_or_default();
    said.into_iter()
        .chain(debian.map(|entry| entry.path().join("bin")))
        .chain(env::split_paths(&path))
        .any(|folder| PROGRAMS.iter().all(|name| folder.join(name).is_file()))
}
