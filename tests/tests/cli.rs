//! The binary as a person or a script meets it: what it prints, and what it ends with.

use gradwatch_tests::{ReservedPort, ServerProcess, any_port, gradwatch};
use serde_json::{Value, json};
use tempfile::TempDir;

const OK: i32 = 0;
const FAILED: i32 = 1;
const USAGE: i32 = 2;
const UNREACHABLE: i32 = 3;

fn dir() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// Writes a settings file; answers its path.
fn file(dir: &TempDir, text: &str) -> String {
    let path = dir.path().join("settings.toml");
    std::fs::write(&path, text).expect("a file in a temporary directory");
    path.to_str().expect("text").to_owned()
}

#[test]
fn valid_settings_are_valid() {
    let dir = dir();
    let ended = gradwatch(dir.path(), &[], &["config", "check"]).with(OK);
    assert_eq!(ended.stdout, "configuration is valid\n");
    let ended = gradwatch(dir.path(), &[], &["config", "check", "--json"]).with(OK);
    assert_eq!(ended.json(), serde_json::json!({ "valid": true, "error": null }));

    // Each source wins over the one before it.
    let path = file(&dir, "shutdown_deadline_s = 3\nlisten = \"127.0.0.1:1111\"\n[retention]\ndays = 5\n");
    let variables = [
        ("GRADWATCH_CONFIG", path.as_str()),
        ("GRADWATCH_RETENTION__DAYS", "6"),
        ("GRADWATCH_LISTEN", "127.0.0.1:2222"),
    ];
    let shown =
        gradwatch(dir.path(), &variables, &["config", "show", "--json", "--listen", "127.0.0.1:3333"]).with(OK).json();
    assert_eq!(shown["shutdown_deadline_s"], 3);
    assert_eq!(shown["retention"]["days"], 6);
    assert_eq!(shown["listen"], "127.0.0.1:3333");

    // Passwords are not shown, and of two addresses the one that means us wins.
    let variables =
        [("DATABASE_URL", "postgres://u:secret@a/d"), ("GRADWATCH_DATABASE_URL", "postgres://u:secret@b/d")];
    for (count, host) in [(1, "a"), (2, "b")] {
        let shown = gradwatch(dir.path(), &variables[..count], &["config", "show", "--json"]).with(OK);
        assert_eq!(shown.json()["database_url"], format!("postgres://u:***@{host}/d"));
    }

    // An empty one is none, and neither what Kubernetes says of services nor what jobs are told is a setting.
    let variables = [
        ("DATABASE_URL", "postgres://u:secret@a/d"),
        ("GRADWATCH_DATABASE_URL", ""),
        ("GRADWATCH_PORT", "tcp://10.0.0.1:7700"),
        ("GRADWATCH_SERVICE_HOST", "10.0.0.1"),
        ("GRADWATCH_SERVICE_PORT", "7700"),
        ("GRADWATCH_SERVICE_PORT_HTTP", "7700"),
        ("GRADWATCH_PORT_7700_TCP", "tcp://10.0.0.1:7700"),
        ("GRADWATCH_PORT_7700_TCP_ADDR", "10.0.0.1"),
        ("GRADWATCH_MODE", "offline"),
        ("GRADWATCH_SPOOL_DIR", "/spool"),
    ];
    let shown = gradwatch(dir.path(), &variables, &["config", "show", "--json"]).with(OK);
    assert_eq!(shown.json()["database_url"], "postgres://u:***@a/d");
    let empty = [("DATABASE_URL", ""), ("GRADWATCH_DATABASE_URL", "")];
    assert!(gradwatch(dir.path(), &empty, &["config", "show", "--json"]).with(OK).json()["database_url"].is_null());

    // What is shown, and what is documented, can be read again.
    for show in ["show", "default"] {
        let ended = gradwatch(dir.path(), &[], &["config", show]).with(OK);
        let path = file(&dir, &ended.stdout);
        let again = gradwatch(dir.path(), &[], &["config", "show", "--config", &path, "--json"]).with(OK).json();
        assert_eq!(again, gradwatch(dir.path(), &[], &["config", "show", "--json"]).with(OK).json());
    }
    assert!(!dir.path().join("gradwatch-data").exists(), "looking at settings creates nothing");
}

