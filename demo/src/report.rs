//! What the demo shows at its end, read back over REST.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use gradwatch_rest::RestError;
use gradwatch_spectral::layers::LayerInstrument;

use crate::{
    LayerReadings,
    layers::{self, LayerTable},
    rest::Rest,
    streamed::{GROUP, TEST_LEARNED, WINDOW},
};

/// A run counts as having learned its training pairs from here.
const TRAIN_LEARNED: f64 = 0.99;
/// Beginnings of the types of events that the table shows: of detectors, and what the job reported itself.
const SHOWN_EVENTS: [&str; 6] = ["edge.", "update.spike", "cascade.", "curvature.", "dead_directions.", "job."];
/// From this epoch on phi tells the runs apart.
const PHI_EPOCH: u64 = 100;

/// Both runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DemoReport {
    /// Where it was read from.
    pub server: String,
    /// The seed of weights, split and sketch.
    pub seed: u64,
    /// One entry a run.
    pub runs: Vec<RunReport>,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunReport {
    /// `groks` or `memorises`.
    pub name: String,
    /// The run.
    pub run_id: Uuid,
    /// First epoch with train accuracy ≥ 0.99.
    pub train_epoch: Option<u64>,
    /// First epoch with test accuracy ≥ 0.95.
    pub test_epoch: Option<u64>,
    /// Test accuracy at the last epoch.
    pub test_accuracy: Option<f64>,
    /// The first full window.
    pub early: Option<EdgeView>,
    /// The last one.
    pub late: Option<EdgeView>,
    /// What the detectors said, and that it generalises.
    pub transitions: Vec<EventView>,
    /// What the other instruments said.
    pub layers: Vec<LayerReadings>,
}

/// The part of a reading that the table shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EdgeView {
    /// The epoch.
    pub step: u64,
    /// sigma_1/sigma_2.
    pub ratio_1: Option<f64>,
    /// sigma_2/sigma_3.
    pub ratio_2: Option<f64>,
    /// k*.
    pub position: Option<u32>,
    #[serde(skip_serializing)]
    warming: bool,
}

/// The part of an event that the table shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventView {
    /// The epoch.
    pub step: Option<u64>,
    /// Such as `edge.regime`.
    #[serde(rename = "type")]
    pub event_type: String,
    /// The group or the layer; null for what the job reported.
    pub group: Option<String>,
    /// For a transition: the regime left.
    pub from: Option<String>,
    /// For a transition: the regime entered.
    pub to: Option<String>,
}

#[derive(Deserialize)]
struct StepView {
    step: u64,
    scalars: BTreeMap<String, Option<f64>>,
}

impl RunReport {
    pub(crate) async fn read(rest: &Rest, name: &str, run_id: Uuid) -> Result<Self, RestError> {
        let run = format!("/api/v1/runs/{run_id}");
        let steps: Vec<StepView> = rest.all(&format!("{run}/steps?limit=1000")).await?;
        let readings: Vec<EdgeView> =
            rest.all(&format!("{run}/readings/edge?group={GROUP}&window={WINDOW}&limit=1000")).await?;
        let events: Vec<EventView> = rest.all(&format!("{run}/events?limit=1000")).await?;
        let reached = |name: &str, level: f64| {
            let value = |step: &&StepView| step.scalars.get(name).copied().flatten();
            steps.iter().find(|step| value(step).is_some_and(|value| value >= level)).map(|step| step.step)
        };
        let test_accuracy = steps.iter().rev().find_map(|step| step.scalars.get("test_accuracy").copied().flatten());
        let mut full = readings.into_iter().filter(|reading| !reading.warming);
        let early = full.next();
        let late = full.next_back().or_else(|| early.clone());
        let shown = |event: &EventView| SHOWN_EVENTS.iter().any(|start| event.event_type.starts_with(start));
        let mut transitions: Vec<EventView> = events.into_iter().filter(shown).collect();
        // Events come in the order of recording, and snapshots are read when there is time.
        transitions.sort_by(|a, b| (a.step, &a.event_type, &a.group).cmp(&(b.step, &b.event_type, &b.group)));
        Ok(Self {
            name: name.to_owned(),
            run_id,
            train_epoch: reached("train_accuracy", TRAIN_LEARNED),
            test_epoch: reached("test_accuracy", TEST_LEARNED),
            test_accuracy,
            early,
            late,
            transitions,
            layers: layers::read_all(rest, run_id).await?,
        })
    }
}

