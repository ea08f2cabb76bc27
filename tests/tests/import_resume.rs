//! An import that was cut off goes on where it stopped, and nothing of it can be seen in the readings.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use gradwatch_tests::{
    Job, JobOptions, MadeTensor, MadeTraining, Rest, ServerProcess, any_port, command, gradwatch, random_walk,
};
use safetensors::tensor::Dtype;
use serde_json::Value;
use tempfile::TempDir;
use uuid::Uuid;

const OK: i32 = 0;
const FAILED: i32 = 1;
const USAGE: i32 = 2;
const CHECKPOINTS: u64 = 30;
/// Where the first import stops.
const CUT: usize = 18;

fn dir() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn checkpoints(dir: &Path) -> Vec<PathBuf> {
    let tensors =
        [MadeTensor::new("a.weight", Dtype::F32, &[30, 10]), MadeTensor::new("b.weight", Dtype::BF16, &[40, 10])];
    MadeTraining::new(3, &tensors).write_all(dir, CHECKPOINTS, 10).0
}

fn arguments(server: &str, run_id: &str, files: &[PathBuf]) -> Vec<String> {
    let mut arguments: Vec<String> =
        ["import", "--server", server, "--run-id", run_id, "--project", "p", "--name", "n"]
            .into_iter()
            .chain(["--every", "10", "--window", "5", "--window", "8", "--dim", "128", "--lr", "0.1", "--json"])
            .chain(["--group", "all=*", "--group", "a=a.*"])
            .map(str::to_owned)
            .collect();
    arguments.extend(files.iter().map(|file| file.to_str().expect("text").to_owned()));
    arguments
}

