//! `gradwatch rules` and `gradwatch alerts`, as a person or a script meets them.

use gradwatch_tests::{Backend, Place, ReservedPort, TestServer, gradwatch};
use http::Method;
use serde_json::{Value, json};

use crate::made::{RULES, ok, rule, run_of};

const OK: i32 = 0;
const FAILED: i32 = 1;
const USAGE: i32 = 2;
const UNREACHABLE: i32 = 3;

#[test]
fn a_file_to_begin_with_is_right() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ended = gradwatch(dir.path(), &[], &["rules", "init"]).with(OK);
    assert_eq!(ended.stdout, "wrote rules.yaml; next: gradwatch rules check rules.yaml\n");
    let written = std::fs::read_to_string(dir.path().join("rules.yaml")).expect("written");
    assert_eq!(gradwatch(dir.path(), &[], &["rules", "init", "-"]).with(OK).stdout, written);

    // What is there stays, unless one insists.
    std::fs::write(dir.path().join("rules.yaml"), "mine").expect("written");
    gradwatch(dir.path(), &[], &["rules", "init"]).with(FAILED).says("--force");
    gradwatch(dir.path(), &[], &["rules", "init", "nowhere/rules.yaml"]).with(FAILED).says("nowhere/rules.yaml");
    assert_eq!(std::fs::read_to_string(dir.path().join("rules.yaml")).expect("there"), "mine");
    gradwatch(dir.path(), &[], &["rules", "init", "rules.yaml", "--force"]).with(OK);
    assert_eq!(std::fs::read_to_string(dir.path().join("rules.yaml")).expect("there"), written);

    let checked = gradwatch(dir.path(), &[], &["rules", "check", "rules.yaml"]).with(OK);
    assert!(checked.stdout.starts_with("RULE") && checked.stdout.ends_with(": all right\n"), "{}", checked.stdout);
    let checked = gradwatch(dir.path(), &[], &["rules", "check", "rules.yaml", "--json"]).with(OK).json();
    let rules = checked["rules"].as_array().expect("rules");
    assert!(checked["valid"] == true && !rules.is_empty(), "{checked}");
    for rule in rules {
        assert!(written.contains(&format!("name: {}", rule.as_str().expect("a name"))), "{rule}");
    }
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_place() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let nested = format!("{}1 < 2{}", "(".repeat(10_000), ")".repeat(10_000));
    let file =
        |when: &str| format!("rules:\n  - name: right\n    when: run.crashed\n  - name: wrong\n    when: {when}\n");
    for (text, line) in [
        (file("edge.ration < 1"), "rules.yaml:5:11: rules[1].when: "),
        (file("scalar.loss / 0 > 1"), "rules.yaml:5:"),
        (file("edge.ratio and 1"), "rules.yaml:5:"),
        (file("edge.ratio <"), "rules.yaml:5:"),
        (file(&nested), "rules.yaml:5:"),
        (file("run.crashed\n    receivers: [oncall]"), "rules.yaml:6:17: rules[1].receivers[0]: "),
        (file("run.crashed\n    wen: x"), "rules.yaml:6:"),
        ("rules: [".to_owned(), "rules.yaml:"),
    ] {
        std::fs::write(dir.path().join("rules.yaml"), &text).expect("written");
        let ended = gradwatch(dir.path(), &[], &["rules", "check", "rules.yaml"]).with(USAGE);
        assert!(ended.stderr.starts_with(line), "{line} does not begin {}", ended.stderr);
        assert!(ended.stderr.ends_with("gradwatch: rules.yaml: 1 problem\n"), "{}", ended.stderr);
        assert_eq!(ended.stdout, "");
        let ended = gradwatch(dir.path(), &[], &["rules", "check", "rules.yaml", "--json"]).with(USAGE);
        let checked = ended.json();
        assert_eq!(checked["valid"], false, "{checked}");
        let problem = &checked["problems"][0];
        let place = format!("rules.yaml:{}:{}: {}: ", problem["line"], problem["column"], word(&problem["field"]));
        assert!(place.starts_with(line) || line.len() < place.len(), "{place}");
    }
    // A receiver that the server has.
    std::fs::write(dir.path().join("rules.yaml"), file("run.crashed\n    receivers: [oncall]")).expect("written");
    gradwatch(dir.path(), &[], &["rules", "check", "rules.yaml", "--receiver", "oncall"]).with(OK);
    gradwatch(dir.path(), &[], &["rules", "check", "nowhere.yaml"]).with(FAILED).says("nowhere.yaml");
    gradwatch(dir.path(), &[], &["rules", "check"]).with(USAGE);
    gradwatch(dir.path(), &[], &["rules"]).with(USAGE);

    // The server says the same, and does not start.
    let file = file("edge.ration < 1");
    std::fs::write(dir.path().join("rules.yaml"), &file).expect("written");
    let variables = [("GRADWATCH_ALERTS__RULES_FILE", "rules.yaml")];
    gradwatch(dir.path(), &variables, &["serve", "--listen", "127.0.0.1:0"])
        .with(USAGE)
        .says("rules.yaml:5:11: rules[1].when: ");
}

