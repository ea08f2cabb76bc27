//! `fleet_dimension` of made families.

use gradwatch_tests::{Backend, Rest, TestServer, on_both_backends};
use http::Method;
use serde_json::{Value, json};

use crate::made::{Made, assert_near, at, computed, gradient, happened, members, result, scalar, whole};

on_both_backends!(
    a_made_family_gives_its_slope_at_each_step,
    runs_are_aligned_on_an_event_or_a_condition,
    what_cannot_be_fitted_is_not_published,
    an_answer_is_kept_until_the_runs_change,
    cascades_that_were_stopped_are_counted,
);

const WIDTHS: [u64; 4] = [100, 200, 400, 800];

/// ln s of a run: slope D on ln N, and what its seed adds.
fn ln_size(dimension: f64, sites: u64, seed: u64) -> f64 {
    dimension * (sites as f64).ln() + 0.1 * seed as f64
}

/// Two runs of each width.
async fn family(url: &str, name: &str, widths: &[u64]) -> Vec<(Made, u64, u64)> {
    let mut runs = Vec::new();
    for &sites in widths {
        for seed in 0..2 {
            let made = Made::open(url, &format!("{sites} of {seed}"), &[("width_family", name)]).await;
            runs.push((made, sites, seed));
        }
    }
    runs
}

fn request(align: Value) -> Value {
    json!({"project": "tests", "family": "mlp", "align": align})
}

async fn a_made_family_gives_its_slope_at_each_step(backend: Backend) {
    let server = TestServer::start_on(backend).await;
    let (url, rest) = (server.url(), server.rest());
    // D is 1.2 up to step 200, then 0.9. The jobs are still running.
    let slope = |step| if step <= 200 { 1.2 } else { 0.9 };
    let mut runs = family(&url, "mlp", &WIDTHS).await;
    for (run, sites, seed) in &mut runs {
        run.send([100, 200, 300, 400].map(|step| whole(at(step), *sites, ln_size(slope(step), *sites, *seed)))).await;
        run.read(&rest).await;
    }
    // Another family, one that sends no such layer, and one without a reading: none of them is fitted.
    let mut other = Made::open(&url, "other", &[("width_family", "cnn")]).await;
    other.send([whole(at(100), 3_200, 1.0)]).await;
    let mut bare = Made::open_with(&url, "bare", &[("width_family", "mlp")], Vec::new()).await;
    bare.send([at(100)]).await;
    let mut silent = Made::open(&url, "silent", &[("width_family", "mlp")]).await;
    silent.send([at(100)]).await;

    let found = result(&rest, "dimension", request(json!("step"))).await;
    let warning = found["warning"].as_str().expect("a text");
    assert!(warning.contains("nest_dimension") && warning.contains("falls"), "{warning}");
    assert_eq!(found["window"], 100);
    assert_eq!(members(&found["runs"], "parameters"), [100, 100, 200, 200, 400, 400, 800, 800]);
    assert!(members(&found["runs"], "readings").iter().all(|it| **it == 4), "{found}");
    let mut left_out: Vec<(&Value, &Value)> =
        members(&found["left_out"], "name").into_iter().zip(members(&found["left_out"], "reason")).collect();
    left_out.sort_by_key(|(name, _)| name.to_string());
    assert_eq!(left_out, [(&json!("bare"), &json!("no_layer")), (&json!("silent"), &json!("no_readings"))]);

    assert_eq!(members(&found["points"], "at"), [200, 400]);
    for (point, dimension) in found["points"].as_array().expect("points").iter().zip([1.2, 0.9]) {
        assert_eq!((&point["published"], &point["reason"]), (&json!(true), &Value::Null));
        assert_near(&point["dimension"], dimension, "D");
        assert_near(&point["r2"], 1.0, "R²");
        let [low, high] = ["low", "high"].map(|name| point[name].as_f64().expect("a number"));
        // Seeds differ by 0.1 at every width.
        assert!(low < dimension && dimension < high && high - low < 0.2, "{point}");
        assert_eq!(members(&point["widths"], "parameters"), WIDTHS);
        assert_eq!(members(&point["widths"], "runs"), [2, 2, 2, 2]);
        for (width, sites) in point["widths"].as_array().expect("widths").iter().zip(WIDTHS) {
            assert_near(&width["mean_ln_size"], ln_size(dimension, sites, 0) + 0.05, "mean of ln s");
        }
        assert_eq!(members(&point["leave_one_out"], "parameters"), WIDTHS);
        for left_out in members(&point["leave_one_out"], "dimension") {
            assert_near(left_out, dimension, "D without one width");
        }
        assert_eq!(point["capped"], 0);
    }

    // Half the spacing: each step by itself; `from` and `to` narrow.
    let mut each = request(json!("step"));
    (each["window"], each["from"], each["to"]) = (json!(50), json!(200), json!(399));
    let found = result(&rest, "dimension", each).await;
    assert_eq!(members(&found["points"], "at"), [200, 300]);
    assert_eq!(found["points"][1]["from"], 250);
    assert_eq!(found["points"][1]["to"], 349);
    assert_near(&found["points"][0]["dimension"], 1.2, "D at 200");
    assert_near(&found["points"][1]["dimension"], 0.9, "D at 300");

    // What was rewound does not count.
    let (run, sites, seed) = &mut runs[7];
    run.rewind_to(200).await;
    run.send([whole(at(300), *sites, ln_size(5.0, *sites, *seed))]).await;
    run.read(&rest).await;
    let mut last = request(json!("step"));
    (last["window"], last["from"]) = (json!(50), json!(300));
    let found = result(&rest, "dimension", last).await;
    let runs_at: Vec<&Value> = members(&found["points"], "widths").iter().map(|widths| &widths[3]["runs"]).collect();
    assert_eq!(runs_at, [2, 1]);
    let mean = (ln_size(0.9, 800, 0) + ln_size(5.0, 800, 1)) / 2.0;
    assert_near(&found["points"][0]["widths"][3]["mean_ln_size"], mean, "mean of ln s");
    server.shutdown().await;
}

