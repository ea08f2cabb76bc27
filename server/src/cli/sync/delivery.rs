//! Sending what waits.

use std::{collections::BTreeSet, sync::mpsc, thread};

use gradwatch_client::spool::{DeliverError, Delivered, Destination, Progress as Sent, SpooledAttempt};
use serde_json::{Value, json};

use super::{
    destinations::{Destinations, Refusal},
    listing,
};
use crate::cli::{Failure, progress::Progress};

/// What became of an attempt of a shard.
#[derive(Debug)]
pub(super) enum Fate {
    /// It is in the spool no longer.
    Delivered(Delivered),
    /// A job is writing it, or another sync sends it.
    Live,
    /// There is no server.
    Unreachable { reason: String },
    /// Something has to be done about it.
    Left { reason: String },
}

impl Fate {
    pub(super) fn json(&self, attempt: &SpooledAttempt) -> Value {
        let mut value = listing::json(attempt);
        let (state, reason) = match self {
            Self::Delivered(delivered) => {
                value["settled"] = json!(delivered.settled);
                value["dropped"] = json!(delivered.dropped);
                value["rejected"] = json!(delivered.rejected);
                ("delivered", None)
            }
            Self::Live => ("live", None),
            Self::Unreachable { reason } => ("unreachable", Some(reason)),
            Self::Left { reason } => ("refused", Some(reason)),
        };
        if attempt.unreadable.is_none() {
            value["state"] = json!(state);
            value["reason"] = json!(reason);
        }
        value
    }
}

impl From<Refusal> for Fate {
    fn from(refusal: Refusal) -> Self {
        let Refusal { unreachable, reason } = refusal;
        if unreachable { Self::Unreachable { reason } } else { Self::Left { reason } }
    }
}

/// Delivers attempts in their order, the shards of one at the same time, and tells what became of each. What goes wrong
/// with one stops no other, unless its server is gone.
pub(super) fn deliver(
    attempts: &[SpooledAttempt],
    destinations: &mut Destinations,
    silent: bool,
) -> Result<Vec<Fate>, Failure> {
    let mut telling = Telling::new(attempts, silent);
    let mut fates = Vec::with_capacity(attempts.len());
    let same = |left: &SpooledAttempt, right: &SpooledAttempt| {
        (left.run_id, left.attempt_id) == (right.run_id, right.attempt_id)
    };
    for shards in attempts.chunk_by(same) {
        let (ready, mut of_shards) = look(shards, destinations, &mut telling);
        if let Some((server, destination)) = ready {
            for (index, outcome) in deliver_shards(shards, &of_shards, &destination, &mut telling) {
                of_shards[index] = Some(match outcome {
                    Ok(delivered) => Fate::Delivered(delivered),
                    Err(DeliverError::Live) => Fate::Live,
                    Err(error @ DeliverError::Stalled { .. }) => destinations.lost(&server, error.to_string()).into(),
                    Err(error) => Fate::Left { reason: error.to_string() },
                });
            }
        }
        for (attempt, fate) in shards.iter().zip(of_shards.into_iter().flatten()) {
            telling.fate(attempt, &fate);
            fates.push(fate);
        }
    }
    Ok(fates)
}

/// Where the shards of an attempt go, if any of them does, and what became of those that do not.
fn look(
    shards: &[SpooledAttempt],
    destinations: &mut Destinations,
    telling: &mut Telling,
) -> (Option<(String, Destination)>, Vec<Option<Fate>>) {
    let blocked = |attempt: &SpooledAttempt| match &attempt.unreadable {
        _ if attempt.live => Some(Fate::Live),
        Some(reason) => Some(Fate::Left { reason: reason.clone() }),
        None => None,
    };
    let mut fates: Vec<Option<Fate>> = shards.iter().map(blocked).collect();
    let Some(open) = fates.iter().position(Option::is_none) else { return (None, fates) };
    let server = destinations.server(&shards[open]);
    if destinations.is_other(&shards[open]) {
        telling.other_server(&shards[open], &server);
    }
    match destinations.find(&server) {
        Ok(destination) => (Some((server, destination)), fates),
        Err(refusal) => {
            for fate in fates.iter_mut().filter(|fate| fate.is_none()) {
                *fate = Some(refusal.clone().into());
            }
            (None, fates)
        }
    }
}

