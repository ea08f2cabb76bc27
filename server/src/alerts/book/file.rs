//! The file of rules and receivers.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    path::Path,
};

use gradwatch_rules::{
    Problem, RuleFile,
    file::{MAX_FILE_BYTES, MAX_RECEIVERS, MAX_RULES},
};
use gradwatch_store::{AlertSource, Store, StoreError};
use tokio::io::AsyncReadExt;

use super::{BookError, RuleSet, stored};

/// Reads it.
pub(super) async fn read(path: &Path) -> Result<String, BookError> {
    let problem = |error: std::io::Error| {
        BookError::problem("alerts.rules_file", format!("{} cannot be read: {error}", path.display()))
    };
    let file = tokio::fs::File::open(path).await.map_err(problem)?;
    let mut text = String::new();
    // One byte more than may be shows that there is more.
    file.take(MAX_FILE_BYTES as u64 + 1).read_to_string(&mut text).await.map_err(problem)?;
    Ok(text)
}

/// Tells whether two contents are the same.
pub(super) fn fingerprint(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// Checks the whole of it, then stores the whole of it. Answers how many rules and receivers it holds.
///
/// Invariant: as a whole or not at all.
pub(super) async fn replace(
    store: &dyn Store,
    set: &RuleSet,
    text: &str,
    now_us: i64,
) -> Result<(usize, usize), BookError> {
    let of_api = |source: AlertSource| source == AlertSource::Api;
    let others = || set.receivers.values().filter(|receiver| of_api(receiver.stored.source));
    let known: Vec<String> = others().map(|receiver| receiver.stored.name.clone()).collect();
    let file = RuleFile::parse(text, &known).map_err(BookError::Problems)?;

    let mut problems = Vec::new();
    for (index, rule) in file.rules.iter().enumerate() {
        let name = &rule.definition.name;
        if set.rule(name).is_some_and(|rule| of_api(rule.source)) {
            problems.push(taken(format!("rules[{index}].name"), "rule", name));
        }
    }
    for (index, receiver) in file.receivers.iter().enumerate() {
        if known.contains(&receiver.name) {
            problems.push(taken(format!("receivers[{index}].name"), "receiver", &receiver.name));
        }
    }
    let made = set.rules.iter().filter(|rule| of_api(rule.source)).count();
    for (field, made, in_file, limit) in
        [("rules", made, file.rules.len(), MAX_RULES), ("receivers", known.len(), file.receivers.len(), MAX_RECEIVERS)]
    {
        if made + in_file > limit {
            let message = format!("{in_file} and the {made} made over REST are more than {limit}");
            problems.push(Problem { field: field.to_owned(), position: None, message });
        }
    }
    // A rule made over REST may name a receiver of the file, which must then stay.
    for rule in set.active.iter().zip(&set.rules).filter(|(_, stored)| of_api(stored.source)).map(|(rule, _)| rule) {
        for name in &rule.rule.definition.receivers {
            if !known.contains(name) && !file.receivers.iter().any(|receiver| receiver.name == *name) {
                let message = format!("rule {:?}, made over REST, names {name:?}", rule.rule.definition.name);
                problems.push(Problem { field: "receivers".to_owned(), position: None, message });
            }
        }
    }
    if !problems.is_empty() {
        return Err(BookError::Problems(problems));
    }

    let rules: Vec<_> = file
        .rules
        .iter()
        .map(|rule| stored::rule(&rule.definition, set.rule(&rule.definition.name), AlertSource::File, now_us))
        .collect();
    let receivers: Vec<_> = file
        .receivers
        .iter()
        .map(|receiver| {
            let old = set.receivers.get(&receiver.name).map(|old| &old.stored);
            stored::receiver(receiver, old, AlertSource::File, now_us)
        })
        .collect();
    match store.replace_alert_file(&rules, &receivers, now_us).await {
        Ok(()) => Ok((rules.len(), receivers.len())),
        Err(StoreError::Conflict { field, message }) => Err(BookError::Conflict(format!("{field}: {message}"))),
        Err(error) => Err(error.into()),
    }
}

fn taken(field: String, what: &str, name: &str) -> Problem {
    Problem { field, position: None, message: format!("there is a {what} {name:?} that was made over REST") }
}
