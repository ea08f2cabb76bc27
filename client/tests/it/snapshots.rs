//! What travels of snapshots, predictions, terms of the edge, and what happened.

use gradwatch_client::{
    Activation, BatchKind, CascadeSnapshot, CurvatureSnapshot, DeadDirectionsSnapshot, EdgeTerms, Frame, Kind, Launch,
    Layer, LearningCellSnapshot, Run, RunBuilder, spectra,
};
use gradwatch_proto::v1::{self, cascade_snapshot::Whole, dead_directions_snapshot::Spectrum, snapshot::Body};
use half::f16;

use crate::peer::{Peer, Script};
use crate::{assert_all_settled, small_run, submit};

fn watched_run(server: &str) -> RunBuilder {
    small_run(server)
        .layer("grad", Layer::cascade())
        .layer("head", Layer::curvature())
        .layer("mlp", Layer::dead_directions(2))
        .layer("mlp", Layer::learning_cell(3, Activation::Tanh))
}

/// Submits one frame and gives it as it arrived.
fn arrived(open: impl FnOnce(RunBuilder) -> RunBuilder, frame: Frame<'_>) -> v1::Frame {
    let peer = Peer::start(Script::default());
    let mut run: Run = open(watched_run(&peer.url())).open().unwrap();
    run.submit(7, frame).unwrap();
    assert_all_settled(&run.close(), 1);
    peer.checked_attempt(0).frames.remove(0)
}

/// The one snapshot of a frame, with its layer.
fn snapshot(frame: Frame<'_>) -> (u32, Body) {
    let mut snapshots = arrived(|run| run, frame).snapshots;
    assert_eq!(snapshots.len(), 1);
    let snapshot = snapshots.remove(0);
    (snapshot.layer, snapshot.body.unwrap())
}

fn cascade(snapshot_of: CascadeSnapshot<'_>) -> v1::CascadeSnapshot {
    match snapshot(Frame::new().cascade("grad", snapshot_of)) {
        (0, Body::Cascade(snapshot)) => snapshot,
        other => panic!("{other:?}"),
    }
}

