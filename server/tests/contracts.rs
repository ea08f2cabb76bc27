//! Files in git that must say what the code says. `cargo xtask contracts` writes them anew.

use std::{fmt::Write, path::Path};

use gradwatch_spectral::{
    catalogue::{DETECTORS, EDGE_METRICS},
    layers::{LayerInstrument, Reason},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Compares a file with what it must hold, or writes it when asked to.
fn check(file: &str, expected: &str) {
    let path = root().join(file);
    if std::env::var_os("GRADWATCH_BLESS").is_some() {
        std::fs::write(&path, expected).unwrap();
        return;
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "{file} differs from the code; `cargo xtask contracts` writes it anew");
}

#[test]
fn openapi_json_is_what_the_server_serves() {
    let text = gradwatch_server::openapi_json();
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(document["paths"].as_object().unwrap().len() > 10);
    check("openapi.json", &text);
}

#[test]
fn the_tables_of_metrics_md_are_the_catalogue() {
    let mut metrics = String::from("| metric | unit | definition | from | rollups |\n|---|---|---|---|---|\n");
    for metric in EDGE_METRICS {
        let rollups = if metric.headline { "yes" } else { "" };
        let (name, unit, definition) = (metric.name, metric.unit, metric.definition);
        writeln!(metrics, "| `{name}` | {unit} | {definition} | [{}] | {rollups} |", metric.tag.as_str()).unwrap();
    }
    let mut detectors = String::from("| regime or event | default rule |\n|---|---|\n");
    for detector in DETECTORS {
        writeln!(detectors, "| `{}` | {} |", detector.name, detector.rule).unwrap();
    }
    let mut layer_metrics = String::from("| metric | unit | definition | from |\n|---|---|---|---|\n");
    for instrument in LayerInstrument::ALL {
        for field in instrument.fields() {
            let (name, unit, tag) = (field.name, field.unit, field.tag.as_str());
            // A bar would end the cell.
            let definition = field.definition.replace('|', "\\|");
            // The reasons are listed apart, once for all.
            let words = match field.words {
                words if words.is_empty() || name == "reason" => String::new(),
                words => format!(" One of `{}`.", words.join("`, `")),
            };
            writeln!(layer_metrics, "| `{instrument}.{name}` | {unit} | {definition}{words} | [{tag}] |").unwrap();
        }
    }
    let reasons: Vec<String> = Reason::ALL.iter().map(|reason| format!("`{reason}`")).collect();
    let reasons = reasons.join(", ") + ".\n";
    let file = "docs/metrics.md";
    let mut text = std::fs::read_to_string(root().join(file)).unwrap();
    let tables =
        [("metrics", metrics), ("layer metrics", layer_metrics), ("reasons", reasons), ("detectors", detectors)];
    for (name, table) in tables {
        let (begin, end) = (format!("<!-- begin {name} -->\n"), format!("<!-- end {name} -->"));
        let from = text.find(&begin).expect("a beginning") + begin.len();
        let to = text.find(&end).expect("an end");
        text.replace_range(from..to, &table);
    }
    check(file, &text);
}

#[test]
fn rest_md_names_every_path() {
    let text = std::fs::read_to_string(root().join("docs/rest.md")).unwrap();
    let document: serde_json::Value = serde_json::from_str(&gradwatch_server::openapi_json()).unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let heading = format!("`{} {path}`", method.to_uppercase());
            assert!(text.contains(&heading), "docs/rest.md does not describe {heading}");
        }
    }
}
