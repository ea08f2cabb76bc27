//! The same frames to a server to which nothing happens.

use crate::{
    made::{GROUPS, WINDOWS},
    model::ModelJob,
    offline::same_bits,
    rest::Rest,
    server::TestServer,
};

/// Every step, reading and detection of the jobs is the one that an undisturbed server has.
pub(super) async fn assert_same(tortured: &Rest, jobs: &[ModelJob]) {
    let server = TestServer::start().await;
    let undisturbed = server.rest();
    for job in jobs {
        for attempt in job.replay(&server.url()).await {
            let segment = attempt.segment().expect("it was opened");
            for (group, _) in GROUPS {
                for window in WINDOWS {
                    let path = format!(
                        "/api/v1/runs/{}/readings/edge?segment={segment}&group={group}&window={window}&limit=1000",
                        job.run_id()
                    );
                    let (left, right) = (tortured.all(&path).await, undisturbed.all(&path).await);
                    assert_eq!(left.len(), right.len(), "{path}");
                    for (left, right) in left.iter().zip(&right) {
                        assert!(same_bits(left, right), "{path}: {left} instead of {right}");
                    }
                }
            }
        }
    }
    server.shutdown().await;
}
