//! Conditions that are events.

use gradwatch_spectral::{catalogue::DETECTORS, detectors::Regime};

use super::{
    condition::EventCondition,
    fault::Fault,
    token::{Token, TokenKind, shown},
};

/// What happens to a run that no detector says.
const RUN_EVENTS: [&str; 9] = [
    "numeric.nonfinite",
    "run.crashed",
    "run.lossy",
    "run.shard_finished",
    "run.shard_lost",
    "run.shard_returned",
    "run.stalled",
    "segment.started",
    "window.restarted",
];

/// The longest name behind `job.`.
const MAX_JOB_BYTES: usize = 64;

/// Every event with a name of its own.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    DETECTORS.iter().map(|detector| detector.name).chain(RUN_EVENTS)
}

pub(super) fn is_event(name: &str) -> bool {
    names().any(|known| known == name) || name.starts_with("job.")
}

/// Reads the words of an event; `None` when they begin none.
pub(super) fn parse(tokens: &[Token], end: usize) -> Option<Result<EventCondition, Fault>> {
    let (first, rest) = tokens.split_first()?;
    let TokenKind::Name(name) = &first.kind else { return None };
    if first.is_word("transition") {
        return Some(transition(rest, end));
    }
    if !is_event(&name.text) || name.is_quoted {
        return None;
    }
    Some(match rest.first() {
        None => named(&name.text, first.span.start),
        Some(more) if more.is_symbol("{") => {
            let message = "an event takes no qualifiers; `select` says for which group, kind and window it counts";
            Err(Fault::new(more.span.start, message))
        }
        Some(more) => {
            let message = format!(
                "`{}` is an event, and an event stands alone: a condition is one event, or an expression",
                name.text
            );
            Err(Fault::new(more.span.start, message))
        }
    })
}

fn named(name: &str, at: usize) -> Result<EventCondition, Fault> {
    if let Some(job) = name.strip_prefix("job.") {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if !(1..=MAX_JOB_BYTES).contains(&job.len()) || !job.bytes().all(is_plain) {
            let message =
                format!("behind `job.` stand 1 to {MAX_JOB_BYTES} lower-case letters, digits and underscores");
            return Err(Fault::new(at, message));
        }
    }
    Ok(match name {
        "run.stalled" => EventCondition::Stalled,
        "run.crashed" => EventCondition::Crashed,
        other => EventCondition::Happened(other.to_owned()),
    })
}

fn transition(words: &[Token], end: usize) -> Result<EventCondition, Fault> {
    let mut words = Words { words, end };
    let from = if words.take("from") { Some(words.regime()?) } else { None };
    if !words.take("to") {
        let wanted = if from.is_some() { "`to`" } else { "`to` or `from`" };
        return Err(words.expected(&format!("{wanted}; write `transition to forgetting`")));
    }
    let at = words.at();
    let to = words.regime()?;
    if from == Some(to) {
        return Err(Fault::new(at, format!("never happens: a transition leads from {to} to another regime")));
    }
    if !words.words.is_empty() {
        return Err(words.expected("the end (an event stands alone)"));
    }
    Ok(EventCondition::Transition { from, to })
}

/// What is left of the words of a transition.
struct Words<'t> {
    words: &'t [Token],
    end: usize,
}

impl Words<'_> {
    fn at(&self) -> usize {
        self.words.first().map_or(self.end, |word| word.span.start)
    }

    fn take(&mut self, wanted: &str) -> bool {
        let is_next = self.words.first().is_some_and(|word| word.is_word(wanted));
        if is_next {
            self.words = &self.words[1..];
        }
        is_next
    }

    fn regime(&mut self) -> Result<Regime, Fault> {
        let regime = Regime::ALL.into_iter().find(|regime| self.take(regime.as_str()));
        regime.ok_or_else(|| self.expected("a regime: warming, plateau, transition or forgetting"))
    }

    fn expected(&self, wanted: &str) -> Fault {
        let found = match self.words.first().map(|word| &word.kind) {
            None => return Fault::new(self.end, format!("the condition ends where there should be {wanted}")),
            Some(TokenKind::Name(name)) => shown(&name.text),
            Some(TokenKind::Text(text)) => format!("{:?}", shown(text)),
            Some(TokenKind::Number(number)) => format!("{number:?}"),
            Some(TokenKind::Symbol(symbol)) => (*symbol).to_owned(),
        };
        Fault::new(self.at(), format!("found `{found}` where there should be {wanted}"))
    }
}
