//! `gradwatch reanalyze`, as a person or a script calls it.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
    sync::Arc,
};

use gradwatch_client::Encoding;
use gradwatch_store::{Store, sqlite::SqliteStore};
use gradwatch_tests::{
    CrashingServer, Ended, FaultyStore, ReservedPort, Rest, TestServer, assert_readings, command, gradwatch,
};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{Made, STEPS, done, path, readings};

const OK: i32 = 0;
const FAILED: i32 = 1;
const USAGE: i32 = 2;
const UNREACHABLE: i32 = 3;

fn dir() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// Calls the command beside the test's own server.
async fn call(arguments: &[&str]) -> Ended {
    let arguments: Vec<String> = arguments.iter().map(|&it| it.to_owned()).collect();
    let call = move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        gradwatch(dir().path(), &[], &[&["reanalyze"], &arguments[..]].concat())
    };
    tokio::task::spawn_blocking(call).await.expect("no panic")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_computed_again_from_the_shell() {
    let server = TestServer::start().await;
    let (rest, url) = (server.rest(), server.url());
    let made = Made::new(&[("often", 1), ("seldom", 3)]);
    let run_id = made.stream(&url, Encoding::F32).await;
    let run = run_id.to_string();
    let ended = call(&[&run, "--name", "wide", "--window", "7", "--window", "20", "--server", &url]).await.with(OK);
    let total = STEPS + STEPS / 3;
    ended.says(&format!("{total} of {total} rows"));
    assert!(
        ended.stdout.starts_with(&format!("analysis wide: {} readings of {total} rows", 2 * total)),
        "{}",
        ended.stdout
    );
    assert_readings(&readings(&rest, run_id, "wide", "group=often").await, &made.offline(1, &[7, 20]).readings[0]);

    let narrow = [
        &run[..],
        "--name",
        "narrow",
        "--window",
        "12",
        "--position",
        "edge",
        "--bands",
        "absolute",
        "--group",
        "often",
        "--kind",
        "update",
        "--from-step",
        "50",
        "--to-step",
        "149",
        "--server",
        &url,
        "--json",
    ];
    let printed = call(&narrow).await.with(OK).json();
    assert_eq!((&printed["state"], &printed["readings"]), (&json!("done"), &json!(100)), "{printed}");
    assert_eq!((&printed["position"], &printed["bands"]), (&json!("edge"), &json!("absolute")), "{printed}");
    assert_eq!(printed, rest.get(&path(run_id, "narrow")).await);

    call(&narrow).await.with(FAILED).says("409");
    call(&[&run, "--name", "wider", "--window", "65", "--server", &url]).await.with(FAILED).says("windows");
    call(&[&run, "--name", "wider", "--server", &url]).await.with(USAGE).says("--window");
    call(&[&run, "--name", "wider", "--window", "5"]).await.with(USAGE).says("--server");
    call(&["no-uuid", "--name", "wider", "--window", "5", "--server", &url]).await.with(USAGE);
    let nobody = ReservedPort::new();
    call(&[&run, "--name", "wider", "--window", "5", "--server", &nobody.url()]).await.with(UNREACHABLE);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_command_leaves_its_analysis_running() {
    let data_dir = dir();
    let inner: Arc<dyn Store> = Arc::new(SqliteStore::open(data_dir.path()).await.expect("a store"));
    let store = Arc::new(FaultyStore::new(inner));
    let server = CrashingServer::start(Arc::clone(&store) as Arc<dyn Store>, data_dir.path(), |_| {}).await;
    let rest = Rest::new(&server.url());
    let run_id = Made::new(&[("all", 1)]).stream(&server.url(), Encoding::F32).await;
    store.hold_analyses();
    // More than 64 rows, and not all.
    store.allow_analysis_commits(3);
    let mut child = command(data_dir.path())
        .args(["reanalyze", &run_id.to_string(), "--name", "wide", "--window", "20", "--server", &server.url()])
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let (status, said) = tokio::task::spawn_blocking(move || {
        let progress = lines.next().expect("progress").expect("text");
        assert!(progress.ends_with("of 220 rows"), "{progress}");
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("the command lives");
        let said: Vec<String> = lines.map_while(Result::ok).collect();
        (child.wait().expect("an end"), said.join("\n"))
    })
    .await
    .expect("no panic");
    assert_eq!(status.code(), Some(FAILED), "{said}");
    assert!(said.contains("goes on") && said.contains("analysis=wide"), "{said}");
    assert_eq!(rest.get(&path(run_id, "wide")).await["state"], "running");
    store.allow_analysis_commits(1_000);
    done(&rest, run_id, "wide").await;
    server.stop().await;
}
