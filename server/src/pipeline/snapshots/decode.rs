//! From a snapshot as it came to what the instrument says of it.

use gradwatch_proto::v1::{
    self, cascade_snapshot::Whole, dead_directions_snapshot::Spectrum as WireSpectrum, snapshot::Body,
};
use gradwatch_spectral::{
    cascade::{self, CascadeSnapshot, WholeGradient},
    curvature::{self, CurvatureSnapshot, Kronecker},
    dead_directions::{self, BatchKind, DeadDirectionsSnapshot, Spectrum},
    layers::{FieldValue, LayerInstrument, LayerReading, Reason},
    learning_cell::{self, LearningCellSnapshot, ProbeBatch},
};
use gradwatch_store::LayerSpec;
use half::f16;
use prost::Message;

/// Magnitudes in a window of the cascade instrument.
const WINDOW: usize = 4_096;

/// Reads a snapshot. What cannot be decoded was checked on its way in, so that it is a failure of ours.
pub(super) fn reading(layer: &LayerSpec, payload: &[u8]) -> LayerReading {
    let read = v1::Snapshot::decode(payload).ok().and_then(|snapshot| read(layer, snapshot.body?));
    read.filter(is_sound).unwrap_or_else(|| LayerReading::refused(layer.instrument, Reason::Failed))
}

/// Invariant: a reading can be stored: its numbers are finite and its counts fit a database's signed numbers.
pub(super) fn is_sound(reading: &LayerReading) -> bool {
    reading.values().iter().flatten().all(|value| match value {
        FieldValue::Number(number) => number.is_finite(),
        FieldValue::List(numbers) => numbers.iter().all(|number| number.is_finite()),
        FieldValue::Count(count) => i64::try_from(*count).is_ok(),
        FieldValue::Flag(_) | FieldValue::Word(_) => true,
    })
}

fn read(layer: &LayerSpec, body: Body) -> Option<LayerReading> {
    Some(match (body, layer.instrument) {
        (Body::Cascade(wire), LayerInstrument::Cascade) => LayerReading::Cascade(cascade::reading(&cascade(&wire)?)),
        (Body::Curvature(wire), LayerInstrument::Curvature) => {
            LayerReading::Curvature(curvature::reading(&curvature(wire)))
        }
        (Body::DeadDirections(wire), LayerInstrument::DeadDirections) => {
            LayerReading::DeadDirections(dead_directions::reading(&dead_directions(wire, layer.width?)?))
        }
        (Body::LearningCell(wire), LayerInstrument::LearningCell) => {
            LayerReading::LearningCell(learning_cell::reading(&learning_cell(&wire, layer)?))
        }
        _ => return None,
    })
}

fn cascade(wire: &v1::CascadeSnapshot) -> Option<CascadeSnapshot> {
    let (halves, []) = wire.windows_f16.as_chunks::<2>() else { return None };
    let windows = halves.chunks_exact(WINDOW);
    if !windows.remainder().is_empty() {
        return None;
    }
    let window = |halves: &[[u8; 2]]| halves.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f64()).collect();
    let whole = match &wire.whole {
        Some(Whole::WholeF32(bytes)) => {
            let entries = floats(bytes)?.into_iter().map(f64::from).collect();
            Some(WholeGradient::Entries(entries))
        }
        Some(Whole::WholeFraction(it)) => Some(WholeGradient::Fraction { sites: it.sites, phi: it.phi }),
        None => None,
    };
    Some(CascadeSnapshot { windows: windows.map(window).collect(), whole })
}

fn curvature(wire: v1::CurvatureSnapshot) -> CurvatureSnapshot {
    let kronecker = wire.kronecker.map(|it| Kronecker {
        output_factor: it.output_factor,
        input_factor: it.input_factor,
        output_eigenvalues: it.output_eigenvalues,
        input_eigenvalues: it.input_eigenvalues,
        sum_of_products: it.sum_of_products,
    });
    CurvatureSnapshot { sigma: wire.sigma, curvature: wire.curvature, kronecker }
}

fn dead_directions(wire: v1::DeadDirectionsSnapshot, width: u32) -> Option<DeadDirectionsSnapshot> {
    let batch = match wire.batch() {
        v1::BatchKind::Train => BatchKind::Train,
        v1::BatchKind::HeldOut => BatchKind::HeldOut,
        v1::BatchKind::Unspecified => return None,
    };
    Some(DeadDirectionsSnapshot {
        spectrum: match wire.spectrum? {
            WireSpectrum::Eigenvalues(it) => Spectrum::Eigenvalues(it.values),
            WireSpectrum::Gram(it) => Spectrum::Gram(it.values),
        },
        singular_values: wire.singular_values,
        samples: wire.samples,
        width,
        batch,
        is_float32: wire.is_float32,
        gauge_removed: wire.gauge_removed,
    })
}

fn learning_cell(wire: &v1::LearningCellSnapshot, layer: &LayerSpec) -> Option<LearningCellSnapshot> {
    let (inputs, targets) = (floats(&wire.probe_inputs_f32)?, floats(&wire.probe_targets_f32)?);
    Some(LearningCellSnapshot {
        outer: floats(&wire.outer_f32)?,
        inner: floats(&wire.inner_f32)?,
        width: layer.width? as usize,
        activation: layer.activation?,
        probe: (!inputs.is_empty()).then_some(ProbeBatch { inputs, targets }),
    })
}

