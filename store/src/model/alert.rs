//! Rules, their alerts, and what is told of them.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde_json::Value;
use uuid::Uuid;

use super::run::RunId;

/// Where a rule or a receiver comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlertSource {
    /// Made over REST.
    Api,
    /// In the file of rules; only the file changes it.
    File,
}

impl AlertSource {
    /// Every source.
    pub const ALL: [Self; 2] = [Self::Api, Self::File];

    /// The word used in the API and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::File => "file",
        }
    }
}

impl FromStr for AlertSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|source| source.as_str() == text);
        found.ok_or_else(|| format!("unknown source {text:?}; one of api, file"))
    }
}

/// A rule; what it means is opaque to the store.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertRule {
    /// Identifies it for good.
    pub rule_id: Uuid,
    /// Unique.
    pub name: String,
    /// Where it comes from.
    pub source: AlertSource,
    /// Its project; `None`: all.
    pub project: Option<String>,
    /// Grows when what it looks for changes.
    pub revision: u32,
    /// It says nothing of steps that the server received before this. Set when it is made and when `revision` grows.
    pub active_from_us: i64,
    /// When it was changed last.
    pub updated_at_us: i64,
    /// As it was written, a JSON object.
    pub definition: Value,
}

/// Whom to tell; how is opaque to the store.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertReceiver {
    /// Unique.
    pub name: String,
    /// Where it comes from.
    pub source: AlertSource,
    /// As it was written, a JSON object. May hold secrets.
    pub definition: Value,
    /// When it was changed last.
    pub updated_at_us: i64,
    /// It asked not to be told again (410); since when, and why.
    pub disabled: Option<(i64, String)>,
}

/// What is evaluated apart, because it is known at different times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AlertLane {
    /// Rules on what is settled with a step.
    Steps,
    /// Rules on readings of layers, which come later.
    Layers,
}

impl AlertLane {
    /// Every lane.
    pub const ALL: [Self; 2] = [Self::Steps, Self::Layers];

    /// The word used in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Steps => "steps",
            Self::Layers => "layers",
        }
    }
}

impl FromStr for AlertLane {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|lane| lane.as_str() == text);
        found.ok_or_else(|| format!("unknown lane {text:?}; one of steps, layers"))
    }
}

/// How far the rules of a lane were evaluated on a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertCursor {
    /// The lane.
    pub lane: AlertLane,
    /// The segment of the last step evaluated, and that step; `None`: there was none yet.
    pub at: Option<(u32, u64)>,
    /// The last event that was looked at.
    pub event_id: u64,
    /// Counts the commits of this cursor from 1.
    pub number: u64,
    /// `Run::revision` when it was evaluated: where it is the same, there is nothing new.
    pub run_revision: (u64, u64),
}

/// Where an alert stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AlertState {
    /// Its condition holds, not yet for long enough.
    Pending,
    /// It holds.
    Firing,
    /// It held.
    Resolved,
}

impl AlertState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Pending, Self::Firing, Self::Resolved];

    /// The word used in the API and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

impl fmt::Display for AlertState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for AlertState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| format!("unknown state {text:?}; one of pending, firing, resolved"))
    }
}

/// A place and time in the life of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlertMoment {
    /// The segment.
    pub segment: u32,
    /// The step.
    pub step: u64,
    /// The server's clock, microseconds since the Unix epoch.
    pub at_us: i64,
}

/// One firing of a rule, from when it became pending.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// Identifies it for good, also to receivers.
    pub alert_id: Uuid,
    /// Its rule.
    pub rule_id: Uuid,
    /// The rule's name then.
    pub rule_name: String,
    /// The rule's revision.
    pub rule_revision: u32,
    /// The lane of the rule.
    pub lane: AlertLane,
    /// The run.
    pub run_id: RunId,
    /// The run's project. Written by the store.
    pub project: String,
    /// The group or layer; empty: the run.
    pub group: String,
    /// Where it stands.
    pub state: AlertState,
    /// `info`, `warning` or `critical`.
    pub severity: String,
    /// What it is found by.
    pub labels: BTreeMap<String, String>,
    /// What a person reads.
    pub annotations: BTreeMap<String, String>,
    /// One line, with its placeholders filled in.
    pub summary: String,
    /// Whom to tell, by name.
    pub receivers: Vec<String>,
    /// The values of the condition's terms when it fired, a JSON object.
    pub values: Value,
    /// When its condition began to hold.
    pub pending: AlertMoment,
    /// When it began to fire.
    pub fired: Option<AlertMoment>,
    /// When it ended, and why: `condition`, `run_over`, `superseded`, `rule_changed`, `rule_removed`, `not_selected`.
    pub resolved: Option<(AlertMoment, String)>,
    /// State of its machine; opaque to the store. Empty once it is resolved.
    pub machine: Vec<u8>,
}

