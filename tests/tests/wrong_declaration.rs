//! What OpenRun and CloseRun say to declarations that are wrong, as docs/protocol.md promises it.

use gradwatch_proto::v1::{self, CloseRunRequest, Kind, OpenRunRequest, Outcome};
use gradwatch_tests::{Peer, TestServer, assert_status, frame, open_request, spec};
use tonic::Code;
use uuid::Uuid;

type Declared = fn(&mut OpenRunRequest);

fn declared_spec(request: &mut OpenRunRequest) -> &mut v1::StreamSpec {
    request.spec.as_mut().expect("a spec")
}

fn attempt(request: &mut OpenRunRequest) -> &mut v1::Attempt {
    request.attempt.as_mut().expect("an attempt")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_declaration_is_refused_with_its_field() {
    let server = TestServer::start().await;
    let mut peer = Peer::connect(&server.url()).await;
    let wrong: Vec<(Declared, &str, &str)> = vec![
        (|it| it.run_id = "4711".into(), "run_id", "not a UUID"),
        (|it| attempt(it).attempt_id = String::new(), "attempt.attempt_id", "not a UUID"),
        (|it| it.attempt = None, "attempt", "missing"),
        (|it| it.spec = None, "spec", "missing"),
        (|it| it.project = String::new(), "project", "empty"),
        (|it| it.project = "a\0".into(), "project", "NUL"),
        (|it| it.name = "a\0".into(), "name", "NUL"),
        (|it| it.name = "n".repeat(257), "name", "the limit is 256"),
        (|it| it.writer_id = String::new(), "writer_id", "empty"),
        (|it| it.labels = [("a\0".into(), "b".into())].into(), r#"labels["a\0"]"#, "NUL"),
        (|it| it.labels = [("a".into(), "b\0".into())].into(), r#"labels["a"]"#, "NUL"),
        (
            |it| it.labels = (0..65).map(|n| (n.to_string(), "v".into())).collect(),
            "labels",
            "65 labels; the limit is 64",
        ),
        (|it| it.config_json = "{".into(), "config_json", "EOF"),
        (|it| it.config_json = "[]".into(), "config_json", "not a JSON object"),
        (|it| it.config_json = r#"{"a": "\u0000"}"#.into(), "config_json", "NUL"),
        (|it| declared_spec(it).sketch_dim = 100, "spec.sketch_dim", "power of two"),
        (|it| declared_spec(it).sketch_dim = 32, "spec.sketch_dim", "between 64 and 65536"),
        (|it| declared_spec(it).sketch_dim = 1 << 17, "spec.sketch_dim", "between 64 and 65536"),
        (|it| declared_spec(it).sketch_dim = 0, "spec.sketch_dim", "power of two"),
        (|it| declared_spec(it).encoding = 0, "spec.encoding", "must be"),
        (|it| declared_spec(it).update_interval = 0, "spec.update_interval", "at least 1"),
        (|it| declared_spec(it).kinds.clear(), "spec.kinds", "at least one"),
        (|it| declared_spec(it).kinds.push(Kind::Update.into()), "spec.kinds", "twice"),
        (|it| declared_spec(it).window_lengths.clear(), "spec.window_lengths", ""),
        (|it| declared_spec(it).window_lengths = vec![2], "spec.window_lengths", "2"),
        (|it| declared_spec(it).window_lengths = vec![65], "spec.window_lengths", "65"),
        (|it| declared_spec(it).window_lengths = vec![5, 5], "spec.window_lengths", ""),
        (|it| declared_spec(it).groups.clear(), "spec.groups", "0 groups"),
        (|it| declared_spec(it).groups[0].name = "g\0".into(), "spec.groups[0].name", "NUL"),
        (|it| declared_spec(it).groups[0].tensors[0].name = "t\0".into(), "spec.groups[0].tensors[0].name", "NUL"),
        (|it| declared_spec(it).groups[0].tensors[0].elements = 0, "spec.groups[0].tensors", "no parameters"),
        (|it| declared_spec(it).groups[0].tensors[0].elements = 1 << 53, "spec.groups[0].tensors[0].elements", "2^53"),
        (
            |it| {
                let group = declared_spec(it).groups[0].clone();
                declared_spec(it).groups.push(group);
            },
            "spec.groups[1].name",
            "twice",
        ),
        (
            |it| attempt(it).resumes = Some(v1::Resumes { attempt_id: Uuid::new_v4().into(), step: 1 << 53 }),
            "attempt.resumes.step",
            "2^53",
        ),
        (
            |it| attempt(it).resumes = Some(v1::Resumes { attempt_id: "x".into(), step: 1 }),
            "attempt.resumes.attempt_id",
            "not a UUID",
        ),
        // Window memory, with the product named: 100 groups of W = 63, d = 65,536 over 256 MiB.
        (
            |it| {
                let spec = declared_spec(it);
                (spec.sketch_dim, spec.window_lengths) = (65_536, vec![3, 63]);
                spec.groups = (0..100).map(|n| gradwatch_tests::group_spec(&n.to_string())).collect();
            },
            "spec",
            "100 groups x 1 kinds x 64 rows x 65536 x 4 bytes = 1677721600 bytes; the limit is 268435456",
        ),
    ];
    for (change, field, part) in wrong {
        let mut request = open_request(spec());
        change(&mut request);
        let status = peer.open_run(&request).await.expect_err(field);
        assert_status(&status, Code::InvalidArgument, field, part);
    }
    let wrong_shards = [
        (0, 0, "shard_count", "0 is not between 1 and 1024"),
        (0, 1_025, "shard_count", "1025 is not between 1 and 1024"),
        (1, 1, "shard", "1 is not below shard_count (1)"),
        (2, 2, "shard", "2 is not below shard_count (2)"),
    ];
    for (shard, shard_count, field, part) in wrong_shards {
        let request = OpenRunRequest { shard, shard_count, ..open_request(spec()) };
        let status = peer.open_run(&request).await.expect_err(field);
        assert_status(&status, Code::InvalidArgument, field, part);
    }
    let runs = server.rest().get("/api/v1/runs").await;
    assert_eq!(runs["items"], serde_json::json!([]), "nothing refused leaves a run behind");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_keeps_its_writer_and_its_declaration() {
    let server = TestServer::start().await;
    let mut peer = Peer::connect(&server.url()).await;
    let request = open_request(spec());
    assert_eq!(peer.open_run(&request).await.unwrap(), 1);
    assert_eq!(peer.open_run(&request).await.unwrap(), 1, "idempotent");

    let second = OpenRunRequest { writer_id: "a second process".into(), ..request.clone() };
    assert_status(&peer.open_run(&second).await.unwrap_err(), Code::AlreadyExists, "writer_id", "");
    let changes: Vec<(Declared, &str)> = vec![
        (|it| declared_spec(it).sketch_dim = 128, "spec.sketch_dim"),
        (|it| declared_spec(it).sketch_seed += 1, "spec.sketch_seed"),
        (|it| declared_spec(it).encoding = v1::Encoding::F16.into(), "spec.encoding"),
        (|it| declared_spec(it).window_lengths.push(5), "spec.window_lengths"),
        (|it| declared_spec(it).groups[0].tensors[0].elements += 1, "spec.groups"),
        (|it| declared_spec(it).kinds.push(Kind::Gradient.into()), "spec.kinds"),
        (|it| declared_spec(it).update_interval = 2, "spec.update_interval"),
        (
            |it| attempt(it).resumes = Some(v1::Resumes { attempt_id: Uuid::new_v4().into(), step: 1 }),
            "attempt.resumes",
        ),
        (|it| it.project = "another".into(), "project"),
    ];
    for (change, field) in changes {
        let mut changed = request.clone();
        change(&mut changed);
        assert_status(&peer.open_run(&changed).await.expect_err(field), Code::FailedPrecondition, field, "");
    }
    let (mut stream, _) = peer.open(&request).await.unwrap();
    stream.frames(vec![frame(1, 1)]).await;
    stream.acknowledged(1).await;

    // CloseRun.
    let close = |run_id: String, outcome: i32| CloseRunRequest { run_id, outcome };
    let finished = i32::from(Outcome::Finished);
    for (request, code, field) in [
        (close("x".into(), finished), Code::InvalidArgument, "run_id"),
        (close(request.run_id.clone(), 0), Code::InvalidArgument, "outcome"),
        (close(Uuid::new_v4().into(), finished), Code::NotFound, "run_id"),
    ] {
        let status = peer.telemetry.close_run(request).await.unwrap_err();
        assert_status(&status, code, field, "");
    }
}
