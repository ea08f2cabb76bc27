//! A server with a file of rules that can crash, the store under it, made runs, and what rules must say of them.

use std::{ops::RangeInclusive, path::PathBuf, sync::Arc, time::Duration};

use gradwatch_proto::v1::{self, Frame, OpenRunRequest, client_message};
use gradwatch_server::config::Config;
use gradwatch_store::{Alert, AlertMoment, AlertQuery, AlertState, RunId, Store, StoreError};
use gradwatch_tests::{Backend, CrashingServer, FaultyStore, PATIENCE, Peer, PeerStream, Place, Rest, frame};
use serde_json::Value;
use tokio::time::{sleep, timeout};
use tonic::Code;

/// Receivers that are told of nothing while a test runs: the first alert of a message waits for others.
pub(crate) const RECEIVERS: &str = "
receivers:
  - name: ops
    webhook: {url: 'https://example.org/', secrets: [whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw]}
    group_by: [rule, run]
    group_wait_s: 3600
  - name: quiet
    webhook: {url: 'https://example.org/', secrets: [whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw]}
    group_wait_s: 3600
    send_resolved: false
";

/// Fires at the second step in a row at which `x` is above 6.
pub(crate) const HIGH: &str = r#"
  - name: high
    when: scalar.x > 6
    for: 2
    receivers: [ops, quiet]
    severity: critical
    summary: '{{ rule }}: {{ value "scalar.x" }} at {{ step }} of {{ run_name }}'
    labels: {team: made}
"#;
/// Looks at the last four values of `x`.
pub(crate) const MEAN: &str = "
  - name: mean
    when: mean(scalar.x, 4) > 6
    receivers: [ops]
";
/// Fires at the step that says that everything before it was sent.
pub(crate) const DONE: &str = "
  - name: done
    when: scalar.done > 0
";

pub(crate) struct World {
    pub(crate) store: Arc<dyn Store>,
    /// The same store.
    pub(crate) faults: Arc<FaultyStore>,
    pub(crate) server: CrashingServer,
    rules: PathBuf,
    // Dropped behind the server.
    _place: Place,
}

impl World {
    /// A server with these rules.
    pub(crate) async fn new(backend: Backend, rules: &[&str]) -> Self {
        Self::with(backend, rules, |_| {}).await
    }

    pub(crate) async fn with(backend: Backend, rules: &[&str], change: impl FnOnce(&mut Config)) -> Self {
        let place = Place::new(backend);
        let path = place.data_dir().join("rules.yaml");
        std::fs::write(&path, text(rules)).expect("a file");
        let inner = gradwatch_store::open(place.database_url(), place.data_dir()).await.expect("a store");
        // Outlives the servers.
        let faults = Arc::new(FaultyStore::new(inner));
        let store: Arc<dyn Store> = Arc::clone(&faults) as _;
        let server = CrashingServer::start(Arc::clone(&store), place.data_dir(), |config| {
            config.alerts.rules_file = Some(path.clone());
            config.alerts.check_file_every_s = 1;
            config.alerts.evaluate_every_ms = 1;
            change(config);
        });
        Self { store, faults, server: server.await, rules: path, _place: place }
    }

    /// Writes other rules into the file, which the server finds by itself.
    pub(crate) fn write_rules(&self, rules: &[&str]) {
        self.write_file(&text(rules));
    }

    /// Replaces the file, as an editor does.
    pub(crate) fn write_file(&self, text: &str) {
        let new = self.rules.with_extension("new");
        std::fs::write(&new, text).expect("a file");
        std::fs::rename(new, &self.rules).expect("a file");
    }

    /// Waits until the rules in force are so.
    pub(crate) async fn until_rules(&self, what: &str, condition: impl Fn(&[gradwatch_store::AlertRule]) -> bool) {
        self.wait(what, async || {
            let rules = self.store.alert_rules().await?;
            Ok(condition(&rules).then_some(()))
        })
        .await;
    }

    pub(crate) fn rest(&self) -> Rest {
        Rest::new(&self.server.url())
    }

    /// A stream of an attempt, new or opened before, once the server has found its feet.
    pub(crate) async fn open(&self, request: &OpenRunRequest) -> (PeerStream, v1::Opened) {
        open(&self.server.url(), request).await
    }

