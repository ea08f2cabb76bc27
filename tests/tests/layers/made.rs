//! Made snapshots, as they travel and as an instrument reads them offline.

use gradwatch_proto::v1::{self, dead_directions_snapshot::Spectrum as WireSpectrum, snapshot::Body};
use gradwatch_spectral::{
    cascade::{self, CascadeSnapshot, WholeGradient},
    curvature::{self, CurvatureSnapshot, Kronecker},
    dead_directions::{self, BatchKind, DeadDirectionsSnapshot, Spectrum},
    detectors::DetectorConfig,
    layer_followers::LayerFollowers,
    layers::{LayerInstrument, LayerReading},
    learning_cell::{self, Activation, LearningCellSnapshot, ProbeBatch},
};
use gradwatch_store::LayerKey;
use half::f16;

/// Width of the layer of dead directions, and of the learning cell.
pub(crate) const WIDTH: usize = 8;
const NEURONS: usize = 400;

/// The instruments by the index of their layer.
pub(crate) const INSTRUMENTS: [LayerInstrument; 4] = [
    LayerInstrument::Cascade,
    LayerInstrument::Curvature,
    LayerInstrument::DeadDirections,
    LayerInstrument::LearningCell,
];
/// Name of all layers: an instrument and a name are a layer.
pub(crate) const LAYER: &str = "blocks.0";

pub(crate) fn key(layer: usize) -> LayerKey {
    LayerKey { instrument: INSTRUMENTS[layer], layer: LAYER.into() }
}

/// One layer of each instrument.
pub(crate) fn spec() -> v1::StreamSpec {
    let layer = |instrument: v1::LayerInstrument, width: usize, activation: &str| v1::Layer {
        name: LAYER.into(),
        instrument: instrument.into(),
        width: width as u32,
        activation: activation.into(),
    };
    v1::StreamSpec {
        layers: vec![
            layer(v1::LayerInstrument::Cascade, 0, ""),
            layer(v1::LayerInstrument::Curvature, 0, ""),
            layer(v1::LayerInstrument::DeadDirections, WIDTH, ""),
            layer(v1::LayerInstrument::LearningCell, WIDTH, "tanh"),
        ],
        ..gradwatch_tests::spec()
    }
}

