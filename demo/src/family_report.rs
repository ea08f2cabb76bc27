//! What the XOR experiment shows at its end: how cascades grow with the width around the solving step, as the server computes it.

use std::{fmt, time::Duration};

use gradwatch_rest::Method;
use gradwatch_spectral::layers::LayerInstrument;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    DemoError, LayerReadings, MemberRun, PROJECT, Xor,
    family::{self, Family, UNITS},
    rest::Rest,
};

/// Half width of a point in steps, and the steps around the solving step that points are made of: ten for each, the first
/// of them before it.
const WINDOW: u64 = 5;
const FROM: i64 = -15;
const TO: i64 = 64;
const ASK_INTERVAL: Duration = Duration::from_millis(200);

/// The family.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FamilyReport {
    /// Where it was read from.
    pub server: String,
    /// What fixes the seeds of the networks.
    pub seed: u64,
    /// The runs' label `width_family`.
    pub family: String,
    /// By width and seed.
    pub runs: Vec<MemberRun>,
    /// D(t), by steps from the solving step.
    pub points: Vec<DimensionPoint>,
    /// The hidden units of one of the networks.
    pub units: LayerReadings,
}

/// D over the family's widths at one distance from the solving step: `fleet_dimension`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DimensionPoint {
    /// First step from the solving step that counts.
    pub from: i64,
    /// Last one.
    pub to: i64,
    /// Why there is no D.
    pub reason: Option<String>,
    /// D, null where it is not published.
    pub dimension: Option<f64>,
    /// Lower end of its 95 % interval.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
    /// R² of the fit.
    pub r2: Option<f64>,
}

/// A computation of the server, as far as it is needed.
#[derive(Deserialize)]
struct Computation {
    id: String,
    state: String,
    result: Option<FleetDimension>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct FleetDimension {
    points: Vec<DimensionPoint>,
}

impl FamilyReport {
    pub(crate) async fn read(
        rest: &Rest,
        server: String,
        seed: u64,
        family: Family,
        runs: Vec<MemberRun>,
    ) -> Result<Self, DemoError> {
        let points = dimension(rest, &family).await?;
        let watched = runs.iter().find(|run| family.has_units_watched(run.width, run.seed));
        let watched = watched.expect("one of the family's members, all of which have a run");
        let units = LayerReadings::read(rest, watched.run_id, LayerInstrument::LearningCell, UNITS).await?;
        Ok(Self { server, seed, family: family.label, runs, points, units })
    }
}

/// Asks the server for D(t) and waits for it.
async fn dimension(rest: &Rest, family: &Family) -> Result<Vec<DimensionPoint>, DemoError> {
    let request = json!({
        "project": PROJECT,
        "family": family.label,
        "align": {"event": family::SOLVED_EVENT},
        "window": WINDOW,
        "from": FROM,
        "to": TO,
    });
    let mut computation: Computation = rest.0.call(Method::POST, "/api/v1/fleet/dimension", Some(&request)).await?;
    loop {
        if let Some(result) = computation.result {
            return Ok(result.points);
        }
        if computation.state != "running" {
            let problem = computation.error.unwrap_or_default().to_string();
            return Err(DemoError::NotComputed { problem });
        }
        sleep(ASK_INTERVAL).await;
        computation = rest.0.get(&format!("/api/v1/fleet/{}", computation.id)).await?;
    }
}

impl fmt::Display for FamilyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
        writeln!(f, "XOR family: {} networks of {} widths", self.runs.len(), Xor::WIDTHS.len())?;
        writeln!(f, "  width  parameters  solved at step (median of its networks)")?;
        for width in Xor::WIDTHS {
            let mut steps: Vec<u64> =
                self.runs.iter().filter(|run| run.width == width).map(|run| run.solving_step).collect();
            steps.sort_unstable();
            let median = steps.get(steps.len() / 2).map_or("-".to_owned(), |step| step.to_string());
            writeln!(f, "  {width:>5}  {:>10}  {median:>5}", Xor::parameters_of(width))?;
        }
        writeln!(f, "\nD(t): how the cascade of the whole gradient grows with the parameters, s ~ N^D")?;
        writeln!(f, "  steps from solving       D   95 % interval    R^2")?;
        for point in &self.points {
            let (low, high, r2) = (number(point.low), number(point.high), number(point.r2));
            write!(
                f,
                "  {:>6} to {:>4}      {:>6}  {low:>6} to {high:>6}  {r2}",
                point.from,
                point.to,
                number(point.dimension)
            )?;
            writeln!(f, "{}", point.reason.as_ref().map_or(String::new(), |reason| format!("  {reason}")))?;
        }
        writeln!(f, "  {}", self.says())?;
        writeln!(
            f,
            "  D is over widths; nest_dimension is of one run, shares only the baseline 1 and may go the other way."
        )?;
        writeln!(f, "\nlearning_cell: hidden units of one network of width {}, on the four questions", Xor::WIDTHS[0])?;
        writeln!(f, "   step  active_atoms  atom_rank  path_norm")?;
        for reading in &self.units.readings {
            let count =
                |name: &str| reading.get(name).and_then(Value::as_u64).map_or("-".to_owned(), |it| it.to_string());
            let path_norm = reading.get("path_norm").and_then(Value::as_f64);
            let (atoms, rank) = (count("active_atoms"), count("atom_rank"));
            writeln!(f, "  {:>5}  {atoms:>12}  {rank:>9}  {:>9}", count("step"), number(path_norm))?;
        }
        Ok(())
    }
}

impl FamilyReport {
    /// What D(t) does, in one line.
    fn says(&self) -> String {
        let of = |wanted: fn(&DimensionPoint) -> bool| {
            let points = self.points.iter().filter(|point| wanted(point));
            points.filter_map(|point| point.dimension).collect::<Vec<_>>()
        };
        let (before, after) = (of(|point| point.to < 0), of(|point| point.from > 0));
        let highest = before.iter().copied().reduce(f64::max);
        let last = after.last().copied();
        match (highest, last) {
            (Some(before), Some(after)) if before < 1.0 && after > 1.0 => {
                format!(
                    "D rises through 1 as the networks solve their task: {before:.2} before, {after:.2} at the end."
                )
            }
            (Some(before), Some(after)) => {
                format!("D is {before:.2} before the solving step and {after:.2} at the end.")
            }
            _ => "D is not published on both sides of the solving step: the fits are too poor.".to_owned(),
        }
    }
}