fn word(value: &Value) -> &str {
    value.as_str().expect("text")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_and_alerts_of_a_server_are_listed() {
    let server = TestServer::start_in(Place::new(Backend::Sqlite), |_| {}).await;
    let rest = server.rest();
    let mut other = rule("quiet", None);
    other["when"] = json!("scalar.loss\n  > 100");
    ok(&rest, Method::POST, RULES, &rule("loud", Some("vision"))).await;
    ok(&rest, Method::POST, RULES, &other).await;
    let (_stream, run_id) = run_of(&server, "vision", 2).await;
    rest.until("/api/v1/alerts", "an alert", |list| list["items"].as_array().is_some_and(|it| it.len() == 1)).await;

    let url = server.url();
    let commands = tokio::task::spawn_blocking(move || {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let run = |arguments: &[&str]| gradwatch(dir.path(), &[("GRADWATCH_SERVER", &url)], arguments);
        let listed = run(&["rules", "list"]).with(OK).stdout;
        let lines: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["RULE", "SEVERITY", "PROJECT", "FIRING", "PENDING", "SOURCE", "WHEN"]);
        assert_eq!(lines[1], ["loud", "critical", "vision", "1", "0", "api", "scalar.loss", ">", "0"]);
        assert_eq!(lines[2], ["quiet", "critical", "(all)", "0", "0", "api", "scalar.loss", ">", "100"]);
        let listed = run(&["rules", "list", "--project", "vision", "--json"]).with(OK).json();
        assert_eq!((&listed["items"][0]["name"], listed["items"].as_array().map(Vec::len)), (&json!("loud"), Some(1)));

        let alerts = run(&["alerts", "--state", "firing"]).with(OK).stdout;
        assert!(alerts.starts_with("SINCE") && alerts.contains("loud") && alerts.contains(&run_id), "{alerts}");
        assert_eq!(run(&["alerts", "--state", "resolved", "--json"]).with(OK).json()["items"], json!([]));
        let listed =
            run(&["alerts", "--rule", "loud", "--run", &run_id, "--project", "vision", "--json"]).with(OK).json();
        assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "{listed}");
        run(&["alerts", "--state", "burning"]).with(USAGE).says("burning");
        run(&["alerts", "--run", "x"]).with(USAGE);
    });
    commands.await.expect("as it should be");
    server.shutdown().await;
}

#[test]
fn that_nobody_reads_on_is_no_failure() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    gradwatch(dir.path(), &[], &["rules", "init"]).with(OK);
    for command in
        [&["rules", "init", "-"][..], &["rules", "check", "rules.yaml"], &["rules", "check", "rules.yaml", "--json"]]
    {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let ended =
            gradwatch_tests::command(dir.path()).args(command).stdout(writer).output().expect("the binary runs");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success() && said.is_empty(), "{command:?}: {} {said}", ended.status);
    }
}

#[test]
fn a_server_that_is_not_there_is_said() {
    let (dir, port) = (tempfile::tempdir().expect("a temporary directory"), ReservedPort::new());
    for command in [&["rules", "list"][..], &["alerts"]] {
        gradwatch(dir.path(), &[], command).with(USAGE).says("--server");
        gradwatch(dir.path(), &[("GRADWATCH_SERVER", &port.url())], command).with(UNREACHABLE).says(&port.url());
    }
}

#[test]
fn every_command_explains_itself() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let commands: [(&[&str], &[&str]); 5] = [
        (&["rules"], &["init", "check", "list"]),
        (&["rules", "init"], &["FILE", "--force", "alerts.rules_file", "Exit codes"]),
        (&["rules", "check"], &["FILE", "--receiver", "--json", "FILE:LINE:COLUMN: FIELD: MESSAGE", "Exit codes"]),
        (&["rules", "list"], &["--project", "--server", "GRADWATCH_SERVER", "--json", "Exit codes"]),
        (&["alerts"], &["--state", "--project", "--rule", "--run", "--limit", "--server", "--json", "Exit codes"]),
    ];
    for (command, words) in commands {
        let ended = gradwatch(dir.path(), &[], &[command, &["--help"]].concat()).with(OK);
        for word in words {
            assert!(ended.stdout.contains(word), "{word} is not in the help of {command:?}: {}", ended.stdout);
        }
    }
}
