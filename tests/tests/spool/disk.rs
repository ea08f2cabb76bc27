//! A disk without room: training goes on as without a spool, and the spool as soon as there is room again.

use std::process::Command;
use std::time::Duration;

use gradwatch_client::{Launch, Spool};
use gradwatch_tests::{Job, PATIENCE, ReservedPort, SmallDisk, TestServer};

use crate::{BUFFER_BYTES, STEPS, Training, assert_empty, close, deliver, the_one};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_costs_what_memory_does_not_hold_and_is_used_again() {
    let disk = SmallDisk::mount(4);
    let port = ReservedPort::new();
    let mut training = Training::new();
    let dir = disk.path().join("spool");
    let mut job = Job::open_with(&port.url(), &training.options, |builder| {
        builder.buffer_bytes(BUFFER_BYTES).spool(Spool::new(&dir).max_bytes(64 << 20))
    });
    let run_id = job.run_id();
    training.train(&mut job, 200);
    // A record ends in the middle.
    disk.fill(5_000);
    // Memory takes these: about a hundred more frames than it is known to be full with.
    for _ in 0..60 {
        training.submit(&mut job.run, |run| run.wait_for_room(PATIENCE).expect("memory has room"));
    }
    let problem = job.run.problem().expect("the server is away");
    assert!(problem.contains("refused") || problem.contains("No space"), "{problem}");
    let status = job.run.status();
    assert_eq!(status.dropped, 0, "{status:?}");
    assert!(status.spooled >= 200 && status.spooled < 260, "{status:?}");
    disk.free();
    // It is tried again after a second.
    let written = async {
        while job.run.status().spooled < training.next_step {
            training.submit(&mut job.run, |run| run.wait_for_room(PATIENCE).expect("there is room"));
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, written).await.expect("what was in memory only is written");
    drop(job);
    crate::let_go(&dir).await;

    let left = the_one(&dir);
    assert_eq!((left.frames, left.damage.len()), (training.next_step, 0), "{left:?}");
    let server = TestServer::start().await;
    deliver(&left, &server.url()).await.expect("the server takes it");
    training.assert_whole(&server.rest(), run_id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_cannot_be_made_is_no_spool_and_no_error() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let server = TestServer::start().await;
    let mut training = Training::new();
    let mut job = training.open(&server.url(), file.path());
    let run_id = job.run_id();
    training.train(&mut job, 50);
    job.settled(50).await;
    let problem = job.run.problem().expect("it is a file");
    assert!(problem.contains("the spool") && problem.contains(&file.path().display().to_string()), "{problem}");
    let report = job.close().await;
    assert_eq!((report.settled, report.spool_dir), (50, None));
    training.assert_whole(&server.rest(), run_id).await;

    // Offline there is nowhere else.
    let mut training = Training::new();
    let mut job = training.open_offline(&server.url(), file.path());
    training.train(&mut job, 20);
    let report = close(job).await;
    assert_eq!((report.spooled, report.undelivered, &report.spool_dir), (0, 20, &None), "{report}");
    assert!(report.reason.as_ref().is_some_and(|reason| reason.contains("the spool")), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_the_spool_itself_has_filled_is_free_again_once_the_server_is_back() {
    let disk = SmallDisk::mount(1);
    let port = ReservedPort::new();
    let mut training = Training::new();
    let dir = disk.path().join("spool");
    let mut job = Job::open_with(&port.url(), &training.options, |builder| {
        builder.buffer_bytes(BUFFER_BYTES).spool(Spool::new(&dir).max_bytes(64 << 20))
    });
    let run_id = job.run_id();
    // Memory takes what the disk does not, and some more.
    while job.run.status().spooled + 20 > training.next_step || training.next_step < 500 {
        training.train(&mut job, 10);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let status = job.run.status();
    assert!(status.dropped == 0 && status.spooled_bytes > 900 << 10, "{status:?}");
    let server = TestServer::start_with(|config| config.listen = port.address()).await;
    job.settled(training.next_step).await;
    let freeing = async {
        while job.run.problem().is_some() || job.run.status().spooled_bytes > 300 << 10 {
            assert!(training.next_step < STEPS - 1, "{:?} {:?}", job.run.problem(), job.run.status());
            training.train(&mut job, 1);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, freeing).await.expect("what is settled makes room");
    let report = job.close().await;
    assert_eq!((report.settled, report.spool_dir, report.reason), (training.next_step, None, None));
    training.assert_whole(&server.rest(), run_id).await;
    assert_empty(&dir);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_hangs_holds_up_nobody() {
    let dir = tempfile::tempdir().expect("a folder");
    let launch = Launch::new();
    let text = launch.to_string();
    let [run_id, attempt_id, started_at_us] = &text.split('/').collect::<Vec<_>>()[..] else { panic!("{text}") };
    let folder = dir.path().join(run_id).join(format!("{started_at_us:0>16}-{attempt_id}-0"));
    std::fs::create_dir_all(&folder).expect("a folder");
    // Whoever opens this waits for a reader who never comes.
    let made = Command::new("mkfifo").arg(folder.join("lock")).status();
    assert!(made.is_ok_and(|status| status.success()), "mkfifo is installed");
    let mut training = Training::new();
    let mut job = Job::open_with("http://127.0.0.1:9", &training.options, |builder| {
        let timeout = Duration::from_millis(100);
        builder.buffer_bytes(BUFFER_BYTES).launch(launch).close_timeout(timeout).spool(Spool::new(dir.path()))
    });
    for _ in 0..STEPS {
        training.submit(&mut job.run, |_| {});
    }
    let report = close(job).await;
    assert_eq!((report.submitted, report.settled, report.spooled), (STEPS, 0, 0), "{report}");
    assert_eq!(report.dropped + report.undelivered, STEPS, "{report}");
    assert!(report.dropped > 0 && report.reason.is_some(), "{report}");
}
