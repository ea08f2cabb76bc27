use gradwatch_spectral::layers::{FieldValue, Reason};
use gradwatch_spectral::learning_cell::{
    Activation, LearningCellReading, LearningCellSnapshot, MAX_NEURONS, MAX_PROBE, MAX_WIDTH, ProbeBatch, reading,
};

use crate::support::{Random, block, narrow};

fn good() -> LearningCellSnapshot {
    let mut snapshot = block(Activation::Tanh, &[1.0, -0.5], &[vec![1.0, 0.5, 0.0], vec![0.0, 1.0, -1.0]]);
    snapshot.probe = Some(ProbeBatch { inputs: narrow(&Random::new(1).normals(60)), targets: vec![0.5; 20] });
    snapshot
}

fn refused(reason: Reason, change: impl Fn(&mut LearningCellSnapshot)) {
    let mut snapshot = good();
    change(&mut snapshot);
    assert_eq!(reading(&snapshot), LearningCellReading { reason: Some(reason), ..Default::default() });
}

fn probe(snapshot: &mut LearningCellSnapshot) -> &mut ProbeBatch {
    snapshot.probe.as_mut().expect("a probe")
}

#[test]
fn empty_snapshots_are_refused() {
    refused(Reason::Empty, |it| it.outer.clear());
    refused(Reason::Empty, |it| it.width = 0);
    refused(Reason::Empty, |it| probe(it).inputs.clear());
}

#[test]
fn lengths_that_contradict_each_other_are_refused() {
    refused(Reason::Inconsistent, |it| it.outer.push(1.0));
    refused(Reason::Inconsistent, |it| it.inner.truncate(5));
    refused(Reason::Inconsistent, |it| it.inner.clear());
    refused(Reason::Inconsistent, |it| probe(it).inputs.truncate(59));
    refused(Reason::Inconsistent, |it| probe(it).targets.truncate(19));
}

#[test]
fn snapshots_beyond_the_limits_are_refused() {
    refused(Reason::TooLarge, |it| it.outer = vec![1.0; MAX_NEURONS + 1]);
    refused(Reason::TooLarge, |it| it.width = MAX_WIDTH + 1);
    refused(Reason::TooLarge, |it| *probe(it) = ProbeBatch { inputs: vec![0.5; 3 * (MAX_PROBE + 1)], targets: vec![] });
    refused(Reason::TooLarge, |it| {
        (it.outer, it.inner) = (vec![1.0; MAX_NEURONS], vec![1.0; 3 * MAX_NEURONS]);
        *probe(it) = ProbeBatch { inputs: vec![0.5; 3 * 2049], targets: vec![] };
    });
}

#[test]
fn values_that_are_not_finite_are_refused() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        refused(Reason::NonFinite, |it| it.outer[1] = bad);
        refused(Reason::NonFinite, |it| it.inner[4] = bad);
        refused(Reason::NonFinite, |it| probe(it).inputs[7] = bad);
        refused(Reason::NonFinite, |it| probe(it).targets[7] = bad);
    }
}

#[test]
fn a_block_that_is_zero_has_no_atoms_and_rank_0() {
    for (outer, inner) in [([0.0, 0.0], [1.0; 6]), ([1.0, 2.0], [0.0; 6]), ([0.0, 0.0], [0.0; 6])] {
        let mut snapshot = good();
        (snapshot.outer, snapshot.inner) = (outer.to_vec(), inner.to_vec());
        for with_probe in [true, false] {
            if !with_probe {
                snapshot.probe = None;
            }
            let told = reading(&snapshot);
            assert_eq!((told.active_atoms, told.atom_rank, told.reason), (Some(0), Some(0), Some(Reason::AllZero)));
            assert_eq!((told.path_norm, told.chaos_upper), (Some(0.0), Some(0.0)));
            assert_eq!((told.refit_curve, told.atoms_at_2pct, told.hermite_tail), (None, None, None));
            assert_eq!((told.orbit_depth, told.variety_depth), (None, None));
        }
    }
    // Without a single entry there are no moments, and no tail.
    let zero = LearningCellSnapshot { outer: vec![0.0; 2], inner: vec![0.0; 6], ..good() };
    let told = reading(&zero);
    assert_eq!((told.moment_k, told.moment_order, told.hill_index, told.heavy_tail), (None, None, None, None));
}

#[test]
fn neurons_without_weights_are_constants() {
    // sigmoid(0) = ½: the constant is an atom, the other one is not it.
    let told = reading(&block(Activation::Sigmoid, &[1.0, 1.0, 1.0], &[vec![0.0; 2], vec![0.0; 2], vec![2.0, 1.0]]));
    assert_eq!((told.active_atoms, told.atom_rank), (Some(2), Some(2)));
    assert!(told.refit_curve.unwrap()[1] < 1e-9);
}

#[test]
fn the_tail_needs_targets_and_enough_samples() {
    assert!(reading(&good()).hermite_tail.is_some());
    let mut without = good();
    probe(&mut without).targets.clear();
    assert_eq!(reading(&without).hermite_tail, None);
    let mut few = good();
    // Four polynomials of degree ≤ 1 in three inputs.
    *probe(&mut few) = ProbeBatch { inputs: vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0], targets: vec![1.0; 3] };
    let told = reading(&few);
    assert_eq!((told.variety_depth, told.hermite_tail), (Some(1), None));
    assert_eq!(reading(&LearningCellSnapshot { probe: None, ..good() }).hermite_tail, None);
}

#[test]
fn one_neuron_is_one_atom() {
    let told = reading(&block(Activation::Relu, &[-2.0], &[vec![0.0, 3.0]]));
    assert_eq!((told.active_atoms, told.atom_rank, told.atoms_at_2pct), (Some(1), Some(1), Some(1)));
    assert_eq!((told.chaos_upper, told.reason), (Some(0.0), Some(Reason::TooFewNeurons)));
}

#[test]
fn no_number_is_ever_nan_or_infinite() {
    let mut random = Random::new(5);
    for activation in Activation::ALL {
        for scale in [1e-38, 1e-20, 1.0, 1e10, 1e38] {
            let outer: Vec<f64> = random.normals(12).iter().map(|x| (x * scale).clamp(-3e38, 3e38)).collect();
            let row = |random: &mut Random| random.normals(3).iter().map(|x| (x * scale).clamp(-3e38, 3e38)).collect();
            let rows: Vec<Vec<f64>> = (0..12).map(|_| row(&mut random)).collect();
            let mut snapshot = block(*activation, &outer, &rows);
            for with_probe in [false, true] {
                if with_probe {
                    let inputs = narrow(&random.normals(90));
                    snapshot.probe = Some(ProbeBatch { targets: inputs[..30].to_vec(), inputs });
                }
                for value in reading(&snapshot).values().into_iter().flatten() {
                    match value {
                        FieldValue::Number(number) => assert!(number.is_finite(), "{activation} {scale}"),
                        FieldValue::List(list) => assert!(list.iter().all(|it| it.is_finite()), "{activation} {scale}"),
                        _ => {}
                    }
                }
            }
        }
    }
}