type Outcome = Result<Delivered, DeliverError>;

/// Delivers the shards that have no fate yet, each on a thread of its own: a step is settled when all have brought it.
fn deliver_shards(
    shards: &[SpooledAttempt],
    fates: &[Option<Fate>],
    destination: &Destination,
    telling: &mut Telling,
) -> Vec<(usize, Outcome)> {
    let (sender, progress) = mpsc::channel::<(usize, Sent)>();
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for (index, shard) in shards.iter().enumerate().filter(|(index, _)| fates[*index].is_none()) {
            let sender = sender.clone();
            // Whoever listens stays until all have ended.
            let deliver = move || {
                shard.deliver(destination, |sent| {
                    let _ = sender.send((index, sent));
                })
            };
            threads.push((index, scope.spawn(deliver)));
        }
        drop(sender);
        let mut settled = vec![0; shards.len()];
        for (index, sent) in progress {
            settled[index] = sent.settled;
            telling.show(settled.iter().sum());
        }
        telling.shown += settled.iter().sum::<u64>();
        let join = |(index, thread): (usize, thread::ScopedJoinHandle<'_, Outcome>)| match thread.join() {
            Ok(outcome) => (index, outcome),
            Err(panic) => std::panic::resume_unwind(panic),
        };
        threads.into_iter().map(join).collect()
    })
}

/// What a person hears while it goes.
struct Telling {
    progress: Progress,
    frames: u64,
    /// Frames of attempts that are done with.
    shown: u64,
    /// Addresses that were told to be replaced.
    replaced: BTreeSet<String>,
}

impl Telling {
    fn new(attempts: &[SpooledAttempt], silent: bool) -> Self {
        let frames = attempts.iter().filter(|attempt| !attempt.live).map(|attempt| attempt.frames).sum();
        Self { progress: Progress::new("frames", silent), frames, shown: 0, replaced: BTreeSet::new() }
    }

    fn show(&mut self, settled: u64) {
        // More can have come to the spool of a job that ended meanwhile.
        self.progress.show((self.shown + settled).min(self.frames), self.frames, None);
    }

    fn other_server(&mut self, attempt: &SpooledAttempt, server: &str) {
        if self.replaced.insert(attempt.server.clone()) {
            self.progress.warn(&format!("what was meant for {} goes to {server}", attempt.server));
        }
    }

    fn fate(&self, attempt: &SpooledAttempt, fate: &Fate) {
        let path = attempt.path.display();
        let name = format!("run {} attempt {}", attempt.run_id, listing::named(attempt));
        for damage in &attempt.damage {
            self.progress.warn(&format!("{name}: {damage}; the server is told what is missing"));
        }
        match fate {
            Fate::Delivered(delivered) => {
                if delivered.rejected > 0 {
                    let words = delivered.rejections.last().cloned().unwrap_or_default();
                    self.progress.warn(&format!("{name}: {} frames were rejected: {words}", delivered.rejected));
                }
                if delivered.dropped > 0 {
                    let what = "cannot be sent: they are damaged, or larger than the server takes";
                    self.progress.warn(&format!("{name}: {} frames {what}", delivered.dropped));
                }
            }
            Fate::Live => self.progress.warn(&format!("{name}: left alone: a job writes it, or another sync sends it")),
            // Said once for all of them, at the end.
            Fate::Unreachable { .. } => {}
            Fate::Left { reason } => {
                let advice = "its frames stay there; to give them up, delete the folder";
                self.progress.warn(&format!("{name}: not delivered: {reason} ({path}: {advice})"));
            }
        }
    }
}
