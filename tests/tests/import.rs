//! `gradwatch import`: what a folder of checkpoints becomes, and what is said about one that is not right.

use std::path::{Path, PathBuf};

use gradwatch_tests::{Ended, MadeTensor, MadeTraining, ReservedPort, Rest, ServerProcess, any_port, gradwatch};
use safetensors::tensor::Dtype;
use serde_json::{Value, json};
use tempfile::TempDir;

const OK: i32 = 0;
const FAILED: i32 = 1;
const USAGE: i32 = 2;
const UNREACHABLE: i32 = 3;

const EVERY: u64 = 20;

fn tensors() -> Vec<MadeTensor> {
    vec![
        MadeTensor::new("embed.weight", Dtype::F32, &[20, 6]),
        MadeTensor::new("blocks.0.wq.weight", Dtype::BF16, &[8, 8]),
        MadeTensor::new("blocks.0.wk.weight", Dtype::F16, &[8, 8]),
        MadeTensor::new("head.weight", Dtype::F64, &[6, 20]),
        MadeTensor::new("head.scale", Dtype::F64, &[]),
        MadeTensor::new("steps", Dtype::I64, &[1]),
    ]
}

/// A server, and a folder of checkpoints.
struct Bench {
    dir: TempDir,
    files: Vec<PathBuf>,
    server: ServerProcess,
    _data_dir: TempDir,
}

impl Bench {
    fn new(count: u64) -> Self {
        Self::with(count, &[])
    }

    /// With changed settings of the server.
    fn with(count: u64, variables: &[(&str, &str)]) -> Self {
        let (dir, data_dir) = (dir(), dir());
        let (files, _) = MadeTraining::new(1, &tensors()).write_all(dir.path(), count, EVERY);
        let server = ServerProcess::start_with(data_dir.path(), any_port(), variables);
        Self { dir, files, server, _data_dir: data_dir }
    }

    fn rest(&self) -> Rest {
        Rest::new(&self.server.url())
    }

    /// Imports the files with what is usual and more.
    fn import(&self, more: &[&str]) -> Ended {
        self.import_files(&self.files, more)
    }

    fn import_files(&self, files: &[PathBuf], more: &[&str]) -> Ended {
        import(self.dir.path(), &self.server.url(), files, more)
    }

    async fn readings(&self, run: &str, query: &str) -> Vec<Value> {
        self.rest().all(&format!("/api/v1/runs/{run}/readings/edge?limit=1000{query}")).await
    }
}

fn dir() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn import(dir: &Path, server: &str, files: &[PathBuf], more: &[&str]) -> Ended {
    let usual = ["import", "--server", server, "--project", "p", "--name", "n", "--every", "20", "--window", "5"];
    let files: Vec<&str> = files.iter().map(|path| path.to_str().expect("text")).collect();
    gradwatch(dir, &[], &[&usual[..], &["--dim", "256"], more, &files].concat())
}

fn steps(rows: &[Value]) -> Vec<u64> {
    rows.iter().map(|row| row["step"].as_u64().expect("a step")).collect()
}

