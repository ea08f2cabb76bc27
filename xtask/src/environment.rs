//! The virtual environment of Python's tests. It takes gigabytes, so it is not made anew for every clone: it lies in the
//! user's cache folder, where the next run finds it.

use std::{
    env,
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, ensure};

use crate::{interpreter, root::succeeds, run};

/// Packages, each with its version.
const REQUIREMENTS: &str = "client/python/tests/requirements.txt";
/// An environment that no run used for so long is deleted when another is made: requirements change.
const UNUSED: Duration = Duration::from_hours(30 * 24);
/// A file of an environment that is whole; its modification time says when it was last used.
const WHOLE: &str = "whole";

/// Where the environment of the requirements lies, or will.
pub(crate) struct Environment {
    folder: PathBuf,
    /// Of the machine.
    interpreter: PathBuf,
}

impl Environment {
    /// Of the requirements as they are, for the machine's Python. That is installed where there is none.
    pub(crate) fn find() -> Result<Self> {
        let interpreter = interpreter::install_if_missing()?;
        let requirements = fs::read(REQUIREMENTS).with_context(|| format!("cannot read {REQUIREMENTS}"))?;
        let which = "import platform, sys; print(sys.version_info[:2], sys.platform, platform.machine())";
        let output = Command::new(&interpreter).args(["-c", which]).output().context("cannot run Python")?;
        ensure!(output.status.success(), "Python does not say its version");
        let hash = fnv1a(requirements.iter().chain(&output.stdout));
        Ok(Self { folder: cache()?.join(format!("python-{hash:016x}")), interpreter })
    }

    /// Its interpreter.
    pub(crate) fn python(&self) -> PathBuf {
        self.folder.join("bin/python")
    }

    /// Makes it where it is not there whole.
    pub(crate) fn install_if_missing(&self) -> Result<()> {
        let cache = self.folder.parent().context("an environment lies in a folder")?;
        fs::create_dir_all(cache).with_context(|| format!("cannot make {}", cache.display()))?;
        let lock = File::create(self.folder.with_extension("lock"))?;
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => {
                eprintln!("another run makes {}: waiting for it", self.folder.display());
                lock.lock()?;
            }
            taken => taken?,
        }
        let whole = self.folder.join(WHOLE);
        // The interpreter is a link to the machine's, which may have been removed.
        if !whole.is_file() || !succeeds(Command::new(self.python()).args(["-c", ""])) {
            self.install().with_context(|| format!("cannot make {}", self.folder.display()))?;
            delete_unused(cache)?;
        }
        // Written last: an environment without it is one whose making was cut off.
        fs::write(&whole, "")?;
        Ok(())
    }

    fn install(&self) -> Result<()> {
        eprintln!("Python's tests take PyTorch and others: installing 4.5 GB into {}", self.folder.display());
        run(Command::new(&self.interpreter).args(["-m", "venv", "--clear"]).arg(&self.folder))?;
        // Wheels are unpacked there: /tmp may be a part of memory.
        let unpacking = self.folder.join("unpacking");
        fs::create_dir(&unpacking)?;
        run(Command::new(self.python())
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--progress-bar=off"])
            // What is installed is the cache. Nothing is compiled.
            .args(["--no-cache-dir", "--no-deps", "--only-binary=:all:", "--requirement", REQUIREMENTS])
            .env("TMPDIR", &unpacking))?;
        fs::remove_dir_all(&unpacking)?;
        Ok(())
    }
}

/// `~/.cache/gradwatch`.
fn cache() -> Result<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    Ok(cache
        .context("there is no cache folder to install PyTorch in: neither XDG_CACHE_HOME nor HOME is set")?
        .join("gradwatch"))
}

fn delete_unused(cache: &Path) -> Result<()> {
    for entry in fs::read_dir(cache)? {
        let folder = entry?.path();
        let Ok(used) = fs::metadata(folder.join(WHOLE)).and_then(|whole| whole.modified()) else { continue };
        if SystemTime::now().duration_since(used).is_ok_and(|unused| unused > UNUSED) {
            eprintln!("deleting {}, which no run used for 30 days", folder.display());
            fs::remove_dir_all(folder)?;
        }
    }
    Ok(())
}

/// A hash that is the same with every version of Rust (Fowler, Noll and Vo, 1a).
fn fnv1a<'a>(bytes: impl IntoIterator<Item = &'a u8>) -> u64 {
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
