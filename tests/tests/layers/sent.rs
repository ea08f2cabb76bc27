//! What comes beside snapshots: what happened, and predictions.

use gradwatch_proto::v1::{Frame, Predictions};
use gradwatch_store::{PredictionRow, lineage::SegmentRange};
use gradwatch_tests::{Backend, frame, on_both_backends, open_request, spec};

use super::{
    made::f32_bytes,
    world::{World, run_id},
};

on_both_backends!(what_happened_is_an_event_and_predictions_are_kept_while_there_is_room);

const STEPS: u64 = 9;

fn values(step: u64) -> Vec<f32> {
    (0..50).map(|index| (step * 50 + index) as f32 * 0.5).collect()
}

async fn what_happened_is_an_event_and_predictions_are_kept_while_there_is_room(backend: Backend) {
    // Room for four of 50 values and 50 targets.
    let world = World::new(backend, |config| config.limits.max_prediction_bytes = 4 * (400 + 256)).await;
    let request = open_request(spec());
    let mut stream = world.open(&request).await;
    for step in 1..=STEPS {
        let held = Predictions {
            probe: "held".into(),
            values_f32: f32_bytes(&values(step)),
            targets_f32: f32_bytes(&[1.0; 50]),
        };
        let happened = if step == 4 { vec!["solved".into(), "lr_drop".into()] } else { Vec::new() };
        stream.frames(vec![Frame { predictions: vec![held], happened, ..frame(step, step) }]).await;
        assert_eq!(stream.acknowledged(step).await, []);
        if step == 6 {
            world.server.restart().await;
            stream = world.open_again(&request).await.0;
        }
    }
    let ranges = [SegmentRange { segment: 1, from_step: 0, to_step: 1_000 }];
    let kept = world.store.predictions(run_id(&request.run_id), "held", &ranges).await.expect("predictions");
    let row =
        |step| PredictionRow { segment: 1, step, probe: "held".into(), values: values(step), targets: vec![1.0; 50] };
    assert_eq!(kept, (STEPS - 3..=STEPS).map(row).collect::<Vec<_>>());

    let rest = world.rest();
    let events = rest.all(&format!("/api/v1/runs/{}/events?types=job.solved,job.lr_drop", request.run_id)).await;
    let told: Vec<_> = events.iter().map(|event| (event["type"].clone(), event["step"].clone())).collect();
    assert_eq!(told, [("job.lr_drop".into(), 4.into()), ("job.solved".into(), 4.into())]);
    world.server.stop().await;
}
