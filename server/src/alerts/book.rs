//! The rules and receivers in force.

mod file;
pub(crate) mod secrets;
mod stored;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use gradwatch_rules::{
    Problem, ReceiverDefinition, RuleDefinition,
    evaluator::ActiveRule,
    file::{MAX_RECEIVERS, MAX_RULES},
    language::CompiledRule,
};
use gradwatch_store::{AlertReceiver, AlertRule, AlertSource, Store, StoreError};
use tokio::sync::{Mutex, MutexGuard, watch};
use uuid::Uuid;

use crate::{clock, metrics::Metrics};

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

impl RuleSet {
    /// The rule of this name.
    #[must_use]
    pub(crate) fn rule(&self, name: &str) -> Option<&AlertRule> {
        self.rules.iter().find(|rule| rule.name == name)
    }

    /// Checks a rule that comes alone.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub(crate) fn compile(&self, definition: RuleDefinition) -> Result<CompiledRule, Vec<Problem>> {
        let names = definition.receivers.iter().take(MAX_RECEIVERS).enumerate();
        let unknown = names.filter(|(_, name)| !self.receivers.contains_key(*name)).map(|(index, name)| Problem {
            field: format!("receivers[{index}]"),
            position: None,
            message: format!("there is no receiver {name:?}"),
        });
        let mut problems: Vec<Problem> = unknown.collect();
        match CompiledRule::new(definition) {
            Ok(rule) if problems.is_empty() => Ok(rule),
            Ok(_) => Err(problems),
            Err(others) => {
                problems.splice(..0, others);
                Err(problems)
            }
        }
    }
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

impl BookError {
    /// One thing that is wrong with a field.
    fn problem(field: &str, message: String) -> Self {
        Self::Problems(vec![Problem { field: field.to_owned(), position: None, message }])
    }
}

/// Keeps rules and receivers, in the store and in force.
///
/// Invariant: what is in force is what is stored. A change is stored first, in one transaction, and one at a time; where its answer is
/// lost, it is read again.
pub(crate) struct RuleBook {
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    file: Option<PathBuf>,
    current: watch::Sender<Arc<RuleSet>>,
    /// Held by whoever changes anything.
    changing: Mutex<()>,
    /// What is stored may be newer than what is in force.
    stale: AtomicBool,
    /// What the file held when it was looked at last.
    seen: std::sync::Mutex<Option<u64>>,
}

impl RuleBook {
    /// Reads what is stored, and the file of rules.
    pub(crate) async fn open(
        store: Arc<dyn Store>,
        metrics: Arc<Metrics>,
        file: Option<PathBuf>,
    ) -> Result<Self, BookError> {
        let current = watch::Sender::new(Arc::new(stored::load(&*store).await?));
        let book = Self {
            store,
            metrics,
            file,
            current,
            changing: Mutex::new(()),
            stale: AtomicBool::new(false),
            seen: std::sync::Mutex::default(),
        };
        if book.file.is_some() {
            book.reload().await?;
        } else if book.has_file_rules() {
            // The file was taken out of the configuration, and its rules with it.
            book.about_to_change();
            book.store.replace_alert_file(&[], &[], clock::now_us()).await?;
            book.refresh().await?;
        }
        Ok(book)
    }

    /// What is in force.
    pub(crate) fn current(&self) -> Arc<RuleSet> {
        Arc::clone(&self.current.borrow())
    }

