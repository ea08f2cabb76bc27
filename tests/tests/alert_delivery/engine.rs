//! From the frames of a job to what a receiver is told, with real rules.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use gradwatch_proto::v1::{Frame, OpenRunRequest};
use gradwatch_tests::{
    Backend, PATIENCE, Peer, Place, ServerProcess, any_port, frame, on_both_backends, open_request, spec,
};
use serde_json::json;
use tokio::time::{sleep, timeout};
use tonic::Code;

use crate::{
    mock::{Mock, Received, Reply},
    world::{LOOPBACK, World},
};

on_both_backends!(
    an_alertmanager_is_told_again_of_what_goes_on_firing,
    what_is_silenced_is_not_told_again_either,
    nothing_is_lost_between_a_frame_and_its_telling
);

/// `x` goes from 0 to 9 and again: the rule fires at steps that end with 7, and what fired is over at those with 0.
fn wave(seq: u64) -> Frame {
    Frame { scalars: [("x".to_owned(), (seq % 10) as f64)].into(), ..frame(seq, seq) }
}

fn rules(receiver: &str) -> String {
    format!(
        "
receivers:
  - name: r
    {receiver}
    group_by: [rule, run]
    group_wait_s: 0
    max_per_minute: 6000
rules:
  - name: high
    when: scalar.x > 6
    receivers: [r]
    labels: {{team: made}}
    summary: '{{{{ rule }}}} at {{{{ step }}}}'
"
    )
}

/// A receiver that is not waited for when it hangs.
fn webhook(mock: &Mock) -> String {
    format!("webhook: {{url: '{}', secrets: [whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw]}}\n    timeout_s: 2", mock.url())
}

