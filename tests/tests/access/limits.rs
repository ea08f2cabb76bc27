//! What one token may send.

use std::time::Duration;

use gradwatch_proto::v1;
use gradwatch_tests::frame;
use http::Method;
use tokio::time::sleep;
use tonic::Code;
use tonic_types::StatusExt;

use crate::{
    projects::Stream,
    server::{BOOTSTRAP, admin, run_of, start, telemetry, token},
};

#[tokio::test(flavor = "multi_thread")]
async fn too_many_requests_are_told_when_to_come_back() {
    let server = start(|config| config.access.requests_per_s = 1).await;
    let rest = admin(&server);
    let refusal = loop {
        let (head, body) = rest.exchange(Method::GET, "/api/v1/runs", "").await;
        if head.status == 429 {
            let problem: serde_json::Value = serde_json::from_str(&body).expect("JSON");
            assert_eq!(problem["code"], "resource_exhausted");
            break head;
        }
        assert_eq!(head.status, 200, "{body}");
    };
    let seconds: u64 = refusal.headers["retry-after"].to_str().unwrap().parse().expect("whole seconds");
    assert!(seconds >= 1);
    // What is open stays open, whatever it costs others.
    assert_eq!(server.rest().call(Method::GET, "/healthz", "").await.0, 200);

    let mut peer = telemetry(&server, Some(BOOTSTRAP)).await;
    let run = run_of("alpha");
    let refused = loop {
        if let Err(status) = peer.open_run(run.clone()).await {
            break status;
        }
    };
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    let delay = refused.get_details_retry_info().and_then(|info| info.retry_delay).expect("a delay");
    assert!(delay <= Duration::from_secs(1), "{delay:?}");
    sleep(delay).await;
    peer.open_run(run).await.expect("after the delay");
    server.shutdown().await;
}

/// A frame of about `bytes`.
fn large(seq: u64, bytes: usize) -> v1::Frame {
    let scalars = (0..bytes / 250).map(|number| (format!("{number:0>240}"), 1.0)).collect();
    v1::Frame { scalars, ..frame(seq, seq) }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_bytes_are_refused_and_less_passes() {
    let server = start(|config| {
        config.limits.max_message_bytes = 1 << 16;
        // A message passes at once; the next one only when another 50 kB of allowance have grown.
        config.access.frame_bytes_per_s = 1_024;
    })
    .await;
    let text = token(&admin(&server), None, &["ingest"]).await;
    let mut peer = telemetry(&server, Some(&text)).await;
    let run = run_of("alpha");
    peer.open_run(run.clone()).await.expect("opened");
    let mut stream = Stream::open(&mut peer, &run).await.expect("opened");
    let mut seq = 0;
    let refused = loop {
        seq += 1;
        stream.frames(vec![large(seq, 60_000)]).await;
        if let Err(status) = stream.acknowledged(seq).await {
            break status;
        }
    };
    assert!(seq > 1, "the first message passes");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert!(refused.message().contains("access.frame_bytes_per_s"), "{refused:?}");
    let delay = refused.get_details_retry_info().and_then(|info| info.retry_delay).expect("a delay");
    assert!(delay > Duration::ZERO && delay <= Duration::from_secs(64), "{delay:?}");
    // The refused frame is not lost: it can come again, and a smaller one passes at once. Another token never waited.
    let mut stream = Stream::open(&mut peer, &run).await.expect("opened again");
    stream.frames(vec![frame(seq, seq)]).await;
    stream.acknowledged(seq).await.expect("settled");
    let mut other = telemetry(&server, Some(BOOTSTRAP)).await;
    let run = run_of("beta");
    other.open_run(run.clone()).await.expect("opened");
    let mut stream = Stream::open(&mut other, &run).await.expect("opened");
    stream.frames(vec![large(1, 60_000)]).await;
    stream.acknowledged(1).await.expect("settled");
    server.shutdown().await;
}
