//! False alarms of the default detector rules on quiet data, and their power on planted changes.
//!
//! `cargo run -p gradwatch-spectral --example false_alarms -- [RUNS] [--seed SEED] [--json]`
//!
//! Synthetic rows of 4096 float32 entries, not sketched, go through the very stream and followers a server uses, for
//! W = 10 and W = 20 over one ring. Tables (Markdown) or JSON on stdout, progress on stderr. The same seed and runs
//! give the same figures on the same processor.

mod cases;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::error::Error;

use cases::{AR_05, CHANGES, Change, FAMILIES, Family, IID, Shape};
use gradwatch_spectral::detectors::{Detection, Detector, DetectorConfig, Regime};
use gradwatch_spectral::edge::EdgeStream;
use gradwatch_spectral::followers::Followers;
use gradwatch_spectral::window::WindowError;
use serde_json::{Value, json};
use support::{Random, add};

/// Columns of a row.
const DIM: usize = 4096;
/// Window lengths, rows.
const WINDOWS: [usize; 2] = [10, 20];
/// Updates of a quiet run; each gives a reading.
const QUIET_UPDATES: usize = 2000;
/// Updates of a run with a planted change, and the first one it touches.
const PLANTED_UPDATES: usize = 800;
const PLANTED_AT: usize = 500;

const DETECTORS: [Detector; 6] = [
    Detector::EdgeRegime,
    Detector::GapOpening,
    Detector::GapCollapse,
    Detector::PositionChange,
    Detector::Rotation,
    Detector::UpdateSpike,
];

/// One run's full readings and alarms, for one window length.
#[derive(Default)]
struct Followed {
    readings: u64,
    alarms: Vec<Detection>,
}

impl Followed {
    /// The first alarm of one of `detectors` within 2W readings of the planted change, readings after it.
    fn delay(&self, window: usize, detectors: &[Detector]) -> Option<u64> {
        let in_time = PLANTED_AT as u64..(PLANTED_AT + 2 * window) as u64;
        let found = self.alarms.iter().find(|d| detectors.contains(&d.detector) && in_time.contains(&d.step))?;
        Some(found.step - PLANTED_AT as u64)
    }
}

/// One run through the default rules; answers one `Followed` a window length. The first regime out of `warming`, which
/// every run enters, is no alarm.
fn run(family: Family, change: Change, updates: usize, seed: u64) -> Result<Vec<Followed>, WindowError> {
    let mut random = Random::new(seed);
    let drift = random.direction(DIM);
    let first = random.direction(DIM);
    let mut second = random.direction(DIM);
    let overlap = first.iter().zip(&second).map(|(a, b)| a * b).sum::<f64>();
    add(&mut second, -overlap, &first);
    let directions = [first, second];

    let weight = |k: usize| if family.shape == Shape::Anisotropic { (k as f64 + 1.0).recip() } else { 1.0 };
    let total: f64 = (0..DIM).map(weight).sum();
    let scales: Vec<f64> = (0..DIM).map(|k| (weight(k) / total).sqrt()).collect();
    let fresh = (1.0 - family.rho * family.rho).sqrt();

    let mut stream = EdgeStream::new(DIM, &WINDOWS, DIM as u64, false)?;
    let mut followers = WINDOWS.map(|window| Followers::new(window, &DetectorConfig::default()));
    let mut followed: Vec<Followed> = WINDOWS.iter().map(|_| Followed::default()).collect();
    let mut noise: Vec<f64> = random.gaussians(DIM);
    for update in 0..updates {
        for x in &mut noise {
            let mut z = random.gaussian();
            if family.shape == Shape::StudentT3 {
                // z / √(χ²₃/3), divided by its standard deviation √3.
                z /= (random.gaussian().powi(2) - 2.0 * random.uniform().ln()).sqrt();
            }
            *x = family.rho * *x + fresh * z;
        }
        let size = match family.shape {
            Shape::Decaying => 0.1 + 0.45 * (1.0 + (std::f64::consts::PI * update as f64 / updates as f64).cos()),
            Shape::RowScales => (0.3 * random.gaussian()).exp(),
            Shape::Plain | Shape::StudentT3 | Shape::Anisotropic => 1.0,
        };
        let mut row: Vec<f64> = noise.iter().zip(&scales).map(|(x, scale)| size * scale * x).collect();
        add(&mut row, family.drift, &drift);
        change.plant(update, &mut row, &directions);
        let row: Vec<f32> = row.iter().map(|x| *x as f32).collect();
        for (i, mut reading) in stream.push(&row, None)?.into_iter().enumerate() {
            followed[i].readings += u64::from(!reading.is_warming());
            let detections = followers[i].follow(update as u64, &mut reading).into_iter();
            followed[i].alarms.extend(detections.filter(|detection| detection.from != Some(Regime::Warming)));
        }
    }
    Ok(followed)
}

/// Runs of one case, each with a seed of its own.
fn runs(
    case: usize,
    family: Family,
    change: Change,
    updates: usize,
    args: &Args,
) -> Result<Vec<Vec<Followed>>, WindowError> {
    eprintln!("{}; {change}", family.name);
    let mut seeds = Random::new(args.seed ^ ((case as u64) << 32));
    (0..args.runs).map(|_| run(family, change, updates, seeds.next_u64())).collect()
}