    /// Sends a stretch of a run to its end, with the last step saying so, and waits until it was evaluated.
    pub(crate) async fn send_all(&self, request: &OpenRunRequest, seqs: RangeInclusive<u64>) {
        let last = *seqs.end();
        self.send(request, seqs, |seq| if seq == last { done(wave(seq, seq)) } else { wave(seq, seq) }).await;
        self.until_fired(&request.run_id, "done").await;
    }

    /// Sends a stretch, with whatever before it the server asks for, and waits until it is settled.
    pub(crate) async fn send(&self, request: &OpenRunRequest, seqs: RangeInclusive<u64>, make: impl Fn(u64) -> Frame) {
        send(&self.server.url(), request, seqs, make).await;
    }

    /// Says that a run has ended by itself behind `last_seq`.
    pub(crate) async fn finish(&self, request: &OpenRunRequest, last_seq: u64) {
        let (mut stream, _) = self.open(request).await;
        let finish = v1::Finish { outcome: v1::Outcome::Finished.into(), last_seq };
        stream.send(client_message::Message::Finish(finish)).await;
        stream.half_close();
        while let Ok(Some(_)) = stream.next().await {}
    }

    /// Asks again and again until there is an answer. A crash cuts connections to the database.
    async fn wait<T>(&self, what: &str, ask: impl AsyncFn() -> Result<Option<T>, StoreError>) -> T {
        let asking = async {
            loop {
                match ask().await {
                    Ok(Some(answer)) => return answer,
                    Ok(None) | Err(StoreError::Unavailable(_)) => sleep(Duration::from_millis(20)).await,
                    Err(error) => panic!("{error}"),
                }
            }
        };
        timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("never: {what}"))
    }

    /// The alerts of a run, once they are so.
    pub(crate) async fn until(&self, run: &str, what: &str, condition: impl Fn(&[Alert]) -> bool) -> Vec<Alert> {
        let query = AlertQuery { run_id: Some(run_id(run)), limit: 10_000, ..AlertQuery::default() };
        self.wait(what, async || {
            let page = self.store.alerts(&query).await?;
            assert!(!page.more, "more alerts than a test expects");
            Ok(condition(&page.items).then_some(page.items))
        })
        .await
    }

    /// The alerts of a run, once this rule has fired.
    pub(crate) async fn until_fired(&self, run: &str, rule: &str) -> Vec<Alert> {
        self.until(run, &format!("{rule} fires"), |alerts| {
            alerts.iter().any(|alert| alert.rule_name == rule && alert.fired.is_some())
        })
        .await
    }

    /// What was said of a run by now, and was told of it, comparable with another run's.
    pub(crate) async fn said(&self, run: &str) -> Said {
        self.until(run, "anything", |_| true).await;
        Said::read(&*self.store, run).await
    }
}

/// A stream of an attempt, new or opened before, once the server has found its feet.
async fn open(url: &str, request: &OpenRunRequest) -> (PeerStream, v1::Opened) {
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
    timeout(PATIENCE, opening).await.expect("a server that answers")
}

/// Sends a stretch, with whatever before it the server asks for, and waits until it is settled.
pub(crate) async fn send(url: &str, request: &OpenRunRequest, seqs: RangeInclusive<u64>, make: impl Fn(u64) -> Frame) {
    let (mut stream, opened) = open(url, request).await;
    let first = opened.resend_from_seq.max(1).min(*seqs.start());
    stream.frames((first..=*seqs.end()).map(make).collect()).await;
    stream.acknowledged(*seqs.end()).await;
}