async fn runs_are_aligned_on_an_event_or_a_condition(backend: Backend) {
    let server = TestServer::start_on(backend).await;
    let (url, rest) = (server.url(), server.rest());
    let mut solved = Vec::new();
    // Each run is solved at a step of its own; D is 1.2 before and 0.9 from then on.
    for (index, (mut run, sites, seed)) in family(&url, "mlp", &WIDTHS).await.into_iter().enumerate() {
        let solved_at = 200 + 100 * index as u64;
        let frame = |step: u64| {
            let dimension = if step < solved_at { 1.2 } else { 0.9 };
            let frame = whole(at(step), sites, ln_size(dimension, sites, seed));
            let frame = scalar(frame, "test accuracy", if step < solved_at { 0.5 } else { 0.995 });
            // It is solved a second time later.
            if step == solved_at || step == solved_at + 100 { happened(frame, "solved") } else { frame }
        };
        run.send((1..=12).map(|it| frame(100 * it))).await;
        run.finish(&rest).await;
        solved.push((run.run_id().to_owned(), solved_at));
    }
    let mut never = Made::open(&url, "never", &[("width_family", "mlp")]).await;
    never.send((1..=5).map(|it| scalar(whole(at(100 * it), 1_600, 3.0), "test accuracy", 0.9))).await;
    never.finish(&rest).await;

    for (align, reason) in [
        (json!({"event": "job.solved"}), "no_event"),
        (json!({"condition": "scalar.test accuracy >= 0.99"}), "condition_never_met"),
    ] {
        let mut request = request(align.clone());
        (request["window"], request["from"], request["to"]) = (json!(50), json!(-100), json!(100));
        let computation = computed(&rest, "dimension", &request).await;
        assert_eq!(computation["request"]["align"], align);
        let found = &computation["result"];
        assert_eq!(members(&found["left_out"], "reason"), [reason]);
        assert_eq!(found["left_out"][0]["run_id"], never.run_id());
        for run in found["runs"].as_array().expect("runs") {
            let expected = solved.iter().find(|(run_id, _)| run["run_id"] == **run_id).expect("one of ours");
            assert_eq!((&run["zero_step"], &run["readings"]), (&json!(expected.1), &json!(3)));
        }
        assert_eq!(found["runs"].as_array().expect("runs").len(), 8);
        assert_eq!(members(&found["points"], "at"), [-100, 0, 100]);
        for (point, dimension) in members(&found["points"], "dimension").into_iter().zip([1.2, 0.9, 0.9]) {
            assert_near(point, dimension, "D");
        }
    }
    long_runs(&url, &rest).await;
    // Nothing that happened to none of them.
    let found = result(&rest, "dimension", request(json!({"event": "job.melted"}))).await;
    assert_eq!((&found["points"], &found["runs"]), (&json!([]), &json!([])));
    assert_eq!(found["left_out"].as_array().expect("runs").len(), 9);
    server.shutdown().await;
}