    /// Follows it.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<RuleSet>> {
        self.current.subscribe()
    }

    /// Makes a rule (`create`) or replaces the one of this name: any, or only one `of` a project.
    pub(crate) async fn put_rule(
        &self,
        definition: RuleDefinition,
        create: bool,
        of: Option<&str>,
    ) -> Result<AlertRule, BookError> {
        let _changing = self.begin().await?;
        let set = self.current();
        let compiled = set.compile(definition).map_err(BookError::Problems)?;
        let definition = &compiled.definition;
        let old = set.rule(&definition.name);
        match old {
            Some(_) if create => return Err(BookError::Conflict(format!("there is a rule {:?}", definition.name))),
            Some(rule) if !is_of(rule, of) => return Err(BookError::Unknown(format!("rule {:?}", definition.name))),
            Some(rule) => refuse_file(rule.source, "rule", &definition.name)?,
            None if !create => return Err(BookError::Unknown(format!("rule {:?}", definition.name))),
            None if set.rules.len() >= MAX_RULES => {
                return Err(BookError::Conflict(format!("there are {MAX_RULES} rules, and no more are taken")));
            }
            None => {}
        }
        let rule = stored::rule(definition, old, AlertSource::Api, clock::now_us());
        self.about_to_change();
        self.store.put_alert_rule(&rule).await?;
        self.refresh().await?;
        Ok(rule)
    }

    /// Removes a rule made over REST: any, or only one `of` a project.
    pub(crate) async fn delete_rule(&self, name: &str, of: Option<&str>) -> Result<(), BookError> {
        let _changing = self.begin().await?;
        let set = self.current();
        let rule = set.rule(name).filter(|rule| is_of(rule, of));
        let rule = rule.ok_or_else(|| BookError::Unknown(format!("rule {name:?}")))?;
        refuse_file(rule.source, "rule", name)?;
        self.about_to_change();
        self.store.delete_alert_rule(rule.rule_id).await?;
        self.refresh().await
    }

    /// Makes a receiver (`create`) or replaces the one of this name. What says `***` stays as it was.
    pub(crate) async fn put_receiver(
        &self,
        mut definition: ReceiverDefinition,
        create: bool,
    ) -> Result<AlertReceiver, BookError> {
        let _changing = self.begin().await?;
        let set = self.current();
        let name = definition.name.clone();
        let old = set.receivers.get(&name);
        match old {
            Some(_) if create => return Err(BookError::Conflict(format!("there is a receiver {name:?}"))),
            Some(receiver) => refuse_file(receiver.stored.source, "receiver", &name)?,
            None if !create => return Err(BookError::Unknown(format!("receiver {name:?}"))),
            None if set.receivers.len() >= MAX_RECEIVERS => {
                return Err(BookError::Conflict(format!("there are {MAX_RECEIVERS} receivers, and no more are taken")));
            }
            None => {}
        }
        let kept = secrets::keep(&mut definition, old.map(|receiver| &receiver.definition));
        kept.and_then(|()| definition.check()).map_err(BookError::Problems)?;
        let receiver = stored::receiver(&definition, old.map(|old| &old.stored), AlertSource::Api, clock::now_us());
        self.about_to_change();
        self.store.put_alert_receiver(&receiver).await?;
        self.refresh().await?;
        Ok(receiver)
    }

    /// Removes a receiver made over REST that no rule names.
    pub(crate) async fn delete_receiver(&self, name: &str) -> Result<(), BookError> {
        let _changing = self.begin().await?;
        let set = self.current();
        let receiver = set.receivers.get(name).ok_or_else(|| BookError::Unknown(format!("receiver {name:?}")))?;
        refuse_file(receiver.stored.source, "receiver", name)?;
        let names_it = |rule: &&ActiveRule| rule.rule.definition.receivers.iter().any(|receiver| receiver == name);
        if let Some(rule) = set.active.iter().find(names_it) {
            let rule = &rule.rule.definition.name;
            return Err(BookError::Conflict(format!("rule {rule:?} names receiver {name:?}; change the rule first")));
        }
        self.about_to_change();
        self.store.delete_alert_receiver(name, clock::now_us()).await?;
        self.refresh().await
    }

    /// Enables a receiver again.
    pub(crate) async fn enable(&self, name: &str) -> Result<(), BookError> {
        let _changing = self.begin().await?;
        self.set_disabled(name, None).await
    }

    /// Disables a receiver that asked for it.
    ///
    /// Invariant: one that was changed meanwhile has not asked for anything, and stays enabled.
    pub(crate) async fn disable(&self, asked: &AlertReceiver, why: String) -> Result<(), BookError> {
        let _changing = self.begin().await?;
        let set = self.current();
        let is_same = |now: &Arc<Receiver>| now.stored.definition == asked.definition;
        if !set.receivers.get(&asked.name).is_some_and(is_same) {
            return Ok(());
        }
        self.set_disabled(&asked.name, Some((clock::now_us(), why))).await
    }

    /// Only for who holds `changing`.
    async fn set_disabled(&self, name: &str, disabled: Option<(i64, String)>) -> Result<(), BookError> {
        self.about_to_change();
        if !self.store.set_receiver_disabled(name, disabled).await? {
            return Err(BookError::Unknown(format!("receiver {name:?}")));
        }
        self.refresh().await
    }

    /// Reads the file of rules again: as a whole, or nothing changes. Answers how many rules and receivers it holds.
    pub(crate) async fn reload(&self) -> Result<(usize, usize), BookError> {
        let Some(path) = &self.file else {
            return Err(BookError::Conflict("alerts.rules_file is not set; there is no file to read".to_owned()));
        };
        let _changing = self.begin().await?;
        let read = async {
            let text = file::read(path).await?;
            self.see(Some(file::fingerprint(&text)));
            self.about_to_change();
            file::replace(&*self.store, &self.current(), &text, clock::now_us()).await
        };
        let outcome = read.await;
        self.metrics.alert_rules_reload_failed.set(i64::from(outcome.is_err()));
        let counts = outcome?;
        self.refresh().await?;
        tracing::info!(file = %path.display(), rules = counts.0, receivers = counts.1, "rules read");
        Ok(counts)
    }

    /// Reads the file again if it has changed since it was read last, whether or not it could be used then; and what is
    /// stored, where that may be newer than what is in force.
    pub(crate) async fn look(&self) {
        if self.stale.load(Ordering::Relaxed)
            && let Err(error) = self.begin().await
        {
            tracing::warn!(%error, "rules that were stored are not in force yet");
            return;
        }
        let Some(path) = &self.file else { return };
        let found = file::read(path).await.ok().map(|text| file::fingerprint(&text));
        // A file that cannot be read counts as one that has changed, once.
        if self.see(found) == found {
            return;
        }
        if let Err(error) = self.reload().await {
            let problems = error.to_string().replace('\n', "; ");
            tracing::error!(file = %path.display(), problems, "rules stay as they were: the file cannot be used");
            if matches!(error, BookError::Store(_)) {
                // It is the store that failed, so that the same file may do.
                self.see(None);
            }
        }
    }

    /// Remembers what the file holds; answers what it held before.
    fn see(&self, found: Option<u64>) -> Option<u64> {
        std::mem::replace(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner), found)
    }

    fn has_file_rules(&self) -> bool {
        let set = self.current();
        set.rules.iter().any(|rule| rule.source == AlertSource::File)
            || set.receivers.values().any(|receiver| receiver.stored.source == AlertSource::File)
    }

    /// Nobody else changes anything while this is held, and what is in force is what is stored.
    async fn begin(&self) -> Result<MutexGuard<'_, ()>, BookError> {
        let changing = self.changing.lock().await;
        if self.stale.load(Ordering::Relaxed) {
            self.refresh().await?;
        }
        Ok(changing)
    }

    /// Until it is read again: also a change whose answer is lost may have been stored.
    fn about_to_change(&self) {
        self.stale.store(true, Ordering::Relaxed);
    }

    /// Puts in force what is stored.
    async fn refresh(&self) -> Result<(), BookError> {
        self.current.send_replace(Arc::new(stored::load(&*self.store).await?));
        self.stale.store(false, Ordering::Relaxed);
        Ok(())
    }
}

fn is_of(rule: &AlertRule, project: Option<&str>) -> bool {
    project.is_none_or(|project| rule.project.as_deref() == Some(project))
}

fn refuse_file(source: AlertSource, what: &str, name: &str) -> Result<(), BookError> {
    match source {
        AlertSource::Api => Ok(()),
        AlertSource::File => {
            Err(BookError::Conflict(format!("{what} {name:?} belongs to the file of rules; change it there")))
        }
    }
}

fn new_id() -> Uuid {
    Uuid::new_v4()
}

#[cfg(test)]
mod tests;