#[test]
fn a_bad_setting_is_named_wherever_it_comes_from() {
    let dir = dir();
    let files = [
        ("limits.max_message_bytes", "[limits]\nmax_message_bytes = 5\n"),
        ("limits.max_message_bytes", "[limits]\nmax_message_bytes = \"large\"\n"),
        ("limts", "[limts]\nmax_labels = 5\n"),
        ("api.cors_origins", "[api]\ncors_origins = [\"example.org\"]\n"),
        ("listen", "listen = \"everywhere\"\n"),
        ("detectors", "[detectors.regime]\nconfirm = 0\n"),
        ("settings.toml", "listen = \n"),
    ];
    for (name, text) in files {
        let path = file(&dir, text);
        for arguments in [&["config", "check", "--config", &path][..], &["serve", "--config", &path]] {
            gradwatch(dir.path(), &[], arguments).with(USAGE).says(name);
        }
        let ended = gradwatch(dir.path(), &[("GRADWATCH_CONFIG", &path)], &["config", "check", "--json"]).with(USAGE);
        assert_eq!(ended.json()["valid"], false);
        assert!(ended.json()["error"].as_str().is_some_and(|error| error.contains(name)), "{}", ended.stdout);
    }
    // What stands on the line may be a password.
    let path = file(&dir, "insecure = false\ndatabase_url = \"postgres://u:secret@h/d\n");
    let ended = gradwatch(dir.path(), &[], &["config", "check", "--config", &path]).with(USAGE);
    assert!(ended.stderr.contains("settings.toml") && ended.stderr.contains("line 2, column "), "{}", ended.stderr);
    assert!(!ended.stderr.contains("secret"), "{}", ended.stderr);
    let variables = [
        ("GRADWATCH_LIVENESS__HEARTBEAT_MS", "0", "liveness.heartbeat_ms"),
        ("GRADWATCH_SHUTDOWN_DEADLINE_S", "soon", "shutdown_deadline_s"),
        ("DATABASE_URL", "mysql://u:secret@h/d", "database_url"),
        ("GRADWATCH_LISTN", "127.0.0.1:1", "listn"),
        ("GRADWATCH_LOG__FORMAT", "xml", "log.format"),
    ];
    for (variable, value, name) in variables {
        let ended = gradwatch(dir.path(), &[(variable, value)], &["config", "check"]).with(USAGE);
        // A value of the wrong kind is named as the environment does, in capitals.
        assert!(ended.stderr.to_lowercase().contains(name), "{name} is not in {}", ended.stderr);
    }
    gradwatch(dir.path(), &[], &["config", "check", "--config", "nowhere.toml"]).with(USAGE).says("nowhere.toml");
    gradwatch(dir.path(), &[], &["serve", "--listen", "here"]).with(USAGE).says("--listen");
    gradwatch(dir.path(), &[], &["serve", "--lisen", "127.0.0.1:0"]).with(USAGE).says("--lisen");
    gradwatch(dir.path(), &[("GRADWATCH_LOG__FILTER", "a=b=c")], &["serve"]).with(USAGE).says("log.filter");
    assert!(!dir.path().join("gradwatch-data").exists(), "nothing was started");
}

#[test]
fn open_to_everybody_has_to_be_asked_for_and_contradicts_tokens() {
    let dir = dir();
    for arguments in [&["--listen", "0.0.0.0:7700"][..], &["--listen", "0.0.0.0:7700", "--insecure"]] {
        gradwatch(dir.path(), &[], &[&["config", "check"], arguments].concat()).with(OK);
    }
    let variables = [("GRADWATCH_ACCESS__REQUIRE_TOKENS", "true")];
    gradwatch(dir.path(), &variables, &["config", "check", "--insecure"]).with(USAGE).says("insecure: ");
    gradwatch(dir.path(), &[], &["serve", "--tls-cert", "tls.crt"]).with(USAGE).says("tls_key: ");
    let files = ["serve", "--tls-cert", "nowhere.crt", "--tls-key", "nowhere.key"];
    gradwatch(dir.path(), &[], &files).with(USAGE).says("tls_cert: nowhere.crt: ");
    gradwatch(dir.path(), &[], &["demo", "--exit", "--listen", "0.0.0.0:0"]).with(USAGE).says("--listen");
}

