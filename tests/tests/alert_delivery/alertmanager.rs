//! A real Alertmanager.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use gradwatch_tests::{Backend, PATIENCE, Rest, binary};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::{
    mock::Mock,
    world::{World, alert_id, firing, resolved},
};

/// Debian's program, as the system or `cargo xtask test` has it.
fn program() -> PathBuf {
    let target = binary().ancestors().nth(2).expect("target/<profile>/gradwatch").to_owned();
    let places = [
        PathBuf::from("/usr/bin/prometheus-alertmanager"),
        target.join("tools/alertmanager/usr/bin/prometheus-alertmanager"),
    ];
    let found = places.iter().find(|place| place.is_file());
    found.unwrap_or_else(|| panic!("{places:?} are missing: run `cargo xtask test`, which installs one")).clone()
}

/// An Alertmanager on loopback that tells a receiver of everything at once; stopped when dropped.
struct Alertmanager {
    child: Child,
    url: String,
    _dir: TempDir,
}

impl Alertmanager {
    async fn start(tells: &Mock) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let config = json!({
            "route": {"receiver": "mock", "group_by": ["alertname"], "group_wait": "0s", "group_interval": "1s"},
            "receivers": [{"name": "mock", "webhook_configs": [{"url": tells.url(), "send_resolved": true}]}],
        });
        // JSON is YAML.
        fs::write(dir.path().join("config.yml"), config.to_string()).expect("written");
        // Somebody else may take the port before it is used; then the next is tried.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
            let mut server = Self::spawn(dir.path(), port);
            let rest = Rest::new(&server.1);
            let answers = async {
                while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                    if server.0.try_wait().expect("a child").is_some() {
                        return false;
                    }
                    sleep(Duration::from_millis(50)).await;
                }
                while rest.call(http::Method::GET, "/-/ready", "").await.0 != http::StatusCode::OK {
                    sleep(Duration::from_millis(50)).await;
                }
                true
            };
            if timeout(PATIENCE, answers).await.expect("it starts") {
                let (child, url) = server;
                return Self { child, url, _dir: dir };
            }
        }
        panic!("Alertmanager does not start: {:?}", fs::read_to_string(dir.path().join("log")));
    }

    fn spawn(dir: &Path, port: u16) -> (Child, String) {
        let log = fs::File::create(dir.join("log")).expect("a file");
        let mut command = Command::new(program());
        command
            .arg(format!("--config.file={}", dir.join("config.yml").display()))
            .arg(format!("--storage.path={}", dir.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--cluster.listen-address=")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        (command.spawn().expect("Alertmanager starts"), format!("http://127.0.0.1:{port}"))
    }

    /// What it shows.
    async fn alerts(&self) -> Vec<Value> {
        let (status, body) = Rest::new(&self.url).call(http::Method::GET, "/api/v2/alerts", "").await;
        assert_eq!(status, http::StatusCode::OK, "{body}");
        serde_json::from_str(&body).expect("a list")
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn alertmanager_shows_an_alert_and_its_resolution() {
    let pager = Mock::taking().await;
    let alertmanager = Alertmanager::start(&pager).await;
    let definition = json!({"alertmanager": {"url": alertmanager.url}});
    let world = World::start(Backend::Sqlite, &[("am", definition)]).await;
    world.record(vec![firing("am", "gap", 1)]).await;
    world.delivered(1).await;
    let shown = alertmanager.alerts().await;
    assert_eq!(shown.len(), 1, "{shown:#?}");
    let run_id = firing("am", "gap", 1).content["run_id"].clone();
    assert_eq!(
        shown[0]["labels"],
        json!({"alertname": "gap", "severity": "warning", "project": "p", "run_id": run_id, "group": "all", "team_name": "red"})
    );
    assert_eq!(shown[0]["annotations"]["summary"], "the gap <is> gone");
    assert_eq!(shown[0]["annotations"]["alert_id"], json!(alert_id(1)));
    assert_eq!(shown[0]["startsAt"], "2020-03-01T12:00:00.000Z");
    assert_eq!(shown[0]["status"]["state"], "active");
    let told = |status: &'static str| {
        pager.until(status, move |all| all.iter().any(|request| request.json()["status"] == status))
    };
    told("firing").await;

    world.record(vec![resolved("am", "gap", 1)]).await;
    world.delivered(2).await;
    let over = told("resolved").await;
    let last = over.last().expect("it was told").json();
    assert_eq!(last["alerts"][0]["endsAt"], "2020-03-01T12:05:00Z");
    assert_eq!(last["alerts"][0]["labels"]["run_id"], run_id);
    assert_eq!(alertmanager.alerts().await, Vec::<Value>::new());
    world.stop().await;
}
