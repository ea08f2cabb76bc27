//! The real client and its token: training goes on whatever the server says.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use gradwatch_client::Run;
use gradwatch_server::{access::Secret, config::Config, serve_on};
use gradwatch_store::{Scope, Store, Token, TokenId, sqlite::SqliteStore};
use gradwatch_tests::{Job, JobOptions, PATIENCE, any_port, random_walk};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::server::{admin, start, token};

/// Waits until the client says what is wrong.
async fn problem(run: &Run) -> String {
    let looking = async {
        loop {
            if let Some(problem) = run.problem() {
                return problem;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, looking).await.expect("a problem")
}

/// Trains from a step on.
fn submit(job: &mut Job, from_step: u64, steps: usize) {
    for (step, parameters) in (from_step..).zip(random_walk(1, steps, 5_000)) {
        job.submit(step, &parameters);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_with_a_token_is_delivered() {
    let server = start(|_| {}).await;
    let text = token(&admin(&server), Some("tests"), &["ingest"]).await;
    let mut job = Job::open_with(&server.url(), &JobOptions::default(), |builder| builder.token(&text));
    submit(&mut job, 0, 20);
    job.close().await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_made_later_heals_the_run() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut config = Config::embedded(any_port(), dir.path()).expect("valid");
    config.access.require_tokens = true;
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(dir.path()).await.expect("a store"));
    let server = serve_on(config, Arc::clone(&store)).await.expect("the server starts");
    let secret = Secret::generate();
    let url = format!("http://{}", server.address());
    let mut job = Job::open_with(&url, &JobOptions::default(), |builder| builder.token(secret.expose()));
    submit(&mut job, 0, 20);
    let problem = problem(&job.run).await;
    assert!(problem.contains("Unauthenticated"), "{problem}");
    assert!(!problem.contains(secret.expose()), "{problem}");
    let token = Token {
        token_id: TokenId(Uuid::new_v4()),
        name: "late".into(),
        project: None,
        scopes: BTreeSet::from([Scope::Ingest]),
        created_at_us: 0,
        expires_at_us: None,
        revoked_at_us: None,
    };
    store.create_token(&token, &secret.hash()).await.expect("created");
    job.close().await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_may_not_send_ends_delivery_and_not_training() {
    let server = start(|_| {}).await;
    for (project, scopes) in [(None, ["read"]), (Some("other"), ["ingest"])] {
        let text = token(&admin(&server), project, &scopes).await;
        let mut job = Job::open_with(&server.url(), &JobOptions::default(), |builder| builder.token(&text));
        submit(&mut job, 0, 5);
        let problem = problem(&job.run).await;
        assert!(problem.contains("PermissionDenied"), "{problem}");
        // Nothing of it reaches the training loop.
        submit(&mut job, 100, 5);
        let report = job.close_lossy().await;
        assert_eq!(report.settled, 0, "{report}");
        assert!(report.reason.as_deref().is_some_and(|reason| reason.contains("PermissionDenied")), "{report}");
    }
    server.shutdown().await;
}
