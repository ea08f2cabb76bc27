//! What a live stream says about a commit.

use std::str::FromStr;

use gradwatch_store::{Reading, RunId, RunPatch};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    events::EventView, layer_message::LayerReadingMessage, reading_view::ReadingView, runs::CountersView, time::Time,
};
use crate::recorder::{Publication, PublishedRun};

/// The type of a message, which is its event name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MessageType {
    Reading,
    LayerReading,
    Event,
    Run,
}

impl MessageType {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Reading => "reading",
            Self::LayerReading => "layer_reading",
            Self::Event => "event",
            Self::Run => "run",
        }
    }
}

impl FromStr for MessageType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [Self::Reading, Self::LayerReading, Self::Event, Self::Run];
        let found = all.into_iter().find(|message_type| message_type.as_str() == text);
        found.ok_or_else(|| format!("unknown type {text:?}; one of reading, layer_reading, event, run"))
    }
}

/// What a listener wants to hear. Empty lists mean all.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    pub(crate) project: Option<String>,
    pub(crate) runs: Vec<RunId>,
    pub(crate) types: Vec<MessageType>,
    pub(crate) live_only: bool,
}

impl Filter {
    fn wants_run(&self, run: &PublishedRun) -> bool {
        self.project.as_deref().is_none_or(|project| *project == *run.project)
            && (self.runs.is_empty() || self.runs.contains(&run.run_id))
    }

    fn wants(&self, message_type: MessageType) -> bool {
        self.types.is_empty() || self.types.contains(&message_type)
    }
}

/// The data of a `reading` message.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReadingMessage {
    run_id: String,
    project: String,
    group: String,
    kind: &'static str,
    analysis: String,
    /// Whether the step was on the live line when it was committed.
    live: bool,
    #[serde(flatten)]
    reading: ReadingView,
}

/// The data of a `run` message: what changed. What did not change is left out.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RunMessage {
    run_id: String,
    project: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    regime: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_step: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen_at: Option<Time>,
    /// By how much each counter grew.
    counters_added: CountersView,
}

/// The messages of a commit for one listener, as (type, JSON), in a fixed order: run by run, readings, readings of layers, events,
/// then the run itself.
pub(crate) fn messages(publication: &Publication, filter: &Filter) -> Vec<(MessageType, String)> {
    let mut messages = Vec::new();
    for run in publication.runs.iter().filter(|run| filter.wants_run(run)) {
        let run_id = run.run_id.to_string();
        if filter.wants(MessageType::Reading) {
            for Reading { row, wall_time_us } in &run.readings {
                let live = run.is_live(row.segment, row.step);
                if live || !filter.live_only {
                    let message = ReadingMessage {
                        run_id: run_id.clone(),
                        project: run.project.to_string(),
                        group: row.stream.group.clone(),
                        kind: row.stream.kind.as_str(),
                        analysis: row.analysis.clone(),
                        live,
                        reading: ReadingView::new(row, *wall_time_us),
                    };
                    push(&mut messages, MessageType::Reading, &message);
                }
            }
        }
        if filter.wants(MessageType::LayerReading) {
            for (row, wall_time_us) in &run.layer_readings {
                let message = LayerReadingMessage::new(run, row, *wall_time_us);
                if message.is_live() || !filter.live_only {
                    push(&mut messages, MessageType::LayerReading, &message);
                }
            }
        }
        if filter.wants(MessageType::Event) {
            for (event_id, row) in &run.events {
                // An event without a step belongs to its segment whole: live while any of that is.
                let live = run.is_live(row.segment, row.step.unwrap_or(0));
                if live || !filter.live_only {
                    let message = EventView::new(*event_id, run.run_id, &run.project, row.clone());
                    push(&mut messages, MessageType::Event, &message);
                }
            }
        }
        if filter.wants(MessageType::Run) && run.patch != RunPatch::default() {
            let patch = &run.patch;
            let message = RunMessage {
                run_id,
                project: run.project.to_string(),
                state: patch.state.map(|state| state.as_str()),
                regime: patch.regime.map(|regime| regime.as_str()),
                last_step: patch.last_step,
                last_seen_at: patch.last_seen_us.map(Time),
                counters_added: (&patch.counters).into(),
            };
            push(&mut messages, MessageType::Run, &message);
        }
    }
    messages
}

fn push(messages: &mut Vec<(MessageType, String)>, message_type: MessageType, message: &impl Serialize) {
    match serde_json::to_string(message) {
        Ok(data) => messages.push((message_type, data)),
        // Cannot happen for these types: their keys are texts.
        Err(error) => tracing::error!(%error, "live message cannot be written as JSON"),
    }
}
