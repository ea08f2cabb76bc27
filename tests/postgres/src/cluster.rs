//! A cluster of its own: initdb, a port, a process that ends with us.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::binaries::{self, RunAs};

const SUPERUSER: &str = "gradwatch";

/// How long a start may take, recovery after a crash included.
const START_PATIENCE: Duration = Duration::from_secs(120);

/// Starts the server and waits until its standard input closes, which happens however the process ends that holds the
/// other side. Then it stops the server without ceremony and removes the folder, unless it was told `keep`.
const GUARD: &str = r#"
trap '' HUP
"$1" -D "$2/data" >>"$2/log" 2>&1 </dev/null &
server=$!
echo "$server"
word=
read -r word
kill -QUIT "$server" 2>/dev/null
kill -CONT "$server" 2>/dev/null
wait "$server"
[ "$word" = keep ] || rm -rf "$2"
"#;

/// What a cluster is started with.
#[derive(Clone, Debug, Default)]
pub struct ClusterOptions {
    /// Settings as in postgresql.conf, such as `("synchronous_commit", "off")`.
    pub settings: Vec<(String, String)>,
    /// Where its folder is made, such as a small tmpfs; the temporary folder when absent. Its user must get there, and
    /// be allowed to remove it again.
    pub parent: Option<PathBuf>,
}

/// A PostgreSQL server on loopback, for this process alone. Stops and vanishes when dropped, and when the process ends.
pub struct Cluster {
    bin: PathBuf,
    run_as: RunAs,
    folder: PathBuf,
    address: SocketAddr,
    password: String,
    guard: Child,
    server: Pid,
}

impl Cluster {
    /// Starts with the defaults of PostgreSQL.
    ///
    /// # Errors
    /// Names what is missing or what the server said.
    pub fn start() -> Result<Self> {
        Self::start_as(&ClusterOptions::default())
    }

