//! The end of a run of several shards.

use gradwatch_proto::v1::{Outcome, client_message::Message};
use gradwatch_tests::{PeerStream, TestServer};
use serde_json::Value;

use crate::made::{Made, events, impatient_server, open_all, reopen, requests};

async fn finish(stream: &mut PeerStream, outcome: Outcome, last_seq: u64) {
    let finish = gradwatch_proto::v1::Finish { outcome: outcome.into(), last_seq };
    stream.send(Message::Finish(finish)).await;
    stream.half_close();
    while let Some(message) = stream.next().await.expect("the end is heard") {
        drop(message);
    }
}

fn state(run: &Value) -> &str {
    run["state"].as_str().expect("a state")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_run_ends_with_its_last_shard_as_the_worst_of_them_says() {
    let mut server = TestServer::start().await;
    use Outcome::{Failed, Finished, Preempted};
    for (outcomes, end) in [
        ([Finished, Finished, Finished], "finished"),
        ([Finished, Failed, Preempted], "failed"),
        ([Preempted, Finished, Finished], "preempted"),
    ] {
        let made = Made::new(3, 6, 31);
        let requests = requests(3);
        let run = format!("/api/v1/runs/{}", requests[0].run_id);
        let mut streams = open_all(&server.url(), &requests).await;
        for (shard, stream) in streams.iter().enumerate() {
            stream.frames((1..=6).map(|step| made.frame(shard, step)).collect()).await;
        }
        finish(&mut streams[2], outcomes[2], 6).await;
        assert_eq!(state(&server.rest().get(&run).await), "running");
        // Who has gone does not come again to say so: a restart has to know it.
        server = server.restart().await;
        assert_eq!(state(&server.rest().get(&run).await), "running");
        for shard in [0, 1] {
            let (mut stream, opened) = reopen(&server.url(), &requests[shard]).await;
            assert_eq!(opened.committed_seq, 6);
            finish(&mut stream, outcomes[shard], 6).await;
        }
        let ended = server.rest().get(&run).await;
        assert_eq!(state(&ended), end);
        assert_eq!(ended["counters"]["incomplete"], 0);
        let said = events(&server.rest(), &requests[0].run_id, "run.shard_finished").await;
        let said: Vec<_> = said.iter().map(|event| event["evidence"].clone()).collect();
        let of = |shard: usize| {
            let outcome = format!("{:?}", outcomes[shard]).to_lowercase();
            serde_json::json!({ "shard": shard, "outcome": outcome })
        };
        assert_eq!(said, [of(2), of(0), of(1)]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_over_is_not_waited_for() {
    // With the default patience of 30 s nothing of this may wait.
    let server = TestServer::start().await;
    let made = Made::new(2, 9, 32);
    let requests = requests(2);
    let run = format!("/api/v1/runs/{}", requests[0].run_id);
    let mut streams = open_all(&server.url(), &requests).await;
    streams[0].frames((1..=9).map(|step| made.frame(0, step)).collect()).await;
    streams[1].frames((1..=5).map(|step| made.frame(1, step)).collect()).await;
    finish(&mut streams[1], Outcome::Finished, 5).await;
    finish(&mut streams[0], Outcome::Finished, 9).await;
    let ended = server.rest().get(&run).await;
    assert_eq!((state(&ended), &ended["last_step"]), ("finished", &9.into()));
    assert_eq!(ended["counters"]["incomplete"], 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_run_ends_without_the_shards_that_are_lost() {
    let server = impatient_server().await;
    let made = Made::new(2, 9, 33);
    let requests = requests(2);
    let run = format!("/api/v1/runs/{}", requests[0].run_id);
    let mut streams = open_all(&server.url(), &requests).await;
    streams[0].frames((1..=9).map(|step| made.frame(0, step)).collect()).await;
    streams[1].frames((1..=5).map(|step| made.frame(1, step)).collect()).await;
    streams[0].acknowledged(5).await;
    drop(streams.pop());
    streams[0].acknowledged(9).await;
    finish(&mut streams[0], Outcome::Finished, 9).await;
    assert_eq!(state(&server.rest().get(&run).await), "finished");
}
