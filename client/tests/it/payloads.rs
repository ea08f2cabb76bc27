//! What travels is what the sketch says: differences of sketches of the parameters, and gradients.

use gradwatch_client::{Encoding, Frame, Kind};
use gradwatch_proto::v1::{self, payload::Body};
use gradwatch_spectral::encoding::{EncodedSketch, encode};
use gradwatch_spectral::sketch::{Sketcher, TensorName};

use crate::peer::{Peer, Script};
use crate::{assert_all_settled, small_run, weights};

const DIM: usize = 64;
const SEED: u64 = 5;

fn sketch(tensors: &[(&str, &[f32])]) -> Vec<f64> {
    let sketcher = Sketcher::new(DIM, SEED).unwrap();
    let mut sketch = vec![0.0_f64; DIM];
    for (name, values) in tensors {
        sketcher.add(&mut sketch, TensorName::new(name), 0, values).unwrap();
    }
    sketch
}

fn body(sketch: &[f64], encoding: Encoding) -> Body {
    match encode(sketch, encoding) {
        EncodedSketch::F32 { bytes } => Body::SketchF32(bytes.into()),
        EncodedSketch::F16 { scale, bytes } => Body::SketchF16(v1::SketchF16 { scale, values: bytes.into() }),
        EncodedSketch::NonFinite(counts) => Body::NonFinite(v1::NonFinite {
            nan: counts.nan,
            positive_infinity: counts.positive_infinity,
            negative_infinity: counts.negative_infinity,
        }),
    }
}

fn difference(after: &[f64], before: &[f64]) -> Vec<f64> {
    after.iter().zip(before).map(|(after, before)| after - before).collect()
}

#[test]
fn updates_are_differences_of_sketches_to_the_bit() {
    for encoding in [Encoding::F32, Encoding::F16] {
        let peer = Peer::start(Script::default());
        let mut run = small_run(&peer.url())
            .group("pair", [("a", 100), ("b", 100)])
            .seed(SEED)
            .encoding(encoding)
            .open()
            .unwrap();
        let (a, b) = (|step| weights(step + 1000), |step| weights(7 * step));
        for step in 0..20 {
            let (w, a, b) = (weights(step), a(step), b(step));
            let mut frame = Frame::new()
                .phase(3)
                .learning_rate(0.1)
                .weight_decay(f64::NAN)
                .group_optimizer("pair", 0.2, None)
                .scalar("loss", f64::INFINITY)
                .parameters("all", [("w", &w)]);
            if step % 4 == 0 {
                // In pieces and in another order.
                frame = frame.parameters("pair", [("b", 0, &b[..]), ("a", 40, &a[40..]), ("a", 0, &a[..40])]);
            }
            run.submit(step, frame).unwrap();
        }
        assert_all_settled(&run.close(), 20);
        let attempt = peer.checked_attempt(0);
        for frame in &attempt.frames {
            let step = frame.step;
            assert_eq!((frame.seq, frame.phase, frame.learning_rate), (step + 1, 3, Some(0.1)));
            assert!(frame.weight_decay.unwrap().is_nan() && frame.wall_time_us > 0);
            let optimizer = v1::GroupOptimizer { group: 1, learning_rate: Some(0.2), weight_decay: None };
            assert_eq!(frame.group_optimizers, [optimizer]);
            assert_eq!(frame.scalars["loss"], f64::INFINITY);
            let mut expected = Vec::new();
            let mut expect = |group, base_step, update: Vec<f64>| {
                let kind = v1::Kind::Update.into();
                expected.push(v1::Payload { group, kind, base_step, body: Some(body(&update, encoding)) });
            };
            if step > 0 {
                let w = |step| sketch(&[("w", &weights(step))]);
                expect(0, step - 1, difference(&w(step), &w(step - 1)));
            }
            if step > 0 && step % 4 == 0 {
                let pair = |step| sketch(&[("a", &a(step)), ("b", &b(step))]);
                expect(1, step - 4, difference(&pair(step), &pair(step - 4)));
            }
            assert_eq!(frame.payloads, expected, "step {step}");
        }
    }
}

