//! Alerts: rules over what was committed, and what is told of them.
//!
//! ```text
//! book (rules, receivers) ─► evaluation: committed readings ─► alerts, notifications and cursor in one transaction
//!                            delivery: notifications ─► messages ─► receivers
//! ```
//!
//! > **Invariant: nothing of it is on the path of an acknowledgement.** It reads what was committed, and commits for itself.

mod backtest;
mod book;
mod delivery;
mod evaluation;
mod group_key;
mod notice;

use std::{sync::Arc, time::Duration};

use gradwatch_store::{RunId, Store};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

pub(crate) use backtest::{Backtest, BacktestReport, BacktestRequest, Backtests};
pub(crate) use book::{BookError, Receiver, RuleBook, RuleSet, secrets};
pub(crate) use delivery::{Dispatcher, Matcher, check_matchers};
pub(crate) use notice::Notice;

use crate::{
    config::Config,
    metrics::Metrics,
    pipeline::Pipeline,
    recorder::{Hub, StoreTrouble},
};

/// Rules, their evaluation, and what is told of it.
pub(crate) struct Alerts {
    /// Rules and receivers.
    pub book: Arc<RuleBook>,
    /// Runs that wait to be evaluated.
    queue: Arc<evaluation::Queue>,
    /// Changes with every commit that recorded something to be told.
    recorded: Arc<watch::Sender<u64>>,
}

/// What evaluation works with.
pub(crate) struct Surroundings {
    pub config: Arc<Config>,
    pub store: Arc<dyn Store>,
    pub hub: Arc<Hub>,
    pub pipeline: Arc<Pipeline>,
    pub metrics: Arc<Metrics>,
    pub trouble: Arc<StoreTrouble>,
    pub draining: CancellationToken,
}

impl Alerts {
    /// Reads the rules.
    ///
    /// # Errors
    /// When the file of rules cannot be used, or the store fails.
    pub(crate) async fn open(config: &Config, store: Arc<dyn Store>, metrics: Arc<Metrics>) -> Result<Self, BookError> {
        let book = RuleBook::open(store, metrics, config.alerts.rules_file.clone()).await?;
        let queue = evaluation::Queue::new(Duration::from_millis(config.alerts.evaluate_every_ms));
        Ok(Self { book: Arc::new(book), queue: Arc::new(queue), recorded: Arc::new(watch::Sender::new(0)) })
    }

    /// Starts to evaluate, and to look after the file of rules. Both end when the server drains, behind what they are
    /// committing.
    pub(crate) fn start(&self, surroundings: Surroundings) -> JoinHandle<()> {
        let Surroundings { config, store, hub, pipeline, metrics, trouble, draining } = surroundings;
        let book = Arc::clone(&self.book);
        let look_every = Duration::from_secs(config.alerts.check_file_every_s);
        let looking = draining.clone().run_until_cancelled_owned(async move {
            let mut ticks = interval(look_every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                book.look().await;
            }
        });
        let evaluation = evaluation::Evaluation::new(evaluation::Parts {
            public_url: config.alerts.public_url.clone(),
            store,
            hub,
            pipeline,
            metrics,
            trouble,
            draining,
            book: Arc::clone(&self.book),
            queue: Arc::clone(&self.queue),
            recorded: Arc::clone(&self.recorded),
        });
        tokio::spawn(async move {
            tokio::join!(looking, evaluation.run());
        })
    }

    /// What selectors look at may have changed on a run.
    pub(crate) fn run_changed(&self, run_id: RunId) {
        self.queue.reload(run_id);
    }

    /// Changes whenever there is something new to be told.
    pub(crate) fn recorded(&self) -> watch::Receiver<u64> {
        self.recorded.subscribe()
    }
}
