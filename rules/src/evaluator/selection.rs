//! Which rules, and which of their groups, a run has.

use std::collections::{BTreeMap, BTreeSet};

use globset::{Glob, GlobMatcher};
use gradwatch_spectral::layers::LayerInstrument;
use gradwatch_store::{AlertLane, Kind, LayerKey, StreamKey};

use super::{ActiveRule, RunFacts, columns::Source};
use crate::{
    Selector,
    language::{Condition, EventCondition, TermSource},
};

/// Whether a selector takes a run; its groups are another matter.
pub(super) fn takes_run(selector: &Selector, facts: &RunFacts) -> bool {
    selector.project.as_ref().is_none_or(|project| *project == facts.project)
        && selector.labels.iter().all(|(name, value)| facts.labels.get(name) == Some(value))
}

/// Which groups or layers a selector takes, by name.
#[derive(Clone, Debug)]
pub(super) enum GroupFilter {
    All,
    /// Matching text is what costs least, and what most selectors are.
    Name(String),
    Glob(GlobMatcher),
}

impl GroupFilter {
    pub(super) fn new(selector: &Selector) -> Self {
        match selector.group.as_deref() {
            None => Self::All,
            Some(text) if !text.contains(['*', '?', '[', ']', '{', '}', '\\', '!']) => Self::Name(text.to_owned()),
            // One that is no glob names no group; the rule was refused when it was written.
            Some(text) => {
                Glob::new(text).map_or_else(|_| Self::Name(text.to_owned()), |it| Self::Glob(it.compile_matcher()))
            }
        }
    }

    pub(super) fn takes(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Name(text) => text == name,
            Self::Glob(glob) => glob.is_match(name),
        }
    }
}

/// What a run has, to be looked up.
pub(super) struct RunIndex<'a> {
    pub(super) facts: &'a RunFacts,
    /// Steps between two updates by stream. Where segments disagree, the greatest.
    intervals: BTreeMap<&'a StreamKey, u32>,
    layers: BTreeSet<&'a LayerKey>,
}

impl<'a> RunIndex<'a> {
    pub(super) fn new(facts: &'a RunFacts) -> Self {
        let mut intervals = BTreeMap::new();
        for (stream, interval) in &facts.streams {
            let longest = intervals.entry(stream).or_insert(1);
            *longest = (*longest).max(*interval);
        }
        Self { facts, intervals, layers: facts.layers.iter().collect() }
    }

    pub(super) fn interval(&self, stream: &StreamKey) -> Option<u32> {
        self.intervals.get(stream).copied()
    }

    /// Whether the run has this.
    pub(super) fn has(&self, source: &Source) -> bool {
        match source {
            Source::Stream(stream, _) => self.intervals.contains_key(stream),
            Source::Layer(layer, _) => self.layers.contains(layer),
            Source::Scalar(_) => true,
        }
    }

    /// Names of all groups.
    pub(super) fn groups(&self) -> BTreeSet<&'a str> {
        self.intervals.keys().map(|stream| stream.group.as_str()).collect()
    }

    /// Names of the layers that an instrument reads.
    pub(super) fn layers_of(&self, instrument: LayerInstrument) -> BTreeSet<&'a str> {
        self.layers.iter().filter(|it| it.instrument == instrument).map(|it| it.layer.as_str()).collect()
    }

    /// The stream of a group that a term or an event of a rule means.
    pub(super) fn stream(
        &self,
        selector: &Selector,
        group: &str,
        kind: Option<Kind>,
        window: Option<usize>,
    ) -> StreamKey {
        StreamKey {
            group: group.to_owned(),
            kind: kind.or(selector.kind).unwrap_or(Kind::Update),
            window: window.or(selector.window).unwrap_or(self.facts.first_window),
        }
    }
}

/// The layer instrument whose detector an event is of.
pub(super) fn instrument_of(event_type: &str) -> Option<LayerInstrument> {
    event_type.split_once('.')?.0.parse().ok()
}

impl ActiveRule {
    /// When it can be evaluated: rules on layers wait for readings that come later.
    #[must_use]
    pub fn lane(&self) -> AlertLane {
        let layers = match &*self.rule.condition {
            Condition::Event(EventCondition::Happened(event_type)) => instrument_of(event_type).is_some(),
            Condition::Event(_) => false,
            Condition::Expression(expression) => {
                expression.terms.iter().any(|term| matches!(term.source, TermSource::Layer { .. }))
            }
        };
        if layers { AlertLane::Layers } else { AlertLane::Steps }
    }
}