/// What rules said of a run: alerts, and (receiver, rule, step at which it fired, state) in the order of telling.
#[derive(Debug, PartialEq)]
pub(crate) struct Said {
    pub(crate) alerts: Vec<SaidAlert>,
    pub(crate) told: Vec<(String, String, Value, &'static str)>,
}

impl Said {
    pub(crate) async fn read(store: &dyn Store, run: &str) -> Self {
        let query = AlertQuery { run_id: Some(run_id(run)), limit: 10_000, ..AlertQuery::default() };
        let alerts = store.alerts(&query).await.expect("alerts").items;
        let mut told = Vec::new();
        for notification in store.notifications(10_000).await.expect("notifications") {
            let new = notification.new;
            let Some(alert) = alerts.iter().find(|alert| alert.alert_id == new.alert_id) else { continue };
            assert_eq!(new.content["alert_id"], alert.alert_id.to_string());
            let fired_step = new.content["fired_step"].clone();
            assert_eq!(fired_step, alert.fired.expect("it fired").step);
            told.push((new.receiver, alert.rule_name.clone(), fired_step, new.state.as_str()));
        }
        let mut alerts: Vec<SaidAlert> = alerts.into_iter().map(SaidAlert::from).collect();
        alerts.sort_by_key(|alert| (alert.rule.clone(), alert.pending, alert.group.clone()));
        Self { alerts, told }
    }
}

/// An alert without what differs between runs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SaidAlert {
    pub(crate) rule: String,
    pub(crate) group: String,
    pub(crate) state: AlertState,
    pub(crate) pending: (u32, u64),
    pub(crate) fired: Option<(u32, u64)>,
    pub(crate) resolved: Option<((u32, u64), String)>,
    pub(crate) values: Value,
}

impl From<Alert> for SaidAlert {
    fn from(alert: Alert) -> Self {
        let place = |moment: AlertMoment| (moment.segment, moment.step);
        assert_eq!(alert.machine.is_empty(), alert.state == AlertState::Resolved, "{alert:?}");
        Self {
            rule: alert.rule_name,
            group: alert.group,
            state: alert.state,
            pending: place(alert.pending),
            fired: alert.fired.map(place),
            resolved: alert.resolved.map(|(moment, reason)| (place(moment), reason)),
            values: alert.values,
        }
    }
}

/// The text of a file of rules.
pub(crate) fn text(rules: &[&str]) -> String {
    format!("{RECEIVERS}rules:\n{}", rules.concat())
}

pub(crate) fn run_id(run: &str) -> RunId {
    run.parse().expect("a UUID")
}

/// `x` of a step.
pub(crate) fn x(step: u64) -> f64 {
    (step % 10) as f64
}

/// A step with `x`.
pub(crate) fn wave(seq: u64, step: u64) -> Frame {
    with(seq, step, "x", x(step))
}

/// A step with a scalar.
pub(crate) fn with(seq: u64, step: u64, name: &str, value: f64) -> Frame {
    Frame { scalars: [(name.to_owned(), value)].into(), ..frame(seq, step) }
}

/// The same step, saying that everything was sent.
pub(crate) fn done(mut frame: Frame) -> Frame {
    frame.scalars.insert("done".to_owned(), 1.0);
    frame
}

/// Of the alerts of a rule: where they became pending, fired and ended.
pub(crate) type Course = (u64, Option<u64>, Option<u64>);

/// The courses of a rule's alerts in one segment.
pub(crate) fn courses(said: &Said, rule: &str) -> Vec<Course> {
    let of_rule = said.alerts.iter().filter(|alert| alert.rule == rule);
    let step = |place: (u32, u64)| place.1;
    of_rule
        .map(|alert| (alert.pending.1, alert.fired.map(step), alert.resolved.as_ref().map(|(place, _)| place.1)))
        .collect()
}

/// What a rule must say of steps: it holds where `holds` says so, and fires when it did so often in a row.
pub(crate) fn expected(steps: RangeInclusive<u64>, hold: u64, holds: impl Fn(u64) -> bool) -> Vec<Course> {
    let mut courses: Vec<Course> = Vec::new();
    let mut since = None;
    for step in steps {
        if holds(step) {
            let began = *since.get_or_insert(step);
            if step == began {
                courses.push((began, None, None));
            }
            if step - began + 1 == hold {
                courses.last_mut().expect("one that began").1 = Some(step);
            }
        } else if since.take().is_some() {
            match courses.last_mut().expect("one that began") {
                (_, Some(_), resolved) => *resolved = Some(step),
                // It never fired.
                _ => drop(courses.pop()),
            }
        }
    }
    courses
}

/// Whether the mean of the last four values of `x`, the first of which is at step 1, is above 6.
pub(crate) fn mean_is_high(step: u64) -> bool {
    step >= 4 && (step - 3..=step).map(x).sum::<f64>() / 4.0 > 6.0
}