#[test]
fn between_two_rows_nothing_is_looked_at() {
    let peer = Peer::start(Script::default());
    let mut run = small_run(&peer.url())
        .seed(SEED)
        .encoding(Encoding::F32)
        .update_interval(3)
        .kinds([Kind::Gradient, Kind::Update])
        .open()
        .unwrap();
    let mut due = Vec::new();
    for step in 10..20 {
        if run.is_due(Kind::Update, "all", step).unwrap() {
            due.push(step);
        }
        assert_eq!(run.is_due(Kind::Gradient, "all", step), run.is_due(Kind::Update, "all", step));
        let w = weights(step);
        run.submit(step, Frame::new().parameters("all", [("w", &w)]).gradient("all", [("w", &w)])).unwrap();
    }
    assert_eq!(due, [10, 13, 16, 19]);
    assert_all_settled(&run.close(), 10);
    let payloads: Vec<_> = peer
        .checked_attempt(0)
        .frames
        .into_iter()
        .flat_map(|frame| frame.payloads.into_iter().map(move |payload| (frame.step, payload)))
        .collect();
    let mut expected = Vec::new();
    for step in [10, 13, 16, 19] {
        let at = |step| sketch(&[("w", &weights(step))]);
        let base_step = step - 3;
        if step > 10 {
            let body = Some(body(&difference(&at(step), &at(base_step)), Encoding::F32));
            expected.push((step, v1::Payload { group: 0, kind: v1::Kind::Update.into(), base_step, body }));
        }
        let body = Some(body(&at(step), Encoding::F32));
        expected.push((step, v1::Payload { group: 0, kind: v1::Kind::Gradient.into(), base_step, body }));
    }
    assert_eq!(payloads, expected);
}

#[test]
fn parameters_that_are_not_finite_spoil_two_updates_and_no_more() {
    let peer = Peer::start(Script::default());
    let mut run = small_run(&peer.url()).group("other", [("v", 100)]).seed(SEED).open().unwrap();
    for step in 0..6 {
        let (mut w, v) = (weights(step), weights(step));
        if step == 2 {
            w[7] = f32::NAN;
            w[8] = f32::INFINITY;
        }
        run.submit(step, Frame::new().parameters("all", [("w", &w)]).parameters("other", [("v", &v)])).unwrap();
    }
    assert_all_settled(&run.close(), 6);
    let frames = peer.checked_attempt(0).frames;
    let finite = |group: u32| -> Vec<bool> {
        let payloads = frames.iter().flat_map(|frame| &frame.payloads).filter(|payload| payload.group == group);
        payloads.map(|payload| !matches!(payload.body, Some(Body::NonFinite(_)))).collect()
    };
    assert_eq!(finite(0), [true, false, false, true, true]);
    assert_eq!(finite(1), [true; 5], "another group is not touched");
    let Some(Body::NonFinite(counts)) = &frames[2].payloads[0].body else { panic!("{:?}", frames[2]) };
    assert_eq!((counts.nan, counts.positive_infinity + counts.negative_infinity), (1, 1));
}

#[test]
fn tensors_may_be_listed_in_any_form() {
    let (vec, array) = (vec![1.0_f32], [2.0_f32]);
    let listed = [("v", &vec)];
    let by_reference = Frame::new().parameters("g", listed.iter());
    let with_offsets = Frame::new().parameters("g", [("v", 0, &vec)]);
    let slices = Frame::new().parameters("g", [("v", &vec[..])]);
    let arrays = Frame::new().parameters("g", [("v", &array)]);
    for (frame, value) in [(by_reference, "1.0"), (with_offsets, "1.0"), (slices, "1.0"), (arrays, "2.0")] {
        let expected = format!("slices: [TensorSlice {{ name: \"v\", offset: 0, values: [{value}] }}]");
        assert!(format!("{frame:?}").contains(&expected), "{frame:?}");
    }
}

#[test]
fn a_gradient_at_step_0_only_marks_the_place() {
    let peer = Peer::start(Script::default());
    let mut run = small_run(&peer.url()).kinds([Kind::Gradient]).open().unwrap();
    for step in 0..3 {
        let w = weights(step);
        run.submit(step, Frame::new().gradient("all", [("w", &w)])).unwrap();
    }
    assert_all_settled(&run.close(), 3);
    let frames = peer.checked_attempt(0).frames;
    let base_steps: Vec<_> =
        frames.iter().map(|frame| frame.payloads.first().map(|payload| payload.base_step)).collect();
    assert_eq!(base_steps, [None, Some(0), Some(1)]);
}
