//! Signatures, verified by others: the package `standardwebhooks` of PyPI, and what the documentation tells a receiver to
//! do.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use gradwatch_tests::{Backend, binary};
use serde_json::json;

use crate::{
    mock::{Mock, Received},
    world::{World, firing},
};

const OLD: &str = "whsec_b2xkIHNlY3JldCBvZiBhIHRlc3QsIDI0IGJ5dGVz";
const NEW: &str = "whsec_bmV3IHNlY3JldCBvZiBhIHRlc3QsIDI0IGJ5dGVz";
const OTHER: &str = "whsec_b3RoZXIgc2VjcmV0IG9mIGEgdGVzdCwgYnl0ZXM=";

/// A message signed with two secrets.
async fn signed() -> Received {
    let mock = Mock::taking().await;
    let definition = json!({"webhook": {"url": mock.url(), "secrets": [NEW, OLD]}});
    let world = World::start(Backend::Sqlite, &[("r", definition)]).await;
    world.record(vec![firing("r", "gap", 1)]).await;
    let received = mock.requests(1).await.remove(0);
    world.delivered(1).await;
    world.stop().await;
    received
}

/// Runs a program that gets the body as its input.
fn run(command: &mut Command, body: &str) -> Output {
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    // A program that refuses its arguments reads nothing.
    let _ = child.stdin.take().expect("a pipe").write_all(body.as_bytes());
    child.wait_with_output().expect("it ends")
}

/// The code block of docs/alerts.md that begins with this line.
fn documented(first_line: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/alerts.md");
    let text = std::fs::read_to_string(path).expect("docs/alerts.md");
    let blocks = text.split("```").skip(1).step_by(2).filter_map(|block| Some(block.split_once('\n')?.1));
    let mut found = blocks.filter(|block| block.starts_with(first_line));
    found.next().unwrap_or_else(|| panic!("docs/alerts.md has no block {first_line:?}")).to_owned()
}

/// What each of them says of messages that are right, and of those that are not.
fn assert_verifies(received: &Received, what: &str, verify: impl Fn(&str, &Received) -> Output) {
    let says = |secret: &str, received: &Received| {
        let output = verify(secret, received);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), format!("{what}: {}{}", text(&output.stdout), text(&output.stderr)))
    };
    for secret in [NEW, OLD] {
        let (verifies, said) = says(secret, received);
        assert!(verifies, "{said}");
    }
    let changed = |change: &dyn Fn(&mut Received)| {
        let mut changed = received.clone();
        change(&mut changed);
        changed
    };
    let header = |name: &str, value: &str| changed(&|it| drop(it.headers.insert(name.to_owned(), value.to_owned())));
    for (what, secret, wrong) in [
        ("another secret", OTHER, received.clone()),
        ("another body", NEW, changed(&|it| it.body = it.body.replace("gap", "gab"))),
        ("another id", NEW, header("webhook-id", "8a0ba1a5-5b9c-4c2b-9d3f-0d7b6f7b7c11")),
        ("an old time", NEW, header("webhook-timestamp", "1700000000")),
        ("another signature", NEW, header("webhook-signature", "v1,AAAA")),
    ] {
        let (verifies, said) = says(secret, &wrong);
        assert!(!verifies, "{what} verifies: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_verify_with_an_independent_implementation() {
    let profile = binary().parent().expect("target/<profile>").to_owned();
    let python: PathBuf = profile.parent().expect("target").join("tools/standardwebhooks/bin/python");
    assert!(python.is_file(), "{} is missing: run `cargo xtask test`, which installs it", python.display());
    let program = "
import json, sys
from standardwebhooks.webhooks import Webhook
Webhook(sys.argv[1]).verify(sys.stdin.buffer.read().decode(), json.loads(sys.argv[2]))
";
    assert_verifies(&signed().await, "standardwebhooks", |secret, received| {
        let headers = serde_json::to_string(&received.headers).expect("JSON");
        run(Command::new(&python).args(["-c", program, secret, &headers]), &received.body)
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_verify_as_documented_in_python() {
    let program = documented("# verify.py")
        + "
import json, sys
sys.exit(0 if verify([sys.argv[1]], json.loads(sys.argv[2]), sys.stdin.buffer.read()) else 1)
";
    assert_verifies(&signed().await, "verify.py", |secret, received| {
        let headers = serde_json::to_string(&received.headers).expect("JSON");
        run(Command::new("python3").args(["-c", &program, secret, &headers]), &received.body)
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_verify_as_documented_in_bash() {
    let program = documented("# verify.sh");
    assert_verifies(&signed().await, "verify.sh", |secret, received| {
        let header = |name: &str| received.headers[name].clone();
        let arguments =
            [secret.to_owned(), header("webhook-id"), header("webhook-timestamp"), header("webhook-signature")];
        run(Command::new("bash").args(["-c", &program, "verify.sh"]).args(arguments), &received.body)
    });
}
