//! Secrets of receivers come in and never go out again: in no answer, and in no line of the log, however much it says.

use std::{
    io::Read,
    process::{Child, Stdio},
    thread,
};

use gradwatch_tests::{Peer, ReservedPort, Rest, command, open_request, spec};
use http::Method;
use serde_json::{Value, json};

use crate::made::{RECEIVERS, RULES, SECOND, SIGNING};

/// Each in a place of its own.
const SECRETS: [&str; 6] = [
    SIGNING,
    SECOND,
    "user-of-the-tests:password-of-the-tests",
    "query-of-the-tests",
    "T0-slack-of-the-tests",
    "whsec_of-the-file-of-the-tests",
];

/// Everything that receivers can be made of, right and wrong.
fn bodies() -> Vec<Value> {
    let [signing, second, password, query, slack, _] = SECRETS;
    vec![
        json!({ "name": "hook", "webhook": {
            "url": format!("http://127.0.0.1:9/hook?token={query}"), "secrets": [signing, second] } }),
        json!({ "name": "plain", "webhook": { "url": "http://127.0.0.1:9/hook", "secrets": [signing, second] } }),
        json!({ "name": "chat", "slack": { "url": format!("http://127.0.0.1:9/services/{slack}") } }),
        json!({ "name": "am", "alertmanager": { "url": format!("http://127.0.0.1:9/?{query}") } }),
        json!({ "name": "am", "alertmanager": { "url": format!("http://{password}@127.0.0.1:9") } }),
        // Wrong, in the place of the secret or beside it.
        json!({ "name": "hook", "webhook": { "url": "http://127.0.0.1:9", "secrets": signing } }),
        json!({ "name": "hook", "webhook": { "url": "http://127.0.0.1:9", "secrets": [format!("{second}!")] } }),
        json!({ "name": "hook", "webhook": { "url": "http://127.0.0.1:9", "secrets": [signing], "secret": second } }),
        json!({ "name": "a/b", "webhook": { "url": "http://127.0.0.1:9", "secrets": [signing] } }),
        json!({ "name": "chat", "slack": format!("http://127.0.0.1:9/services/{slack}") }),
        json!({ "name": "chat", "slack": { "url": format!("ftp://{slack}") } }),
        json!({ "name": "chat", "slack": { "url": { "x": slack } } }),
        json!({ "name": "both", "slack": { "url": format!("http://h/{slack}") }, "webhook": { "url": "http://h", "secrets": [signing] } }),
    ]
}

fn assert_silent(text: &str, what: &str) {
    for secret in SECRETS {
        // Also in a form that somebody could still use.
        for form in [secret.to_owned(), secret.replace("whsec_", ""), secret.replace(':', "%3A")] {
            if let Some(at) = text.find(&form) {
                let (from, to) = (text.floor_char_boundary(at.saturating_sub(200)), at);
                panic!("{what} tells {form}: …{}", &text[from..to]);
            }
        }
    }
}

/// The server, with everything that it writes.
struct Logged {
    child: Child,
    reading: thread::JoinHandle<String>,
}

