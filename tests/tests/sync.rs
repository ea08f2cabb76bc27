//! `gradwatch sync`, as a person or cron calls it.

use std::{fs, path::Path};

use gradwatch_client::{Launch, Outcome, RunBuilder, Spool, Uuid, spool};
use gradwatch_tests::{Ended, Job, JobOptions, ReservedPort, Rest, ServerProcess, any_port, gradwatch, random_walk};
use serde_json::Value;
use tempfile::TempDir;

const OK: i32 = 0;
const FAILED: i32 = 1;
const USAGE: i32 = 2;
const UNREACHABLE: i32 = 3;

/// Steps that a job makes.
const STEPS: usize = 20;

struct World {
    dir: TempDir,
    data: TempDir,
}

impl World {
    fn new() -> Self {
        let dir = || tempfile::tempdir().expect("a temporary directory");
        Self { dir: dir(), data: dir() }
    }

    fn serve(&self) -> ServerProcess {
        ServerProcess::start(self.data.path(), any_port())
    }

    fn spool(&self) -> String {
        self.dir.path().join("spool").to_str().expect("text").to_owned()
    }

    /// A job that is offline, and has done `STEPS` steps behind `from_step`.
    fn job(&self, server: &str, from_step: u64, change: impl FnOnce(RunBuilder) -> RunBuilder) -> Job {
        self.online_job(server, from_step, |builder| change(builder.offline()))
    }

    /// One that is not.
    fn online_job(&self, server: &str, from_step: u64, change: impl FnOnce(RunBuilder) -> RunBuilder) -> Job {
        let options = JobOptions { dim: 64, windows: vec![5], len: 200, ..JobOptions::default() };
        let spool = Spool::new(self.spool());
        let mut job = Job::open_with(server, &options, |builder| change(builder.spool(spool)));
        for (step, parameters) in (from_step..).zip(random_walk(3, STEPS, 200)) {
            if step == from_step {
                job.set_base(step, &parameters);
            } else {
                job.submit(step, &parameters);
            }
        }
        job
    }

    /// One that has finished; answers its run's id.
    fn finished(&self, server: &str) -> Uuid {
        let job = self.job(server, 0, |builder| builder);
        let run_id = job.run_id();
        let report = job.run.close_with(Outcome::Finished);
        assert_eq!((report.spooled, report.undelivered), (STEPS as u64, 0), "{report}");
        run_id
    }

    fn sync(&self, arguments: &[&str]) -> Ended {
        gradwatch(self.dir.path(), &[("GRADWATCH_SPOOL_DIR", &self.spool())], &[&["sync"], arguments].concat())
    }

    /// What waits.
    fn waiting(&self) -> Vec<Value> {
        let listed = self.sync(&["--dry-run", "--json"]).with(OK).json();
        listed["attempts"].as_array().expect("attempts").clone()
    }
}

async fn steps(rest: &Rest, run_id: Uuid) -> Vec<u64> {
    let rows = rest.all(&format!("/api/v1/runs/{run_id}/steps?segment=live&limit=1000")).await;
    rows.iter().filter_map(|row| row["step"].as_u64()).collect()
}

async fn run(rest: &Rest, run_id: Uuid) -> Value {
    rest.get(&format!("/api/v1/runs/{run_id}")).await
}

