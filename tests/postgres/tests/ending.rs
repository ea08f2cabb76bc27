//! Whatever ends a process that started a cluster, the cluster ends too, and its folder goes.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use gradwatch_test_postgres::{Cluster, ClusterOptions};

/// Tells a process of this binary to start a cluster in this folder, and to wait to be killed.
const HOLD_IN: &str = "GRADWATCH_TEST_HOLD_CLUSTER_IN";
/// ... and to freeze it.
const FREEZE: &str = "GRADWATCH_TEST_FREEZE_CLUSTER";
/// The file that says that it has.
const HOLDING: &str = "holding";

const PATIENCE: Duration = Duration::from_secs(180);

#[test]
fn a_cluster_ends_with_a_process_that_is_killed() {
    if let Some(folder) = env::var_os(HOLD_IN) {
        return hold(folder.as_ref());
    }
    for frozen in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().canonicalize().expect("a path");
        // As the machine's temporary folder is: PostgreSQL runs as another user when we are root.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o1777)).expect("our own folder");
        let mut holder = Command::new(env::current_exe().expect("this binary"));
        holder.args(["--exact", "a_cluster_ends_with_a_process_that_is_killed"]).env(HOLD_IN, &path);
        if frozen {
            holder.env(FREEZE, "1");
        }
        let mut holder = Holder(holder.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("this binary starts"));
        wait_until("the cluster to start", || {
            let ended = holder.0.try_wait().expect("our own child");
            assert!(ended.is_none(), "it ended before it was killed: {ended:?}");
            path.join(HOLDING).exists()
        });
        // The guard, the server, and the server's own processes.
        assert!(processes_in(&path).len() > 3, "{:?}", processes_in(&path));

        holder.0.kill().expect("SIGKILL");
        wait_until("its processes to end and its folder to go", || {
            let left = fs::read_dir(&path).expect("our own folder").flatten().filter(|it| it.file_name() != HOLDING);
            processes_in(&path).is_empty() && left.count() == 0
        });
    }
}

fn hold(folder: &Path) {
    let options = ClusterOptions { parent: Some(folder.to_owned()), ..ClusterOptions::default() };
    let cluster = Cluster::start_as(&options).expect("a cluster");
    if env::var_os(FREEZE).is_some() {
        cluster.freeze().expect("it runs");
    }
    fs::write(folder.join(HOLDING), "").expect("the file");
    sleep(PATIENCE);
}

/// A process that does not outlive the test, whatever the test says.
struct Holder(Child);

impl Drop for Holder {
    fn drop(&mut self) {
        // It may have ended before.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The processes that work in a folder or below it, also when it has been removed.
fn processes_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir("/proc").expect("the list of processes").flatten();
    entries
        .filter(|entry| fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder)))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited for {what}");
        sleep(Duration::from_millis(20));
    }
}
