//! A server that is away, and a job that does not live to see it back.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gradwatch_client::spool::{DeliverError, Destination};
use gradwatch_client::{Frame, Spool};
use gradwatch_store::Store;
use gradwatch_store::sqlite::SqliteStore;
use gradwatch_tests::{CrashingServer, Fault, FaultyStore, Job, Planned, ReservedPort, StoppedServer, TestServer};
use nix::sys::{signal, wait::waitpid};
use nix::unistd::{ForkResult, Pid, fork, pause};

use crate::{STEPS, Training, assert_empty, close, copy, deliver, let_go, spooled, the_one};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_late_gets_everything() {
    let (port, dir) = (ReservedPort::new(), tempfile::tempdir().expect("a folder"));
    let mut training = Training::new();
    let mut job = training.open(&port.url(), dir.path());
    let run_id = job.run_id();
    training.train(&mut job, STEPS - 100);
    let status = job.run.status();
    assert_eq!((status.dropped, status.settled), (0, 0), "{status:?}");
    assert!(status.spooled_bytes > 2 * crate::BUFFER_BYTES as u64, "memory alone would do: {status:?}");
    assert!(status.buffered_bytes < crate::BUFFER_BYTES, "{status:?}");
    let server = TestServer::start_with(|config| config.listen = port.address()).await;
    training.train(&mut job, 100);
    let report = job.close().await;
    assert_eq!((report.settled, report.spool_dir, report.reason), (STEPS, None, None));
    training.assert_whole(&server.rest(), run_id).await;
    assert_eq!(server.rest().get(&format!("/api/v1/runs/{run_id}")).await["state"], "finished");
    assert_empty(dir.path());
}

