//! The rules and receivers in force.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use gradwatch_rules::{Problem, ReceiverDefinition, RuleDefinition, evaluator::ActiveRule};
use gradwatch_store::{AlertReceiver, AlertRule, Store, StoreError};
use tokio::sync::watch;

/// Rules and receivers as they stand; replaced as a whole.
#[derive(Debug, Default)]
pub(crate) struct RuleSet {
    /// The rules as they are stored, by name.
    pub rules: Vec<AlertRule>,
    /// The same, at work, in the same order.
    pub active: Arc<Vec<ActiveRule>>,
    /// Receivers by name.
    pub receivers: BTreeMap<String, Arc<Receiver>>,
}

/// A receiver.
#[derive(Debug)]
pub(crate) struct Receiver {
    /// As it is stored.
    pub stored: AlertReceiver,
    /// How it is told.
    pub definition: ReceiverDefinition,
}

/// Why rules or receivers stay as they are.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BookError {
    /// What was written cannot be used.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Problems(Vec<Problem>),
    /// There is none of this name.
    #[error("there is no {0}")]
    Unknown(String),
    /// The name is taken, or the file of rules owns it, or a rule needs the receiver.
    #[error("{0}")]
    Conflict(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Keeps rules and receivers, in the store and in force.
pub(crate) struct RuleBook {
    store: Arc<dyn Store>,
    file: Option<PathBuf>,
    current: watch::Sender<Arc<RuleSet>>,
}

impl RuleBook {
    /// Reads what is stored, and the file of rules.
    pub(crate) async fn open(_store: Arc<dyn Store>, _file: Option<PathBuf>) -> Result<Self, BookError> {
        unimplemented!()
    }

    /// What is in force.
    pub(crate) fn current(&self) -> Arc<RuleSet> {
        Arc::clone(&self.current.borrow())
    }

    /// Follows it.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<RuleSet>> {
        self.current.subscribe()
    }

    /// Makes a rule (`create`) or replaces the one of this name.
    pub(crate) async fn put_rule(&self, _definition: RuleDefinition, _create: bool) -> Result<AlertRule, BookError> {
        unimplemented!()
    }

    /// Removes a rule made over REST.
    pub(crate) async fn delete_rule(&self, _name: &str) -> Result<(), BookError> {
        unimplemented!()
    }

    /// Makes a receiver (`create`) or replaces the one of this name.
    pub(crate) async fn put_receiver(
        &self,
        _definition: ReceiverDefinition,
        _create: bool,
    ) -> Result<AlertReceiver, BookError> {
        unimplemented!()
    }

    /// Removes a receiver made over REST that no rule names.
    pub(crate) async fn delete_receiver(&self, _name: &str) -> Result<(), BookError> {
        unimplemented!()
    }

    /// Disables a receiver (why), or enables it again.
    pub(crate) async fn set_disabled(&self, _name: &str, _why: Option<String>) -> Result<(), BookError> {
        unimplemented!()
    }

    /// Reads the file of rules again: as a whole, or nothing changes. Answers how many rules and receivers it holds.
    pub(crate) async fn reload(&self) -> Result<(usize, usize), BookError> {
        let _ = (&self.store, &self.file);
        unimplemented!()
    }
}
