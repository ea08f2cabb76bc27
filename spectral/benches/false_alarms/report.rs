//! Markdown tables.

use gradwatch_spectral::detectors::{Detector, Regime};

use crate::cases::Change;
use crate::edge::{self, WINDOWS};
use crate::followed::Followed;
use crate::rules::{FIRST, SHIPPED};
use crate::support::median;
use crate::{LAYER_DELAY, PLANTED_AT, layers};

/// Every run of one input.
pub(crate) struct Case<T> {
    pub(crate) input: String,
    pub(crate) runs: Vec<T>,
}

/// Of updates: one `Followed` for every set of rules and window length.
type OfUpdates = Case<Vec<Vec<Followed>>>;
/// Of layers: one for every set of rules.
type OfLayers = Case<Vec<Followed>>;

/// One cell of both window lengths, `W = 10 / W = 20`, or what they agree on.
fn cell(text: impl Fn(usize) -> String) -> String {
    let texts: Vec<String> = (0..WINDOWS.len()).map(text).collect();
    if texts.iter().all(|it| *it == texts[0]) { texts[0].clone() } else { texts.join(" / ") }
}

fn names(detectors: &[Detector]) -> String {
    detectors.iter().map(|detector| format!("`{detector}`")).collect::<Vec<_>>().join(" | ")
}

fn rule_below(columns: usize) {
    println!("|{}", "---|".repeat(columns));
}

/// Alarms of one detector in 2,000 readings.
fn rate<'a>(runs: impl Iterator<Item = &'a Followed> + Clone, detector: Detector) -> String {
    let readings: u64 = runs.clone().map(|run| run.readings).sum();
    let alarms = runs.flat_map(|run| &run.alarms).filter(|(who, _)| *who == detector).count();
    format!("{:.2}", 2000.0 * alarms as f64 / readings as f64)
}

fn touched<'a>(runs: impl ExactSizeIterator<Item = &'a Followed>) -> String {
    let count = runs.len();
    format!("{:.2}", runs.filter(|run| !run.alarms.is_empty()).count() as f64 / count as f64)
}

pub(crate) fn quiet_updates(cases: &[OfUpdates], rules: usize) {
    println!("| quiet input | {} | runs with an alarm |", names(&edge::DETECTORS));
    rule_below(edge::DETECTORS.len() + 2);
    for Case { input, runs } in cases {
        let of = |window: usize| runs.iter().map(move |run| &run[rules][window]);
        let rates = edge::DETECTORS.map(|detector| cell(|window| rate(of(window), detector))).join(" | ");
        println!("| {input} | {rates} | {} |", cell(|window| touched(of(window))));
    }
}

pub(crate) fn regimes(cases: &[OfUpdates], rules: usize) {
    println!("| quiet input | {} |", Regime::ALL.map(|regime| format!("`{regime}`")).join(" | "));
    rule_below(Regime::ALL.len() + 1);
    for Case { input, runs } in cases {
        let share = |regime: Regime, window: usize| {
            let of = runs.iter().map(|run| &run[rules][window]);
            let (readings, inside) = of.fold((0, 0), |(readings, inside), run| {
                (readings + run.readings, inside + run.in_regime[regime as usize])
            });
            format!("{:.4}", inside as f64 / readings as f64)
        };
        let shares = Regime::ALL.map(|regime| cell(|window| share(regime, window))).join(" | ");
        println!("| {input} | {shares} |");
    }
}

pub(crate) fn quiet_layers(cases: &[OfLayers]) {
    println!("| quiet input | {} | runs with an alarm |", names(&layers::DETECTORS));
    rule_below(layers::DETECTORS.len() + 2);
    for Case { input, runs } in cases {
        let of = runs.iter().map(|run| &run[SHIPPED]);
        let rates = layers::DETECTORS.map(|detector| rate(of.clone(), detector)).join(" | ");
        println!("| {input} | {rates} | {} |", touched(of));
    }
}

/// Delays after the planted change of the runs in which one of `detectors` fired in time.
fn delays<'a>(runs: impl Iterator<Item = &'a Followed>, readings: usize, detectors: &[Detector]) -> Vec<f64> {
    let within = PLANTED_AT..PLANTED_AT + readings;
    runs.filter_map(|run| run.delay(within.clone(), detectors)).map(|delay| delay as f64).collect()
}

/// Runs in which one of `detectors` fired in time, per cent, and the median delay.
fn power(delays: Vec<f64>, runs: usize) -> (String, String) {
    let found = format!("{:.0}", 100.0 * delays.len() as f64 / runs as f64);
    let delay = if delays.is_empty() { "–".to_owned() } else { format!("{:.0}", median(delays)) };
    (found, delay)
}

pub(crate) fn planted_updates_head() {
    println!(
        "| planted | in | ratio_1 × | dk × | found | median delay | found, first rules | delay, first rules | {} |",
        names(&edge::DETECTORS)
    );
    rule_below(8 + edge::DETECTORS.len());
}

pub(crate) fn planted_updates(change: Change, Case { input, runs }: &OfUpdates) {
    let of = |rules: usize, window: usize| runs.iter().map(move |run| &run[rules][window]);
    let powers = |rules: usize, window: usize, detectors: &[Detector]| {
        power(delays(of(rules, window), 2 * WINDOWS[window], detectors), runs.len())
    };
    let fitting = |rules: usize| {
        if change.fitting().is_empty() {
            return "– | –".to_owned();
        }
        let found = cell(|window| powers(rules, window, change.fitting()).0);
        format!("{found} | {}", cell(|window| powers(rules, window, change.fitting()).1))
    };
    let factor = |which: fn(&Followed) -> Option<f64>, window: usize| {
        let factors: Vec<f64> = of(SHIPPED, window).filter_map(which).collect();
        if factors.is_empty() { "–".to_owned() } else { format!("{:.1}", median(factors)) }
    };
    let ratio = cell(|window| factor(|run| run.ratio_factor, window));
    let dk = cell(|window| factor(|run| run.dk_factor, window));
    let each = edge::DETECTORS.map(|detector| cell(|window| powers(SHIPPED, window, &[detector]).0)).join(" | ");
    println!("| {change} | {input} | {ratio} | {dk} | {} | {} | {each} |", fitting(SHIPPED), fitting(FIRST));
}

pub(crate) fn planted_layers_head() {
    println!("| planted | in | found | median delay | {} |", names(&layers::DETECTORS));
    rule_below(4 + layers::DETECTORS.len());
}

pub(crate) fn planted_layers(change: layers::Change, Case { input, runs }: &OfLayers) {
    let powers = |detectors: &[Detector]| {
        power(delays(runs.iter().map(|run| &run[SHIPPED]), LAYER_DELAY, detectors), runs.len())
    };
    let (found, delay) =
        if change.fitting().is_empty() { ("–".to_owned(), "–".to_owned()) } else { powers(change.fitting()) };
    let each = layers::DETECTORS.map(|detector| powers(&[detector]).0).join(" | ");
    println!("| {change} | {input} | {found} | {delay} | {each} |");
}