fn numbers(from: u64, to: u64) -> Vec<u64> {
    (from..=to).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_is_listed_and_sent_once() {
    let (world, port) = (World::new(), ReservedPort::new());
    world.sync(&[]).with(OK).stdout.contains("nothing waits").then_some(()).expect("an empty spool is no failure");
    let run_id = world.finished(&port.url());
    let cut_off = world.job(&port.url(), 0, |builder| builder);
    let cut_off_id = cut_off.run_id();
    drop(cut_off);

    let listed = world.sync(&["--list"]).with(OK).stdout;
    for word in [&run_id.to_string(), &cut_off_id.to_string(), "tests", "job", "20", "FRAMES", "the job finished"] {
        assert!(listed.contains(word), "{word} is not in {listed}");
    }
    // A server that is away costs nothing.
    let ended = world.sync(&[]).with(UNREACHABLE);
    ended.says(&port.url());
    let waiting = world.waiting();
    assert_eq!(
        waiting.iter().map(|it| &it["frames"]).collect::<Vec<_>>(),
        [&STEPS, &STEPS].map(|&it| Value::from(it)).each_ref()
    );

    // Where the jobs meant it to go, without being told.
    let server = ServerProcess::start(world.data.path(), port.address());
    let ended = world.sync(&["--run", &run_id.to_string()]).with(OK);
    assert!(ended.stdout.contains("1 of 1 attempts delivered, 20 frames"), "{}", ended.stdout);
    assert_eq!(world.waiting().len(), 1);
    let sent = world.sync(&["--json"]).with(OK).json();
    assert_eq!(
        (&sent["attempts"][0]["state"], &sent["attempts"][0]["settled"]),
        (&Value::from("delivered"), &Value::from(20))
    );
    let again = world.sync(&["--json"]).with(OK);
    assert_eq!(again.json()["attempts"], Value::Array(Vec::new()));
    assert_eq!(again.stderr, "");

    let rest = Rest::new(&server.url());
    for (id, state) in [(run_id, "finished"), (cut_off_id, "running")] {
        assert_eq!(steps(&rest, id).await, numbers(1, STEPS as u64));
        assert_eq!(run(&rest, id).await["state"], state);
    }
    assert!(fs::read_dir(world.spool()).expect("the spool").next().is_none(), "nothing is left of what was sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_spool_sent_again_is_stored_once() {
    let world = World::new();
    let run_id = world.finished("http://127.0.0.1:9");
    let server = world.serve();
    let copy = world.dir.path().join("copy");
    let copied = std::process::Command::new("cp").arg("-r").arg(world.spool()).arg(&copy).status();
    assert!(copied.expect("cp runs").success());
    for dir in [&world.spool(), copy.to_str().expect("text")] {
        let ended = world.sync(&["--dir", dir, "--server", &server.url()]).with(OK);
        ended.says("what was meant for http://127.0.0.1:9 goes to");
    }
    let rest = Rest::new(&server.url());
    assert_eq!(steps(&rest, run_id).await, numbers(1, STEPS as u64));
    assert_eq!(run(&rest, run_id).await["counters"]["steps"], STEPS as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_job_is_writing_is_left_alone() {
    let world = World::new();
    let server = world.serve();
    let job = world.job(&server.url(), 0, |builder| builder);
    let run_id = job.run_id();
    while job.run.status().spooled < STEPS as u64 {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    assert_eq!(world.waiting()[0]["state"], "live");
    let ended = world.sync(&[]).with(OK);
    ended.says("left alone");
    assert!(ended.stdout.contains("0 of 1 attempts delivered"), "{}", ended.stdout);
    job.run.close_with(Outcome::Preempted);
    world.sync(&[]).with(OK);
    let rest = Rest::new(&server.url());
    assert_eq!(steps(&rest, run_id).await, numbers(1, STEPS as u64));
    assert_eq!(run(&rest, run_id).await["state"], "preempted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_go_in_their_order_and_shards_together() {
    let world = World::new();
    let server = world.serve();
    // Two processes of one launch, each with all the frames.
    let launch = Launch::new();
    let shards = [0, 1].map(|shard| world.job(&server.url(), 0, |builder| builder.launch(launch).shard(shard, 2)));
    let attempt = shards[0].run.attempt_id();
    drop(shards);
    // What resumes them lies there first, by the names of the folders: a clock that went back.
    let text = format!("{}/{}/{}", launch.run_id(), Uuid::new_v4(), 1);
    let earlier: Launch = text.parse().expect("a launch");
    let resuming = world.job(&server.url(), 15, |builder| builder.launch(earlier).resume_from(attempt, 15));
    resuming.run.close_with(Outcome::Finished);

    let waiting = world.waiting();
    assert_eq!(waiting.len(), 3, "{waiting:?}");
    assert_eq!(waiting[2]["resumes"]["attempt_id"], attempt.to_string());
    let ended = world.sync(&[]).with(OK);
    assert!(ended.stdout.contains("3 of 3 attempts delivered, 60 frames"), "{}", ended.stdout);
    let rest = Rest::new(&server.url());
    let run_id = launch.run_id();
    assert_eq!(steps(&rest, run_id).await, numbers(1, 15 + STEPS as u64));
    let first = rest.all(&format!("/api/v1/runs/{run_id}/steps?segment=1&limit=1000")).await;
    assert_eq!(first.len(), STEPS);
    assert!(
        first.iter().all(|row| row["complete"] == true && row["seqs"].as_array().map(Vec::len) == Some(2)),
        "{first:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_that_are_sent_while_the_next_launch_trains_lack_nothing() {
    let world = World::new();
    let server = world.serve();
    let launch = Launch::new();
    let shards = [0, 1].map(|shard| world.job(&server.url(), 0, |builder| builder.launch(launch).shard(shard, 2)));
    let attempt = shards[0].run.attempt_id();
    drop(shards);
    let next = Launch::of_run(launch.run_id());
    let training = [0, 1].map(|shard| {
        let online = |builder: RunBuilder| builder.launch(next).shard(shard, 2).resume_from(attempt, 15);
        world.online_job(&server.url(), 15, online)
    });
    for job in &training {
        job.settled(STEPS as u64).await;
    }
    let ended = world.sync(&[]).with(OK);
    assert!(ended.stdout.contains("2 of 4 attempts delivered, 40 frames; 2 left alone"), "{}", ended.stdout);
    for job in training {
        job.close().await;
    }
    let rest = Rest::new(&server.url());
    let first = rest.all(&format!("/api/v1/runs/{}/steps?segment=1&limit=1000", launch.run_id())).await;
    assert_eq!(first.len(), STEPS);
    assert!(first.iter().all(|row| row["complete"] == true), "{first:?}");
    assert_eq!(run(&rest, launch.run_id()).await["state"], "finished");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_is_named_and_stays_and_stops_nothing_else() {
    let world = World::new();
    let server = world.serve();
    let refused = world.finished(&server.url());
    let fine = world.finished(&server.url());
    // The run is there already, in another project.
    let options = JobOptions { dim: 64, windows: vec![5], len: 200, ..JobOptions::default() };
    let other = Job::open_with(&server.url(), &options, |builder| builder.run_id(refused).project("other"));
    other.close().await;

    for _ in 0..2 {
        let ended = world.sync(&[]).with(FAILED);
        ended.says(&format!("run {refused}"));
        ended.says("the run belongs to project");
        ended.says("delete the folder");
    }
    let rest = Rest::new(&server.url());
    assert_eq!(steps(&rest, fine).await, numbers(1, STEPS as u64));
    let [left] = world.waiting().try_into().expect("the refused one is still there");
    assert_eq!((&left["run_id"], &left["frames"]), (&Value::from(refused.to_string()), &Value::from(STEPS)));
    // What it says to do does it.
    fs::remove_dir_all(left["path"].as_str().expect("a path")).expect("a folder");
    world.sync(&[]).with(OK);
}

/// Changes a byte in the middle of a file.
fn damage(path: &Path) {
    let mut bytes = fs::read(path).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).expect("a file");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_damaged_is_named_and_the_rest_of_it_sent() {
    let world = World::new();
    let server = world.serve();
    let (torn, unreadable) = (world.finished(&server.url()), world.finished(&server.url()));
    for attempt in spool::scan(Path::new(&world.spool())).expect("a spool") {
        damage(&attempt.path.join(if attempt.run_id == torn { "000000000001.log" } else { "attempt" }));
    }
    let listed = world.sync(&["--dry-run"]).with(OK).stdout;
    assert!(listed.contains("no whole record") && listed.contains("`attempt` is damaged"), "{listed}");
    let ended = world.sync(&[]).with(FAILED);
    ended.says(&format!("run {torn}"));
    ended.says("no whole record");
    ended.says(&format!("run {unreadable}"));
    ended.says("`attempt` is damaged");
    let rest = Rest::new(&server.url());
    let stored = steps(&rest, torn).await;
    assert!((5..STEPS).contains(&stored.len()) && stored == numbers(1, stored.len() as u64), "{stored:?}");
    assert_eq!(world.waiting().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_wrong_is_said_at_once() {
    let world = World::new();
    let server = ServerProcess::start_with(
        world.data.path(),
        any_port(),
        &[
            ("GRADWATCH_ACCESS__REQUIRE_TOKENS", "true"),
            ("GRADWATCH_BOOTSTRAP_TOKEN", "gw_0123456789012345678901234567890123456789"),
        ],
    );
    let run_id = world.finished(&server.url());
    world.sync(&[]).with(FAILED).says("401");
    world.sync(&["--token", "gw_unknown"]).with(FAILED).says("401");
    assert_eq!(world.waiting().len(), 1);
    let admin = "gw_0123456789012345678901234567890123456789";
    let create = ["token", "create", "--server", &server.url(), "--token", admin, "--name", "x", "--scope"];
    let token = |scopes: &[&str]| {
        let made = gradwatch(world.dir.path(), &[], &[&create, scopes].concat()).with(OK);
        made.stdout.trim().to_owned()
    };
    world.sync(&["--token", &token(&["read"])]).with(FAILED).says("ingest");
    world.sync(&["--token", &token(&["ingest", "--project", "other"])]).with(FAILED).says("project");
    // One that may send and not read does.
    world.sync(&["--token", &token(&["ingest", "--project", "tests"])]).with(OK);
    let rest = Rest::new(&server.url()).with_token(admin);
    assert_eq!(steps(&rest, run_id).await, numbers(1, STEPS as u64));
}

#[test]
fn the_spool_is_looked_for_where_jobs_keep_theirs() {
    let world = World::new();
    let text = |path: &Path| path.to_str().expect("text").to_owned();
    let [home, state, named] = ["home", "state", "named"].map(|name| text(&world.dir.path().join(name)));
    let looked = |variables: &[(&str, &str)], arguments: &[&str]| {
        let arguments = [&["sync", "--dry-run", "--json"], arguments].concat();
        gradwatch(world.dir.path(), variables, &arguments).with(OK).json()["dir"].as_str().expect("a folder").to_owned()
    };
    let [of_home, of_state] = [("HOME", home.as_str()), ("XDG_STATE_HOME", state.as_str())];
    let no_state = ("XDG_STATE_HOME", "");
    assert_eq!(looked(&[of_home, no_state], &[]), format!("{home}/.local/state/gradwatch/spool"));
    assert_eq!(looked(&[of_home, of_state], &[]), format!("{state}/gradwatch/spool"));
    assert_eq!(looked(&[of_home, of_state, ("GRADWATCH_SPOOL_DIR", "")], &[]), format!("{state}/gradwatch/spool"));
    assert_eq!(looked(&[of_home, of_state, ("GRADWATCH_SPOOL_DIR", &named)], &[]), named);
    assert_eq!(looked(&[of_home, of_state, ("GRADWATCH_SPOOL_DIR", &named)], &["--dir", &home]), home);
    assert!(!Path::new(&home).exists() && !Path::new(&named).exists(), "looking makes nothing");

    for wrong in
        [&["--run", "x"][..], &["--token", "two words"], &["--ca-certificate", "nowhere.pem"], &["--dirr", "x"]]
    {
        world.sync(wrong).with(USAGE);
    }
    fs::write(&named, "a file is no spool").expect("a file");
    world.sync(&["--dir", &named]).with(FAILED).says(&named);
}