#[test]
fn a_first_token_is_no_setting() {
    let dir = dir();
    let secret = "gw_a_first_token_that_is_long_enough";
    let variables = [("GRADWATCH_BOOTSTRAP_TOKEN", secret), ("GRADWATCH_TOKEN", secret)];
    for arguments in [&["config", "show"][..], &["config", "show", "--json"], &["config", "check"]] {
        let ended = gradwatch(dir.path(), &variables, arguments).with(OK);
        assert!(!(ended.stdout.contains(secret) || ended.stderr.contains(secret)), "{}{}", ended.stdout, ended.stderr);
    }
    let ended = gradwatch(dir.path(), &[("GRADWATCH_BOOTSTRAP_TOKEN", "gw_short")], &["serve"]).with(USAGE);
    ended.says("GRADWATCH_BOOTSTRAP_TOKEN: ");
    assert!(!ended.stderr.contains("gw_short"), "{}", ended.stderr);
    // An empty one is none.
    gradwatch(dir.path(), &[("GRADWATCH_BOOTSTRAP_TOKEN", "")], &["config", "check"]).with(OK);
}

/// Makes a token; answers its text and id.
fn token(dir: &TempDir, variables: &[(&str, &str)], arguments: &[&str]) -> (String, String) {
    let create = ["token", "create", "--json", "--name", "a test"];
    let made = gradwatch(dir.path(), variables, &[&create, arguments].concat()).with(OK).json();
    let text = |member: &str| made[member].as_str().unwrap_or_else(|| panic!("{member}: {made}")).to_owned();
    (text("token"), text("token_id"))
}

#[test]
fn tokens_are_managed_without_a_server_and_through_one() {
    let (dir, data) = (dir(), dir());
    let data_dir = data.path().to_str().expect("text");
    let (admin, _) = token(&dir, &[], &["--scope", "admin", "--data-dir", data_dir]);
    let reading = ["--scope", "read", "--project", "vision", "--expires-in", "30d", "--data-dir", data_dir];
    let (reader, reader_id) = token(&dir, &[], &reading);
    let ended = gradwatch(dir.path(), &[], &["token", "list", "--data-dir", data_dir]).with(OK);
    assert!(ended.stdout.contains(&reader_id) && ended.stdout.contains("vision"), "{}", ended.stdout);
    for secret in [&admin, &reader] {
        assert!(secret.starts_with("gw_"), "{secret}");
        assert!(!ended.stdout.contains(secret), "{}", ended.stdout);
    }
    // Kept by their hashes only.
    for entry in std::fs::read_dir(data.path()).expect("a directory") {
        let bytes = std::fs::read(entry.expect("an entry").path()).expect("a file");
        assert!(!bytes.windows(20).any(|window| window == &admin.as_bytes()[10..30]));
    }

    let server = ServerProcess::start_with(data.path(), any_port(), &[("GRADWATCH_ACCESS__REQUIRE_TOKENS", "true")]);
    let locked = gradwatch(dir.path(), &[], &["token", "list", "--data-dir", data_dir]).with(FAILED);
    locked.says("--server");
    let url = server.url();
    let variables = [("GRADWATCH_SERVER", url.as_str()), ("GRADWATCH_TOKEN", admin.as_str())];
    let listed = gradwatch(dir.path(), &variables, &["token", "list", "--json"]).with(OK).json();
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(2), "{listed}");
    let (sender, sender_id) = token(&dir, &variables, &["--scope", "ingest"]);
    gradwatch(dir.path(), &variables, &["token", "revoke", &sender_id]).with(OK);
    for (secret, status) in [(reader.as_str(), "403"), (sender.as_str(), "401"), ("", "401")] {
        let ended = gradwatch(dir.path(), &[], &["token", "list", "--server", &url, "--token", secret]).with(FAILED);
        ended.says(status);
    }
    gradwatch(dir.path(), &variables, &["token", "revoke", "00000000-0000-0000-0000-000000000000"]).with(FAILED);
    // Found out before training: one that nobody knows any more, one that may read and not send.
    gradwatch(dir.path(), &variables, &["demo", "--exit", "--token", &sender]).with(FAILED).says("401");
    let (viewer, _) = token(&dir, &variables, &["--scope", "read", "--project", "demo"]);
    gradwatch(dir.path(), &variables, &["demo", "--exit", "--token", &viewer]).with(FAILED).says("ingest");
    drop(server);

    gradwatch(dir.path(), &[], &["token", "revoke", &reader_id, "--data-dir", data_dir]).with(OK);
    gradwatch(dir.path(), &variables, &["token", "list"]).with(UNREACHABLE);
    for wrong in [
        &["token", "create", "--name", "x", "--scope", "write"][..],
        &["token", "create", "--name", "x"],
        &["token", "create", "--name", "", "--scope", "read"],
        &["token", "create", "--name", "x", "--scope", "read", "--expires-in", "soon"],
        &["token", "create", "--name", "x", "--scope", "read", "--expires-in", "0s"],
        &["token", "revoke", "x"],
    ] {
        gradwatch(dir.path(), &[], wrong).with(USAGE);
    }
}

