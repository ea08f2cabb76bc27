//! Repository chores. `cargo xtask lint` and `cargo xtask test` are what CI runs.

mod environment;
mod interpreter;
mod postgres;
mod python;
mod root;
mod tools;

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;

use crate::{
    environment::Environment,
    python::{Beside, Installed},
};

/// Crates of which two versions in one binary would mean two runtimes, two wire formats or two databases.
const ONE_VERSION_EACH: &[&str] =
    &["tokio", "axum", "hyper", "tonic", "prost", "sqlx-core", "faer", "tower", "http", "bytes", "serde", "utoipa"];

/// Chores of the gradwatch repository
#[derive(Parser)]
#[command(name = "cargo xtask")]
enum Chore {
    /// Run all tests: unit, conformance, end-to-end, documentation, and those of the Python package
    ///
    /// Tests of Python take PyTorch, which the first run installs into the user's cache folder: 4.5 GB.
    Test {
        /// Only those of Python
        #[arg(long)]
        python: bool,
        /// Only those of Rust
        #[arg(long, conflicts_with = "python")]
        rust: bool,
        /// Passed on to `cargo test`, such as a name to filter by: with any, only Rust's run. With --python, to pytest in client/python,
        /// such as `-k NAME`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Check formatting, lints, documentation, and that core crates come in one version
    Lint,
    /// Run the side-by-side benchmarks: all, or one such as `ingest` or `submit`
    Bench {
        /// Which
        name: Option<String>,
        /// Passed on to it, such as `--json` or `--help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Kill a server under load again and again, and look for what was lost: `--kills N --backend postgres --database-kills N`;
    /// or jobs with a spool: `clients --kills N --mode away`
    Torture {
        /// Passed on; `--help` lists them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Write openapi.json and the tables of docs/metrics.md anew from the code
    Contracts,
}

fn main() -> Result<()> {
    let chore = Chore::parse();
    env::set_current_dir(root()).context("cannot enter the repository")?;
    match chore {
        Chore::Test { python: true, arguments, .. } => test_python(&arguments),
        Chore::Test { rust, arguments, .. } if rust || !arguments.is_empty() => test_rust(&arguments),
        Chore::Test { .. } => test(),
        Chore::Lint => lint(),
        Chore::Bench { name, arguments } => bench(name.as_deref(), &arguments),
        Chore::Torture { arguments } => program("torture", &arguments),
        Chore::Contracts => contracts(),
    }
}

/// All tests. Python's, which install, compile and wait on their own, run beside Rust's.
fn test() -> Result<()> {
    let target = target()?;
    postgres::install_if_missing()?;
    tools::install_if_missing(&target)?;
    // Before anything else uses apt-get.
    interpreter::install_if_missing()?;
    let python = Beside::start(Command::new(env::current_exe()?).args(["test", "--python"]), &target)?;
    let rust = test_rust(&[]);
    python.finish().and(rust)
}

fn test_rust(arguments: &[String]) -> Result<()> {
    postgres::install_if_missing()?;
    tools::install_if_missing(&target()?)?;
    build_server()?;
    let mut command = Command::new(cargo_path());
    if env::var_os("RUST_TEST_THREADS").is_none() {
        command.env("RUST_TEST_THREADS", tests_at_a_time()?.to_string());
    }
    run(command.args(["test", "--workspace"]).args(arguments))
}

/// Tests that run at the same time: more than there are cores, because most of them wait, for disks and for time to pass.
fn tests_at_a_time() -> Result<usize> {
    Ok(4 * thread::available_parallelism()?.get())
}

fn test_python(arguments: &[String]) -> Result<()> {
    let target = target()?;
    let environment = Environment::find()?;
    environment.install_if_missing()?;
    let wheel = Installed::build(environment.python(), &target, "dev")?;
    let types = wheel.check_types(&target);
    build_server()?;
    run(&mut wheel.pytest(&target, &target.join("debug/gradwatch"), arguments))?;
    types
}

/// End-to-end tests start the real binary; `cargo test` builds it only for its own package. The features are those of the
/// whole workspace, as for the tests, or everything below would be built twice.
fn build_server() -> Result<()> {
    cargo(["build", "--workspace", "--bin", "gradwatch"])
}

fn lint() -> Result<()> {
    cargo(["fmt", "--all", "--check"])?;
    cargo(["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"])?;
    run(Command::new(cargo_path()).env("RUSTDOCFLAGS", "--deny warnings").args(["doc", "--workspace", "--no-deps"]))?;
    one_version_each()
}

fn one_version_each() -> Result<()> {
    let output = Command::new(cargo_path())
        .args(["tree", "--workspace", "--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .output()
        .context("cannot run cargo tree")?;
    ensure!(output.status.success(), "cargo tree failed: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    for name in ONE_VERSION_EACH {
        let mut versions: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.strip_prefix(" v"))
            .filter_map(|rest| rest.split_whitespace().next())
            .collect();
        versions.sort_unstable();
        versions.dedup();
        if versions.len() > 1 {
            bail!("{name} is built in {} versions: {}", versions.len(), versions.join(", "));
        }
    }
    Ok(())
}

/// Benchmarks of one crate, by package.
const BENCHES_OF_A_CRATE: [(&str, &str); 7] = [
    ("gradwatch-spectral", "sketch"),
    ("gradwatch-spectral", "edge"),
    ("gradwatch-spectral", "false_alarms"),
    ("gradwatch-store", "commit"),
    ("gradwatch-rules", "rules"),
    ("gradwatch-rules", "rules_memory"),
    ("gradwatch-tests", "submit"),
];

/// Benchmarks of the Python package.
const BENCHES_OF_PYTHON: [(&str, &str); 2] = [("python", "overhead.py"), ("python_kernel", "kernel.py")];

/// Benchmarks of the whole service.
const BENCHES_OF_THE_SERVICE: [&str; 7] =
    ["ingest", "charts", "memory", "snapshots", "alerts", "backtest", "default_rules"];

fn bench(name: Option<&str>, arguments: &[String]) -> Result<()> {
    let is_known = |name| {
        BENCHES_OF_THE_SERVICE.contains(&name)
            || BENCHES_OF_A_CRATE.iter().chain(&BENCHES_OF_PYTHON).any(|(_, it)| *it == name)
    };
    if let Some(name) = name
        && !is_known(name)
    {
        bail!("no benchmark {name:?}");
    }
    postgres::install_if_missing()?;
    let is_wanted = |it: &str| name.is_none_or(|name| name == it);
    for (package, name) in BENCHES_OF_A_CRATE.into_iter().filter(|(_, name)| is_wanted(name)) {
        if name == "submit" {
            // It starts the real binary.
            cargo(["build", "--release", "--package", "gradwatch-server", "--bin", "gradwatch"])?;
        }
        let bench = ["bench", "--package", package, "--bench", name, "--"];
        cargo(bench.into_iter().chain(arguments.iter().map(String::as_str)))?;
    }
    for name in BENCHES_OF_THE_SERVICE.into_iter().filter(|name| is_wanted(name)) {
        let mut all = vec![name.to_owned()];
        all.extend_from_slice(arguments);
        program("gradwatch-benches", &all)?;
    }
    let of_python: Vec<_> = BENCHES_OF_PYTHON.into_iter().filter(|(name, _)| is_wanted(name)).collect();
    if of_python.is_empty() { Ok(()) } else { bench_python(&of_python, arguments) }
}

fn bench_python(scripts: &[(&str, &str)], arguments: &[String]) -> Result<()> {
    let target = target()?;
    cargo(["build", "--release", "--package", "gradwatch-server", "--bin", "gradwatch"])?;
    let environment = Environment::find()?;
    environment.install_if_missing()?;
    let wheel = Installed::build(environment.python(), &target, "release")?;
    let others = wheel.install_beside(Path::new("benches/python/requirements.txt"), &target)?;
    for (_, script) in scripts {
        let mut command = wheel.python_with(&others)?;
        command.env("GRADWATCH_BIN", target.join("release/gradwatch")).arg(format!("benches/python/{script}"));
        run(command.args(arguments))?;
    }
    Ok(())
}

/// Builds a program and the real binary, which it starts, and runs it. Together, with the features of the whole workspace:
/// one after the other everything would be built twice.
fn program(name: &str, arguments: &[String]) -> Result<()> {
    cargo(["build", "--release", "--workspace", "--bin", "gradwatch", "--bin", name])?;
    run(Command::new(target()?.join("release").join(name)).args(arguments))
}

/// Where everything is built: this program lies in target/debug or target/release.
fn target() -> Result<PathBuf> {
    let here = env::current_exe().context("a program has a path")?;
    Ok(here.ancestors().nth(2).context("target/<profile>")?.to_owned())
}

fn contracts() -> Result<()> {
    let mut command = Command::new(cargo_path());
    run(command.env("GRADWATCH_BLESS", "1").args(["test", "--package", "gradwatch-server", "--test", "contracts"]))
}

fn cargo<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<()> {
    run(Command::new(cargo_path()).args(arguments))
}

fn run(command: &mut Command) -> Result<()> {
    eprintln!("$ {command:?}");
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "{command:?} failed: {status}");
    Ok(())
}

fn cargo_path() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from)
}

fn root() -> &'static Path {
    // The manifest of this crate lies one folder below the root.
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