/// Alarms per 1,000 full readings of one quiet family, one object a window length.
fn quiet(case: usize, family: Family, args: &Args) -> Result<Value, WindowError> {
    let runs = runs(case, family, Change::Nothing, QUIET_UPDATES, args)?;
    let windows = WINDOWS.iter().enumerate().map(|(i, window)| {
        let readings: u64 = runs.iter().map(|run| run[i].readings).sum();
        let rate = |detector: Detector| {
            let alarms = runs.iter().flat_map(|run| &run[i].alarms).filter(|alarm| alarm.detector == detector).count();
            (detector.as_str().to_owned(), json!(1000.0 * alarms as f64 / readings as f64))
        };
        let touched = runs.iter().filter(|run| !run[i].alarms.is_empty()).count() as f64 / runs.len() as f64;
        let rates: serde_json::Map<String, Value> = DETECTORS.into_iter().map(rate).collect();
        json!({ "window": window, "readings": readings, "per_1000_readings": rates, "runs_with_an_alarm": touched })
    });
    Ok(json!({ "input": family.name, "windows": windows.collect::<Vec<_>>() }))
}

/// Shares of runs in which detectors fire within 2W readings of one planted change, one object a window length.
fn planted(case: usize, family: Family, change: Change, args: &Args) -> Result<Value, WindowError> {
    let runs = runs(case, family, change, PLANTED_UPDATES, args)?;
    let windows = WINDOWS.iter().enumerate().map(|(i, &window)| {
        let delays = |detectors: &[Detector]| runs.iter().filter_map(|run| run[i].delay(window, detectors)).collect();
        let power = |detectors: &[Detector]| {
            let delays: Vec<u64> = delays(detectors);
            (!detectors.is_empty()).then_some(delays.len() as f64 / runs.len() as f64)
        };
        let mut fitting: Vec<u64> = delays(change.fitting());
        fitting.sort_unstable();
        let each: serde_json::Map<String, Value> =
            DETECTORS.iter().map(|detector| (detector.as_str().to_owned(), json!(power(&[*detector])))).collect();
        let median = fitting.get(fitting.len() / 2);
        json!({
            "window": window, "power": power(change.fitting()), "median_delay_readings": median,
            "power_any": power(&DETECTORS), "power_each": each,
        })
    });
    let fitting: Vec<&str> = change.fitting().iter().map(|detector| detector.as_str()).collect();
    let windows: Vec<Value> = windows.collect();
    Ok(json!({ "change": change.to_string(), "input": family.name, "fitting": fitting, "windows": windows }))
}

/// One cell: the number at `pointer` for every window length, `W = 10 / W = 20`; a dash where there is none.
fn cell(case: &Value, pointer: &str, decimals: usize) -> String {
    let text = |window: &Value| window.pointer(pointer).and_then(Value::as_f64).map(|x| format!("{x:.decimals$}"));
    let windows = case["windows"].as_array().into_iter().flatten();
    let texts: Vec<String> = windows.map(|window| text(window).unwrap_or_else(|| "–".to_owned())).collect();
    if texts.windows(2).all(|pair| pair[0] == pair[1]) { texts[0].clone() } else { texts.join(" / ") }
}

fn print_tables(quiet: &[Value], planted: &[Value]) {
    let names = DETECTORS.map(|detector| format!("`{detector}`")).join(" | ");
    let dashes = "---|".repeat(DETECTORS.len());
    let each = |case: &Value, at: &str, decimals| {
        DETECTORS.map(|detector| cell(case, &format!("/{at}/{detector}"), decimals)).join(" | ")
    };
    println!("| quiet input | {names} | runs with an alarm |\n|---|{dashes}---|");
    for case in quiet {
        let name = case["input"].as_str().unwrap_or_default();
        println!("| {name} | {} | {} |", each(case, "per_1000_readings", 2), cell(case, "/runs_with_an_alarm", 2));
    }
    println!("\n| planted | in | power | median delay | {names} | any |\n|---|---|---|---|{dashes}---|");
    for case in planted {
        let (change, input) = (case["change"].as_str().unwrap_or_default(), case["input"].as_str().unwrap_or_default());
        let (power, delay) = (cell(case, "/power", 2), cell(case, "/median_delay_readings", 0));
        let (each, any) = (each(case, "power_each", 2), cell(case, "/power_any", 2));
        println!("| {change} | {input} | {power} | {delay} | {each} | {any} |");
    }
}

struct Args {
    runs: usize,
    seed: u64,
    json: bool,
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Args, Box<dyn Error>> {
    let mut args = Args { runs: 20, seed: 2026, json: false };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--json" => args.json = true,
            "--seed" => args.seed = words.next().ok_or("--seed needs a number")?.parse()?,
            runs => args.runs = runs.parse().ok().filter(|runs| *runs > 0).ok_or("RUNS is a number of at least 1")?,
        }
    }
    Ok(args)
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = parse(std::env::args().skip(1))?;
    let cases = FAMILIES.into_iter().enumerate();
    let quiet = cases.map(|(case, family)| quiet(case, family, &args)).collect::<Result<Vec<_>, _>>()?;
    let cases = CHANGES.into_iter().flat_map(|change| [(change, IID), (change, AR_05)]).enumerate();
    let planted = cases
        .map(|(case, (change, family))| planted(FAMILIES.len() + case, family, change, &args))
        .collect::<Result<Vec<_>, _>>()?;
    if args.json {
        let all = json!({ "runs": args.runs, "seed": args.seed, "quiet": quiet, "planted": planted });
        println!("{}", serde_json::to_string_pretty(&all)?);
    } else {
        print_tables(&quiet, &planted);
    }
    Ok(())
}
