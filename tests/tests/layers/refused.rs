//! Wrong snapshots and predictions: what contradicts the protocol is refused by field, what an instrument cannot read is
//! taken and its reading says why.

use gradwatch_proto::v1::{self, Frame, Predictions, RejectCode, dead_directions_snapshot::Spectrum, snapshot::Body};
use gradwatch_spectral::layers::Reason;
use gradwatch_tests::{Backend, frame, open_request};

use super::{
    made::{WIDTH, f32_bytes, snapshot, spec},
    world::{World, rejection, with_snapshots},
};

type Change = fn(&mut Frame);

fn cascade(it: &mut Frame) -> &mut v1::CascadeSnapshot {
    match &mut it.snapshots[0].body {
        Some(Body::Cascade(snapshot)) => snapshot,
        other => panic!("{other:?}"),
    }
}

fn curvature(it: &mut Frame) -> &mut v1::CurvatureSnapshot {
    match &mut it.snapshots[1].body {
        Some(Body::Curvature(snapshot)) => snapshot,
        other => panic!("{other:?}"),
    }
}

fn kronecker(it: &mut Frame) -> &mut v1::Kronecker {
    curvature(it).kronecker.as_mut().expect("factors")
}

fn dead(it: &mut Frame) -> &mut v1::DeadDirectionsSnapshot {
    match &mut it.snapshots[2].body {
        Some(Body::DeadDirections(snapshot)) => snapshot,
        other => panic!("{other:?}"),
    }
}

fn cell(it: &mut Frame) -> &mut v1::LearningCellSnapshot {
    match &mut it.snapshots[3].body {
        Some(Body::LearningCell(snapshot)) => snapshot,
        other => panic!("{other:?}"),
    }
}

fn zeros(bytes: usize) -> bytes::Bytes {
    vec![0; bytes].into()
}

fn predict(it: &mut Frame, values: &[f32], targets: &[f32]) {
    let (values_f32, targets_f32) = (f32_bytes(values), f32_bytes(targets));
    it.predictions = vec![Predictions { probe: "held".into(), values_f32, targets_f32 }];
}

fn good(seq: u64) -> Frame {
    with_snapshots(seq, (0..4).map(|layer| snapshot(layer, seq)).collect())
}