/// Something to be told to one receiver, to be stored with the change that it tells.
#[derive(Clone, Debug, PartialEq)]
pub struct NewNotification {
    /// Whom.
    pub receiver: String,
    /// What of the notifications of one receiver goes into one message, and stays in order.
    pub group_key: String,
    /// The alert.
    pub alert_id: Uuid,
    /// `Firing` or `Resolved`.
    pub state: AlertState,
    /// What is told, a JSON object: complete, so that nothing has to be looked up when it is sent.
    pub content: Value,
    /// When, by the server's clock.
    pub created_at_us: i64,
}

/// A notification that no message holds yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Notification {
    /// Grows in the order of recording.
    pub notification_id: u64,
    /// It was silenced when it was last looked at.
    pub silenced: bool,
    /// What is to be told.
    pub new: NewNotification,
}

/// What one evaluation settles for one lane of one run.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertCommit {
    /// The run.
    pub run_id: RunId,
    /// The cursor's number before; 0: there is none.
    pub after_number: u64,
    /// The cursor.
    pub cursor: AlertCursor,
    /// Alerts that are new or changed.
    pub alerts: Vec<Alert>,
    /// Pending alerts that never fired.
    pub forgotten: Vec<Uuid>,
    /// What is to be told.
    pub notifications: Vec<NewNotification>,
}

/// Keeps notifications back, for a while.
#[derive(Clone, Debug, PartialEq)]
pub struct Silence {
    /// Identifies it.
    pub silence_id: Uuid,
    /// Only a caller of this project may change it, and only alerts of this project match; `None`: all.
    pub project: Option<String>,
    /// All must match an alert's labels; opaque to the store, a JSON array.
    pub matchers: Value,
    /// From when.
    pub starts_at_us: i64,
    /// Until when.
    pub ends_at_us: i64,
    /// Why.
    pub comment: String,
    /// Who made it: the name of a token, or empty.
    pub created_by: String,
    /// When it was made.
    pub created_at_us: i64,
}

/// Where a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MessageState {
    /// It is to be sent, perhaps again.
    Waiting,
    /// The receiver has taken it.
    Delivered,
    /// It was given up.
    Failed,
}

impl MessageState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Waiting, Self::Delivered, Self::Failed];

    /// The word used in the API and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }
}

impl FromStr for MessageState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| format!("unknown state {text:?}; one of waiting, delivered, failed"))
    }
}

/// What one receiver is told at once. Fixed when it is made: whatever happens, it is sent with the same id and content.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// The same for every attempt.
    pub message_id: Uuid,
    /// Grows in the order of making. Given by the store.
    pub sequence: u64,
    /// Whom.
    pub receiver: String,
    /// Messages of one key are sent one after the other, in order.
    pub group_key: String,
    /// What is told, a JSON object.
    pub content: Value,
    /// Where it stands.
    pub state: MessageState,
    /// Attempts so far, since it was made or sent again by hand.
    pub attempts: u32,
    /// When it was made.
    pub created_at_us: i64,
    /// When it is tried next.
    pub next_attempt_at_us: i64,
    /// When it is given up.
    pub give_up_at_us: i64,
    /// When it was delivered or given up.
    pub ended_at_us: Option<i64>,
}

/// One attempt to tell a receiver.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// Grows in the order of recording. Given by the store.
    pub delivery_id: u64,
    /// The message.
    pub message_id: Uuid,
    /// Whom.
    pub receiver: String,
    /// Counted from 1.
    pub attempt: u32,
    /// When it began.
    pub at_us: i64,
    /// How long it took.
    pub duration_ms: u64,
    /// `delivered`, or what went wrong in a word: `status`, `timeout`, `connect`, `refused_address`, `redirect`, ….
    pub outcome: String,
    /// The HTTP status of the answer.
    pub status: Option<u16>,
    /// What the receiver or the network said, shortened.
    pub detail: String,
}

impl fmt::Display for AlertLane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