/// Sends a stretch of a run, with what the server needs again before it, and waits until it is settled.
async fn send(url: &str, request: &OpenRunRequest, seqs: RangeInclusive<u64>) {
    let opening = async {
        loop {
            if let Ok(mut peer) = Peer::try_connect(url).await {
                match peer.open(request).await {
                    Ok(opened) => return opened,
                    Err(status) if status.code() == Code::Unavailable => {}
                    Err(status) => panic!("{status:?}"),
                }
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    let (mut stream, opened) = timeout(PATIENCE, opening).await.expect("a server that answers");
    let first = opened.resend_from_seq.max(1).min(*seqs.start());
    stream.frames((first..=*seqs.end()).map(wave).collect()).await;
    stream.acknowledged(*seqs.end()).await;
}

async fn an_alertmanager_is_told_again_of_what_goes_on_firing(backend: Backend) {
    let mock = Mock::taking().await;
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), rules(&format!("alertmanager: {{url: '{}'}}", mock.url()))).expect("written");
    let world = World::start_with(backend, &[], |config| {
        config.alerts.allow_addresses = LOOPBACK.map(|net| net.parse().expect("a network")).to_vec();
        config.alerts.rules_file = Some(file.path().to_owned());
        config.alerts.evaluate_every_ms = 1;
    })
    .await;
    let request = open_request(spec());
    send(&world.url(), &request, 1..=8).await;
    let first = mock.requests(1).await.remove(0);
    assert_eq!(first.target, "/api/v2/alerts");
    let first = first.json()[0].clone();
    assert_eq!(first["labels"]["alertname"], "high");
    assert_eq!((&first["labels"]["run_id"], &first["labels"]["team"]), (&json!(request.run_id), &json!("made")));
    assert_eq!(first["annotations"]["summary"], "high at 7");
    world.delivered(1).await;

    // It repeats what fires by the store: every minute, and when it starts.
    let told = mock.received().len();
    let world = world.restart().await;
    let again = mock.requests(told + 1).await[told].json()[0].clone();
    for same in ["labels", "annotations", "startsAt", "generatorURL"] {
        assert_eq!(again[same], first[same], "{same}");
    }
    let over = |request: &Received| request.json()[0]["annotations"]["summary"] == "high at 7" && ends(request) < now();
    send(&world.url(), &request, 9..=12).await;
    let all = mock.until("its end", |all| all.iter().any(over)).await;
    let last = all.iter().find(|request| over(request)).expect("its end").json();
    assert_eq!((&last[0]["labels"], &last[0]["startsAt"]), (&first["labels"], &first["startsAt"]));
    world.stop().await;
}

/// Also while a message of its group waits to be delivered.
async fn what_is_silenced_is_not_told_again_either(backend: Backend) {
    let mock = Mock::start(|_, _| Reply::Status(500)).await;
    let file = tempfile::NamedTempFile::new().expect("a file");
    let text = rules(&format!("alertmanager: {{url: '{}'}}", mock.url())).replace("[rule, run]", "[rule]");
    std::fs::write(file.path(), text).expect("written");
    let world = World::start_with(backend, &[], |config| {
        config.alerts.allow_addresses = LOOPBACK.map(|net| net.parse().expect("a network")).to_vec();
        config.alerts.rules_file = Some(file.path().to_owned());
        config.alerts.evaluate_every_ms = 1;
    })
    .await;
    let (told, silenced) = (open_request(spec()), open_request(spec()));
    assert_ne!(told.run_id, silenced.run_id);
    let run = &silenced.run_id;
    let silence = json!({"matchers": [{"name": "run", "value": run}], "duration_s": 3_600}).to_string();
    let rest = gradwatch_tests::Rest::new(&world.url());
    assert!(rest.call(http::Method::POST, "/api/v1/alerts/silences", &silence).await.0.is_success());
    send(&world.url(), &told, 1..=8).await;
    world.until("a message waits", |deliveries, _| !deliveries.is_empty()).await;
    send(&world.url(), &silenced, 1..=8).await;
    let both_fire = async {
        while rest.call(http::Method::GET, "/api/v1/alerts?state=firing", "").await.1.matches("\"alert_id\"").count()
            < 2
        {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, both_fire).await.expect("both fire");
    let world = world.restart().await;
    let repeated = async {
        while !world.metrics().await.contains("alertmanager_resend") {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, repeated).await.expect("what fires is told again");
    let all = mock.received();
    assert!(all.len() >= 2 && all.iter().all(|request| !request.body.contains(run)), "{all:#?}");
    world.stop().await;
}

/// When the first alert of a request ends. Texts of times of the same form compare as times do.
fn ends(request: &Received) -> String {
    request.json()[0]["endsAt"].as_str().expect("a time")[..19].to_owned()
}

/// Now, as text, by the system's own program.
fn now() -> String {
    let ahead =
        std::process::Command::new("date").args(["-u", "-d", "+1 minute", "+%FT%T"]).output().expect("date runs");
    String::from_utf8(ahead.stdout).expect("text").trim().to_owned()
}

/// A real server, killed again and again: behind a frame's acknowledgement, while its step is evaluated, before and while it
/// is told, and when it was told.
async fn nothing_is_lost_between_a_frame_and_its_telling(backend: Backend) {
    let rounds: u64 = if backend == Backend::Sqlite { 40 } else { 15 };
    let mock = Mock::start(|count, _| if count % 7 == 3 { Reply::Hang } else { Reply::Status(200) }).await;
    let place = Place::new(backend);
    let file = place.data_dir().join("rules.yaml");
    std::fs::write(&file, rules(&webhook(&mock))).expect("written");
    let mut variables = vec![
        ("GRADWATCH_ALERTS__ALLOW_ADDRESSES", r#"["127.0.0.0/8"]"#),
        ("GRADWATCH_ALERTS__RULES_FILE", file.to_str().expect("a path")),
        ("GRADWATCH_ALERTS__EVALUATE_EVERY_MS", "1"),
    ];
    variables.extend(place.database_url().map(|url| ("DATABASE_URL", url)));
    let request = open_request(spec());
    for round in 0..rounds {
        let told = mock.received().len();
        let mut server = ServerProcess::start_with(place.data_dir(), any_port(), &variables);
        // Of every two rounds one begins an alert and one ends it.
        send(&server.url(), &request, round * 5 + 4..=round * 5 + 8).await;
        match round % 4 {
            0 => {}
            1 => sleep(Duration::from_micros(round * 7_919 % 100_000)).await,
            2 => drop(timeout(Duration::from_secs(1), mock.requests(told + 1)).await),
            _ => sleep(Duration::from_millis(150)).await,
        }
        server.kill();
    }
    let mut server = ServerProcess::start_with(place.data_dir(), any_port(), &variables);
    let last = rounds * 5 + 13 - (rounds * 5 + 13) % 10;
    send(&server.url(), &request, rounds * 5 + 4..=last).await;
    let fires: Vec<u64> = (1..last).filter(|step| step % 10 == 7).collect();
    let is_over = |all: &[Received]| {
        let words = words(all);
        fires
            .iter()
            .all(|step| words.get(step).is_some_and(|words| words.last().is_some_and(|last| last.1 == "resolved")))
    };
    let all = mock.until("the end of every alert", is_over).await;
    assert_eq!(server.errors(), Vec::<String>::new());
    server.kill();

    let words = words(&all);
    assert_eq!(words.keys().copied().collect::<Vec<_>>(), fires, "nothing else fired");
    for (step, words) in &words {
        assert!(words.iter().all(|(id, _)| *id == words[0].0), "the alert of step {step} has one id: {words:?}");
        let over = words.iter().position(|(_, word)| word == "resolved").expect("it ended");
        assert!(
            words[over..].iter().all(|(_, word)| word == "resolved"),
            "{step}: never firing behind its end: {words:?}"
        );
    }
    let mut bodies = BTreeMap::new();
    for request in &all {
        assert_eq!(*bodies.entry(request.message_id()).or_insert(&request.body), &request.body);
    }
}

/// Id and status of what was told of each alert, by the step at which it fired, in order.
fn words(all: &[Received]) -> BTreeMap<u64, Vec<(String, String)>> {
    let mut words: BTreeMap<u64, Vec<_>> = BTreeMap::new();
    for request in all {
        for alert in request.json()["alerts"].as_array().expect("alerts") {
            let text = |member: &str| alert[member].as_str().expect("a text").to_owned();
            let step = alert["fired_step"].as_u64().expect("a step");
            words.entry(step).or_default().push((text("alert_id"), text("status")));
        }
    }
    words
}