/// What was rewound does not count, nor do values that are not finite, however long a run is.
async fn long_runs(url: &str, rest: &Rest) {
    let mut run = Made::open(url, "long", &[("width_family", "long")]).await;
    let accuracy = |step: u64| match step {
        300..=320 => 0.999,
        777 | 1_111 => 0.9925,
        150 | 600 => f64::INFINITY,
        _ => 0.5,
    };
    let frame = |step: u64| {
        let frame = scalar(at(step), "accuracy", accuracy(step));
        let frame = if step.is_multiple_of(100) { whole(frame, 1_000, 5.0) } else { frame };
        if step == 310 || step == 900 { happened(frame, "solved") } else { frame }
    };
    run.send((1..=400).map(frame)).await;
    run.rewind_to(200).await;
    // Past the steps at which it held.
    run.send((321..=1_200).map(frame)).await;
    run.finish(rest).await;
    for (align, zero_step) in [
        (json!({"condition": "scalar.accuracy >= 0.99"}), 777),
        (json!({"condition": "scalar.accuracy > 0.9925"}), 0),
        (json!({"condition": "scalar.accuracy < 0.6"}), 1),
        (json!({"event": "job.solved"}), 900),
    ] {
        let mut request = request(align.clone());
        request["family"] = json!("long");
        let found = result(rest, "dimension", request).await;
        if zero_step == 0 {
            assert_eq!(members(&found["left_out"], "reason"), ["condition_never_met"], "{align}");
        } else {
            assert_eq!(members(&found["runs"], "zero_step"), [zero_step], "{align}");
        }
    }
}

async fn what_cannot_be_fitted_is_not_published(backend: Backend) {
    let server = TestServer::start_on(backend).await;
    let (url, rest) = (server.url(), server.rest());
    // Three widths at step 100; four at step 200 that lie on no line.
    for (index, (mut run, sites, seed)) in family(&url, "mlp", &WIDTHS).await.into_iter().enumerate() {
        if sites < 800 {
            run.send([whole(at(100), sites, ln_size(1.0, sites, seed))]).await;
        }
        let off = if index % 4 < 2 { 3.0 } else { 0.0 };
        run.send([whole(at(200), sites, ln_size(1.0, sites, seed) + off)]).await;
        run.finish(&rest).await;
    }
    // One that changes its width belongs nowhere.
    let mut changing = Made::open(&url, "changing", &[("width_family", "mlp")]).await;
    changing.send([whole(at(100), 300, 3.0), whole(at(200), 301, 3.0)]).await;
    changing.finish(&rest).await;

    let mut asked = request(json!("step"));
    asked["window"] = json!(50);
    let found = result(&rest, "dimension", asked).await;
    assert_eq!(members(&found["left_out"], "reason"), ["width_changes"]);
    for (point, (reason, widths)) in
        found["points"].as_array().expect("points").iter().zip([("too_few_widths", 3), ("poor_fit", 4)])
    {
        assert_eq!((&point["published"], &point["reason"]), (&json!(false), &json!(reason)), "{point}");
        for undefined in ["dimension", "low", "high"] {
            assert_eq!(point[undefined], Value::Null, "{point}");
        }
        assert_eq!(point["leave_one_out"], json!([]));
        assert_eq!(point["widths"].as_array().expect("widths").len(), widths);
    }
    assert_near(&found["points"][0]["r2"], 1.0, "R² of three widths");
    assert!(found["points"][1]["r2"].as_f64().expect("R²") < 0.9, "{found}");
    server.shutdown().await;
}

