//! Shutdown with everything open: settled frames are acknowledged, everybody is told, and it ends.

use gradwatch_proto::v1::{OpenRunRequest, server_message::Message};
use gradwatch_server::Drained;
use gradwatch_tests::{Peer, PeerStream, SseStream, TestServer, frame, open_request, spec};

const CONNECTIONS: usize = 10;
const STREAMS: usize = 200;
const LISTENERS: usize = 50;

/// What a stream was told until its end.
struct Told {
    acknowledged_seq: u64,
    drained: bool,
}

async fn read_to_end(mut stream: PeerStream, mut acknowledged_seq: u64) -> Told {
    let mut drained = false;
    loop {
        match stream.next().await.expect("the stream ends without an error") {
            Some(Message::Ack(ack)) => {
                assert!(ack.committed_seq >= acknowledged_seq, "the mark never falls");
                acknowledged_seq = ack.committed_seq;
            }
            Some(Message::Drain(drain)) => {
                assert!(drain.reconnect_after_ms > 0);
                drained = true;
            }
            Some(other) => panic!("{other:?}"),
            None => return Told { acknowledged_seq, drained },
        }
    }
}

/// Opens streams of runs of their own, several a connection.
async fn open_streams(url: &str) -> Vec<(OpenRunRequest, PeerStream)> {
    let mut streams = Vec::with_capacity(STREAMS);
    for _ in 0..CONNECTIONS {
        let mut peer = Peer::connect(url).await;
        for _ in 0..STREAMS / CONNECTIONS {
            let request = open_request(spec());
            let (stream, _) = peer.open(&request).await.expect("opened");
            streams.push((request, stream));
        }
    }
    streams
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_settles_acknowledges_and_tells_everybody() {
    // Room for a debug build on a busy machine; what counts is that nothing has to be cut off.
    let server = TestServer::start_with(|config| config.shutdown_deadline_s = 60).await;
    let mut streams = open_streams(&server.url()).await;
    let mut listeners: Vec<SseStream> = Vec::with_capacity(LISTENERS);
    for _ in 0..LISTENERS {
        // A connection each, as browsers have.
        listeners.push(server.rest().events("/api/v1/stream", None).await);
    }
    for (_, stream) in &mut streams {
        stream.frames((1..=3).map(|seq| frame(seq, seq)).collect()).await;
        stream.acknowledged(3).await;
    }
    // These are anywhere between the client and the database when the shutdown starts.
    for (_, stream) in &streams {
        stream.frames((4..=8).map(|seq| frame(seq, seq)).collect()).await;
    }
    server.start_shutdown();
    let mut told = Vec::with_capacity(STREAMS);
    for (request, stream) in streams {
        told.push((request, tokio::spawn(read_to_end(stream, 3))));
    }
    for mut listener in listeners {
        let mut last = None;
        while let Some(event) = listener.next().await {
            last = Some(event.event);
        }
        assert_eq!(last.as_deref(), Some("drain"));
    }
    let (drained, stopped) = server.stop().await;
    assert_eq!(drained, Drained::Completely);

    let server = stopped.start().await;
    let mut peer = Peer::connect(&server.url()).await;
    for (request, told) in told {
        let told = told.await.expect("the stream was read to its end");
        assert!(told.drained, "a stream ended without a word");
        let (_stream, opened) = peer.open(&request).await.expect("opened again");
        assert_eq!(opened.committed_seq, told.acknowledged_seq, "what was acknowledged is what is settled");
        let steps = server.rest().all(&format!("/api/v1/runs/{}/steps?limit=500", request.run_id)).await;
        assert_eq!(steps.len() as u64, told.acknowledged_seq);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_drains_takes_nobody_new() {
    let server = TestServer::start().await;
    let mut peer = Peer::connect(&server.url()).await;
    let request = open_request(spec());
    let (stream, _) = peer.open(&request).await.expect("opened");
    server.start_shutdown();
    assert!(read_to_end(stream, 0).await.drained);
    // On the old connection, if it is still there, and on a new one.
    assert!(peer.open_run(&open_request(spec())).await.is_err());
    assert!(tokio::net::TcpStream::connect(server.address()).await.is_err());
    assert_eq!(server.shutdown().await, Drained::Completely);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_reads_holds_nothing_up() {
    let server = TestServer::start_with(|config| config.shutdown_deadline_s = 1).await;
    // A stream takes in one byte until it is read, which never happens again after Opened.
    let mut deaf = Peer::connect_with_window(&server.url(), 1).await;
    let request = open_request(spec());
    let (stream, _) = deaf.open(&request).await.expect("opened");
    stream.frames((1..=500).map(|seq| frame(seq, seq)).collect()).await;
    let (good_request, mut good) = (open_request(spec()), Peer::connect(&server.url()).await);
    let (mut good_stream, _) = good.open(&good_request).await.expect("opened");
    good_stream.frames((1..=10).map(|seq| frame(seq, seq)).collect()).await;
    good_stream.acknowledged(10).await;
    let path = format!("/api/v1/runs/{}", request.run_id);
    server.rest().until(&path, "all its steps", |run| run["last_step"] == 500).await;

    // That this returns at all is what is tested: whatever is cut off, the shutdown ends.
    let ended = server.shutdown().await;
    assert!(matches!(ended, Drained::Completely | Drained::CutOff), "{ended:?}");
    assert!(read_to_end(good_stream, 10).await.drained, "others are told all the same");
    drop(stream);
}
