//! One run, from its first step to its last.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use gradwatch_rules::{
    backtest::Firings,
    evaluator::{ActiveRule, Change, Phase, RunEvaluator, RunFacts},
};
use gradwatch_store::{Run, Store, StoreError};

use super::{
    line_reader::{LineReader, Piece},
    outcome::{RunOutcome, Truth},
    truth::Evidence,
};
use crate::{
    alerts::evaluation::{event_types, facts},
    clock,
    error::Error,
    pipeline::Pipeline,
};

/// Replays runs.
pub(super) struct Replay {
    pub(super) store: Arc<dyn Store>,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) rules: Arc<Vec<ActiveRule>>,
    /// The last rule is the truth.
    pub(super) has_truth: bool,
    /// Counts steps.
    pub(super) steps: Arc<AtomicU64>,
}

impl Replay {
    /// Replays a run; `None` when it was deleted meanwhile.
    pub(super) async fn run(&self, run: Run) -> Result<Option<RunOutcome>, Error> {
        match self.read(run).await {
            Err(Stopped::Store(StoreError::UnknownRun(_))) => Ok(None),
            Err(Stopped::Store(error)) => Err(error.into()),
            Err(Stopped::Failed(error)) => Err(error),
            Ok(outcome) => Ok(Some(outcome)),
        }
    }

    async fn read(&self, run: Run) -> Result<RunOutcome, Stopped> {
        let segments = self.store.segments(run.run_id).await?;
        let facts = facts::of(&run, &segments);
        let (rules, has_truth) = (Arc::clone(&self.rules), self.has_truth);
        // Many rules on many groups take a while to be laid out.
        let plan = move || {
            let evaluator = RunEvaluator::new(Arc::clone(&rules), &facts);
            (Tally::new(&rules, has_truth, &facts), evaluator, facts)
        };
        let (mut tally, evaluator, facts) = self.pipeline.in_background(plan).await.map_err(Stopped::Failed)?;
        if let Some(evaluator) = evaluator {
            let inputs = evaluator.inputs().clone();
            let evidence = self.rules.last().filter(|_| self.has_truth);
            let evidence = evidence.map(|truth| Evidence::new(truth, &facts, &inputs));
            let mut line = LineReader::new(run.run_id, &evaluator, event_types(&self.rules), &segments);
            let mut work = Work { evaluator, evidence, tally, changes: Vec::new() };
            while let Some(piece) = line.next(&*self.store).await? {
                self.steps.fetch_add(piece.chunk.len() as u64, Ordering::Relaxed);
                work = self.pipeline.in_background(move || work.take(&piece)).await.map_err(Stopped::Failed)?;
            }
            // A run that is over says nothing more; the silence of another one goes on.
            let end_us = if run.state.is_over() { run.last_seen_us } else { clock::now_us() };
            tally = work.end(end_us);
        }
        let Tally { truth, firings, .. } = tally;
        Ok(RunOutcome { run_id: run.run_id, name: run.name, created_at_us: run.created_at_us, truth, firings })
    }
}

enum Stopped {
    Store(StoreError),
    Failed(Error),
}

impl From<StoreError> for Stopped {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// What goes to the background threads and comes back.
struct Work {
    evaluator: RunEvaluator,
    /// With a truth.
    evidence: Option<Evidence>,
    tally: Tally,
    changes: Vec<Change>,
}

impl Work {
    fn take(mut self, piece: &Piece) -> Self {
        if let Some(evidence) = &mut self.evidence {
            evidence.look(&piece.chunk);
        }
        piece.chunk.advance(&mut self.evaluator, &mut self.changes);
        self.tally.count(&mut self.changes);
        self
    }

    fn end(mut self, end_us: i64) -> Tally {
        self.evaluator.finish(end_us, &mut self.changes);
        self.tally.count(&mut self.changes);
        if self.evidence.is_some_and(|evidence| evidence.is_there) && self.tally.truth == Truth::Unknown {
            self.tally.truth = Truth::Never;
        }
        self.tally
    }
}

/// What fired so far.
struct Tally {
    truth: Truth,
    firings: Vec<Option<Firings>>,
}

impl Tally {
    fn new(rules: &[ActiveRule], has_truth: bool, facts: &RunFacts) -> Self {
        let tested = rules.len() - usize::from(has_truth);
        let selects = |rule: &ActiveRule| RunEvaluator::new(Arc::new(vec![rule.clone()]), facts).is_some();
        let firings = rules[..tested].iter().map(|rule| selects(rule).then(Firings::default)).collect();
        Self { truth: if has_truth { Truth::Unknown } else { Truth::NotAsked }, firings }
    }

    fn count(&mut self, changes: &mut Vec<Change>) {
        for change in changes.drain(..).filter(|change| change.phase == Phase::Firing) {
            match self.firings.get_mut(change.rule) {
                Some(Some(firings)) => firings.fired(change.step),
                // A rule that fires selects the run.
                Some(None) => {}
                // Behind the rules stands the truth.
                None if !matches!(self.truth, Truth::At(_)) => self.truth = Truth::At(change.step),
                None => {}
            }
        }
    }
}
