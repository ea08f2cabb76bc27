//! A training job that streams itself: what any user of the client writes, with a progress bar.

use gradwatch_client::{
    Activation, CascadeSnapshot, CurvatureSnapshot, DeadDirectionsSnapshot, Frame, Layer, LayerInstrument, Run,
    RunBuilder,
};
use gradwatch_spectral::dead_directions::Spectrum;
use indicatif::ProgressBar;
use serde_json::json;
use uuid::Uuid;

use crate::{
    JobError, ModularAddition, Server, Snapshots, TrainingConfig,
    job::{CLOSE_TIMEOUT, begin, decimal, end},
    snapshots::cell_to_send,
};

/// W of the demo's windows, in epochs.
pub(crate) const WINDOW: u32 = 20;
/// The group watched: the first layer's weights.
pub(crate) const GROUP: &str = "hidden";
/// A run counts as generalising from this test accuracy on.
pub(crate) const TEST_LEARNED: f64 = 0.95;
/// What then happened.
const GROKKED: &str = "grokked";
/// Epochs between two snapshots. One costs as much as 10 epochs.
const SNAPSHOT_EVERY: u64 = 50;

/// The layers watched: the whole gradient, both weight matrices, the hidden units, and the block of one answer.
pub(crate) const GRADIENT: &str = "all";
pub(crate) const MATRICES: [&str; 2] = ["W", "V"];
pub(crate) const UNITS: &str = "hidden";
pub(crate) const BLOCK: &str = "block";

/// Trains `config` and streams it to `server` as run `name`; answers the run's id. Blocks until it is done.
pub(crate) fn train(server: &Server, name: &str, config: TrainingConfig, bar: &ProgressBar) -> Result<Uuid, JobError> {
    let mut job = ModularAddition::new(config.clone())?;
    let (eta, decay) = (decimal(config.learning_rate), decimal(config.weight_decay));
    let builder = server
        .run_builder()
        .name(name)
        .label("task", "modular-addition")
        .label("seed", config.seed.to_string())
        .config(json!({
            "modulus": config.modulus,
            "train_pairs": config.train_pairs,
            "width": config.width,
            "epochs": config.epochs,
            "learning_rate": eta,
            "weight_decay": decay,
            "optimizer": "adam",
            "seed": config.seed,
        }))
        .group(GROUP, [("W", job.hidden().len())])
        .window(WINDOW)
        .seed(config.seed)
        .close_timeout(CLOSE_TIMEOUT);
    let snapshots = job.snapshots();
    let mut run = with_layers(builder, &snapshots).open()?;
    // The weights before the first step: every later frame carries the change since the one before.
    begin(&mut run, 0, with_snapshots(Frame::new().parameters(GROUP, [("W", job.hidden())]), &snapshots))?;
    let mut grokked = false;
    while !job.is_finished() {
        let report = job.epoch();
        let mut frame = Frame::new()
            .learning_rate(eta)
            .weight_decay(decay)
            .scalar("loss", report.loss)
            .scalar("train_accuracy", report.train_accuracy)
            .parameters(GROUP, [("W", job.hidden())]);
        if let Some(accuracy) = report.test_accuracy {
            frame = frame.scalar("test_accuracy", accuracy);
            if accuracy >= TEST_LEARNED && !grokked {
                frame = frame.happened(GROKKED);
                grokked = true;
            }
            bar.set_message(format!("train {:5.1} %  test {:5.1} %", 100.0 * report.train_accuracy, 100.0 * accuracy));
        }
        let epoch = u64::from(report.epoch);
        // All layers are on one schedule.
        let snapshots = is_due(&run, epoch)?.then(|| job.snapshots());
        if let Some(snapshots) = &snapshots {
            frame = with_snapshots(frame, snapshots);
        }
        run.submit(epoch, frame)?;
        bar.inc(1);
    }
    bar.finish();
    end(run)
}

fn is_due(run: &Run, epoch: u64) -> Result<bool, JobError> {
    Ok(run.snapshot_due(LayerInstrument::Cascade, GRADIENT, epoch)?)
}

fn with_layers(builder: RunBuilder, snapshots: &Snapshots) -> RunBuilder {
    let units = snapshots.dead_directions.width as usize;
    let [hidden, output] = MATRICES;
    builder
        .layer(GRADIENT, Layer::cascade().every(SNAPSHOT_EVERY))
        .layer(hidden, Layer::curvature().every(SNAPSHOT_EVERY))
        .layer(output, Layer::curvature().every(SNAPSHOT_EVERY))
        .layer(UNITS, Layer::dead_directions(units).every(SNAPSHOT_EVERY))
        .layer(BLOCK, Layer::learning_cell(snapshots.learning_cell.width, Activation::Square).every(SNAPSHOT_EVERY))
}

fn with_snapshots<'a>(frame: Frame<'a>, snapshots: &'a Snapshots) -> Frame<'a> {
    let [hidden, output] = MATRICES;
    let Snapshots { hidden_curvature, output_curvature, dead_directions, learning_cell, .. } = snapshots;
    let (of_units, values): (fn(_, _, _, _) -> _, _) = match &dead_directions.spectrum {
        Spectrum::Eigenvalues(values) => (DeadDirectionsSnapshot::of_eigenvalues, values),
        Spectrum::Gram(values) => (DeadDirectionsSnapshot::of_gram, values),
    };
    let units = of_units(values, &dead_directions.singular_values, dead_directions.samples, dead_directions.batch);
    frame
        .cascade(GRADIENT, CascadeSnapshot::of_gradient([&snapshots.hidden_gradient, &snapshots.output_gradient]))
        .curvature(hidden, CurvatureSnapshot::new(&hidden_curvature.sigma, &hidden_curvature.curvature))
        .curvature(output, CurvatureSnapshot::new(&output_curvature.sigma, &output_curvature.curvature))
        .dead_directions(UNITS, units)
        .learning_cell(BLOCK, cell_to_send(learning_cell))
}