fn floats(bytes: &[u8]) -> Option<Vec<f32>> {
    let (chunks, []) = bytes.as_chunks::<4>() else { return None };
    Some(chunks.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

#[cfg(test)]
mod tests {
    use gradwatch_spectral::learning_cell::Activation;

    use super::*;

    const WIDTH: usize = 6;

    /// What a job that diverges, or an enemy, could send.
    const HOSTILE: [f64; 14] = [
        0.0,
        -0.0,
        f64::from_bits(1),
        1e-300,
        1e-40,
        6e-8,
        1.0,
        -1.0,
        65_504.0,
        1e30,
        1e160,
        f64::MAX,
        f64::INFINITY,
        f64::NAN,
    ];

    /// Picks among some of the hostile numbers, so that also finite snapshots are made.
    struct Picker {
        state: u64,
        pool: Vec<f64>,
    }

    impl Picker {
        fn new(seed: u64) -> Self {
            let mut picker = Self { state: seed, pool: Vec::new() };
            let finite = if seed.is_multiple_of(4) { HOSTILE.len() } else { HOSTILE.len() - 2 };
            for _ in 0..=picker.below(4) {
                let number = HOSTILE[picker.below(finite)];
                picker.pool.push(if seed.is_multiple_of(3) { number } else { number.abs() });
            }
            picker
        }

        fn below(&mut self, limit: usize) -> usize {
            self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.state >> 33) as usize % limit
        }

        fn numbers(&mut self, count: usize) -> Vec<f64> {
            let size = self.pool.len();
            (0..count).map(|_| self.below(size)).collect::<Vec<_>>().into_iter().map(|index| self.pool[index]).collect()
        }

        fn sorted(&mut self, count: usize) -> Vec<f64> {
            let mut numbers = self.numbers(count);
            numbers.sort_by(|left, right| right.total_cmp(left));
            numbers
        }

        fn floats(&mut self, count: usize) -> bytes::Bytes {
            let bytes: Vec<u8> = self.numbers(count).iter().flat_map(|it| (*it as f32).to_le_bytes()).collect();
            bytes.into()
        }

        fn body(&mut self, instrument: LayerInstrument) -> Body {
            let count = [1, 2, 3, 20, 60][self.below(5)];
            match instrument {
                LayerInstrument::Cascade => {
                    let halves = self.numbers(2 * WINDOW);
                    let bytes: Vec<u8> = halves.iter().flat_map(|it| f16::from_f64(*it).to_le_bytes()).collect();
                    let whole = match self.below(3) {
                        0 => None,
                        1 => Some(Whole::WholeF32(self.floats(count))),
                        _ => Some(Whole::WholeFraction(v1::WholeFraction {
                            sites: [0, 1, 2, (1 << 53) - 1][self.below(4)],
                            phi: self.numbers(1)[0],
                        })),
                    };
                    Body::Cascade(v1::CascadeSnapshot { windows_f16: bytes.into(), whole })
                }
                LayerInstrument::Curvature => Body::Curvature(v1::CurvatureSnapshot {
                    sigma: self.sorted(count),
                    curvature: self.numbers(count),
                    kronecker: (self.below(2) == 0).then(|| v1::Kronecker {
                        output_factor: self.numbers(count),
                        input_factor: self.numbers(count),
                        output_eigenvalues: self.sorted(7),
                        input_eigenvalues: self.sorted(9),
                        sum_of_products: self.numbers(count),
                    }),
                }),
                LayerInstrument::DeadDirections => {
                    let samples = [0, 1, WIDTH as u64, (1 << 53) - 1][self.below(4)];
                    let spectrum = if self.below(2) == 0 {
                        WireSpectrum::Eigenvalues(v1::Doubles { values: self.numbers(WIDTH) })
                    } else {
                        WireSpectrum::Gram(v1::Doubles { values: self.numbers(WIDTH * WIDTH) })
                    };
                    Body::DeadDirections(v1::DeadDirectionsSnapshot {
                        spectrum: Some(spectrum),
                        singular_values: self.sorted((samples as usize).min(WIDTH)),
                        samples,
                        batch: v1::BatchKind::Train.into(),
                        is_float32: self.below(2) == 0,
                        gauge_removed: [0, 1, WIDTH as u32, u32::MAX][self.below(4)],
                    })
                }
                LayerInstrument::LearningCell => Body::LearningCell(v1::LearningCellSnapshot {
                    outer_f32: self.floats(count),
                    inner_f32: self.floats(count * WIDTH),
                    probe_inputs_f32: self.floats(3 * WIDTH),
                    probe_targets_f32: self.floats(3),
                }),
            }
        }
    }

    #[test]
    fn no_numbers_make_an_instrument_panic_or_say_what_cannot_be_stored() {
        let activations = [Activation::Tanh, Activation::Relu, Activation::Square];
        for seed in 0..400 {
            for &instrument in LayerInstrument::ALL {
                let mut picker = Picker::new(seed);
                let body = picker.body(instrument);
                let layer = LayerSpec {
                    name: "all".into(),
                    instrument,
                    width: Some(WIDTH as u32),
                    activation: Some(activations[picker.below(activations.len())]),
                };
                let sent = format!("seed {seed}: {:?} {body:?}", picker.pool);
                let sent: String = sent.chars().take(400).collect();
                let reading = std::panic::catch_unwind(|| read(&layer, body)).unwrap_or_else(|_| panic!("{sent}"));
                assert!(reading.as_ref().is_some_and(is_sound), "{reading:?} of {sent}");
            }
        }
    }
}
