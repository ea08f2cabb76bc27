//! Counters of the server, as Prometheus reads them.

use std::sync::atomic::AtomicU64;

use gradwatch_spectral::layers::{LayerReading, Reason};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// What a failure or refusal is counted by.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct CodeLabel {
    /// An error code or a cause.
    pub code: String,
}

/// What an event is counted by.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct EventLabel {
    /// Such as `edge.regime`.
    pub event_type: String,
}

/// What a reading of a layer is counted by.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct InstrumentLabel {
    /// Such as `cascade`.
    pub instrument: &'static str,
}

/// What an attempt to tell a receiver is counted by.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AttemptLabel {
    /// Such as `webhook`.
    receiver_kind: &'static str,
    /// `delivered`, or what went wrong.
    outcome: &'static str,
}

/// All counters. What goes up and down is two counters (opened, closed), subtracted by whoever reads them: a pair of
/// +1 and −1 on one gauge drifts when one of them is missed.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    pub frames_received: Counter,
    pub frames_settled: Counter,
    pub frames_duplicate: Counter,
    pub frames_rejected: Counter,
    pub frames_dropped_by_clients: Counter,
    pub frames_refilled: Counter,
    pub readings: Counter,
    pub events: Family<EventLabel, Counter>,
    /// By instrument: read, and failed on, which is a bug.
    pub snapshots_read: Family<InstrumentLabel, Counter>,
    pub snapshots_failed: Family<InstrumentLabel, Counter>,
    pub snapshots_skipped: Family<InstrumentLabel, Counter>,
    pub snapshot_bytes_queued: Counter,
    pub snapshot_bytes_done: Counter,
    pub commits: Counter,
    pub commit_failures: Family<CodeLabel, Counter>,
    pub unique_violations: Counter,
    pub commit_seconds: Histogram,
    pub ingest_streams_opened: Counter,
    pub ingest_streams_closed: Counter,
    pub live_streams_opened: Counter,
    pub live_streams_closed: Counter,
    pub runs_taken: Counter,
    pub runs_released: Counter,
    pub run_panics: Counter,
    pub in_flight_bytes: Gauge,
    pub errors: Family<CodeLabel, Counter>,
    pub alert_steps_evaluated: Counter,
    pub alerts_fired: Counter,
    pub alerts_resolved: Counter,
    /// Counted anew every second.
    pub alerts_firing: Gauge,
    pub alert_evaluation_failures: Family<CodeLabel, Counter>,
    /// How long the run that waits longest has waited.
    pub alert_evaluation_lag_seconds: Gauge<f64, AtomicU64>,
    /// 1 while the file of rules cannot be used.
    pub alert_rules_reload_failed: Gauge,
    alert_delivery_attempts: Family<AttemptLabel, Counter>,
    pub alert_messages_waiting: Gauge,
    pub alert_oldest_message_seconds: Gauge<f64, AtomicU64>,
}