/// Numbers between −0.5 and 0.5 that a seed and a place fix.
pub(crate) fn unit(seed: u64, index: u64) -> f64 {
    let mut z = seed.wrapping_mul(0xD134_2543_DE82_EF95).wrapping_add(index.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64 - 0.5
}

fn numbers(seed: u64, count: usize) -> Vec<f64> {
    (0..count as u64).map(|index| unit(seed, index)).collect()
}

fn floats(seed: u64, count: usize) -> Vec<f32> {
    numbers(seed, count).into_iter().map(|value| value as f32).collect()
}

pub(crate) fn f32_bytes(values: &[f32]) -> bytes::Bytes {
    values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into()
}

/// What a seed makes of a layer: the snapshot as it travels, and its reading without what came before.
pub(crate) fn made(layer: usize, seed: u64) -> (v1::Snapshot, LayerReading) {
    let (body, reading) = match INSTRUMENTS[layer] {
        LayerInstrument::Cascade => cascade(seed),
        LayerInstrument::Curvature => curvature(seed),
        LayerInstrument::DeadDirections => dead_directions(seed),
        LayerInstrument::LearningCell => learning_cell(seed),
    };
    (v1::Snapshot { layer: layer as u32, body: Some(body) }, reading)
}

pub(crate) fn snapshot(layer: usize, seed: u64) -> v1::Snapshot {
    made(layer, seed).0
}

/// The readings of a layer whose snapshots come at these (step, seed), as they must be stored.
pub(crate) fn expected(layer: usize, sent: &[(u64, u64)]) -> Vec<(u64, LayerReading)> {
    let mut followers = LayerFollowers::new(INSTRUMENTS[layer], &DetectorConfig::default());
    let read = |&(step, seed): &(u64, u64)| {
        let mut reading = made(layer, seed).1;
        followers.follow(step, &mut reading);
        (step, reading)
    };
    sent.iter().map(read).collect()
}

/// All bits of a reading.
pub(crate) fn bits(reading: &LayerReading) -> String {
    serde_json::to_string(reading).expect("JSON")
}

fn cascade(seed: u64) -> (Body, LayerReading) {
    let halves: Vec<f16> =
        numbers(seed, 3 * 4_096).iter().map(|value| f16::from_f64((4.0 * value).powi(2) + value.abs())).collect();
    let whole = floats(seed + 7, 5_000);
    let wire = v1::CascadeSnapshot {
        windows_f16: halves.iter().flat_map(|half| half.to_le_bytes()).collect::<Vec<u8>>().into(),
        whole: Some(v1::cascade_snapshot::Whole::WholeF32(f32_bytes(&whole))),
    };
    let snapshot = CascadeSnapshot {
        windows: halves.chunks(4_096).map(|window| window.iter().map(|half| half.to_f64()).collect()).collect(),
        whole: Some(WholeGradient::Entries(whole.into_iter().map(f64::from).collect())),
    };
    (Body::Cascade(wire), LayerReading::Cascade(cascade::reading(&snapshot)))
}

fn curvature(seed: u64) -> (Body, LayerReading) {
    let ranks = || (1..=24_u64).map(|k| (k as f64, unit(seed, k)));
    let sigma: Vec<f64> = ranks().map(|(k, noise)| k.powf(-1.2) * (1.0 + 0.001 * noise)).collect();
    let curvature: Vec<f64> = sigma.iter().map(|sigma| sigma.powf(1.5) * (1.0 + 0.1 * unit(seed, 99))).collect();
    let factor = |power: f64| sigma.iter().map(|sigma| sigma.powf(power)).collect::<Vec<f64>>();
    let wire = v1::CurvatureSnapshot {
        sigma: sigma.clone(),
        curvature: curvature.clone(),
        kronecker: Some(v1::Kronecker {
            output_factor: factor(0.5),
            input_factor: factor(0.7),
            output_eigenvalues: factor(0.4),
            input_eigenvalues: factor(0.6),
            sum_of_products: factor(1.2),
        }),
    };
    let kronecker = Some(Kronecker {
        output_factor: factor(0.5),
        input_factor: factor(0.7),
        output_eigenvalues: factor(0.4),
        input_eigenvalues: factor(0.6),
        sum_of_products: factor(1.2),
    });
    let snapshot = CurvatureSnapshot { sigma, curvature, kronecker };
    (Body::Curvature(wire), LayerReading::Curvature(curvature::reading(&snapshot)))
}

fn dead_directions(seed: u64) -> (Body, LayerReading) {
    let eigenvalues: Vec<f64> = numbers(seed, WIDTH).iter().map(|value| (20.0 * value).exp()).collect();
    let mut singular_values: Vec<f64> = numbers(seed + 1, WIDTH).iter().map(|value| (3.0 * value).exp()).collect();
    singular_values.sort_by(|left, right| right.total_cmp(left));
    let wire = v1::DeadDirectionsSnapshot {
        spectrum: Some(WireSpectrum::Eigenvalues(v1::Doubles { values: eigenvalues.clone() })),
        singular_values: singular_values.clone(),
        samples: 5_000,
        batch: v1::BatchKind::HeldOut.into(),
        is_float32: false,
        gauge_removed: 1,
    };
    let snapshot = DeadDirectionsSnapshot {
        spectrum: Spectrum::Eigenvalues(eigenvalues),
        singular_values,
        samples: 5_000,
        width: WIDTH as u32,
        batch: BatchKind::HeldOut,
        is_float32: false,
        gauge_removed: 1,
    };
    (Body::DeadDirections(wire), LayerReading::DeadDirections(dead_directions::reading(&snapshot)))
}

fn learning_cell(seed: u64) -> (Body, LayerReading) {
    let (outer, inner) = (floats(seed, NEURONS), floats(seed + 1, NEURONS * WIDTH));
    let (inputs, targets) = (floats(seed + 2, 40 * WIDTH), floats(seed + 3, 40));
    let wire = v1::LearningCellSnapshot {
        outer_f32: f32_bytes(&outer),
        inner_f32: f32_bytes(&inner),
        probe_inputs_f32: f32_bytes(&inputs),
        probe_targets_f32: f32_bytes(&targets),
    };
    let probe = Some(ProbeBatch { inputs, targets });
    let snapshot = LearningCellSnapshot { outer, inner, width: WIDTH, activation: Activation::Tanh, probe };
    (Body::LearningCell(wire), LayerReading::LearningCell(learning_cell::reading(&snapshot)))
}