/// Frames that are refused: (the change that does it to a good one, code, field).
fn refused() -> Vec<(Change, RejectCode, &'static str)> {
    use RejectCode::{Invalid, Limit, SpecMismatch};
    vec![
        (|it| it.snapshots[0].layer = 4, SpecMismatch, "snapshots[0].layer"),
        (|it| it.snapshots[1] = it.snapshots[0].clone(), Invalid, "snapshots[1].layer"),
        (|it| it.snapshots[0].body = None, Invalid, "snapshots[0].body"),
        (|it| it.snapshots[0].body = it.snapshots[1].body.clone(), SpecMismatch, "snapshots[0].body"),
        (|it| it.snapshots[3].body = it.snapshots[0].body.clone(), SpecMismatch, "snapshots[3].body"),
        (|it| cascade(it).windows_f16 = zeros(8_190), Invalid, "snapshots[0].cascade.windows_f16"),
        (|it| cascade(it).windows_f16 = zeros(65 * 8_192), Limit, "snapshots[0].cascade.windows_f16"),
        (
            |it| cascade(it).whole = Some(v1::cascade_snapshot::Whole::WholeF32(zeros(7))),
            Invalid,
            "snapshots[0].cascade.whole_f32",
        ),
        (
            |it| cascade(it).whole = Some(v1::cascade_snapshot::Whole::WholeF32(zeros(4 * 1_048_577))),
            Limit,
            "snapshots[0].cascade.whole_f32",
        ),
        (
            |it| {
                let fraction = v1::WholeFraction { sites: 1 << 53, phi: 0.5 };
                cascade(it).whole = Some(v1::cascade_snapshot::Whole::WholeFraction(fraction));
            },
            Invalid,
            "snapshots[0].cascade.whole_fraction.sites",
        ),
        (|it| curvature(it).sigma = vec![1.0; 4_097], Limit, "snapshots[1].curvature.sigma"),
        (|it| curvature(it).curvature.truncate(3), Invalid, "snapshots[1].curvature.curvature"),
        (|it| kronecker(it).output_factor.clear(), Invalid, "snapshots[1].curvature.kronecker.output_factor"),
        (|it| kronecker(it).input_factor.push(1.0), Invalid, "snapshots[1].curvature.kronecker.input_factor"),
        (
            |it| kronecker(it).input_eigenvalues = vec![1.0; 65_537],
            Limit,
            "snapshots[1].curvature.kronecker.input_eigenvalues",
        ),
        (
            |it| kronecker(it).output_eigenvalues = vec![1.0; 65_537],
            Limit,
            "snapshots[1].curvature.kronecker.output_eigenvalues",
        ),
        (|it| kronecker(it).sum_of_products.truncate(2), Invalid, "snapshots[1].curvature.kronecker.sum_of_products"),
        (|it| dead(it).spectrum = None, Invalid, "snapshots[2].dead_directions.spectrum"),
        (
            |it| dead(it).spectrum = Some(Spectrum::Eigenvalues(v1::Doubles { values: vec![1.0; WIDTH + 1] })),
            SpecMismatch,
            "snapshots[2].dead_directions.eigenvalues",
        ),
        (
            |it| dead(it).spectrum = Some(Spectrum::Gram(v1::Doubles { values: vec![1.0; WIDTH] })),
            SpecMismatch,
            "snapshots[2].dead_directions.gram",
        ),
        (|it| dead(it).samples = 1 << 53, Invalid, "snapshots[2].dead_directions.samples"),
        (|it| dead(it).singular_values.truncate(5), Invalid, "snapshots[2].dead_directions.singular_values"),
        (|it| dead(it).samples = 4, Invalid, "snapshots[2].dead_directions.singular_values"),
        (|it| dead(it).batch = 0, Invalid, "snapshots[2].dead_directions.batch"),
        (|it| cell(it).outer_f32 = zeros(4 * 8_193), Limit, "snapshots[3].learning_cell.outer_f32"),
        (|it| cell(it).outer_f32 = zeros(6), Invalid, "snapshots[3].learning_cell.outer_f32"),
        (|it| cell(it).inner_f32 = zeros(4 * WIDTH), Invalid, "snapshots[3].learning_cell.inner_f32"),
        (|it| cell(it).probe_inputs_f32 = zeros(4 * WIDTH + 4), Invalid, "snapshots[3].learning_cell.probe_inputs_f32"),
        (|it| cell(it).probe_targets_f32 = zeros(8), Invalid, "snapshots[3].learning_cell.probe_targets_f32"),
        (|it| cell(it).probe_inputs_f32 = zeros(0), Invalid, "snapshots[3].learning_cell.probe_targets_f32"),
        (|it| predict(it, &[], &[]), Invalid, "predictions[0].values_f32"),
        (|it| predict(it, &[1.0, f32::NAN], &[]), Invalid, "predictions[0].values_f32"),
        (|it| predict(it, &[1.0, 2.0], &[1.0, f32::INFINITY]), Invalid, "predictions[0].targets_f32"),
        (|it| predict(it, &[1.0, 2.0], &[1.0]), Invalid, "predictions[0].targets_f32"),
        (|it| predict(it, &[0.0; 65_537], &[]), Limit, "predictions[0].values_f32"),
        (
            |it| {
                predict(it, &[1.0], &[]);
                it.predictions[0].values_f32 = zeros(5);
            },
            Invalid,
            "predictions[0].values_f32",
        ),
        (
            |it| {
                predict(it, &[1.0], &[]);
                it.predictions[0].probe = "pro\0be".into();
            },
            Invalid,
            "predictions[0].probe",
        ),
        (
            |it| {
                predict(it, &[1.0], &[]);
                it.predictions.push(it.predictions[0].clone());
            },
            Invalid,
            "predictions[1].probe",
        ),
        (
            |it| {
                predict(it, &[1.0], &[]);
                let one = it.predictions[0].clone();
                it.predictions = (0..65).map(|n| Predictions { probe: format!("p{n}"), ..one.clone() }).collect();
            },
            Limit,
            "predictions",
        ),
        (|it| it.happened = vec!["solved".into(), "Solved".into()], Invalid, "happened[1]"),
        (|it| it.happened = vec![String::new()], Invalid, "happened[0]"),
        (|it| it.happened = vec!["a".repeat(65)], Invalid, "happened[0]"),
        (|it| it.happened = vec!["twice".into(), "twice".into()], Invalid, "happened[1]"),
        (|it| it.happened = (0..17).map(|it| format!("h{it}")).collect(), Limit, "happened"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_contradicts_the_protocol_is_refused_by_field_and_leaves_nothing() {
    let world = World::new(Backend::Sqlite, |_| {}).await;
    let request = open_request(spec());
    let mut stream = world.open(&request).await;
    let table = refused();
    for (seq, (change, code, field)) in (1..).zip(&table) {
        let mut frame = good(seq);
        change(&mut frame);
        stream.frames(vec![frame]).await;
        let rejected = rejection(&mut stream, seq).await;
        assert_eq!((rejected.seq, rejected.code(), rejected.field.as_str()), (seq, *code, *field), "{rejected:?}");
    }
    assert_eq!(world.pending(&request.run_id).await, 0);
    for layer in 0..4 {
        world.readings(&request.run_id, 1, layer, 0).await;
    }
    let run = world.rest().get(&format!("/api/v1/runs/{}", request.run_id)).await;
    assert_eq!((&run["counters"]["steps"], &run["counters"]["rejected"]), (&0.into(), &table.len().into()));
    let seq = table.len() as u64 + 1;
    stream.frames(vec![good(seq)]).await;
    assert_eq!(stream.acknowledged(seq).await, []);
    for layer in 0..4 {
        assert_eq!(world.readings(&request.run_id, 1, layer, 1).await[0].row.step, seq);
    }
    world.server.stop().await;
}

/// Snapshots that cannot be read: (the change that does it, layer, the reason that the reading gives).
fn unreadable() -> Vec<(Change, usize, Reason)> {
    vec![
        (|it| *cascade(it) = v1::CascadeSnapshot::default(), 0, Reason::Empty),
        (|it| cascade(it).windows_f16 = [0xFF, 0x7F].repeat(4_096).into(), 0, Reason::NonFinite),
        (|it| *cascade(it) = v1::CascadeSnapshot { windows_f16: zeros(8_192), whole: None }, 0, Reason::Degenerate),
        (|it| *curvature(it) = v1::CurvatureSnapshot::default(), 1, Reason::Empty),
        (|it| curvature(it).sigma[0] = f64::NAN, 1, Reason::NonFinite),
        (
            |it| {
                curvature(it).kronecker = None;
                curvature(it).sigma.truncate(3);
                curvature(it).curvature.truncate(3);
            },
            1,
            Reason::TooFewSingularValues,
        ),
        (
            |it| {
                dead(it).samples = 3;
                dead(it).singular_values.truncate(3);
            },
            2,
            Reason::TooFewSamples,
        ),
        (|it| dead(it).spectrum = Some(Spectrum::Eigenvalues(v1::Doubles { values: vec![] })), 2, Reason::Empty),
        (
            |it| dead(it).spectrum = Some(Spectrum::Eigenvalues(v1::Doubles { values: vec![-1.0; WIDTH] })),
            2,
            Reason::Negative,
        ),
        (
            |it| dead(it).spectrum = Some(Spectrum::Eigenvalues(v1::Doubles { values: vec![0.0; WIDTH] })),
            2,
            Reason::AllZero,
        ),
        (|it| *cell(it) = v1::LearningCellSnapshot::default(), 3, Reason::Empty),
        (|it| cell(it).outer_f32 = f32_bytes(&[f32::INFINITY; 400]), 3, Reason::NonFinite),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_taken_and_says_why() {
    let world = World::new(Backend::Sqlite, |_| {}).await;
    let request = open_request(spec());
    let mut stream = world.open(&request).await;
    let mut wanted: Vec<Vec<(u64, Reason)>> = vec![Vec::new(); 4];
    for (seq, (change, layer, reason)) in (1..).zip(unreadable()) {
        let mut changed = good(seq);
        change(&mut changed);
        stream.frames(vec![Frame { snapshots: vec![changed.snapshots[layer].clone()], ..frame(seq, seq) }]).await;
        assert_eq!(stream.acknowledged(seq).await, []);
        wanted[layer].push((seq, reason));
    }
    for (layer, wanted) in wanted.iter().enumerate() {
        let stored = world.readings(&request.run_id, 1, layer, wanted.len()).await;
        let reasons = stored.iter().map(|it| (it.row.step, it.row.reading.reason()));
        let wanted = wanted.iter().map(|(step, reason)| (*step, Some(*reason)));
        assert_eq!(reasons.collect::<Vec<_>>(), wanted.collect::<Vec<_>>(), "layer {layer}");
        let with_values = stored.iter().filter(|it| it.row.reading.values().iter().flatten().count() > 12);
        assert_eq!(with_values.count(), 0, "{stored:?}");
    }
    world.server.stop().await;
}