fn full(rows: &[Value]) -> usize {
    rows.iter().filter(|row| row["warming"] == false).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_of_every_float_type_become_a_run() {
    let bench = Bench::new(12);
    // The order of the files is nobody's business.
    let mut files = bench.files.clone();
    files.reverse();
    let more =
        ["--group", "attention=*.wq.*,*.wk.*", "--group", "all=*", "--lr", "1e-3", "--label", "a=b", "--window", "3"];
    let ended = bench.import_files(&files, &[&more[..], &["--json"]].concat()).with(OK);
    assert_eq!(ended.stderr, "", "no progress with --json");
    let summary = ended.json();
    assert_eq!(summary["rows"], 11);
    assert_eq!(summary["readings"], json!([{ "window": 5, "full": 7 }, { "window": 3, "full": 9 }]));
    assert_eq!((&summary["holes"], &summary["checkpoints_left_out"]), (&json!([]), &json!(0)));
    let id = summary["run_id"].as_str().expect("an id");
    assert_eq!(summary["link"], format!("{}/api/v1/runs/{id}/readings/edge", bench.server.url()));

    let run = bench.rest().get(&format!("/api/v1/runs/{id}")).await;
    assert_eq!((&run["project"], &run["name"], &run["state"]), (&json!("p"), &json!("n"), &json!("finished")), "{run}");
    assert_eq!(run["labels"], json!({ "a": "b" }));
    let segments = bench.rest().get(&format!("/api/v1/runs/{id}/segments")).await;
    let spec = &segments["items"][0]["spec"];
    assert_eq!(
        (&spec["encoding"], &spec["update_interval"], &spec["sketch_dim"]),
        (&json!("f32"), &json!(20), &json!(256))
    );
    // The integer tensor is left out.
    let parameters: Vec<&Value> = (0..2).map(|group| &spec["groups"][group]["parameter_count"]).collect();
    assert_eq!(parameters, [&json!(128), &json!(20 * 6 + 128 + 6 * 20 + 1)]);
    for (window, expected) in [(5, 7), (3, 9)] {
        for group in ["attention", "all"] {
            let rows = bench.readings(id, &format!("&group={group}&window={window}")).await;
            assert_eq!(steps(&rows), (1..12).map(|row| row * EVERY).collect::<Vec<_>>());
            assert_eq!(full(&rows), expected, "{group} {window}");
            assert!(rows[10]["adiabatic"].is_f64(), "the learning rate is known: {}", rows[10]);
        }
    }

    // Without --json it says the same to a person, and a second import is a second run.
    let ended = bench.import(&more).with(OK);
    assert!(ended.stdout.contains("rows      11") && ended.stdout.contains("/readings/edge"), "{}", ended.stdout);
    ended.says("11 of 11 rows, step 220");
    let runs = bench.rest().get("/api/v1/runs?project=p").await;
    assert_eq!(runs["items"].as_array().map(Vec::len), Some(2), "{runs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_can_be_given_and_a_missing_one_is_a_named_hole() {
    let bench = Bench::new(14);
    let names: Vec<PathBuf> =
        (0..14).map(|i: u64| bench.dir.path().join(format!("{}.safetensors", "x".repeat(14 - i as usize)))).collect();
    for (file, name) in bench.files.iter().zip(&names) {
        std::fs::rename(file, name).expect("renamed");
    }
    bench.import_files(&names, &[]).with(USAGE).says("--steps");
    // Step 140 is missing, and step 150 is no multiple of 20.
    let given: Vec<String> =
        (0..14).map(|i| if i == 7 { 150 } else { i * EVERY }).map(|step| step.to_string()).collect();
    let ended = bench.import_files(&names, &["--steps", &given.join(","), "--json"]).with(OK);
    ended.says("no checkpoint of step 140");
    let summary = ended.json();
    assert_eq!((&summary["rows"], &summary["checkpoints_left_out"]), (&json!(11), &json!(1)));
    assert_eq!(summary["readings"], json!([{ "window": 5, "full": 3 }]));
    assert_eq!(summary["holes"].as_array().map(Vec::len), Some(1));
    let id = summary["run_id"].as_str().expect("an id");
    let rows = bench.readings(id, "").await;
    assert_eq!(steps(&rows), [20, 40, 60, 80, 100, 120, 180, 200, 220, 240, 260]);
    let counts: Vec<_> = rows.iter().map(|row| row["rows"].as_u64().expect("rows")).collect();
    assert_eq!(counts, [1, 2, 3, 4, 5, 5, 1, 2, 3, 4, 5], "the window starts again behind the hole");
    let events = bench.rest().all(&format!("/api/v1/runs/{id}/events?types=window.restarted")).await;
    assert_eq!(events.len(), 1, "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_not_right_ends_it_and_what_was_sent_stays() {
    let bench = Bench::new(12);
    let whole = std::fs::read(&bench.files[8]).expect("a file");
    let without_head: Vec<MadeTensor> = tensors().into_iter().filter(|it| it.name != "head.weight").collect();
    let mut reshaped = tensors();
    reshaped[1].shape = vec![4, 16];
    let mut retyped = tensors();
    retyped[0].dtype = Dtype::F64;
    let mut renumbered = tensors();
    renumbered[3].dtype = Dtype::I64;
    let mut more = tensors();
    more.push(MadeTensor::new("extra.weight", Dtype::F32, &[2]));
    let made: [(&str, &[MadeTensor], &str); 5] = [
        ("head.weight", &without_head, "missing"),
        ("blocks.0.wq.weight", &reshaped, "[4, 16]"),
        ("embed.weight", &retyped, "F64"),
        ("head.weight", &renumbered, "I64"),
        ("extra.weight", &more, "not in"),
    ];
    let mut bad: Vec<(&str, Vec<u8>, &str)> = vec![
        // The last tensor of the file.
        ("blocks.0.wk.weight", whole[..whole.len() - 10].to_vec(), "cut off"),
        ("", whole[..100].to_vec(), "safetensors"),
        ("", Vec::new(), "safetensors"),
        ("", b"not a checkpoint at all".to_vec(), "safetensors"),
    ];
    for (tensor, tensors, word) in made {
        let path = bench.dir.path().join("made");
        MadeTraining::new(2, tensors).write(&path);
        bad.push((tensor, std::fs::read(path).expect("a file"), word));
    }
    for (tensor, bytes, word) in bad {
        std::fs::write(&bench.files[8], bytes).expect("written");
        let id = uuid::Uuid::new_v4().to_string();
        let ended = bench.import(&["--run-id", &id]).with(FAILED);
        for text in ["step-160.safetensors", tensor, word, &format!("--run-id {id}")] {
            ended.says(text);
        }
        assert_eq!(steps(&bench.readings(&id, "").await), (1..8).map(|row| row * EVERY).collect::<Vec<_>>(), "{word}");
        assert_eq!(bench.rest().get(&format!("/api/v1/runs/{id}")).await["state"], "failed", "{word}");
    }
    std::fs::remove_file(&bench.files[8]).expect("removed");
    bench.import(&[]).with(FAILED).says("step-160.safetensors");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_usage_is_named_and_nothing_is_sent() {
    let bench = Bench::new(4);
    let wrong: [(&[&str], &str); 13] = [
        (&["--group", "attention"], "NAME=GLOB"),
        (&["--group", "a=[x"], "--group"),
        (&["--group", "mlp=*.mlp.*"], "blocks.0.wk.weight"),
        (&["--group", "counters=steps"], "I64"),
        (&["--group", "a=*", "--group", "a=embed*"], "twice"),
        (&["--lr", "-1"], "--lr"),
        (&["--lr", "nan"], "--lr"),
        (&["--steps", "1,2"], "2 steps for 4 files"),
        (&["--dim", "100"], "100"),
        (&["--window", "2"], "window"),
        (&["--label", "a"], "KEY=VALUE"),
        (&["--run-id", "x"], "--run-id"),
        (&["--encoding", "f8"], "--encoding"),
    ];
    let usual = ["import", "--project", "p", "--name", "n"];
    let server = bench.server.url();
    let files: Vec<&str> = bench.files.iter().map(|path| path.to_str().expect("text")).collect();
    for (arguments, word) in wrong {
        let arguments = [&usual[..], &["--server", &server, "--every", "20"], arguments, &files].concat();
        gradwatch(bench.dir.path(), &[], &arguments).with(USAGE).says(word);
    }
    for (arguments, word) in [(&["--every", "0"][..], "--every"), (&["--every", "7"], "--every 7"), (&[], "--every")] {
        let arguments = [&usual[..], &["--server", &server], arguments, &files].concat();
        gradwatch(bench.dir.path(), &[], &arguments).with(USAGE).says(word);
    }
    gradwatch(bench.dir.path(), &[], &[&usual[..], &["--every", "20"]].concat()).with(USAGE).says("FILE");
    bench
        .import_files(&[bench.files.clone(), bench.files[..1].to_vec()].concat(), &[])
        .with(USAGE)
        .says("both of step 0");
    let runs = bench.rest().get("/api/v1/runs?project=p").await;
    assert_eq!(runs["items"], json!([]));

    // No server, and a server that is none.
    let port = ReservedPort::new();
    let ended = import(bench.dir.path(), &port.url(), &bench.files, &[]).with(UNREACHABLE);
    ended.says(&port.url());
    let help = gradwatch(bench.dir.path(), &[], &["import", "--help"]).with(OK);
    for word in
        ["Example", "--group 'attention=*.wq.*,*.wk.*'", "--every", "--run-id", "Exit codes", "GRADWATCH_SERVER"]
    {
        assert!(help.stdout.contains(word), "{word}: {}", help.stdout);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_needs_a_token_where_the_server_asks_for_one() {
    let admin = "gw_the_first_token_of_the_import_tests_0123456789";
    let bench = Bench::with(6, &[("GRADWATCH_ACCESS__REQUIRE_TOKENS", "true"), ("GRADWATCH_BOOTSTRAP_TOKEN", admin)]);
    let token = |project: &str, scopes: &[&str]| {
        let server = bench.server.url();
        let create = ["token", "create", "--json", "--name", "a test", "--server", &server, "--token", admin];
        let scopes: Vec<&str> = scopes.iter().flat_map(|scope| ["--scope", scope]).collect();
        let made = gradwatch(bench.dir.path(), &[], &[&create, &["--project", project][..], &scopes].concat()).with(OK);
        made.json()["token"].as_str().expect("a token").to_owned()
    };
    let (sender, both) = (token("p", &["ingest"]), token("p", &["ingest", "read"]));
    for (wrong, said) in [
        ("gw_a_token_that_nobody_ever_made_0123456789", "401"),
        (token("p", &["read"]).as_str(), "ingest"),
        (token("q", &["ingest"]).as_str(), "project \"q\" only"),
    ] {
        bench.import(&["--token", wrong]).with(FAILED).says(said);
    }
    bench.import(&[]).with(FAILED).says("401");

    // Sending is enough for a new run; to go on with one its rows have to be read.
    let summary = bench.import(&["--token", &sender, "--json"]).with(OK).json();
    assert_eq!(summary["rows"], 5);
    let id = summary["run_id"].as_str().expect("an id");
    bench.import(&["--token", &sender, "--run-id", id]).with(FAILED).says("read");
    let again = bench.import(&["--token", &both, "--run-id", id, "--json"]).with(OK).json();
    assert_eq!((&again["rows"], &again["rows_sent"]), (&json!(5), &json!(0)));
    let run = bench.rest().with_token(admin).get(&format!("/api/v1/runs/{id}")).await;
    assert_eq!(run["state"], "finished", "{run}");
}