/// Trains, loses the server, trains on, and ends without having closed the run.
async fn left_behind(training: &mut Training, dir: &Path) -> (Job, StoppedServer, String) {
    let server = TestServer::start().await;
    let mut job = Job::open_with(&server.url(), &training.options, |builder| {
        let spool = Spool::new(dir);
        builder.buffer_bytes(crate::BUFFER_BYTES).spool(spool).close_timeout(Duration::from_millis(300))
    });
    training.train(&mut job, 300);
    job.settled(300).await;
    let url = server.url();
    let (_, stopped) = server.stop().await;
    training.train(&mut job, STEPS - 300);
    (job, stopped, url)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_job_leaves_behind_is_delivered_once_however_often() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut training = Training::new();
    let (job, stopped, url) = left_behind(&mut training, dir.path()).await;
    let run_id = job.run_id();
    assert!(the_one(dir.path()).live);
    let held = deliver(&the_one(dir.path()), &url).await;
    assert!(matches!(held, Err(DeliverError::Live)), "{held:?}");
    drop(job);
    let_go(dir.path()).await;

    let left = the_one(dir.path());
    assert_eq!((left.run_id, left.outcome, left.damage.len(), left.unreadable.as_ref()), (run_id, None, 0, None));
    assert!((STEPS - 300..=STEPS).contains(&left.frames), "{left:?}");
    assert_eq!((left.project.as_str(), left.server.as_str()), ("tests", url.as_str()));
    // A copy, as of a backup.
    let copy = copy(&left, dir.path());

    let server = stopped.start().await;
    let rest = server.rest();
    let delivered = deliver(&left, &url).await.expect("the server is there");
    assert_eq!((delivered.dropped, delivered.rejected, delivered.finished), (0, 0, false), "{delivered:?}");
    assert!(delivered.settled >= left.frames, "{delivered:?} of {left:?}");
    training.assert_whole(&rest, run_id).await;
    assert_empty(dir.path());
    // Somebody who has found it before and comes later.
    let gone = deliver(&left, &url).await.expect("there is nothing to do");
    assert_eq!((gone.settled, gone.finished), (0, false), "{gone:?}");
    assert_empty(dir.path());
    // Nobody said how it ended.
    let run = rest.get(&format!("/api/v1/runs/{run_id}")).await;
    assert!(run["state"] == "running" || run["state"] == "crashed", "{run}");

    let again = deliver(&the_one(copy.path()), &url).await.expect("the server has it");
    assert_eq!((again.dropped, again.rejected), (0, 0), "{again:?}");
    training.assert_whole(&rest, run_id).await;
    assert_empty(copy.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_that_is_interrupted_goes_on_where_it_was() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut training = Training::new();
    let (mut job, stopped, url) = left_behind(&mut training, dir.path()).await;
    let run_id = job.run_id();
    // Closing says how it ended, which waits as well.
    job.run.submit(STEPS, Frame::new().scalar("loss", 0.0)).expect("a valid frame");
    let report = close(job).await;
    assert!(report.spooled > STEPS - 300 && report.undelivered == 0 && report.dropped == 0, "{report}");
    assert_eq!(report.settled + report.spooled, report.submitted, "{report}");
    let words = report.to_string();
    assert!(words.contains(&format!("wait in {}", dir.path().display())), "{words}");
    assert!(words.contains("gradwatch sync"), "{words}");
    assert!(report.reason.is_some_and(|reason| reason.contains("not confirmed")), "{words}");

    let mut server = stopped.start().await;
    let left = the_one(dir.path());
    let interrupted = tokio::spawn({
        let (left, url) = (left.clone(), url.clone());
        async move { deliver(&left, &url).await }
    });
    server = server.restart().await;
    server = server.restart().await;
    let delivered = interrupted.await.expect("it does not panic").expect("the server comes back");
    assert!(delivered.finished, "{delivered:?}");
    let run = server.rest().get(&format!("/api/v1/runs/{run_id}")).await;
    assert_eq!((&run["state"], &run["counters"]["steps"]), (&"finished".into(), &(STEPS + 1).into()), "{run}");
    assert_eq!(run["counters"]["dropped"], 0, "{run}");
    assert_empty(dir.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_away_or_wants_none_of_it_leaves_everything_where_it_is() {
    let (port, dir) = (ReservedPort::new(), tempfile::tempdir().expect("a folder"));
    let mut training = Training::new();
    let mut job = training.open_offline(&port.url(), dir.path());
    let run_id = job.run_id();
    training.train(&mut job, 50);
    close(job).await;
    let left = the_one(dir.path());

    let destination = Destination::new(port.url()).patience(Duration::from_millis(300));
    let attempt = left.clone();
    let away = tokio::task::spawn_blocking(move || attempt.deliver(&destination, |_| {})).await.expect("no panic");
    let Err(DeliverError::Stalled { cause: Some(cause), .. }) = away else { panic!("{away:?}") };
    assert!(cause.contains("refused"), "{cause}");
    assert_eq!(the_one(dir.path()), left);

    // A server that has no room for its window.
    let server = TestServer::start_with(|config| config.limits.max_window_bytes = 100).await;
    let refused = deliver(&left, &server.url()).await;
    let Err(DeliverError::Refused { reason }) = refused else { panic!("{refused:?}") };
    assert!(reason.contains("the limit is 100"), "{reason}");
    assert_eq!(the_one(dir.path()), left);

    let server = TestServer::start().await;
    let delivered = deliver(&left, &server.url()).await.expect("this one takes it");
    assert_eq!((delivered.settled, delivered.finished), (50, true));
    training.assert_whole(&server.rest(), run_id).await;

    // A run that was deleted is not made anew by what waits of it.
    let mut training = Training::new();
    let (job, stopped, url) = left_behind(&mut training, dir.path()).await;
    let run_id = job.run_id();
    drop(job);
    let_go(dir.path()).await;
    let server = stopped.start().await;
    let path = format!("/api/v1/runs/{run_id}");
    server.rest().call(http::Method::DELETE, &path, "").await;
    let refused = deliver(&the_one(dir.path()), &url).await;
    let Err(DeliverError::Refused { reason }) = refused else { panic!("{refused:?}") };
    assert!(reason.contains("gone") || reason.contains("deleted"), "{reason}");
    assert_eq!(the_one(dir.path()).run_id, run_id);
}

/// What comes to one address goes to another.
async fn forward(from: SocketAddr, to: SocketAddr) {
    let listener = tokio::net::TcpListener::bind(from).await.expect("the port is free");
    tokio::spawn(async move {
        while let Ok((mut here, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut there = tokio::net::TcpStream::connect(to).await.expect("the server is there");
                let _ = tokio::io::copy_bidirectional(&mut here, &mut there).await;
            });
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_sent_while_the_job_is_cut_off_is_what_the_job_has_sent() {
    let (port, dir) = (ReservedPort::new(), tempfile::tempdir().expect("a folder"));
    let server = TestServer::start().await;
    let mut training = Training::new();
    let mut job = training.open(&port.url(), dir.path());
    let run_id = job.run_id();
    training.train(&mut job, 1_000);
    spooled(&job, 1_000).await;
    let copy = copy(&the_one(dir.path()), dir.path());
    let delivered = deliver(&the_one(copy.path()), &server.url()).await.expect("the server takes it");
    assert_eq!(delivered.settled, 1_000, "{delivered:?}");
    training.train(&mut job, 100);
    forward(port.address(), server.address()).await;
    let report = job.close().await;
    assert_eq!((report.settled, report.reason), (1_100, None));
    training.assert_whole(&server.rest(), run_id).await;
    assert_empty(dir.path());
}

/// A child that does nothing, until it is ended.
struct Child(Pid);

impl Child {
    #[expect(unsafe_code, reason = "forking is unsafe in a process with threads")]
    fn fork() -> Self {
        // SAFETY: the child calls `pause` alone, which allocates nothing and takes no lock.
        match unsafe { fork() }.expect("a child") {
            ForkResult::Parent { child } => Self(child),
            ForkResult::Child => loop {
                pause();
            },
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = signal::kill(self.0, signal::SIGKILL);
        let _ = waitpid(self.0, None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_outlives_its_job_does_not_hold_the_spool() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut training = Training::new();
    let mut job = training.open_offline("http://127.0.0.1:9", dir.path());
    training.train(&mut job, 20);
    spooled(&job, 20).await;
    // Has what its parent has open, as a worker that loads data does.
    let child = Child::fork();
    assert!(the_one(dir.path()).live);
    drop(job);
    let_go(dir.path()).await;
    let server = TestServer::start().await;
    let delivered = deliver(&the_one(dir.path()), &server.url()).await.expect("the server takes it");
    assert_eq!(delivered.settled, 20, "{delivered:?}");
    assert_empty(dir.path());
    drop(child);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_resumes_an_attempt_that_could_not_be_declared_waits_for_it() {
    let (dir, data_dir) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let mut training = Training::new();
    let mut job = training.open_offline("http://127.0.0.1:9", dir.path());
    let (run_id, first) = (job.run_id(), job.run.attempt_id());
    training.train(&mut job, 20);
    drop(job);
    let_go(dir.path()).await;

    let store = SqliteStore::open(data_dir.path()).await.expect("a store");
    let store = Arc::new(FaultyStore::new(Arc::new(store)));
    let server = CrashingServer::start(Arc::clone(&store) as Arc<dyn Store>, data_dir.path(), |_| {}).await;
    // That of the attempt that waits.
    store.plan([], [Planned { after: 0, fault: Fault::Before }]);
    let mut job = Job::open_with(&server.url(), &training.options, |builder| {
        builder.run_id(run_id).resume_from(first, 19).spool(Spool::new(dir.path()))
    });
    training.train(&mut job, 10);
    let report = job.close().await;
    assert_eq!((report.settled, report.reason), (10, None));
    let delivered = deliver(&the_one(dir.path()), &server.url()).await.expect("the server takes it");
    assert_eq!(delivered.settled, 20, "{delivered:?}");
    server.stop().await;
}