#[test]
fn a_data_directory_or_port_in_use_is_said_clearly() {
    let (dir, other) = (dir(), dir());
    let data_dir = dir.path().to_str().expect("text");
    let server = ServerProcess::start(dir.path(), any_port());
    let ended =
        gradwatch(other.path(), &[], &["serve", "--listen", "127.0.0.1:0", "--data-dir", data_dir]).with(FAILED);
    ended.says(data_dir);
    ended.says("another gradwatch process");
    let address = server.address().to_string();
    let ended = gradwatch(other.path(), &[], &["serve", "--listen", &address]).with(FAILED);
    ended.says(&format!("listen: {address}"));

    let path = file(&other, "a file is no directory");
    gradwatch(other.path(), &[], &["serve", "--listen", "127.0.0.1:0", "--data-dir", &path]).with(FAILED).says(&path);
}

#[test]
fn a_signal_ends_it_well() {
    for signal in ["TERM", "INT"] {
        let dir = dir();
        let mut server = ServerProcess::start(dir.path(), any_port());
        server.signal(signal);
        assert_eq!(server.wait(), Some(OK), "{signal}");
        // Nothing is left locked.
        let mut again = ServerProcess::start(dir.path(), server.address());
        again.signal(signal);
        assert_eq!(again.wait(), Some(OK), "{signal}");
    }
}

#[test]
fn every_command_explains_itself() {
    let dir = dir();
    let commands: [(&[&str], &[&str]); 11] = [
        (&[], &["serve", "demo", "import", "sync", "reanalyze", "rules", "alerts", "token", "config", "--version"]),
        (&["serve"], &["--listen", "--data-dir", "--insecure", "--tls-cert", "--config", "GRADWATCH_CONFIG"]),
        (
            &["reanalyze"],
            &["--name", "--window", "--position", "--bands", "--group", "--server", "GRADWATCH_SERVER", "--json"],
        ),
        (
            &["sync"],
            &[
                "--dir",
                "GRADWATCH_SPOOL_DIR",
                "XDG_STATE_HOME",
                "--run",
                "--server",
                "--dry-run",
                "--json",
                "cron",
                "Exit codes",
            ],
        ),
        (&["token"], &["create", "list", "revoke"]),
        (&["token", "create"], &["--scope", "--project", "--server", "--token", "--ca-certificate", "--data-dir"]),
        (
            &["demo"],
            &[
                "--experiment",
                "addition",
                "xor",
                "--seed",
                "--server",
                "GRADWATCH_SERVER",
                "--listen",
                "--data-dir",
                "--exit",
                "--json",
            ],
        ),
        (&["config"], &["check", "show", "default"]),
        (&["config", "check"], &["--config", "--json"]),
        (&["config", "show"], &["--config", "--json"]),
        (&["config", "default"], &["documentation"]),
    ];
    for (command, words) in commands {
        let ended = gradwatch(dir.path(), &[], &[command, &["--help"]].concat()).with(OK);
        for word in words {
            assert!(ended.stdout.contains(word), "{word} is not in the help of {command:?}: {}", ended.stdout);
        }
    }
    let version = gradwatch(dir.path(), &[], &["--version"]).with(OK);
    assert!(version.stdout.starts_with("gradwatch "), "{}", version.stdout);
    gradwatch(dir.path(), &[], &[]).with(USAGE);
    gradwatch(dir.path(), &[], &["sevre"]).with(USAGE).says("serve");
    gradwatch(dir.path(), &[], &["config"]).with(USAGE);
}

