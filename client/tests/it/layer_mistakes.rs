//! Mistakes about layers and what is sent of them are named, and leave no trace.

use gradwatch_client::{
    Activation, BatchKind, CascadeSnapshot, CurvatureSnapshot, DeadDirectionsSnapshot, EdgeTerms, Frame, Kind, Layer,
    LayerInstrument, LearningCellSnapshot, Run, SubmitError, spectra,
};

use crate::peer::{Peer, Script};
use crate::{assert_all_settled, small_run, submit};

#[test]
fn the_builder_names_the_layer() {
    let run = || small_run("http://127.0.0.1:9");
    for (builder, message) in [
        (run().layer("", Layer::cascade()), r#"layer "": is empty"#),
        (run().layer("a\n", Layer::cascade()), r#"layer "a\n": holds a control character"#),
        (run().layer("a", Layer::cascade()).layer("a", Layer::cascade()), r#"layer "a": was given twice for cascade"#),
        (
            run().layer("a", Layer::dead_directions(0)),
            "width 0 is not between 1 and 65536, which dead_directions needs",
        ),
        (run().layer("a", Layer::dead_directions(65_537)), r#"layer "a": width 65537 is not between 1 and 65536"#),
        (
            run().layer("a", Layer::learning_cell(1_025, Activation::Relu)),
            "width 1025 is not between 1 and 1024, which learning_cell needs",
        ),
        (run().layer("a", Layer::curvature().every(0)), r#"layer "a": every 0 steps is no schedule"#),
    ] {
        let error = builder.open().expect_err(message).to_string();
        assert!(error.contains(message), "{error:?} does not say {message:?}");
    }
    let same_name = run().layer("a", Layer::cascade()).layer("a", Layer::curvature());
    same_name.open().expect("one name may be watched by several instruments");
}

fn open(peer: &Peer) -> Run {
    small_run(&peer.url())
        .layer("grad", Layer::cascade())
        .layer("head", Layer::curvature())
        .layer("mlp", Layer::dead_directions(2))
        .layer("wide", Layer::dead_directions(1_025))
        .layer("mlp", Layer::learning_cell(3, Activation::Tanh))
        .open()
        .unwrap()
}

/// Every frame is refused with its message, and the run goes on as if there had been none.
#[track_caller]
fn assert_refused(frames: &[(Frame<'_>, &str)]) {
    let peer = Peer::start(Script::default());
    let mut run = open(&peer);
    submit(&mut run, 0..2);
    for (frame, message) in frames {
        // A step back would begin a new attempt.
        for step in [2, 1] {
            let error = run.submit(step, frame.clone()).expect_err(message).to_string();
            assert!(error.contains(message), "{error:?} does not say {message:?}");
        }
    }
    submit(&mut run, 2..3);
    assert_all_settled(&run.close(), 3);
    assert_eq!(peer.state().order.len(), 1);
    assert_eq!(peer.checked_attempt(0).frames[2].payloads[0].base_step, 1);
}

#[test]
fn unknown_layers_and_other_instruments() {
    let curvature = CurvatureSnapshot::new(&[1.0], &[1.0]);
    assert_refused(&[
        (
            Frame::new().curvature("none", curvature),
            r#"layer "none" was not declared for curvature when the run was opened"#,
        ),
        (
            Frame::new().curvature("mlp", curvature),
            r#"layer "mlp" was not declared for curvature when the run was opened; it was for dead_directions, learning_cell"#,
        ),
        (
            Frame::new().curvature("head", curvature).curvature("head", curvature),
            r#"the curvature snapshot of layer "head" was given twice in one frame"#,
        ),
    ]);
    let peer = Peer::start(Script::default());
    let run = open(&peer);
    let error = run.snapshot_due(LayerInstrument::Cascade, "head", 0).unwrap_err();
    let declared = vec![LayerInstrument::Curvature];
    let (layer, instrument) = ("head".to_owned(), LayerInstrument::Cascade);
    assert_eq!(error, SubmitError::UnknownLayer { layer, instrument, declared });
}

#[test]
fn cascades_that_cannot_be() {
    let large = vec![1.0_f32; (1 << 20) + 1];
    let of = |entries: usize| CascadeSnapshot::of_gradient([&large[..entries]]);
    let windows = |values: usize| CascadeSnapshot::of_windows(&large[..values]);
    let frame = |snapshot| Frame::new().cascade("grad", snapshot);
    assert_refused(&[
        (frame(of(0).with_whole()), r#"layer "grad": cascade.tensors: is empty"#),
        (
            frame(of(4_095)),
            r#"layer "grad": cascade.tensors: 4095 entries, a window has 4096: send the whole gradient"#,
        ),
        (frame(of((1 << 20) + 1).with_whole()), "cascade.whole: 1048577 entries, at most 1048576: send the fraction"),
        (frame(of(10).with_fraction(0, 0.1)), "cascade.whole_fraction: 0 sites are not between 1 and 2^53"),
        (frame(of(10).with_fraction(1 << 53, 0.1)), "cascade.whole_fraction: 9007199254740992 sites"),
        (frame(windows(0)), "cascade.windows: is empty"),
        (frame(windows(4_097)), "cascade.windows: 4097 values are not whole windows of 4096"),
        (frame(windows(65 * 4_096)), "cascade.windows: 266240 values, at most 262144"),
        (frame(windows(4_096).with_whole()), "cascade.whole: windows do not hold all entries: give the tensors"),
    ]);
}

#[test]
fn curvatures_that_cannot_be() {
    let many = vec![1.0; 65_537];
    let good = spectra::Kronecker {
        output_factor: vec![1.0; 2],
        input_factor: vec![1.0; 2],
        output_eigenvalues: vec![1.0],
        input_eigenvalues: vec![1.0],
        sum_of_products: Vec::new(),
    };
    let bad = [
        spectra::Kronecker { output_factor: vec![1.0], ..good.clone() },
        spectra::Kronecker { input_factor: Vec::new(), ..good.clone() },
        spectra::Kronecker { output_eigenvalues: Vec::new(), ..good.clone() },
        spectra::Kronecker { input_eigenvalues: many.clone(), ..good.clone() },
        spectra::Kronecker { sum_of_products: vec![1.0; 3], ..good.clone() },
    ];
    let two = [2.0, 1.0];
    let frame = |kronecker| Frame::new().curvature("head", CurvatureSnapshot::new(&two, &two).kronecker(kronecker));
    let plain = |sigma, h| Frame::new().curvature("head", CurvatureSnapshot::new(sigma, h));
    assert_refused(&[
        (plain(&[], &[]), r#"layer "head": curvature.sigma: is empty"#),
        (plain(&many[..4_097], &many[..4_097]), "curvature.sigma: 4097 values, at most 4096"),
        (plain(&two, &two[..1]), "curvature.curvature: 1 values, sigma needs 2"),
        (frame(&bad[0]), "curvature.kronecker.output_factor: 1 values, sigma needs 2"),
        (frame(&bad[1]), "curvature.kronecker.input_factor: 0 values, sigma needs 2"),
        (frame(&bad[2]), "curvature.kronecker.output_eigenvalues: is empty"),
        (frame(&bad[3]), "curvature.kronecker.input_eigenvalues: 65537 values, at most 65536"),
        (frame(&bad[4]), "curvature.kronecker.sum_of_products: 3 values, sigma needs 2"),
    ]);
}

#[test]
fn dead_directions_that_cannot_be() {
    let (values, large) = (vec![1.0; 8], vec![1.0; 1_025 * 1_025]);
    let samples = |activations: usize, gradients: usize| {
        DeadDirectionsSnapshot::of_samples(&values[..activations], &values[..gradients], BatchKind::Train)
    };
    let spectrum = |eigenvalues: usize, singular_values: usize, samples| {
        let (eigenvalues, singular_values) = (&values[..eigenvalues], &values[..singular_values]);
        DeadDirectionsSnapshot::of_eigenvalues(eigenvalues, singular_values, samples, BatchKind::Train)
    };
    let gram = |values, width: usize| DeadDirectionsSnapshot::of_gram(values, &large[..width], 2_000, BatchKind::Train);
    let frame = |snapshot| Frame::new().dead_directions("mlp", snapshot);
    assert_refused(&[
        (frame(samples(0, 4)), r#"layer "mlp": dead_directions.activations: is empty"#),
        (frame(samples(4, 0)), "dead_directions.gradients: is empty"),
        (frame(samples(3, 4)), "dead_directions.activations: 3 values are not whole rows of 2"),
        (frame(samples(4, 5)), "dead_directions.gradients: 5 values are not whole rows of 2"),
        (frame(samples(4, 6)), "dead_directions.gradients: 6 values, a batch of 2 samples needs 4"),
        (frame(samples(4, 4).float32()), "dead_directions.float32: spectra of samples are computed in float64"),
        (frame(samples(4, 4).remove_gauge(&[1.0])), "dead_directions.gauge: 1 values, width 2 needs 2"),
        (frame(samples(4, 4).remove_gauge(&[0.0, 0.0])), "dead_directions.gauge: a direction is 0"),
        (
            frame(samples(4, 4).remove_gauge(&[1.0, 1.0]).gauge_removed(1)),
            "dead_directions.gauge_removed: 2 directions leave none of width 2",
        ),
        (frame(spectrum(3, 2, 9)), "dead_directions.eigenvalues: 3 values, width 2 needs 2"),
        (frame(spectrum(2, 1, 9)), "singular_values: 1 values, the smaller of samples (9) and width (2) needs 2"),
        (frame(spectrum(2, 2, 1)), "singular_values: 2 values, the smaller of samples (1) and width (2) needs 1"),
        (frame(spectrum(2, 0, 0)), "dead_directions.samples: 0 is not between 1 and 2^53"),
        (frame(spectrum(2, 2, 1 << 53)), "dead_directions.samples: 9007199254740992 is not between"),
        (
            frame(spectrum(2, 2, 9).remove_gauge(&[1.0, 1.0])),
            "dead_directions.gauge: a direction can be removed from samples only",
        ),
        (frame(gram(&values[..3], 2)), "dead_directions.gram: 3 values, width 2 needs 4"),
        (
            Frame::new().dead_directions("wide", gram(&large, 1_025)),
            r#"layer "wide": dead_directions.gram: width 1025 is over 1024: send eigenvalues"#,
        ),
    ]);
}

#[test]
fn learning_cells_that_cannot_be() {
    let values = vec![1.0_f32; 3 * 8_193];
    let cell = |outer: usize, inner: usize| LearningCellSnapshot::new(&values[..outer], &values[..inner]);
    let frame = |snapshot| Frame::new().learning_cell("mlp", snapshot);
    assert_refused(&[
        (frame(cell(0, 0)), r#"layer "mlp": learning_cell.outer: is empty"#),
        (frame(cell(8_193, 3)), "learning_cell.outer: 8193 values, at most 8192"),
        (frame(cell(2, 5)), "learning_cell.inner: 5 values, 2 neurons of width 3 needs 6"),
        (frame(cell(1, 3).probe(&values[..4], &[])), "learning_cell.probe_inputs: 4 values are not whole rows of 3"),
        (
            frame(cell(1, 3).probe(&values[..6], &values[..1])),
            "learning_cell.probe_targets: 1 values, a probe of 2 inputs needs 2",
        ),
        (frame(cell(1, 3).probe(&values[..3 * 4_097], &[])), "learning_cell.probe_inputs: 4097 inputs, at most 4096"),
        (
            frame(cell(8_192, 3 * 8_192).probe(&values[..3 * 2_049], &[])),
            "probe_inputs: 2049 inputs for 8192 neurons, at most 16777216 together",
        ),
        (
            frame(cell(1, 3).probe(&[], &values[..1])),
            "learning_cell.probe_targets: 1 values, a probe of 0 inputs needs 0",
        ),
    ]);
}

#[test]
fn predictions_terms_and_events_that_cannot_be() {
    let values = vec![1.0_f32; 65_537];
    let broken = [1.0, f32::NAN];
    let names: Vec<String> = (0..17).map(|i| format!("n{i}")).collect();
    let probes: Vec<String> = (0..65).map(|i| format!("p{i}")).collect();
    let long = "x".repeat(65);
    let probe = |probe, values, targets| Frame::new().predictions(probe, values, targets);
    let terms = |group, kind, window, position| EdgeTerms::new(group, kind, window, position).curvatures(1.0, 1.0);
    let edge = |terms| Frame::new().edge_terms(terms);
    assert_refused(&[
        (probe("", &values[..1], &[]), r#"predictions on probe "": its name is empty"#),
        (probe("p", &[], &[]), r#"predictions on probe "p": 0 values, at least 1 and at most 65536"#),
        (probe("p", &values, &[]), r#"predictions on probe "p": 65537 values"#),
        (probe("p", &values[..2], &values[..1]), "1 targets of 2 values"),
        (probe("p", &broken, &[]), r#"predictions on probe "p": value 1 is NaN, not finite"#),
        (probe("p", &values[..2], &broken), "target 1 is NaN, not finite"),
        (
            probe("p", &values[..1], &[]).predictions("p", &values[..1], &[]),
            r#"predictions on probe "p" was given twice in one frame"#,
        ),
        (
            probes.iter().fold(Frame::new(), |frame, name| frame.predictions(name, &values[..1], &[])),
            r#"predictions on probe "p64": there are more than 64 probes in one frame"#,
        ),
        (
            Frame::new().happened(""),
            r#"happened: "" is not made of 1 to 64 lower-case letters, digits and underscores"#,
        ),
        (Frame::new().happened("Solved"), r#"happened: "Solved" is not made of"#),
        (Frame::new().happened(&long), "is not made of 1 to 64"),
        (Frame::new().happened("solved").happened("solved"), r#"happened: "solved" was given twice in one frame"#),
        (
            names.iter().fold(Frame::new(), |frame, name| frame.happened(name)),
            "happened: 17 names in one frame, at most 16",
        ),
        (edge(terms("none", Kind::Update, 10, 1)), r#"group "none" was not declared"#),
        (edge(terms("all", Kind::Gradient, 10, 1)), "kind gradient was not declared"),
        (
            edge(terms("all", Kind::Update, 11, 1)),
            r#"edge_terms of group "all": window 11 was not declared when the run was opened"#,
        ),
        (edge(terms("all", Kind::Update, 10, 0)), "position 0 is not between 1 and 9"),
        (edge(terms("all", Kind::Update, 10, 10)), "position 10 is not between 1 and 9"),
        (
            edge(terms("all", Kind::Update, 10, 1)).edge_terms(terms("all", Kind::Update, 10, 2)),
            "update and window 10 were given twice in one frame",
        ),
    ]);
}