impl Metrics {
    /// Registers every counter.
    #[must_use]
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("gradwatch");
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let frames_received = counter("frames_received", "Frames that arrived, duplicates included");
        let frames_settled = counter("frames_settled", "Frames whose settling transaction was committed");
        let frames_duplicate = counter("frames_duplicate", "Frames at or below the mark, dropped on arrival");
        let frames_rejected = counter("frames_rejected", "Frames refused as invalid");
        let frames_dropped_by_clients = counter("frames_dropped_by_clients", "Frames that clients gave up");
        let frames_refilled = counter("frames_refilled", "Settled frames sent again to refill windows");
        let readings = counter("readings", "Readings committed");
        let snapshot_bytes_queued = counter("snapshot_bytes_queued", "Bytes of snapshots that began to wait");
        let snapshot_bytes_done =
            counter("snapshot_bytes_done", "Bytes of snapshots that ended to wait; queued minus done is the backlog");
        let commits = counter("commits", "Transactions committed by the recorder");
        let unique_violations = counter("unique_violations", "Rows that were to be stored twice: always a bug");
        let ingest_streams_opened = counter("ingest_streams_opened", "Frame streams opened");
        let ingest_streams_closed = counter("ingest_streams_closed", "Frame streams closed");
        let live_streams_opened = counter("live_streams_opened", "Server-sent event streams opened");
        let live_streams_closed = counter("live_streams_closed", "Server-sent event streams closed");
        let runs_taken = counter("runs_taken", "Runs this server took ownership of");
        let runs_released = counter("runs_released", "Runs this server gave up again");
        let run_panics = counter("run_panics", "Panics while working on one run; the run was reloaded");
        let alert_steps_evaluated = counter("alert_steps_evaluated", "Steps of runs that rules were evaluated at");
        let alerts_fired = counter("alerts_fired", "Alerts that began to fire");
        let alerts_resolved = counter("alerts_resolved", "Alerts that fired and have ended");
        let mut family = |name: &str, help: &str| {
            let family = Family::<CodeLabel, Counter>::default();
            registry.register(name, help, family.clone());
            family
        };
        let commit_failures = family("commit_failures", "Transactions rolled back, by cause");
        let errors = family("errors", "Requests refused, by error code");
        let alert_evaluation_failures =
            family("alert_evaluation_failures", "Evaluations of a run that did not land, by cause");
        let mut by_instrument = |name: &str, help: &str| {
            let family = Family::<InstrumentLabel, Counter>::default();
            registry.register(name, help, family.clone());
            family
        };
        let snapshots_read = by_instrument("snapshots_read", "Snapshots of layers read, by instrument");
        let snapshots_failed =
            by_instrument("snapshots_failed", "Snapshots that an instrument failed on: always a bug");
        let snapshots_skipped = by_instrument("snapshots_skipped", "Snapshots not read because too many waited");
        let events = Family::default();
        registry.register("events", "Events recorded, by type", Family::clone(&events));
        let commit_seconds = Histogram::new([0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0]);
        registry.register_with_unit("commit", "Time a group commit takes", Unit::Seconds, commit_seconds.clone());
        let in_flight_bytes = Gauge::default();
        registry.register("in_flight_bytes", "Bytes of frames between arrival and commit", in_flight_bytes.clone());
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let alerts_firing = gauge("alerts_firing", "Alerts that fire");
        let alert_rules_reload_failed =
            gauge("alert_rules_reload_failed", "1 while the file of rules cannot be used and the last good one is");
        let alert_messages_waiting = gauge("alert_messages_waiting", "Messages to receivers that wait to be delivered");
        let alert_oldest_message_seconds = Gauge::<f64, AtomicU64>::default();
        registry.register_with_unit(
            "alert_oldest_message",
            "How long the oldest message that waits to be delivered has waited",
            Unit::Seconds,
            alert_oldest_message_seconds.clone(),
        );
        let alert_delivery_attempts = Family::default();
        registry.register(
            "alert_delivery_attempts",
            "Attempts to tell a receiver, by its kind and what became of it",
            Family::clone(&alert_delivery_attempts),
        );
        let alert_evaluation_lag_seconds = Gauge::<f64, AtomicU64>::default();
        registry.register_with_unit(
            "alert_evaluation_lag",
            "How long the run whose new steps wait longest for rules has waited",
            Unit::Seconds,
            alert_evaluation_lag_seconds.clone(),
        );
        Self {
            registry,
            frames_received,
            frames_settled,
            frames_duplicate,
            frames_rejected,
            frames_dropped_by_clients,
            frames_refilled,
            readings,
            events,
            snapshots_read,
            snapshots_failed,
            snapshots_skipped,
            snapshot_bytes_queued,
            snapshot_bytes_done,
            commits,
            commit_failures,
            unique_violations,
            commit_seconds,
            ingest_streams_opened,
            ingest_streams_closed,
            live_streams_opened,
            live_streams_closed,
            runs_taken,
            runs_released,
            run_panics,
            in_flight_bytes,
            errors,
            alert_steps_evaluated,
            alerts_fired,
            alerts_resolved,
            alerts_firing,
            alert_evaluation_failures,
            alert_evaluation_lag_seconds,
            alert_rules_reload_failed,
            alert_delivery_attempts,
            alert_messages_waiting,
            alert_oldest_message_seconds,
        }
    }

    /// The text that Prometheus scrapes.
    #[must_use]
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail; should an encoder say otherwise, what was written so far is still valid.
        if let Err(error) = encode(&mut text, &self.registry) {
            tracing::error!(%error, "metrics cannot be encoded");
        }
        text
    }

    /// Counts what became of a snapshot.
    pub(crate) fn count_snapshot(&self, reading: &LayerReading) {
        let family = match reading.reason() {
            Some(Reason::Skipped) => &self.snapshots_skipped,
            Some(Reason::Failed) => &self.snapshots_failed,
            _ => &self.snapshots_read,
        };
        family.get_or_create(&InstrumentLabel { instrument: reading.instrument().as_str() }).inc();
    }

    /// Counts an attempt to tell a receiver.
    pub(crate) fn count_delivery(&self, receiver_kind: &'static str, outcome: &'static str) {
        self.alert_delivery_attempts.get_or_create(&AttemptLabel { receiver_kind, outcome }).inc();
    }

    /// Counts an event.
    pub(crate) fn count_event(&self, event_type: &str) {
        self.events.get_or_create(&EventLabel { event_type: event_type.to_owned() }).inc();
    }

    /// Counts one more of `code` in a family.
    pub(crate) fn count(family: &Family<CodeLabel, Counter>, code: &str) {
        family.get_or_create(&CodeLabel { code: code.to_owned() }).inc();
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