    /// Starts with changed settings.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub fn start_with(settings: &[(&str, &str)]) -> Result<Self> {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self::start_as(&ClusterOptions { settings, parent: None })
    }

    /// Starts as told.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub fn start_as(options: &ClusterOptions) -> Result<Self> {
        let (bin, run_as) = (binaries::directory()?, RunAs::choose()?);
        let mut folder = tempfile::Builder::new();
        folder.prefix("gradwatch-postgres-");
        let parent = options.parent.clone().unwrap_or_else(std::env::temp_dir);
        let folder = folder.tempdir_in(&parent).with_context(|| format!("no folder in {}", parent.display()))?;
        run_as.own(folder.path())?;
        let password = uuid::Uuid::new_v4().simple().to_string();
        initialise(&bin, &run_as, folder.path(), &password)?;
        configure(folder.path(), &options.settings)?;
        // The port is free now; another process may take it before the server does.
        let mut tries = 0;
        let (address, (guard, server)) = loop {
            let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
            match start(&bin, &run_as, folder.path(), address) {
                Err(_) if tries < 3 => tries += 1,
                started => break (address, started?),
            }
        };
        // The guard removes it from here on.
        let folder = folder.keep();
        Ok(Self { bin, run_as, folder, address, password, guard, server })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The server's process.
    pub fn pid(&self) -> u32 {
        self.server.as_raw().unsigned_abs()
    }

    /// The address of a database, as `DATABASE_URL` wants it.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{SUPERUSER}:{}@{}/{database}", self.password, self.address)
    }

    /// Makes a database, as a copy of another if told so.
    ///
    /// # Errors
    /// What the server said.
    pub fn create_database(&self, name: &str, template: Option<&str>) -> Result<()> {
        let template = template.map(|template| format!("--template={template}"));
        self.tool("createdb", template.as_deref().into_iter().chain([name]))
    }

    /// Removes a database, also when it is in use.
    ///
    /// # Errors
    /// What the server said.
    pub fn drop_database(&self, name: &str) -> Result<()> {
        self.tool("dropdb", ["--force", "--if-exists", name])
    }

    fn tool<'a>(&self, name: &str, arguments: impl IntoIterator<Item = &'a str>) -> Result<()> {
        let mut command = Command::new(self.bin.join(name));
        command.env("PGPASSWORD", &self.password).args(["--host", &self.address.ip().to_string()]);
        command.args(["--port", &self.address.port().to_string(), "--username", SUPERUSER, "--no-password"]);
        run(command.args(arguments))
    }

    /// SIGKILL to the server and all its processes, as a machine that loses power would: nothing is flushed.
    ///
    /// # Errors
    /// When it had ended before.
    pub fn kill_9(&mut self) -> Result<()> {
        // Stopped, it cannot make another process meanwhile.
        kill(self.server, Signal::SIGSTOP).context("the server had ended")?;
        wait_until("the server stops", || state(self.server) == Some('T'))?;
        let children = children(self.server)?;
        for &child in &children {
            // It may end by itself.
            let _ = kill(child, Signal::SIGKILL);
        }
        kill(self.server, Signal::SIGKILL)?;
        self.end_guard("keep")?;
        // The next server refuses to start as long as one of them holds the shared memory.
        wait_until("the server's processes end", || {
            children.iter().all(|&child| matches!(state(child), None | Some('Z' | 'X')))
        })
    }

    /// Starts again on the same data and port; the settings of before hold.
    ///
    /// # Errors
    /// What the server said.
    pub fn start_again(&mut self) -> Result<()> {
        (self.guard, self.server) = start(&self.bin, &self.run_as, &self.folder, self.address)?;
        Ok(())
    }

    /// SIGSTOP to the server's processes: it hangs until [`Cluster::resume`].
    ///
    /// # Errors
    /// When it had ended before.
    pub fn freeze(&self) -> Result<()> {
        self.signal_all(Signal::SIGSTOP)
    }

    /// The reverse of [`Cluster::freeze`].
    ///
    /// # Errors
    /// When it had ended before.
    pub fn resume(&self) -> Result<()> {
        self.signal_all(Signal::SIGCONT)
    }

    fn signal_all(&self, signal: Signal) -> Result<()> {
        kill(self.server, signal).context("the server had ended")?;
        for child in children(self.server)? {
            // It may end by itself.
            let _ = kill(child, signal);
        }
        Ok(())
    }

    fn end_guard(&mut self, word: &str) -> Result<()> {
        if let Some(mut pipe) = self.guard.stdin.take() {
            // The guard may have gone with whoever ended it.
            let _ = writeln!(pipe, "{word}");
        }
        self.guard.wait().context("the guard cannot be waited for")?;
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // What is left of a cluster whose guard has ended; nothing can be done about an error here.
        let _ = self.end_guard("");
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn initialise(bin: &Path, run_as: &RunAs, folder: &Path, password: &str) -> Result<()> {
    let password_file = folder.join("password");
    fs::write(&password_file, password)?;
    run_as.own(&password_file)?;
    let mut initdb = run_as.command(bin.join("initdb"));
    initdb.arg("--pgdata").arg(folder.join("data")).arg("--pwfile").arg(&password_file);
    initdb.args(["--username", SUPERUSER, "--auth=password", "--encoding=UTF8", "--locale=C", "--no-sync"]);
    run(initdb.current_dir(folder))?;
    fs::remove_file(password_file)?;
    Ok(())
}

fn configure(folder: &Path, settings: &[(String, String)]) -> Result<()> {
    let mut file = fs::OpenOptions::new().append(true).open(folder.join("data/postgresql.conf"))?;
    // Small, because several test processes have one each.
    writeln!(file, "shared_buffers = '32MB'\nlogging_collector = off")?;
    for (name, value) in settings {
        writeln!(file, "{name} = '{}'", value.replace('\'', "''"))?;
    }
    Ok(())
}

fn start(bin: &Path, run_as: &RunAs, folder: &Path, address: SocketAddr) -> Result<(Child, Pid)> {
    let listen = folder.join("data/postgresql.auto.conf");
    fs::write(
        &listen,
        format!(
            "listen_addresses = '{}'\nport = {}\nunix_socket_directories = '{}'\n",
            address.ip(),
            address.port(),
            folder.display()
        ),
    )?;
    let mut guard = run_as.command("/bin/sh");
    guard.args(["-c", GUARD, "gradwatch-postgres"]).arg(bin.join("postgres")).arg(folder);
    // A group of its own: Ctrl-C in the terminal ends us, and the guard then cleans up.
    guard.process_group(0).current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut guard = guard.spawn().context("/bin/sh cannot be started")?;
    let started = wait_until_ready(&mut guard, folder);
    if started.is_err() {
        if let Some(mut pipe) = guard.stdin.take() {
            let _ = writeln!(pipe, "keep");
        }
        let _ = guard.wait();
    }
    Ok((guard, started?))
}

fn wait_until_ready(guard: &mut Child, folder: &Path) -> Result<Pid> {
    let mut line = String::new();
    BufReader::new(guard.stdout.take().context("no standard output")?).read_line(&mut line)?;
    let server = Pid::from_raw(line.trim().parse().context("the guard did not start the server")?);
    let deadline = Instant::now() + START_PATIENCE;
    // The eighth line of the server's lock file says how far it is; an older server's file has another first line.
    let ready = |text: String| {
        let mut lines = text.lines();
        lines.next() == Some(line.trim()) && lines.nth(6).is_some_and(|status| status.trim() == "ready")
    };
    while !fs::read_to_string(folder.join("data/postmaster.pid")).is_ok_and(ready) {
        let state = fs::read_to_string(format!("/proc/{server}/stat")).unwrap_or_default();
        let ended = state.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with('Z') || rest.is_empty());
        if ended || Instant::now() > deadline {
            let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
            let last: Vec<_> = log.lines().rev().take(10).collect();
            bail!("PostgreSQL does not start; the end of its log: {last:#?}");
        }
        sleep(Duration::from_millis(10));
    }
    Ok(server)
}

/// The letter that the system has for a process's state, while there is one.
fn state(process: Pid) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // Behind the name in parentheses.
    stat.rsplit(')').next()?.trim_start().chars().next()
}

fn wait_until(what: &str, condition: impl Fn() -> bool) -> Result<()> {
    for _ in 0..10_000 {
        if condition() {
            return Ok(());
        }
        sleep(Duration::from_millis(1));
    }
    bail!("{what}: not within 10 s")
}

fn children(parent: Pid) -> Result<Vec<Pid>> {
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // Processes come and go.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // Behind the name in parentheses: state, parent.
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        if fields.nth(1) == Some(parent.to_string().as_str()) {
            children.push(Pid::from_raw(pid));
        }
    }
    Ok(children)
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot run {:?}", command.get_program()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{:?} failed: {}", command.get_program(), said.trim());
    Ok(())
}
