//! Mistakes in a call are named, and leave no trace.

use gradwatch_client::{Frame, Kind, Launch, Run, RunBuilder, SubmitError};

use crate::peer::{Peer, Script};
use crate::{assert_all_settled, small_run, submit, weights};

#[track_caller]
fn open_error(builder: RunBuilder) -> String {
    builder.open().expect_err("this must be refused").to_string()
}

#[test]
fn the_builder_names_the_argument() {
    let run = || small_run("http://127.0.0.1:9");
    let long = "x".repeat(257);
    for (builder, message) in [
        (Run::builder("http://h").project("p").name("n"), "group: none was declared"),
        (small_run("ftp://host"), r#"server: "ftp://host" is not of the form http://host:port"#),
        (run().project(""), "project: is empty"),
        (run().name("a\0b"), "name: holds a control character"),
        (run().label(long, ""), "is longer than 256 bytes"),
        (run().label("k", "\0"), r#"label "k": its value holds a control character"#),
        (run().config(serde_json::json!([1])), "config: is not a JSON object"),
        (run().config(serde_json::json!({"a": ["\0"]})), "config: holds a NUL character"),
        (run().group("all", [("w", 1)]), r#"group "all": was given twice"#),
        (run().group("b", [("", 1)]), r#"group "b": tensor "": is empty"#),
        (run().group("b", [("w", 0)]), r#"group "b": tensor "w": has no elements"#),
        (run().group("b", [("w", 1), ("w", 2)]), r#"group "b": tensor "w": was given twice"#),
        (run().group("b", [("w", 1); 0]), r#"group "b": has no tensors"#),
        (run().window(2), "window: 2 is not between 3 and 64"),
        (run().window(5).window(5), "window: 5 was given twice"),
        (run().sketch_dim(100), "sketch_dim: d: 100 is not a power of two"),
        (run().update_interval(0), "update_interval: is zero"),
        (run().kinds([]), "kinds: is empty"),
        (run().kinds([Kind::Update, Kind::Update]), "kinds: update was given twice"),
        (run().unrelated().resume_from(gradwatch_client::Uuid::nil(), 1), "unrelated: contradicts resume_from"),
        (run().shard(0, 2), "launch: is missing"),
        (run().launch(Launch::new()).shard(2, 2), "shard: index 2 is not below count 2"),
        (run().launch(Launch::new()).shard(0, 0), "shard: count 0 is not between 1 and 1024"),
        (run().launch(Launch::new()).run_id(gradwatch_client::Uuid::nil()), "run_id: is not that of the launch"),
        (run().stall_timeout(std::time::Duration::ZERO), "stall_timeout: "),
        (run().close_timeout(std::time::Duration::MAX), "close_timeout: "),
    ] {
        let error = open_error(builder);
        assert!(error.contains(message), "{error:?} does not say {message:?}");
    }
}

#[test]
fn the_figure_that_a_small_buffer_is_refused_with_is_enough() {
    let run = || small_run("http://127.0.0.1:9").window(20);
    let error = open_error(run().buffer_bytes(1000));
    let needed: usize = error
        .strip_prefix("buffer_bytes: 1000 is too small; ")
        .and_then(|rest| rest.split(' ').next())
        .and_then(|needed| needed.parse().ok())
        .unwrap();
    assert!(error.contains("(21 frames of up to "), "{error}");
    open_error(run().buffer_bytes(needed - 1));
    let mut run = run().buffer_bytes(needed).close_timeout(std::time::Duration::ZERO).open().unwrap();
    submit(&mut run, 0..10);
}

#[test]
fn a_refused_submission_leaves_no_trace() {
    let peer = Peer::start(Script::default());
    let mut run: Run = small_run(&peer.url()).group("pair", [("a", 10), ("b", 10)]).open().unwrap();
    submit(&mut run, 0..2);
    let (ten, w) = (vec![1.0_f32; 10], weights(2));
    let long = "x".repeat(300);
    let names: Vec<String> = (0..1025).map(|i| i.to_string()).collect();
    let all = || Frame::new().parameters("all", [("w", &w)]);
    for (step, frame, message) in [
        (1 << 53, all(), "step: 9007199254740992 is not below 2^53"),
        (2, all().learning_rate(-0.5), "learning_rate: -0.5 is negative"),
        (2, all().group_optimizer("all", None, -1.0), "weight_decay: -1 is negative"),
        (2, all().scalar("", 1.0), r#"scalar "": is empty"#),
        (2, all().scalar(&long, 1.0), "is longer than 256 bytes"),
        (2, all().scalar("x", 1.0).scalar("x", 2.0), r#"scalar "x" was given twice"#),
        (
            2,
            names.iter().fold(all(), |frame, name| frame.scalar(name, 0.0)),
            "scalars: 1025 in one frame, at most 1024",
        ),
        (2, all().parameters("none", [("w", &w)]), r#"group "none" was not declared"#),
        (2, all().parameters("all", [("w", &w)]), r#"parameters of group "all" was given twice"#),
        (2, all().gradient("all", [("w", &w)]), "kind gradient was not declared"),
        (2, all().group_optimizer("none", 0.1, None), r#"group "none" was not declared"#),
        (2, all().parameters("pair", [("c", &ten)]), r#"group "pair" has no tensor "c""#),
        (2, all().parameters("pair", [("a", &ten)]), r#"group "pair": tensor "b" is missing"#),
        (2, all().parameters("pair", [("a", &ten[..9]), ("b", &ten[..])]), "what was given lacks element 9"),
        (
            2,
            all().parameters("pair", [("a", 0, &ten[..]), ("a", 3, &ten[..]), ("b", 0, &ten[..])]),
            "repeats element 3",
        ),
        (2, all().parameters("pair", [("a", 1, &ten[..9]), ("b", 0, &ten[..])]), "lacks element 0"),
        (2, all().parameters("pair", [("a", 0, &w[..]), ("b", 0, &ten[..])]), "goes past element 9"),
        (2, all().parameters("pair", [("a", u64::MAX, &ten[..]), ("b", 0, &ten[..])]), "lacks element 0"),
    ] {
        let error = run.submit(step, frame).expect_err(message).to_string();
        assert!(error.contains(message), "{error:?} does not say {message:?}");
    }
    submit(&mut run, 2..4);
    assert_all_settled(&run.close(), 4);
    let attempt = peer.checked_attempt(0);
    let base_steps: Vec<_> =
        attempt.frames.iter().map(|frame| frame.payloads.first().map(|payload| payload.base_step)).collect();
    assert_eq!(base_steps, [None, Some(0), Some(1), Some(2)]);
}

#[test]
fn a_frame_that_the_queue_has_no_room_for_is_refused() {
    let mut run = small_run("http://127.0.0.1:9")
        .window(3)
        .buffer_bytes(32 << 10)
        .close_timeout(std::time::Duration::ZERO)
        .open()
        .unwrap();
    let names: Vec<String> = (0..100).map(|i| format!("{i:0>100}")).collect();
    let frame = names.iter().fold(Frame::new(), |frame, name| frame.scalar(name, 0.0));
    let error = run.submit(0, frame).unwrap_err().to_string();
    assert!(error.contains("an eighth of buffer_bytes"), "{error}");
    assert_eq!(run.status().submitted, 0);
}

#[test]
fn a_shard_brings_what_it_owns_and_nothing_twice() {
    let builder = small_run("http://127.0.0.1:1").close_timeout(std::time::Duration::ZERO);
    let mut run = builder.launch(Launch::new()).shard(1, 2).open().unwrap();
    let values = [1.0_f32; 60];
    let mut step = 0;
    let mut submit = |slices: &[(&'static str, u64, &[f32])]| {
        step += 1;
        run.submit(step, Frame::new().parameters("all", slices))
    };
    let repeated = submit(&[("w", 0, &values), ("w", 40, &values)]).unwrap_err();
    assert!(matches!(repeated, SubmitError::Coverage { problem: "repeats", at: 40, .. }), "{repeated}");
    let beyond = submit(&[("w", 41, &values)]).unwrap_err();
    assert!(matches!(beyond, SubmitError::Coverage { problem: "goes past", at: 99, .. }), "{beyond}");
    assert_eq!(submit(&[("w", 40, &values)]), Ok(()));
    assert_eq!(submit(&[]), Ok(()), "it may own nothing of a group");
}
