//! The real process: what it takes from its environment, and what it says.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command},
};

use gradwatch_tests::{Job, JobOptions, PATIENCE, Rest, binary, random_walk};
use http::Method;
use tokio::time::{sleep, timeout};

use crate::server::{BOOTSTRAP, create};

/// A server that logs everything it can to a file.
struct Talkative {
    child: Child,
    url: String,
}

impl Talkative {
    async fn start(dir: &Path, log: &Path) -> Self {
        let child = Command::new(binary())
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(dir)
            .env("GRADWATCH_LOG__FORMAT", "json")
            .env("GRADWATCH_LOG__FILTER", "trace")
            .env("GRADWATCH_ACCESS__REQUIRE_TOKENS", "true")
            .env("GRADWATCH_BOOTSTRAP_TOKEN", BOOTSTRAP)
            .stderr(File::create(log).expect("a file"))
            .spawn()
            .expect("the binary starts");
        let listening = async {
            loop {
                let text = std::fs::read_to_string(log).expect("text");
                let entries = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
                let mut listening = entries.filter(|entry| entry["fields"]["message"] == "listening");
                if let Some(entry) = listening.next() {
                    return format!("http://{}", entry["fields"]["address"].as_str().expect("an address"));
                }
                sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        let url = timeout(PATIENCE, listening).await.expect("it listens");
        Self { child, url }
    }
}

impl Drop for Talkative {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_is_ever_logged() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let log = dir.path().join("log");
    let mut server = Talkative::start(&dir.path().join("data"), &log).await;
    let rest = Rest::new(&server.url);
    let admin = rest.with_token(BOOTSTRAP);
    let made = create(&admin, Some("tests"), &["ingest", "read"]).await;
    let text = made["token"].as_str().expect("a token");
    let wrong = "gw_wrong_token_that_nobody_ever_made";
    assert_eq!(rest.with_token(wrong).refused("/api/v1/runs").await.0, 401);
    let mut job = Job::open_with(&server.url, &JobOptions::default(), |builder| builder.token(text));
    for (step, parameters) in random_walk(1, 5, 5_000).iter().enumerate() {
        job.submit(step as u64, parameters);
    }
    job.close().await;
    let path = format!("/api/v1/tokens/{}", made["token_id"].as_str().expect("an id"));
    assert_eq!(admin.call(Method::DELETE, &path, "").await.0, 200);
    let term = Command::new("kill").args(["-TERM", &server.child.id().to_string()]).status();
    assert!(term.expect("kill runs").success());
    server.child.wait().expect("it ends");

    let log = std::fs::read_to_string(&log).expect("text");
    // It has told everything else.
    for told in ["TRACE", "token created", "token revoked", "bootstrap token created"] {
        assert!(log.contains(told), "{told}");
    }
    for secret in [BOOTSTRAP, text, wrong] {
        let line = log.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{line:?}");
    }
}
