//! Servers that are dead, frozen, mad or lying cost patience and nothing else.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use gradwatch_client::Run;

use crate::peer::{Lie, Peer, Script};
use crate::{assert_adds_up, assert_all_settled, small_run, submit, wait_until};

/// Closes against a server that will never answer: everything is undelivered, and the report says why.
fn close_in_vain(mut run: Run, connections: &AtomicUsize, wanted: usize) {
    submit(&mut run, 0..30);
    wait_until("it has tried again", || connections.load(SeqCst) >= wanted);
    let status = run.status();
    assert_eq!((status.settled, status.dropped, status.connected), (0, 0, false));
    let report = run.close();
    assert_eq!((report.submitted, report.undelivered), (30, 30));
    assert_adds_up(&report);
    let reason = report.reason.unwrap();
    assert!(reason.starts_with("the run's end was not confirmed within 100ms: "), "{reason}");
}

/// A TCP server that does as told with every connection, each in a thread of its own.
fn tcp_server(serve: impl Fn(std::net::TcpStream) + Send + Sync + 'static) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let (serve, count) = (Arc::new(serve), connections.clone());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            count.fetch_add(1, SeqCst);
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
    (url, connections)
}

fn impatient_run(url: &str) -> Run {
    let (close, stall) = (Duration::from_millis(100), Duration::from_millis(200));
    small_run(url).close_timeout(close).stall_timeout(stall).open().unwrap()
}

#[test]
fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    close_in_vain(impatient_run(&url), &AtomicUsize::new(0), 0);
}

#[test]
fn garbage_is_no_answer() {
    let (url, connections) = tcp_server(|mut stream| {
        let mut random = 1_u64;
        // Until the client has had enough.
        loop {
            let bytes: Vec<u8> = (0..1024)
                .map(|_| {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (random >> 56) as u8
                })
                .collect();
            if stream.write_all(&bytes).is_err() {
                return;
            }
        }
    });
    close_in_vain(impatient_run(&url), &connections, 3);
}

#[test]
fn silence_is_no_answer() {
    let (url, connections) = tcp_server(|mut stream| {
        let mut buffer = [0; 4096];
        while stream.read(&mut buffer).is_ok_and(|bytes| bytes > 0) {}
    });
    close_in_vain(impatient_run(&url), &connections, 3);
}

#[test]
fn a_server_that_stops_answering_is_left_and_loses_nothing() {
    let peer = Peer::start(Script { commits: false, ..Script::default() });
    let mut run = small_run(&peer.url()).stall_timeout(Duration::from_millis(200)).open().unwrap();
    submit(&mut run, 0..30);
    wait_until("it has connected anew", || peer.state().streams >= 3);
    assert_eq!(run.status().settled, 0);
    peer.change(|script| script.commits = true);
    assert_all_settled(&run.close(), 30);
    assert_eq!(peer.checked_attempt(0).frames.len(), 30);
}

#[test]
fn lies_end_the_stream_and_move_no_mark() {
    let lies = [
        Lie::AckBeyondSent,
        Lie::KeepBeyondAck,
        Lie::OpenedBeyondSent,
        Lie::ResendBeyondSent,
        Lie::ResendForever,
        Lie::RejectBeyondSent,
        Lie::OpenedTwice,
        Lie::AckBeforeOpened,
        Lie::EmptyMessage,
    ];
    for lie in lies {
        let peer = Peer::start(Script { keep: 2, ..Script::default() });
        let mut run = small_run(&peer.url()).open().unwrap();
        submit(&mut run, 0..30);
        wait_until("all is settled", || run.status().settled == 30);
        // From here on it lies, at the beginning of each new stream.
        peer.change(|script| {
            script.break_before = [31].into();
            script.lie = Some(lie);
        });
        submit(&mut run, 30..60);
        wait_until(&format!("it has met {lie:?} three times"), || peer.state().streams >= 4);
        let status = run.status();
        assert_eq!((status.settled, status.rejected, status.dropped), (30, 0, 0), "{lie:?}");
        peer.change(|script| script.lie = None);
        assert_all_settled(&run.close(), 60);
        assert_eq!(peer.checked_attempt(0).frames.len(), 60);
    }
}

/// Lets 30 frames be settled, and hands over more to a server that breaks the stream and is then what `fail` makes of
/// it: the client gives the attempt up with the reason that is answered.
fn give_up_for_good(fail: impl FnOnce(&mut Script)) -> String {
    let peer = Peer::start(Script::default());
    let mut run = small_run(&peer.url()).open().unwrap();
    submit(&mut run, 0..30);
    wait_until("all is settled", || run.status().settled == 30);
    peer.change(fail);
    submit(&mut run, 30..60);
    wait_until("the buffer is freed", || peer.state().streams == 2 && run.status().buffered_bytes == 0);
    submit(&mut run, 60..70);
    let report = run.close();
    assert_eq!((report.submitted, report.settled, report.undelivered), (70, 30, 40), "{report}");
    let state = peer.state();
    assert_eq!((state.opens, state.streams), (1, 2), "nothing was made anew, and nobody tries again");
    report.reason.unwrap()
}

#[test]
fn a_deleted_run_is_not_made_anew() {
    let reason = give_up_for_good(|script| script.delete_before = [31].into());
    assert_eq!(reason, "refused by the server: the run or attempt is gone from the server: no such run");
}

#[test]
fn a_server_that_lost_acknowledged_frames_is_left_for_good() {
    let reason = give_up_for_good(|script| {
        script.break_before = [31].into();
        script.lie = Some(Lie::OpenedBelowAcknowledged);
    });
    let lost = "the server has lost acknowledged frames: it has 29 of 30; was its data restored or deleted?";
    assert_eq!(reason, format!("refused by the server: {lost}"));
}
