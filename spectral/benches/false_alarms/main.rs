//! False alarms of the detectors on quiet data, the time spent in each regime, and the power on planted changes.
//!
//! `cargo xtask bench false_alarms [RUNS] [--seed SEED] [--dim D]`
//!
//! Made updates, not sketched, go through the very stream and followers a server uses, for W = 10 and W = 20 over one ring;
//! made readings of layers go through theirs. Everything is followed by the default rules and by those they came from.
//! Markdown tables on stdout, progress on stderr. The same seed, runs and dimension give the same figures on the same
//! processor.

mod cases;
mod edge;
mod followed;
mod layers;
mod noise;
mod report;
mod rules;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::cases::{AR_05, CHANGES, Change, IID, LAYERS, MORE_UPDATES, ROW_SCALES, STUDENT_T3, UPDATES};
use crate::report::Case;
use crate::support::Random;

/// Updates of a quiet run, with those that fill the longest window; and readings of a quiet layer.
const QUIET_UPDATES: usize = 2020;
const QUIET_READINGS: usize = 2000;
/// Updates of a run with a planted change, and the first one it touches. Layers give as many readings.
const PLANTED_UPDATES: usize = 340;
const PLANTED_AT: usize = 300;
/// Readings after a change within which a layer's detector has found it, or has not.
const LAYER_DELAY: usize = 32;
/// Other dimensions, in which a few runs of the quiet updates that false alarms come from are done again.
const OTHER_DIMS: [usize; 2] = [256, 4096];
/// Most runs of what is looked at beside.
const RUNS_BESIDE: usize = 20;

struct Args {
    /// Quiet runs of each kind of input. Half as many for each planted change.
    runs: usize,
    seed: u64,
    /// Entries of an update.
    dim: usize,
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Args, Box<dyn Error>> {
    let mut args = Args { runs: 200, seed: 90_000, dim: 512 };
    while let Some(word) = words.next() {
        match word.as_str() {
            // Cargo says so.
            "--bench" => {}
            "--seed" => args.seed = words.next().ok_or("--seed needs a number")?.parse()?,
            "--dim" => args.dim = words.next().ok_or("--dim needs a number")?.parse()?,
            runs => args.runs = runs.parse().ok().filter(|runs| *runs > 0).ok_or("RUNS is a number of at least 1")?,
        }
    }
    Ok(args)
}

/// Runs of one case on every processor, each with a seed of its own; answers them in order.
fn all<T: Send>(case: &str, runs: usize, seed: u64, run: impl Fn(u64) -> T + Sync) -> Vec<T> {
    eprintln!("{case}");
    // A case's seeds follow from its name: adding another case changes no figures.
    let seed = case.bytes().fold(seed, |seed, byte| Random::new(seed ^ u64::from(byte)).next_u64());
    let mut seeds = Random::new(seed);
    let seeds: Vec<u64> = (0..runs).map(|_| seeds.next_u64()).collect();
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let at = next.fetch_add(1, Ordering::Relaxed)
                    && let Some(seed) = seeds.get(at)
                {
                    let result = run(*seed);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((at, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = parse(std::env::args().skip(1))?;
    let rules = [rules::shipped(), rules::first()];
    let quiet_updates = |family: noise::Family, dim: usize, runs: usize| {
        let plan = edge::Plan { family, change: Change::Nothing, updates: QUIET_UPDATES, planted_at: 0, dim };
        let name = format!("quiet updates, d = {dim}: {}", family.name);
        Case { input: family.name.to_owned(), runs: all(&name, runs, args.seed, |seed| edge::run(plan, &rules, seed)) }
    };
    let beside = RUNS_BESIDE.min(args.runs);
    let cases =
        UPDATES.iter().map(|family| (family, args.runs)).chain(MORE_UPDATES.iter().map(|family| (family, beside)));
    let quiet: Vec<_> = cases.map(|(family, runs)| quiet_updates(*family, args.dim, runs)).collect();
    println!("## Quiet updates: events per 2,000 readings\n\n### Default rules\n");
    report::quiet_updates(&quiet, rules::SHIPPED);
    println!("\n### Rules they came from\n");
    report::quiet_updates(&quiet, rules::FIRST);
    println!("\n## Quiet updates: share of readings in each regime, default rules\n");
    report::regimes(&quiet, rules::SHIPPED);

    println!("\n## Quiet updates of other dimensions, {beside} runs\n\n### Default rules\n");
    let mut other = Vec::new();
    for dim in OTHER_DIMS {
        for family in [IID, STUDENT_T3, ROW_SCALES] {
            let case = quiet_updates(family, dim, beside);
            other.push(Case { input: format!("{}, d = {dim}", family.name), ..case });
        }
    }
    report::quiet_updates(&other, rules::SHIPPED);
    println!("\n### Rules they came from\n");
    report::quiet_updates(&other, rules::FIRST);

    println!("\n## Quiet layers: events per 2,000 readings\n");
    let quiet_layers = LAYERS.map(|family| {
        let plan = layers::Plan { family, change: layers::Change::Nothing, readings: QUIET_READINGS, planted_at: 0 };
        let name = format!("quiet layers: {}", family.name);
        Case {
            input: family.name.to_owned(),
            runs: all(&name, args.runs, args.seed, |seed| layers::run(plan, &rules[..=rules::SHIPPED], seed)),
        }
    });
    report::quiet_layers(&quiet_layers);

    println!("\n## Planted changes of updates\n");
    report::planted_updates_head();
    for change in CHANGES {
        for family in [IID, AR_05] {
            let plan = edge::Plan { family, change, updates: PLANTED_UPDATES, planted_at: PLANTED_AT, dim: args.dim };
            let name = format!("{change}; {}", family.name);
            let runs = all(&name, args.runs.div_ceil(2), args.seed, |seed| edge::run(plan, &rules, seed));
            report::planted_updates(change, &Case { input: family.name.to_owned(), runs });
        }
    }

    println!("\n## Planted changes of layers, within {LAYER_DELAY} readings\n");
    report::planted_layers_head();
    for change in layers::CHANGES {
        for family in LAYERS {
            let plan = layers::Plan { family, change, readings: PLANTED_UPDATES, planted_at: PLANTED_AT };
            let name = format!("{change}; layers, {}", family.name);
            let runs =
                all(&name, args.runs.div_ceil(2), args.seed, |seed| layers::run(plan, &rules[..=rules::SHIPPED], seed));
            report::planted_layers(change, &Case { input: family.name.to_owned(), runs });
        }
    }
    Ok(())
}
