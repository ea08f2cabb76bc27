//! Promise 11: a step that the database refuses again and again is left out, and its run goes on, as do all others.

use std::sync::Arc;

use gradwatch_proto::v1::{Frame, RejectCode, server_message::Message};
use gradwatch_server::{config::Config, serve_on};
use gradwatch_store::sqlite::SqliteStore;
use gradwatch_tests::{FaultyStore, Peer, Rest, any_port, frame, open_request, spec};

/// A store that takes no step with a scalar of this name.
const POISON: &str = "poison";

fn poisoned(seq: u64) -> Frame {
    let mut frame = frame(seq, seq);
    if seq == 12 {
        frame.scalars.insert(POISON.into(), 1.0);
    }
    frame
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_the_database_refuses_is_left_out_and_the_run_goes_on() {
    let data_dir = tempfile::tempdir().expect("a temporary directory");
    let config = Config::embedded(any_port(), data_dir.path()).expect("the defaults are valid");
    let store = SqliteStore::open(data_dir.path()).await.expect("a store");
    let store = FaultyStore::new(Arc::new(store));
    store.poison_scalar(POISON);
    let server = serve_on(config, Arc::new(store)).await.expect("the server starts");
    let url = format!("http://{}", server.address());
    let request = open_request(spec());
    let mut peer = Peer::connect(&url).await;
    peer.open_run(&request).await.unwrap();
    let mut rejections = Vec::new();
    let mut committed_seq = 0;
    // A client in small: comes again as long as it is sent away, from where it is told to.
    while committed_seq < 40 {
        let Ok((mut stream, opened)) = peer.open_stream(&request).await else {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        stream.frames((opened.resend_from_seq..=40).map(poisoned).collect()).await;
        while committed_seq < 40 {
            match stream.next().await {
                Ok(Some(Message::Ack(ack))) => committed_seq = ack.committed_seq,
                Ok(Some(Message::Rejected(rejected))) => rejections.push((rejected.seq, rejected.code())),
                Ok(Some(other)) => panic!("{other:?}"),
                Ok(None) | Err(_) => break,
            }
        }
    }
    assert_eq!(rejections, [(12, RejectCode::Internal)]);
    let rest = Rest::new(&url);
    let run = format!("/api/v1/runs/{}", request.run_id);
    let steps = rest.all(&format!("{run}/steps?limit=1000")).await;
    let found: Vec<u64> = steps.iter().map(|step| step["step"].as_u64().expect("a step")).collect();
    assert_eq!(found, (1..=40).filter(|step| *step != 12).collect::<Vec<u64>>());
    let counters = &rest.get(&run).await["counters"];
    assert_eq!((&counters["steps"], &counters["rejected"]), (&39.into(), &1.into()));
    server.shutdown().await;
}