#[test]
fn a_demo_without_its_server_says_so() {
    let (dir, port) = (dir(), ReservedPort::new());
    let ended = gradwatch(dir.path(), &[], &["demo", "--exit", "--server", &port.url()]).with(UNREACHABLE);
    // Found out before training, by asking.
    ended.says(&format!("{}/readyz", port.url()));
    assert_eq!(ended.stdout, "");
    let ended = gradwatch(dir.path(), &[("GRADWATCH_SERVER", &port.url())], &["demo", "--exit"]).with(UNREACHABLE);
    ended.says(&port.url());
    gradwatch(dir.path(), &[], &["demo", "--server", &port.url(), "--listen", "127.0.0.1:0"]).with(USAGE);
}

#[test]
fn the_demo_shows_grokking_and_its_control_the_same_everywhere() {
    let dir = dir();
    let arguments = ["demo", "--exit", "--json", "--seed", "1"];
    let own = gradwatch(dir.path(), &[], &[&arguments[..], &["--listen", "127.0.0.1:0"]].concat()).with(OK).json();
    assert!(dir.path().join("gradwatch-data/demo").is_dir(), "where it says it keeps its data");
    let data_dir = self::dir();
    let server = ServerProcess::start(data_dir.path(), any_port());
    let other = gradwatch(dir.path(), &[], &[&arguments[..], &["--server", &server.url()]].concat()).with(OK).json();
    assert_eq!(other["server"], server.url());

    let ratio = |run: &Value, when: &str, name: &str| run[when][name].as_f64().expect("a ratio");
    let [groks, memorises] = own["runs"].as_array().expect("runs").as_slice() else { panic!("two runs: {own}") };
    assert_eq!((&groks["name"], &memorises["name"]), (&Value::from("groks"), &Value::from("memorises")));
    assert!(groks["test_accuracy"].as_f64() >= Some(0.99), "{groks}");
    assert!(memorises["test_accuracy"].as_f64().is_some_and(|accuracy| accuracy <= 0.05), "{memorises}");
    for name in ["ratio_1", "ratio_2"] {
        assert!(ratio(groks, "late", name) >= 8.0, "{name}: {groks}");
        assert!(ratio(memorises, "late", name) <= 2.5, "{name}: {memorises}");
    }
    assert!(groks["train_epoch"].as_u64() < groks["test_epoch"].as_u64(), "it memorises first: {groks}");
    assert!(memorises["train_epoch"].is_u64() && memorises["test_epoch"].is_null(), "{memorises}");
    let grokked = json!({"step": groks["test_epoch"], "type": "job.grokked", "group": null, "from": null, "to": null});
    assert!(groks["transitions"].as_array().expect("events").contains(&grokked), "{}", groks["transitions"]);
    separates_before_it_generalises(groks, memorises);
    for run in [groks, memorises] {
        assert_eq!(last(run, "curvature", "W")["directions"], 20);
        assert_eq!(last(run, "curvature", "V")["reason"], Value::Null);
        assert!(last(run, "curvature", "V")["transfer_null"].is_f64());
        assert_eq!(last(run, "dead_directions", "hidden")["width"], 256);
        assert!(last(run, "dead_directions", "hidden")["count_gap"].is_u64());
        // No neuron holds 2 % of the block.
        assert_eq!(last(run, "learning_cell", "block")["reason"], "no_atoms");
    }
    let path_norm = |run| last(run, "learning_cell", "block")["path_norm"].as_f64().expect("a number");
    assert!(path_norm(groks) < path_norm(memorises));

    assert_eq!(without_names(own), without_names(other));
}

