//! Processes whose sketches add up, each with a folder of its own.

use std::time::Duration;

use gradwatch_client::spool::{Destination, scan};
use gradwatch_client::{Encoding, Frame, Launch, Run, Spool};
use gradwatch_tests::{Rest, TestServer, random_walk};
use serde_json::Value;
use uuid::Uuid;

const LEN: usize = 400;
const STEPS: u64 = 80;

/// Trains two processes, with another interval from step 50 on, and closes them.
async fn train(url: &str, spool: Option<&Spool>) -> Uuid {
    let launch = Launch::new();
    let parameters = random_walk(7, STEPS as usize, LEN);
    let open = |shard| {
        let builder = Run::builder(url).project("tests").name("sharded").launch(launch).shard(shard, 2);
        let builder = builder.group("all", [("w", LEN)]).window(5).sketch_dim(256).encoding(Encoding::F32);
        let builder = spool.into_iter().fold(builder, |builder, spool| builder.spool(spool.clone()).offline());
        builder.close_timeout(Duration::from_secs(60)).open().expect("valid arguments")
    };
    let mut runs = [open(0), open(1)];
    for step in 0..STEPS {
        if step == 50 {
            runs.iter_mut().for_each(|run| run.change_update_interval(50, 3).expect("an open run"));
        }
        for (run, (from, to)) in runs.iter_mut().zip([(0, 150), (150, LEN)]) {
            let piece = [("w", from as u64, &parameters[step as usize][from..to])];
            run.submit(step, Frame::new().scalar("loss", 1.0).parameters("all", piece)).expect("a valid frame");
        }
        assert_eq!(runs[0].attempt_id(), runs[1].attempt_id(), "all come to it without talking");
    }
    let closing = runs.map(|run| tokio::task::spawn_blocking(move || run.close()));
    for closing in closing {
        let report = closing.await.expect("no panic");
        assert_eq!(report.settled + report.spooled, report.submitted, "{report}");
    }
    launch.run_id()
}

/// Readings but for when they were made.
async fn readings(rest: &Rest, run_id: Uuid) -> Vec<Value> {
    let mut readings = rest.all(&format!("/api/v1/runs/{run_id}/readings/edge?segment=all&limit=1000")).await;
    for reading in &mut readings {
        reading.as_object_mut().expect("an object").remove("wall_time");
    }
    readings
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_that_were_offline_add_up_as_if_they_had_not_been() {
    let server = TestServer::start().await;
    let rest = server.rest();
    let online = train(&server.url(), None).await;
    let dir = tempfile::tempdir().expect("a folder");
    let offline = train("http://127.0.0.1:9", Some(&Spool::new(dir.path()))).await;
    let found = scan(dir.path()).expect("the folder is read");
    let shards: Vec<u32> = found.iter().map(|attempt| attempt.shard).collect();
    assert_eq!((shards, found[0].shard_count), (vec![0, 1, 0, 1], 2));
    for pair in found.chunks(2) {
        let pair = pair.to_vec();
        let url = server.url();
        let delivering = tokio::task::spawn_blocking(move || {
            let destination = &Destination::new(url);
            std::thread::scope(|scope| {
                let threads: Vec<_> =
                    pair.iter().map(|attempt| scope.spawn(|| attempt.deliver(destination, |_| {}))).collect();
                for thread in threads {
                    thread.join().expect("no panic").expect("the server takes it");
                }
            });
        });
        delivering.await.expect("no panic");
    }
    crate::assert_empty(dir.path());
    let expected = readings(&rest, online).await;
    // The first of each attempt is a base only; then every step, and every third.
    let places: Vec<(u64, u64)> =
        expected.iter().map(|it| (it["segment"].as_u64().unwrap_or(0), it["step"].as_u64().unwrap_or(0))).collect();
    let first = (1..50).map(|step| (1, step));
    assert_eq!(places, first.chain((53..STEPS).step_by(3).map(|step| (2, step))).collect::<Vec<_>>());
    assert_eq!(readings(&rest, offline).await, expected);
    for run_id in [online, offline] {
        let run = rest.get(&format!("/api/v1/runs/{run_id}")).await;
        assert_eq!((&run["state"], &run["counters"]["dropped"]), (&"finished".into(), &0.into()), "{run}");
        let incomplete = rest.all(&format!("/api/v1/runs/{run_id}/events?types=run.shard_lost&limit=10")).await;
        assert_eq!(incomplete, Vec::<Value>::new());
    }
}
