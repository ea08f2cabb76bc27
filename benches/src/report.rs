//! Results: a JSON file for each benchmark, a table for people.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::json;

use crate::machine::Machine;

/// Writes `target/bench/<bench>.json`; `print` also writes it to standard output.
pub(crate) fn write(
    bench: &str,
    machine: &Machine,
    settings: &impl Serialize,
    results: &impl Serialize,
    print: bool,
) -> Result<()> {
    let report = json!({ "bench": bench, "machine": machine, "settings": settings, "results": results });
    let text = serde_json::to_string_pretty(&report)?;
    let dir = target_dir()?.join("bench");
    fs::create_dir_all(&dir)?;
    let path = dir.join(format!("{bench}.json"));
    fs::write(&path, &text).with_context(|| format!("cannot write {}", path.display()))?;
    if print {
        println!("{text}");
    } else {
        println!("{}\nwritten to {}", machine.line(), path.display());
    }
    Ok(())
}

/// The folder that this program was built into: `target/<profile>/gradwatch-benches`.
fn target_dir() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    own.ancestors().nth(2).map(PathBuf::from).context("this program does not lie in target/<profile>")
}

/// The middle value.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
