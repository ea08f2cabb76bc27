//! Layers as a stream spec declares them.

use gradwatch_proto::v1::{Layer, LayerInstrument, StreamSpec};
use gradwatch_tests::{Peer, TestServer, assert_status, open_request};
use tonic::Code;

use super::made::spec;

type Change = fn(&mut StreamSpec);

fn wrong() -> Vec<(Change, &'static str, &'static str)> {
    vec![
        (|it| it.layers[0].name.clear(), "spec.layers[0].name", "must not be empty"),
        (|it| it.layers[0].name = "a\0b".into(), "spec.layers[0].name", "NUL"),
        (|it| it.layers[1].instrument = LayerInstrument::Cascade.into(), "spec.layers[1].name", "declared twice"),
        (|it| it.layers[1].instrument = 0, "spec.layers[1].instrument", "must be"),
        (|it| it.layers[1].instrument = 77, "spec.layers[1].instrument", "must be"),
        (|it| it.layers[0].width = 3, "spec.layers[0].width", "must be 0"),
        (|it| it.layers[2].width = 0, "spec.layers[2].width", "not between 1 and 65536"),
        (|it| it.layers[2].width = 65_537, "spec.layers[2].width", "not between 1 and 65536"),
        (|it| it.layers[3].width = 1_025, "spec.layers[3].width", "not between 1 and 1024"),
        (|it| it.layers[3].activation = "swish".into(), "spec.layers[3].activation", "tanh"),
        (|it| it.layers[3].activation.clear(), "spec.layers[3].activation", "tanh"),
        (|it| it.layers[0].activation = "tanh".into(), "spec.layers[0].activation", "must be empty"),
        (
            |it| {
                let layer = |index: usize| Layer { name: format!("layer {index}"), ..it.layers[0].clone() };
                it.layers = (0..65).map(layer).collect();
            },
            "spec.layers",
            "65 layers; the limit is 64",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_layer_is_refused_by_field() {
    let server = TestServer::start().await;
    let mut peer = Peer::connect(&server.url()).await;
    for (change, field, part) in wrong() {
        let mut spec = spec();
        change(&mut spec);
        let status = peer.open_run(&open_request(spec)).await.expect_err(field);
        assert_status(&status, Code::InvalidArgument, field, part);
    }
    assert_eq!(server.rest().get("/api/v1/runs").await["items"], serde_json::json!([]));
    let good = open_request(spec());
    peer.open_run(&good).await.expect("the good ones");
    // Of the same attempt the layers stay the same.
    let mut changed = good.clone();
    changed.spec.as_mut().expect("a spec").layers.pop();
    let status = peer.open_run(&changed).await.expect_err("another spec");
    assert_status(&status, Code::FailedPrecondition, "spec.layers", "differs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_may_have_an_instrument_switched_off() {
    let server = TestServer::start_with(|config| {
        let own = serde_json::json!({ "instruments": { "curvature": false } });
        config.projects.insert("tests".into(), serde_json::from_value(own).expect("a project"));
        config.instruments.cascade = false;
    })
    .await;
    let mut peer = Peer::connect(&server.url()).await;
    let (mut other, mut all) = (open_request(spec()), open_request(spec()));
    other.spec.as_mut().expect("a spec").layers.remove(0);
    let status = peer.open_run(&other).await.expect_err("switched off for the project");
    assert_status(&status, Code::InvalidArgument, "spec.layers[0].instrument", "instruments.curvature");
    (other.project, all.project) = ("others".into(), "others".into());
    peer.open_run(&other).await.expect("others have it");
    let status = peer.open_run(&all).await.expect_err("switched off for all");
    assert_status(&status, Code::InvalidArgument, "spec.layers[0].instrument", "instruments.cascade");
}