/// phi of the gradient, from a time on when neither generalises yet.
fn separates_before_it_generalises(groks: &Value, memorises: &Value) {
    let phi = |run, epoch: u64| {
        let mut readings = readings(run, "cascade", "all").iter();
        let reading = readings.find(|reading| reading["step"] == epoch).expect("a snapshot");
        reading["phi"].as_f64().expect("a number")
    };
    for epoch in [100, 150, 200, 250, 300, 350, 400] {
        assert!(phi(groks, epoch) < 0.3 && phi(memorises, epoch) > 0.3, "epoch {epoch}");
    }
    assert!(groks["test_epoch"].as_u64() > Some(150), "{}", groks["test_epoch"]);
}

fn readings<'a>(run: &'a Value, instrument: &str, layer: &str) -> &'a [Value] {
    let mut layers = run["layers"].as_array().expect("layers").iter();
    let layer = layers.find(|it| it["instrument"] == instrument && it["layer"] == layer).expect("the layer");
    layer["readings"].as_array().expect("readings")
}

fn last<'a>(run: &'a Value, instrument: &str, layer: &str) -> &'a Value {
    readings(run, instrument, layer).last().expect("a reading")
}

#[test]
fn the_xor_family_rises_through_one_where_it_is_solved() {
    let dir = dir();
    let arguments = ["demo", "--experiment", "xor", "--exit", "--listen", "127.0.0.1:0"];
    let first = gradwatch(dir.path(), &[], &[&arguments[..], &["--json"]].concat()).with(OK).json();
    assert_eq!(first["runs"].as_array().map(Vec::len), Some(48));
    let points = first["points"].as_array().expect("points");
    let froms: Vec<i64> = points.iter().filter_map(|point| point["from"].as_i64()).collect();
    assert_eq!(froms, [-15, -5, 5, 15, 25, 35, 45, 55]);
    for point in points {
        let number = |name: &str| point[name].as_f64().expect("a number");
        assert!(number("low") < number("dimension") && number("dimension") < number("high"), "{point}");
        assert!(number("r2") >= 0.9, "{point}");
        let is_before = point["from"].as_i64() < Some(0);
        assert!(if is_before { number("dimension") < 1.0 } else { number("dimension") > 1.0 }, "{point}");
    }
    let (before, after) = (&points[0], &points[7]);
    assert!(before["high"].as_f64() < Some(1.0) && after["low"].as_f64() > Some(1.0), "{before} {after}");
    for reading in first["units"]["readings"].as_array().expect("readings") {
        assert!((1..=20).contains(&reading["active_atoms"].as_u64().expect("a count")), "{reading}");
    }

    // The same networks once more, on the same server's data: a family of their own.
    let second = gradwatch(dir.path(), &[], &[&arguments[..], &["--json"]].concat()).with(OK).json();
    assert_ne!(first["family"], second["family"]);
    assert_eq!(first["units"], second["units"]);
    for (first, second) in points.iter().zip(second["points"].as_array().expect("points")) {
        // Sums over the runs are in the order of their ids.
        let dimensions = [first, second].map(|point| point["dimension"].as_f64().expect("a number"));
        assert!((dimensions[0] - dimensions[1]).abs() < 1e-9, "{first} {second}");
    }
    let text = gradwatch(dir.path(), &[], &arguments).with(OK).stdout;
    assert!(text.contains("D rises through 1"), "{text}");
}

/// A report without what differs between two servers.
fn without_names(mut report: Value) -> Value {
    report.as_object_mut().expect("an object").remove("server").expect("a server");
    for run in report["runs"].as_array_mut().expect("runs") {
        run.as_object_mut().expect("an object").remove("run_id").expect("an id");
    }
    report
}