fn import(dir: &Path, server: &str, run_id: &str, files: &[PathBuf]) -> gradwatch_tests::Ended {
    let arguments = arguments(server, run_id, files);
    gradwatch(dir, &[], &arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

/// All readings of the live line, without what tells two runs apart.
async fn readings(rest: &Rest, run_id: &str) -> Vec<Value> {
    let mut all = Vec::new();
    for query in ["group=all&window=5", "group=all&window=8", "group=a&window=5", "group=a&window=8"] {
        let rows = rest.all(&format!("/api/v1/runs/{run_id}/readings/edge?limit=1000&{query}")).await;
        assert_eq!(rows.len() as u64, CHECKPOINTS - 1, "one for each row: {query}");
        all.extend(rows.into_iter().map(|mut row| {
            row.as_object_mut().expect("an object").remove("wall_time").expect("a time");
            row
        }));
    }
    all
}

/// Starts an import that cannot get past the file at `CUT`: nobody writes into the pipe that lies there.
fn import_that_blocks(dir: &Path, server: &str, run_id: &str, files: &[PathBuf]) -> Child {
    std::fs::rename(&files[CUT], dir.join("aside")).expect("renamed");
    assert!(Command::new("mkfifo").arg(&files[CUT]).status().expect("mkfifo runs").success());
    command(dir)
        .args(arguments(server, run_id, files))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts")
}

async fn killed_and_continued(kill_server: bool) {
    let (dir, data_dir) = (dir(), dir());
    let files = checkpoints(dir.path());
    let mut server = ServerProcess::start(data_dir.path(), any_port());
    let (url, rest) = (server.url(), Rest::new(&server.url()));
    let whole = Uuid::new_v4().to_string();
    import(dir.path(), &url, &whole, &files).with(OK);

    let run_id = Uuid::new_v4().to_string();
    let mut child = import_that_blocks(dir.path(), &url, &run_id, &files);
    let last_step = 10 * (CUT as u64 - 1);
    rest.until("/api/v1/runs?project=p", "the rows before the pipe", |runs| {
        let run = runs["items"].as_array().and_then(|runs| runs.iter().find(|run| run["run_id"] == run_id.as_str()));
        run.is_some_and(|run| run["last_step"] == last_step)
    })
    .await;
    child.kill().expect("killed");
    child.wait().expect("ended");
    std::fs::rename(dir.path().join("aside"), &files[CUT]).expect("renamed");
    if kill_server {
        let address = server.address();
        server.kill();
        server = ServerProcess::start(data_dir.path(), address);
    }

    let summary = import(dir.path(), &server.url(), &run_id, &files).with(OK).json();
    assert_eq!(summary["rows_sent"], CHECKPOINTS - CUT as u64, "{summary}");
    assert_eq!(summary["rows"], CHECKPOINTS - 1, "{summary}");
    let rest = Rest::new(&server.url());
    // To the bit, and as if nothing had happened: one segment, no window that started again.
    assert_eq!(readings(&rest, &run_id).await, readings(&rest, &whole).await);
    let events = rest.all(&format!("/api/v1/runs/{run_id}/events?types=window.restarted,run.lossy")).await;
    assert_eq!(events, Vec::<Value>::new());
    assert_eq!(rest.get(&format!("/api/v1/runs/{run_id}")).await["state"], "finished");

    // Once more: there is nothing left to send.
    let summary = import(dir.path(), &server.url(), &run_id, &files).with(OK).json();
    assert_eq!((&summary["rows_sent"], &summary["rows"]), (&0.into(), &(CHECKPOINTS - 1).into()), "{summary}");
    assert_eq!(readings(&rest, &run_id).await, readings(&rest, &whole).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_import_goes_on_to_the_same_bits() {
    killed_and_continued(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_import_goes_on_to_the_same_bits_after_a_killed_server() {
    killed_and_continued(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_failed_at_a_file_goes_on_when_the_file_is_whole() {
    let (dir, data_dir) = (dir(), dir());
    let files = checkpoints(dir.path());
    let server = ServerProcess::start(data_dir.path(), any_port());
    let (url, rest) = (server.url(), Rest::new(&server.url()));
    let (whole, run_id) = (Uuid::new_v4().to_string(), Uuid::new_v4().to_string());
    import(dir.path(), &url, &whole, &files).with(OK);
    let bytes = std::fs::read(&files[CUT]).expect("a file");
    std::fs::write(&files[CUT], &bytes[..bytes.len() / 2]).expect("written");
    import(dir.path(), &url, &run_id, &files).with(FAILED).says("step-180.safetensors");
    assert_eq!(rest.get(&format!("/api/v1/runs/{run_id}")).await["state"], "failed");
    std::fs::write(&files[CUT], &bytes).expect("written");
    import(dir.path(), &url, &run_id, &files).with(OK);
    assert_eq!(readings(&rest, &run_id).await, readings(&rest, &whole).await);
    assert_eq!(rest.get(&format!("/api/v1/runs/{run_id}")).await["state"], "finished");

    // Another sketch, or another model, is refused; the run stays as it is.
    let mut other = arguments(&url, &run_id, &files);
    other.extend(["--seed".to_owned(), "4".to_owned()]);
    gradwatch(dir.path(), &[], &other.iter().map(String::as_str).collect::<Vec<_>>()).with(FAILED).says("refused");
    assert_eq!(readings(&rest, &run_id).await, readings(&rest, &whole).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_a_training_job_is_left_alone() {
    let (dir, data_dir) = (dir(), dir());
    let files = checkpoints(dir.path());
    let server = ServerProcess::start(data_dir.path(), any_port());
    let url = server.url();
    let mut job = Job::open_with(&url, &JobOptions::default(), |builder| builder.project("p"));
    for (step, parameters) in (0..).zip(random_walk(1, 3, 5_000)) {
        job.submit(step, &parameters);
    }
    let run_id = job.run_id().to_string();
    let rest = Rest::new(&url);
    job.close().await;
    let before = rest.get(&format!("/api/v1/runs/{run_id}/segments")).await;
    import(dir.path(), &url, &run_id, &files).with(FAILED).says("refused");
    assert_eq!(rest.get(&format!("/api/v1/runs/{run_id}/segments")).await, before);

    // Nor one that went back once.
    let mut job = Job::open_with(&url, &JobOptions::default(), |builder| builder.project("p"));
    let run_id = job.run_id().to_string();
    for step in [0, 1, 2, 1, 2] {
        job.submit(step, &random_walk(1, 0, 5_000)[0]);
    }
    job.close().await;
    import(dir.path(), &url, &run_id, &files).with(USAGE).says("more than one attempt");
}