fn dead_directions(snapshot_of: DeadDirectionsSnapshot<'_>) -> v1::DeadDirectionsSnapshot {
    match snapshot(Frame::new().dead_directions("mlp", snapshot_of)) {
        (2, Body::DeadDirections(snapshot)) => snapshot,
        other => panic!("{other:?}"),
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

fn halves(bytes: &[u8]) -> Vec<f64> {
    bytes.chunks_exact(2).map(|bytes| f16::from_le_bytes(bytes.try_into().unwrap()).to_f64()).collect()
}

#[test]
fn layers_are_declared() {
    let peer = Peer::start(Script::default());
    let mut run = watched_run(&peer.url()).open().unwrap();
    submit(&mut run, 0..1);
    assert_all_settled(&run.close(), 1);
    let layer = |name: &str, instrument: v1::LayerInstrument, width, activation: &str| v1::Layer {
        name: name.to_owned(),
        instrument: instrument.into(),
        width,
        activation: activation.to_owned(),
    };
    assert_eq!(
        peer.checked_attempt(0).request.spec.unwrap().layers,
        [
            layer("grad", v1::LayerInstrument::Cascade, 0, ""),
            layer("head", v1::LayerInstrument::Curvature, 0, ""),
            layer("mlp", v1::LayerInstrument::DeadDirections, 2, ""),
            layer("mlp", v1::LayerInstrument::LearningCell, 3, "tanh"),
        ]
    );
}

#[test]
fn a_cascade_travels_as_windows_of_magnitudes_over_the_rms() {
    let a: Vec<f32> = (0..5_000).map(|i| (i as f32 * 0.37).sin() * 1e-6).collect();
    let b: Vec<f32> = (0..10_000).map(|i| (i as f32 * 0.11).cos() * 30.0 + 1.0).collect();
    let scaled = |tensor: &[f32]| -> Vec<f64> {
        let mean = tensor.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / tensor.len() as f64;
        tensor.iter().map(|x| f64::from(*x).abs() / mean.sqrt()).collect()
    };
    let all = [scaled(&a), scaled(&b)].concat();
    let sent = cascade(CascadeSnapshot::of_gradient([&a, &b]));
    let windows = halves(&sent.windows_f16);
    assert_eq!(windows.len(), 3 * 4_096, "as many as fit without overlap");
    for (window, start) in windows.chunks(4_096).zip([0, 5_452, 10_904]) {
        for (value, expected) in window.iter().zip(&all[start..]) {
            assert!((value - expected).abs() <= expected * 2f64.powi(-11) + 1e-7, "{value} {expected}");
        }
    }
    assert_eq!(sent.whole, None);
}

/// Whoever cuts the windows: the bytes are the same.
#[test]
fn windows_cut_by_the_caller_travel_as_those_of_the_gradient() {
    let a: Vec<f32> = (0..50_000).map(|i| (i as f32 * 0.37).sin() * 1e-6).collect();
    let b: Vec<f32> = (0..30_000).map(|i| (i as f32 * 0.11).cos() * 30.0 + 1.0).collect();
    let cut = spectra::windows(&[&a, &b]).unwrap().concat();
    assert_eq!(cut.len(), 16 * spectra::WINDOW_VALUES);
    let sent = cascade(CascadeSnapshot::of_windows(&cut));
    assert_eq!(sent, cascade(CascadeSnapshot::of_gradient([&a, &b])));
    let sent = cascade(CascadeSnapshot::of_windows(&cut).with_fraction(80_000, 0.5));
    assert_eq!(sent.whole, Some(Whole::WholeFraction(v1::WholeFraction { sites: 80_000, phi: 0.5 })));
}

#[test]
fn a_whole_gradient_travels_beside_its_windows_or_without() {
    let large: Vec<f32> = (0..70_000).map(|i| i as f32).collect();
    let sent = cascade(CascadeSnapshot::of_gradient([&large[..60_000], &large[60_000..]]).with_whole());
    assert_eq!(sent.windows_f16.len(), 16 * 4_096 * 2);
    let Some(Whole::WholeF32(bytes)) = sent.whole else { panic!("{:?}", sent.whole) };
    assert_eq!(floats(&bytes), large);

    let sent = cascade(CascadeSnapshot::of_gradient([&large]).with_fraction(1 << 40, 0.25));
    assert_eq!(sent.whole, Some(Whole::WholeFraction(v1::WholeFraction { sites: 1 << 40, phi: 0.25 })));
    assert_eq!(sent.windows_f16.len(), 16 * 4_096 * 2);

    let sent = cascade(CascadeSnapshot::of_gradient([&large[..4_095]]).with_whole());
    assert!(sent.windows_f16.is_empty(), "too small for a window");
    assert!(matches!(sent.whole, Some(Whole::WholeF32(bytes)) if bytes.len() == 4 * 4_095));
}

#[test]
fn a_gradient_that_is_not_finite_says_so() {
    let mut gradient = vec![1.0_f32; 20_000];
    gradient[9] = f32::INFINITY;
    let sent = cascade(CascadeSnapshot::of_gradient([&gradient]).with_whole());
    let windows = halves(&sent.windows_f16);
    assert!(windows.len() == 4_096 && windows.iter().all(|value| value.is_nan()));
    let Some(Whole::WholeF32(bytes)) = sent.whole else { panic!("{:?}", sent.whole) };
    assert_eq!(floats(&bytes), gradient, "as it is");
}

#[test]
fn curvatures_travel_as_they_are() {
    let (sigma, h) = ([3.0, 2.0, 0.5], [9.0, -4.0, f64::NAN]);
    let Body::Curvature(sent) = snapshot(Frame::new().curvature("head", CurvatureSnapshot::new(&sigma, &h))).1 else {
        panic!("of another instrument")
    };
    assert_eq!(sent.sigma, sigma);
    assert_eq!((sent.curvature.len(), &sent.curvature[..2]), (3, &h[..2]));
    assert!(sent.curvature[2].is_nan());
    assert_eq!(sent.kronecker, None);

    let kronecker = spectra::Kronecker {
        output_factor: vec![1.0, 2.0, 3.0],
        input_factor: vec![4.0, 5.0, 6.0],
        output_eigenvalues: vec![7.0],
        input_eigenvalues: vec![8.0, 8.5],
        sum_of_products: vec![9.0, 10.0, 11.0],
    };
    let frame = Frame::new().curvature("head", CurvatureSnapshot::new(&sigma, &h).kronecker(&kronecker));
    let Body::Curvature(sent) = snapshot(frame).1 else { panic!("of another instrument") };
    let expected = v1::Kronecker {
        output_factor: kronecker.output_factor.clone(),
        input_factor: kronecker.input_factor.clone(),
        output_eigenvalues: kronecker.output_eigenvalues.clone(),
        input_eigenvalues: kronecker.input_eigenvalues.clone(),
        sum_of_products: kronecker.sum_of_products.clone(),
    };
    assert_eq!(sent.kronecker, Some(expected));
}

fn assert_close(values: &[f64], expected: &[f64]) {
    assert_eq!(values.len(), expected.len(), "{values:?}");
    assert!(values.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{values:?} is not {expected:?}");
}

fn eigenvalues(snapshot: &v1::DeadDirectionsSnapshot) -> &[f64] {
    match &snapshot.spectrum {
        Some(Spectrum::Eigenvalues(eigenvalues)) => &eigenvalues.values,
        other => panic!("{other:?}"),
    }
}

#[test]
fn spectra_of_samples_are_computed() {
    // G = diag(1/2, 2), and activations with singular values 4 and 3.
    let gradients = [1.0, 0.0, 0.0, 2.0, -1.0, 0.0, 0.0, -2.0];
    let activations = [3.0, 0.0, 0.0, 4.0, 0.0, 0.0, 0.0, 0.0];
    let [gradients_f32, activations_f32] = [gradients, activations].map(|values: [f64; 8]| values.map(|x| x as f32));
    for snapshot in [
        DeadDirectionsSnapshot::of_samples(&activations[..], &gradients[..], BatchKind::HeldOut),
        DeadDirectionsSnapshot::of_samples(&activations_f32[..], &gradients_f32[..], BatchKind::HeldOut),
    ] {
        let sent = dead_directions(snapshot);
        assert_close(eigenvalues(&sent), &[0.5, 2.0]);
        assert_close(&sent.singular_values, &[4.0, 3.0]);
        assert_eq!((sent.samples, sent.batch(), sent.is_float32), (4, v1::BatchKind::HeldOut, false));
        assert_eq!(sent.gauge_removed, 0);
    }

    let ones = [1.0, 1.0];
    let snapshot = DeadDirectionsSnapshot::of_samples(&activations[..], &gradients[..], BatchKind::Train);
    let sent = dead_directions(snapshot.remove_gauge(&ones));
    assert_close(eigenvalues(&sent), &[0.0, 1.25]);
    assert_eq!((sent.gauge_removed, sent.batch()), (1, v1::BatchKind::Train));

    let mut diverged = gradients;
    diverged[3] = f64::NAN;
    let sent = dead_directions(DeadDirectionsSnapshot::of_samples(&activations[..], &diverged[..], BatchKind::Train));
    assert!(eigenvalues(&sent).len() == 2 && eigenvalues(&sent).iter().all(|value| value.is_nan()));
    assert_close(&sent.singular_values, &[4.0, 3.0]);
}

#[test]
fn spectra_of_the_caller_travel_as_they_are() {
    let (gram, singular_values) = ([2.0, 1.0, 1.0, 2.0], [5.0, 4.0]);
    let snapshot = DeadDirectionsSnapshot::of_gram(&gram, &singular_values, 300, BatchKind::Train).float32();
    let expected = v1::DeadDirectionsSnapshot {
        spectrum: Some(Spectrum::Gram(v1::Doubles { values: gram.to_vec() })),
        singular_values: singular_values.to_vec(),
        samples: 300,
        batch: v1::BatchKind::Train.into(),
        is_float32: true,
        gauge_removed: 0,
    };
    assert_eq!(dead_directions(snapshot), expected);

    let snapshot = DeadDirectionsSnapshot::of_eigenvalues(&[1.0, 3.0], &[5.0], 1, BatchKind::HeldOut).gauge_removed(1);
    let expected = v1::DeadDirectionsSnapshot {
        spectrum: Some(Spectrum::Eigenvalues(v1::Doubles { values: vec![1.0, 3.0] })),
        singular_values: vec![5.0],
        samples: 1,
        batch: v1::BatchKind::HeldOut.into(),
        is_float32: false,
        gauge_removed: 1,
    };
    assert_eq!(dead_directions(snapshot), expected);
}

#[test]
fn a_learning_cell_travels_as_float32() {
    let (outer, inner) = ([1.5_f32, -2.0], [1.0_f32, 2.0, 3.0, f32::NAN, 5.0, 6.0]);
    let (inputs, targets) = ([0.5_f32, 0.25, 0.125], [7.0_f32]);
    let of = |snapshot| match snapshot {
        (3, Body::LearningCell(snapshot)) => snapshot,
        other => panic!("{other:?}"),
    };
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    let sent = of(snapshot(Frame::new().learning_cell("mlp", LearningCellSnapshot::new(&outer, &inner))));
    assert_eq!(floats(&sent.outer_f32), outer);
    assert_eq!(bits(&floats(&sent.inner_f32)), bits(&inner));
    assert!(sent.probe_inputs_f32.is_empty() && sent.probe_targets_f32.is_empty());
    let probed = LearningCellSnapshot::new(&outer, &inner).probe(&inputs, &targets);
    let sent = of(snapshot(Frame::new().learning_cell("mlp", probed)));
    assert_eq!((floats(&sent.probe_inputs_f32), floats(&sent.probe_targets_f32)), (inputs.to_vec(), targets.to_vec()));
}

#[test]
fn what_a_step_says_beside_its_updates() {
    let (values, targets) = ([0.5_f32, -1.0], [1.0_f32, 0.0]);
    let terms = EdgeTerms::new("all", Kind::Update, 20, 3);
    let frame = Frame::new()
        .scalar("loss", 2.0)
        .predictions("digits", &values, &targets)
        .predictions("letters", &values[..1], &[])
        .happened("solved")
        .happened("lr_drop_2")
        .edge_terms(terms.curvatures(1.0, 2.0).projections(f64::NAN, 1.0))
        .edge_terms(EdgeTerms::new("all", Kind::Update, 10, 9).loss_projections([1.0, 2.0, 3.0], [4.0, 5.0, 6.0]))
        .edge_terms(EdgeTerms::new("all", Kind::Gradient, 10, 1).projections(0.5, 0.25))
        .edge_terms(EdgeTerms::new("all", Kind::Gradient, 20, 1).curvatures(f64::INFINITY, 0.25));
    let kinds = [Kind::Update, Kind::Gradient];
    let arrived = arrived(|run| run.window(10).window(20).kinds(kinds), frame);
    assert_eq!((arrived.scalars["loss"], &arrived.happened[..]), (2.0, &["solved".to_owned(), "lr_drop_2".into()][..]));
    let predictions: Vec<_> =
        arrived.predictions.iter().map(|it| (&it.probe[..], floats(&it.values_f32), floats(&it.targets_f32))).collect();
    let expected = [("digits", values.to_vec(), targets.to_vec()), ("letters", values[..1].to_vec(), Vec::new())];
    assert_eq!(predictions, expected);
    let terms = |kind: v1::Kind, window, position| v1::EdgeTerms {
        group: 0,
        kind: kind.into(),
        window,
        position,
        ..v1::EdgeTerms::default()
    };
    assert_eq!(
        arrived.edge_terms,
        [
            v1::EdgeTerms { curvature: Some(1.0), next_curvature: Some(2.0), ..terms(v1::Kind::Update, 20, 3) },
            v1::EdgeTerms {
                training_projections: vec![1.0, 2.0, 3.0],
                validation_projections: vec![4.0, 5.0, 6.0],
                ..terms(v1::Kind::Update, 10, 9)
            },
            v1::EdgeTerms { projection: Some(0.5), next_projection: Some(0.25), ..terms(v1::Kind::Gradient, 10, 1) },
        ],
        "terms that are not finite are left out"
    );
}

#[test]
fn any_shard_may_send_a_snapshot() {
    let peer = Peer::start(Script::default());
    let mut run = watched_run(&peer.url()).launch(Launch::new()).shard(1, 2).open().unwrap();
    run.submit(0, Frame::new().curvature("head", CurvatureSnapshot::new(&[1.0], &[2.0]))).unwrap();
    run.submit(1, Frame::new().scalar("loss", 1.0)).unwrap();
    assert_all_settled(&run.close(), 2);
    let attempt = peer.checked_attempt(0);
    assert_eq!((attempt.request.shard, attempt.frames[0].snapshots.len()), (1, 1));
    assert_eq!(attempt.frames[1].snapshots, []);
}