async fn an_answer_is_kept_until_the_runs_change(backend: Backend) {
    let server = TestServer::start_on(backend).await;
    let (url, rest) = (server.url(), server.rest());
    let mut runs = family(&url, "mlp", &WIDTHS).await;
    for (run, sites, seed) in &mut runs {
        run.send([whole(at(100), *sites, ln_size(1.1, *sites, *seed))]).await;
        run.finish(&rest).await;
    }
    let ask = async || computed(&rest, "dimension", &request(json!("step"))).await;
    let first = ask().await;
    assert_eq!(members(&first["result"]["points"], "at"), [100]);
    // The same, and the same written differently: not computed again.
    assert_eq!(ask().await, first);
    let reordered = json!({"align": "step", "family": "mlp", "window": null, "project": "tests"});
    assert_eq!(computed(&rest, "dimension", &reordered).await, first);
    let mut other = request(json!("step"));
    other["window"] = json!(7);
    assert_ne!(computed(&rest, "dimension", &other).await["id"], first["id"]);

    // New data.
    let (run, sites, seed) = &mut runs[0];
    run.rewind_to(100).await;
    run.send([whole(at(300), *sites, ln_size(1.1, *sites, *seed))]).await;
    run.finish(&rest).await;
    let second = ask().await;
    assert!(second["id"] != first["id"] && second["data_version"] != first["data_version"], "{second}");
    assert_eq!(second["result"]["points"].as_array().expect("points").len(), 2);

    // Another set of runs.
    let path = format!("/api/v1/runs/{}", runs[1].0.run_id());
    let (status, _) = rest.call(Method::PATCH, &path, r#"{"labels": {"width_family": "cnn"}}"#).await;
    assert_eq!(status, 200);
    let third = ask().await;
    assert!(third["id"] != second["id"], "{third}");
    assert_eq!(third["result"]["runs"].as_array().expect("runs").len(), 7);

    // The earlier answers are still there.
    for computation in [&first, &second] {
        let path = format!("/api/v1/fleet/{}", computation["id"].as_str().expect("an id"));
        assert_eq!(rest.get(&path).await, *computation);
    }
    families(&rest).await;
    server.shutdown().await;
}

/// Entries that are all the same never come to rest, because nothing is lost.
async fn cascades_that_were_stopped_are_counted(backend: Backend) {
    let server = TestServer::start_on(backend).await;
    let (url, rest) = (server.url(), server.rest());
    for sites in WIDTHS {
        let mut run = Made::open(&url, "run", &[("width_family", "mlp")]).await;
        let entries = vec![1.0; sites as usize];
        run.send([gradient(at(100), &entries), gradient(at(200), &entries)]).await;
        run.finish(&rest).await;
    }
    let found = result(&rest, "dimension", request(json!("step"))).await;
    assert_eq!(members(&found["points"], "at"), [200]);
    let point = &found["points"][0];
    assert_eq!((&point["capped"], &point["published"]), (&json!(8), &json!(true)), "{point}");
    assert_eq!(members(&point["widths"], "parameters"), WIDTHS);
    // Each is stopped at about 20 N topplings.
    assert!((point["dimension"].as_f64().expect("a number") - 1.0).abs() < 0.05, "{point}");
    // Of single runs there is nothing to draw from.
    assert_eq!((&point["low"], &point["high"]), (&Value::Null, &Value::Null));
    server.shutdown().await;
}

/// The list of families after that.
async fn families(rest: &Rest) {
    for path in ["/api/v1/fleet/families?project=tests", "/api/v1/fleet/families"] {
        let families = rest.get(path).await;
        assert_eq!(members(&families["items"], "family"), ["cnn", "mlp"]);
        assert_eq!(families["items"][0]["widths"], json!([100]));
        assert_eq!(families["items"][1]["widths"], json!(WIDTHS));
        let runs = &families["items"][1]["runs"];
        assert_eq!(members(runs, "parameters"), [100, 200, 200, 400, 400, 800, 800]);
        assert_eq!((&runs[0]["last_step"], &runs[0]["state"]), (&json!(300), &json!("finished")));
    }
    assert_eq!(rest.get("/api/v1/fleet/families?project=none").await["items"], json!([]));
    let pages = rest.all("/api/v1/fleet/families?limit=1").await;
    assert_eq!(pages.iter().map(|family| &family["family"]).collect::<Vec<_>>(), ["cnn", "mlp"]);
}
