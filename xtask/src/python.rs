//! Tests of the wheel: as a user builds and installs it, with the real PyTorch, Lightning and transformers.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::run;

/// The project of the wheel.
const PROJECT: &str = "client/python";

/// The wheel, installed into a folder of its own: tests import that and not the sources.
pub(crate) struct Installed {
    python: PathBuf,
    folder: PathBuf,
}

impl Installed {
    /// Builds the wheel and installs it. `profile` is cargo's: `dev` is compiled sooner, `release` is what users get.
    pub(crate) fn build(python: PathBuf, target: &Path, profile: &str) -> Result<Self> {
        let folder = target.join("python/installed").join(profile);
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        // The way of `pip install ./client/python`, without the network: what builds it is in the environment.
        run(Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index"])
            .args(["--no-build-isolation", "--target"])
            .args([&folder, &Path::new(".").join(PROJECT)])
            .env("PATH", with_programs_of(&python)?)
            // A folder of its own: alone it has less features of most dependencies than in the workspace, and nobody waits.
            .env("CARGO_TARGET_DIR", target.join("python/target"))
            .env("MATURIN_PEP517_ARGS", format!("--profile {profile}"))
            // It would be stripped from the wheel.
            .env(format!("CARGO_PROFILE_{}_DEBUG", profile.to_uppercase()), "none"))?;
        Ok(Self { python, folder })
    }

    /// Installs what a benchmark compares it with: into another folder, which is given.
    pub(crate) fn install_beside(&self, requirements: &Path, target: &Path) -> Result<PathBuf> {
        let folder = target.join("python/beside");
        let mut pip = Command::new(&self.python);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade", "--requirement"]);
        run(pip.arg(requirements).arg("--target").arg(&folder))?;
        Ok(folder)
    }

    /// Python that imports it.
    fn python(&self) -> Command {
        let mut command = Command::new(&self.python);
        command.env("PYTHONPATH", &self.folder);
        command
    }

    /// Python that imports it and what lies in another folder.
    pub(crate) fn python_with(&self, others: &Path) -> Result<Command> {
        let mut command = Command::new(&self.python);
        command.env("PYTHONPATH", env::join_paths([&self.folder, others])?);
        Ok(command)
    }

    /// Checks the types of the package, and that the stub of its native module says what the compiled one has.
    pub(crate) fn check_types(&self, target: &Path) -> Result<()> {
        let mypy = |module: &str| {
            let mut command = Command::new(&self.python);
            command.args(["-m", module]).env("MYPY_CACHE_DIR", target.join("python/mypy")).current_dir(PROJECT);
            command
        };
        run(mypy("mypy").arg("--strict"))?;
        let allowed = ["--allowlist", "tests/stubtest.txt", "--ignore-unused-allowlist"];
        run(mypy("mypy.stubtest").arg("gradwatch._native").args(allowed).env("PYTHONPATH", &self.folder))
    }

    /// pytest, which starts servers of `binary`.
    pub(crate) fn pytest(&self, target: &Path, binary: &Path, arguments: &[String]) -> Command {
        let mut cache = OsString::from("cache_dir=");
        cache.push(target.join("python/pytest"));
        let mut command = self.python();
        command.args(["-m", "pytest", "-o"]).arg(cache).args(arguments).current_dir(PROJECT);
        command.env("GRADWATCH_BIN", binary);
        command
    }
}

/// A command that runs beside others: what it prints is kept until it is waited for.
pub(crate) struct Beside {
    child: Child,
    output: PathBuf,
}

impl Beside {
    /// Starts it.
    pub(crate) fn start(command: &mut Command, target: &Path) -> Result<Self> {
        let output = target.join("python/output");
        fs::create_dir_all(target.join("python"))?;
        let file = File::create(&output)?;
        eprintln!("$ {command:?} > {} 2>&1 &", output.display());
        let child = command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).spawn();
        Ok(Self { child: child.with_context(|| format!("cannot run {command:?}"))?, output })
    }

    /// Waits for it and prints what it said; an error where it failed.
    pub(crate) fn finish(mut self) -> Result<()> {
        let status = self.child.wait()?;
        io::copy(&mut File::open(&self.output)?, &mut io::stdout())?;
        ensure!(status.success(), "tests of Python failed: {status}");
        Ok(())
    }
}

/// PATH with the environment's programs before the machine's: pip calls maturin by name.
fn with_programs_of(python: &Path) -> Result<OsString> {
    let programs = python.parent().context("an interpreter lies in a folder")?.to_owned();
    let path = env::var_os("PATH").unwrap_or_default();
    Ok(env::join_paths([programs].into_iter().chain(env::split_paths(&path)))?)
}