impl RunReport {
    /// The least and the greatest phi from an epoch on.
    fn phi_range(&self, from: u64) -> Option<(f64, f64)> {
        let cascades = self.layers.iter().filter(|layer| layer.instrument == LayerInstrument::Cascade.as_str());
        let late = cascades.flat_map(|layer| layer.values("phi")).filter(|(epoch, _)| *epoch >= from);
        late.map(|(_, phi)| (phi, phi)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }
}

impl fmt::Display for DemoReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for run in &self.runs {
            writeln!(f, "{run}")?;
        }
        writeln!(f, "{}", LayerTable(&self.runs))?;
        self.conclude(f)
    }
}

impl DemoReport {
    /// Whether no run that generalises has a phi as high as one that does not, from [`PHI_EPOCH`] on.
    fn phi_separates(&self) -> bool {
        let ranges = |generalises: bool| {
            let runs = self.runs.iter().filter(move |run| run.test_epoch.is_some() == generalises);
            runs.filter_map(|run| run.phi_range(PHI_EPOCH))
        };
        let highest = ranges(true).map(|(_, high)| high).reduce(f64::max);
        let lowest = ranges(false).map(|(low, _)| low).reduce(f64::min);
        highest.zip(lowest).is_some_and(|(highest, lowest)| highest < lowest)
    }

    /// What tells the runs apart, in words, and what must not be read into the numbers.
    fn conclude(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "what separates them")?;
        for run in &self.runs {
            let ratio = run.late.as_ref().and_then(|edge| edge.ratio_1);
            let phi = run.phi_range(PHI_EPOCH);
            writeln!(
                f,
                "  {:<10} edge ratio_1 at the end {}, phi from epoch {PHI_EPOCH} on {}",
                run.name,
                ratio.map_or("-".into(), |ratio| format!("{ratio:.2}")),
                phi.map_or("-".into(), |(low, high)| format!("{low:.3} to {high:.3}")),
            )?;
        }
        if self.phi_separates() {
            writeln!(f, "  phi separates them: it is lower where the network comes to generalise.")?;
        }
        writeln!(f, "notes")?;
        writeln!(
            f,
            "  nest_dimension is of one run. It is not the D(t) over widths of `--experiment xor`: they share only the"
        )?;
        writeln!(f, "  baseline 1, and one may rise where the other falls.")?;
        writeln!(f, "  transfer_error means something only where it is far below transfer_null.")?;
        let said = |said: fn(&LayerReadings) -> bool| self.runs.iter().flat_map(|run| &run.layers).any(said);
        if said(|layer| layer.has_flag("few_samples")) {
            writeln!(f, "  count_gap may be made up: 2,016 pairs are few samples for 256 units (few_samples).")?;
        }
        if said(|layer| layer.reasons().contains(&"no_atoms")) {
            writeln!(
                f,
                "  no_atoms: 2,048 neurons share the work so evenly that none holds 2 % of it; path_norm says more here."
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for RunReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let epoch = |epoch: Option<u64>| epoch.map_or("never".to_owned(), |epoch| epoch.to_string());
        let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
        let count = |value: Option<u32>| value.map_or("-".to_owned(), |value| value.to_string());
        writeln!(f, "{}", self.name)?;
        writeln!(f, "  train accuracy >= {TRAIN_LEARNED}   epoch {}", epoch(self.train_epoch))?;
        writeln!(f, "  test accuracy >= {TEST_LEARNED}    epoch {}", epoch(self.test_epoch))?;
        writeln!(f, "  test accuracy at the end {}", self.test_accuracy.map_or("-".into(), |it| format!("{it:.4}")))?;
        writeln!(f, "             epoch  ratio_1  ratio_2  k*")?;
        for (when, edge) in [("early", &self.early), ("late", &self.late)] {
            let Some(edge) = edge else { continue };
            let (ratio_1, ratio_2) = (number(edge.ratio_1), number(edge.ratio_2));
            writeln!(f, "  {when:<9}  {:>5}  {ratio_1:>7}  {ratio_2:>7}  {:>2}", edge.step, count(edge.position))?;
        }
        if self.transitions.is_empty() {
            return writeln!(f, "  transitions: none");
        }
        writeln!(f, "  transitions:")?;
        for event in &self.transitions {
            let step = event.step.map_or("-".to_owned(), |step| step.to_string());
            write!(f, "    epoch {step:>4}  {}", event.event_type)?;
            if let Some(layer) = event.group.as_ref().filter(|_| !event.event_type.starts_with("edge.")) {
                write!(f, "  {layer}")?;
            }
            if let (Some(from), Some(to)) = (&event.from, &event.to) {
                write!(f, "  {from} -> {to}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
