//! A rule as a user writes it, in YAML or JSON.

use std::collections::BTreeMap;

use gradwatch_store::Kind;
use serde::{Deserialize, Serialize};

use crate::Hold;

/// A rule: a condition on some runs, and whom to tell when it holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleDefinition {
    /// Unique among all rules. Letters, digits, `_`, `-` and `.`, at most 100.
    pub name: String,
    /// Which runs, and which of their groups.
    #[serde(default)]
    pub select: Selector,
    /// The condition, in the language of [`crate::language`].
    pub when: String,
    /// How long the condition must hold before the alert fires.
    #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// How long the alert goes on firing after the condition held last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_firing_for: Option<Hold>,
    /// In steps: how old the newest value of a term may be. Default: twice the distance of its last two values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<u64>,
    /// How bad it is.
    #[serde(default)]
    pub severity: Severity,
    /// One line for whoever is told; may hold placeholders.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub summary: String,
    /// Added to the labels of the alert.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// More to say; may hold placeholders.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Names of receivers. None: the alert is shown and nobody is told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub receivers: Vec<String>,
}

/// Which runs, and which of their groups. Every given condition must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selector {
    /// Of this project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// With these labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Groups (or layers, for a condition on layers) whose names match this glob. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Of what was sketched. Default: `update`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// W. Default: the first that the run declares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<usize>,
}

/// How bad an alert is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Somebody should look.
    #[default]
    Warning,
    /// Somebody should get up.
    Critical,
}

impl Severity {
    /// The word used in the API and in messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}