impl Logged {
    fn start(dir: &std::path::Path, address: &str) -> Self {
        let mut child = command(dir)
            .args(["serve", "--listen", address, "--data-dir", "data"])
            .env("GRADWATCH_LOG__FILTER", "trace")
            .env("GRADWATCH_ALERTS__RULES_FILE", dir.join("rules.yaml"))
            .env("GRADWATCH_ALERTS__CHECK_FILE_EVERY_S", "1")
            .env("GRADWATCH_ALERTS__ALLOW_ADDRESSES", r#"["127.0.0.0/8"]"#)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut errors = child.stderr.take().expect("piped");
        let reading = thread::spawn(move || {
            let mut text = Vec::new();
            errors.read_to_end(&mut text).expect("a pipe that can be read");
            String::from_utf8_lossy(&text).into_owned()
        });
        Self { child, reading }
    }

    fn stop(mut self) -> String {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it has ended");
        self.reading.join().expect("read to its end")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_and_no_log_tells_a_secret() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file_secret = SECRETS[5];
    let file = |rest: &str| {
        format!(
            "receivers:\n  - name: filed\n    slack:\n      url: http://127.0.0.1:9/{file_secret}\nrules:\n  - name: r\n    \
             when: run.crashed\n    receivers: [filed]\n{rest}"
        )
    };
    std::fs::write(dir.path().join("rules.yaml"), file("")).expect("written");
    let port = ReservedPort::new();
    let address = port.url().replace("http://", "");
    let url = port.url();
    drop(port);
    let server = Logged::start(dir.path(), &address);
    let rest = Rest::new(&url);
    until_ready(&url).await;

    let mut answers = Vec::new();
    let mut ask = async |method: Method, path: &str, body: &str| {
        let (status, answer) = rest.call(method.clone(), path, body).await;
        answers.push((format!("{method} {path} {body:.40}: {status}"), answer.clone()));
        (status.as_u16(), answer)
    };
    for body in bodies() {
        let text = body.to_string();
        ask(Method::POST, RECEIVERS, &text).await;
        ask(Method::POST, RECEIVERS, &text).await;
        let name = body["name"].as_str().expect("a name").replace('/', "%2F");
        ask(Method::PUT, &format!("{RECEIVERS}/{name}"), &text).await;
        ask(Method::POST, &format!("{RULES}/check"), &text).await;
        ask(Method::POST, RECEIVERS, &text[..text.len() - 1]).await;
    }
    let (status, listed) = ask(Method::GET, RECEIVERS, "").await;
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    let names: Vec<&str> =
        listed["items"].as_array().expect("items").iter().filter_map(|it| it["name"].as_str()).collect();
    assert!(
        status == 200 && names.contains(&"filed") && names.contains(&"plain") && names.contains(&"chat"),
        "{names:?}"
    );
    for name in names {
        ask(Method::GET, &format!("{RECEIVERS}/{name}"), "").await;
        let (status, _) = ask(Method::POST, &format!("{RECEIVERS}/{name}/test"), "").await;
        assert_eq!(status, 202);
    }
    // Each was tried at least once.
    let deliveries = format!("/api/v1/alerts/deliveries?limit={}", 100);
    rest.until(&deliveries, "attempts", |list| list["items"].as_array().is_some_and(|items| items.len() >= 3)).await;
    ask(Method::GET, &deliveries, "").await;
    let (_, messages) = ask(Method::GET, "/api/v1/alerts/messages", "").await;
    let messages: Value = serde_json::from_str(&messages).expect("JSON");
    for message in messages["items"].as_array().expect("items") {
        let id = message["message_id"].as_str().expect("an id");
        ask(Method::GET, &format!("/api/v1/alerts/messages/{id}"), "").await;
    }
    // A file that is wrong beside its secret, or in its place.
    for wrong in [
        file("  - name: r\n    when: run.crashed\n"),
        file("").replace("http://", "ftp://"),
        file("").replace("url: http", "url: [http"),
        file("").replace("slack:\n      url", "slack:\n      urll"),
        file("").replace("slack:\n      url: ", "slack: "),
        file("").replace("slack:\n      url: ", "webhook:\n      url: http://127.0.0.1:9\n      secrets: "),
    ] {
        std::fs::write(dir.path().join("rules.yaml"), &wrong).expect("written");
        let (status, _) = ask(Method::POST, &format!("{RULES}/reload"), "").await;
        assert_eq!(status, 400, "{wrong}");
    }
    ask(Method::GET, "/api/v1/alerts/rules", "").await;
    ask(Method::GET, "/metrics", "").await;
    // HTTP/2 tells most of what it does.
    Peer::connect(&url).await.open_run(&open_request(spec())).await.expect("opened");
    for (what, answer) in &answers {
        assert_silent(answer, what);
    }
    let log = server.stop();
    assert!(log.contains("TRACE") && log.contains("receiver created"), "everything is logged: {log:.2000}");
    assert_silent(&log, "the log");
}

async fn until_ready(url: &str) {
    let looking = async {
        while tokio::net::TcpStream::connect(url.replace("http://", "")).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(gradwatch_tests::PATIENCE, looking).await.expect("it listens");
}
