//! Where PostgreSQL's programs are, and who runs them.

use std::{
    env,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use nix::unistd::{Uid, User};

/// The folder that holds `initdb` and `postgres`: what `pg_config` says, Debian's folders (newest first), the PATH.
pub(crate) fn directory() -> Result<PathBuf> {
    let said = Command::new("pg_config").arg("--bindir").output().ok().filter(|output| output.status.success());
    let said = said.map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut debian: Vec<_> = debian.map(|entry| entry.path().join("bin")).collect();
    debian.sort_by_key(|path| std::cmp::Reverse(version(path)));
    let path = env::var_os("PATH").unwrap_or_default();
    let found = said
        .into_iter()
        .chain(debian)
        .chain(env::split_paths(&path))
        .find(|folder| ["initdb", "postgres", "createdb", "dropdb"].iter().all(|name| folder.join(name).is_file()));
    match found {
        // Programs look for their libraries beside themselves, not beside a link to them.
        Some(folder) => Ok(folder.join("postgres").canonicalize()?.parent().map_or(folder, Path::to_owned)),
        None => bail!(
            "PostgreSQL's server programs (initdb, postgres) are neither where `pg_config --bindir` says, nor in \
             /usr/lib/postgresql/*/bin, nor in the PATH. `cargo xtask test` installs them; by hand: \
             apt-get install postgresql"
        ),
    }
}

fn version(bin: &Path) -> u32 {
    let number = bin.parent().and_then(Path::file_name).and_then(|name| name.to_str()?.parse().ok());
    number.unwrap_or(0)
}

/// Who runs the server: it refuses to be root.
#[derive(Clone, Debug)]
pub(crate) struct RunAs(Option<User>);

impl RunAs {
    /// Ourselves; or, when we are root, `postgres` or `nobody`.
    pub(crate) fn choose() -> Result<Self> {
        if !Uid::effective().is_root() {
            return Ok(Self(None));
        }
        for name in ["postgres", "nobody"] {
            if let Some(user) = User::from_name(name).context("users cannot be read")? {
                return Ok(Self(Some(user)));
            }
        }
        bail!("PostgreSQL refuses to run as root, and there is neither a user `postgres` nor `nobody`")
    }

    /// A command that this user runs.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        if let Some(user) = &self.0 {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command
    }

    /// Gives a folder to this user.
    pub(crate) fn own(&self, folder: &Path) -> Result<()> {
        if let Some(user) = &self.0 {
            std::os::unix::fs::chown(folder, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
                .with_context(|| format!("{} cannot be given to {}", folder.display(), user.name))?;
        }
        Ok(())
    }
}
