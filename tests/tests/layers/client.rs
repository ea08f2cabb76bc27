//! The real client: what it is given is what the instruments read, also over crashes of the server.

use std::time::Duration;

use gradwatch_client::{
    Activation, BatchKind, CascadeSnapshot, CurvatureSnapshot, DeadDirectionsSnapshot, Frame, Layer,
    LearningCellSnapshot, Run,
};
use gradwatch_spectral::{
    cascade, curvature,
    dead_directions::{self, Spectrum},
    detectors::DetectorConfig,
    layer_followers::LayerFollowers,
    layers::LayerReading,
    learning_cell,
};
use gradwatch_tests::{Backend, Job, JobOptions, PATIENCE, on_both_backends};
use half::f16;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::{
    made::{INSTRUMENTS, LAYER, WIDTH, bits, unit},
    world::World,
};

on_both_backends!(what_the_client_sends_is_read_over_crashes_and_windows_go_on);

const LAST: u64 = 40;
/// The server crashes once these are settled.
const CRASHES: [u64; 2] = [16, 29];
const SAMPLES: usize = 100 * WIDTH;
const NEURONS: usize = 320;

/// How many steps lie between two snapshots of each layer.
const INTERVALS: [u64; 4] = [13, 3, 5, 7];

/// The tensors of one step.
struct Tensors {
    parameters: Vec<f32>,
    gradient: Vec<f32>,
    sigma: Vec<f64>,
    curvature: Vec<f64>,
    activations: Vec<f32>,
    errors: Vec<f32>,
    outer: Vec<f32>,
    inner: Vec<f32>,
}

impl Tensors {
    fn at(step: u64) -> Self {
        let floats = |seed: u64, count: usize| (0..count as u64).map(|i| unit(seed * 100 + step, i) as f32).collect();
        let sigma: Vec<f64> = (1..=20).map(|k| f64::from(k).powf(-1.1) * (1.0 + 0.01 * unit(step, 5))).collect();
        Self {
            parameters: floats(1, 500),
            gradient: floats(2, 3 * 4_096),
            curvature: sigma.iter().map(|sigma| sigma.powf(1.6)).collect(),
            sigma,
            activations: floats(3, SAMPLES * WIDTH),
            errors: floats(4, SAMPLES * WIDTH),
            outer: floats(5, NEURONS),
            inner: floats(6, NEURONS * WIDTH),
        }
    }

    fn frame(&self) -> Frame<'_> {
        let samples = DeadDirectionsSnapshot::of_samples(&self.activations, &self.errors, BatchKind::HeldOut);
        Frame::new()
            .parameters("all", [("w", &self.parameters)])
            .cascade(LAYER, CascadeSnapshot::of_gradient([&self.gradient]).with_whole())
            .curvature(LAYER, CurvatureSnapshot::new(&self.sigma, &self.curvature))
            .dead_directions(LAYER, samples)
            .learning_cell(LAYER, LearningCellSnapshot::new(&self.outer, &self.inner))
    }

    /// What the instrument of a layer says offline.
    fn reading(&self, layer: usize) -> LayerReading {
        match layer {
            0 => LayerReading::Cascade(self.cascade()),
            1 => LayerReading::Curvature(curvature::reading(&curvature::CurvatureSnapshot {
                sigma: self.sigma.clone(),
                curvature: self.curvature.clone(),
                kronecker: None,
            })),
            2 => LayerReading::DeadDirections(self.dead_directions()),
            _ => LayerReading::LearningCell(learning_cell::reading(&learning_cell::LearningCellSnapshot {
                outer: self.outer.clone(),
                inner: self.inner.clone(),
                width: WIDTH,
                activation: Activation::Tanh,
                probe: None,
            })),
        }
    }

    fn cascade(&self) -> cascade::CascadeReading {
        let windows = cascade::windows(&[&self.gradient]).expect("large enough");
        let half = |value: &f32| f16::from_f32(*value).to_f64();
        cascade::reading(&cascade::CascadeSnapshot {
            windows: windows.iter().map(|window| window.iter().map(half).collect()).collect(),
            whole: Some(cascade::WholeGradient::Entries(self.gradient.iter().map(|entry| f64::from(*entry)).collect())),
        })
    }

    fn dead_directions(&self) -> dead_directions::DeadDirectionsReading {
        let gram = dead_directions::gram_of_gradients(&self.errors, WIDTH).expect("finite");
        dead_directions::reading(&dead_directions::DeadDirectionsSnapshot {
            spectrum: Spectrum::Eigenvalues(dead_directions::eigenvalues(&gram, WIDTH).expect("finite")),
            singular_values: dead_directions::singular_values(&self.activations, WIDTH).expect("finite"),
            samples: SAMPLES as u64,
            width: WIDTH as u32,
            batch: BatchKind::HeldOut,
            is_float32: false,
            gauge_removed: 0,
        })
    }
}

fn open(url: &str) -> Run {
    let options = JobOptions { len: 500, windows: vec![5], ..JobOptions::default() };
    let layers = [
        Layer::cascade(),
        Layer::curvature(),
        Layer::dead_directions(WIDTH),
        Layer::learning_cell(WIDTH, Activation::Tanh),
    ];
    let builder = Job::builder(url, &options).stall_timeout(Duration::from_secs(5));
    let layers = layers.into_iter().zip(INTERVALS);
    layers.fold(builder, |run, (layer, interval)| run.layer(LAYER, layer.every(interval))).open().expect("a run")
}

async fn what_the_client_sends_is_read_over_crashes_and_windows_go_on(backend: Backend) {
    let world = World::new(backend, |_| {}).await;
    let mut run = open(&world.server.url());
    for step in 1..=LAST {
        run.submit(step, Tensors::at(step).frame()).expect("a valid frame");
        if CRASHES.contains(&step) {
            let settled = async {
                while run.status().settled < step {
                    sleep(Duration::from_millis(5)).await;
                }
            };
            timeout(PATIENCE, settled).await.expect("everything is settled");
            world.server.crash().await;
        }
    }
    let run_id = run.run_id().to_string();
    let report = tokio::task::spawn_blocking(move || run.close()).await.expect("close does not panic");
    assert_eq!((report.settled, report.rejections.len()), (LAST, 0), "{report}");

    for (layer, interval) in INTERVALS.into_iter().enumerate() {
        let mut followers = LayerFollowers::new(INSTRUMENTS[layer], &DetectorConfig::default());
        let steps: Vec<u64> = (1..=LAST).step_by(interval as usize).collect();
        let stored = world.readings(&run_id, 1, layer, steps.len()).await;
        for (stored, step) in stored.iter().zip(steps) {
            let mut expected = Tensors::at(step).reading(layer);
            followers.follow(step, &mut expected);
            assert_eq!((stored.row.step, bits(&stored.row.reading)), (step, bits(&expected)));
        }
    }

    // Refills come without snapshots, and the windows miss nothing.
    let rest = world.rest();
    let restarted = rest.all(&format!("/api/v1/runs/{run_id}/events?types=window.restarted")).await;
    assert_eq!(restarted, Vec::<Value>::new());
    let readings = rest.all(&format!("/api/v1/runs/{run_id}/readings/edge?limit=100")).await;
    let warming = readings.iter().filter(|reading| reading["warming"] == true).count();
    assert_eq!((readings.len() as u64, warming), (LAST - 1, 4));
    world.server.stop().await;
}
