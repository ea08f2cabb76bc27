//! What of the alerts of a receiver goes into one message, and stays in order.

use gradwatch_rules::GroupBy;
use gradwatch_store::RunId;

/// The key of what `group_by` names.
///
/// Invariant (promise 8): a function of rule and run, so that what one rule says of one run is told in order.
pub(crate) fn group_key(group_by: &[GroupBy], rule: &str, project: &str, run_id: RunId) -> String {
    let has = |by: GroupBy| group_by.contains(&by);
    let rule = has(GroupBy::Rule).then(|| format!("rule={rule}"));
    let project = has(GroupBy::Project).then(|| format!("project={project}"));
    let run = has(GroupBy::Run).then(|| format!("run={run_id}"));
    [rule, project, run].into_iter().flatten().collect::<Vec<_>>().join(";")
}

/// What such a key names; nothing for a key that is none, such as a test's.
pub(crate) fn named_in(key: &str) -> Vec<GroupBy> {
    let has_rule = key.starts_with("rule=");
    // No name of a rule holds a semicolon; that of a project may.
    let behind_rule = if has_rule { key.split_once(';').map_or("", |(_, behind)| behind) } else { key };
    let has_run = key.rsplit(';').next().is_some_and(|last| last.starts_with("run="));
    let named =
        [(has_rule, GroupBy::Rule), (behind_rule.starts_with("project="), GroupBy::Project), (has_run, GroupBy::Run)];
    named.into_iter().filter(|(is_named, _)| *is_named).map(|(_, by)| by).collect()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_key_says_what_it_names() {
        let all = [GroupBy::Rule, GroupBy::Project, GroupBy::Run];
        for set in 0..8_usize {
            let group_by: Vec<GroupBy> = (0..3).filter(|bit| set >> bit & 1 == 1).map(|bit| all[bit]).collect();
            let backwards: Vec<GroupBy> = group_by.iter().rev().copied().collect();
            let key = group_key(&backwards, "gap", "a;b=c", RunId(Uuid::nil()));
            assert_eq!(named_in(&key), group_by, "{key}");
        }
        assert_eq!(named_in("test 5f0c2f0e-7c0b-4f4e-9f0e-2a5b2f1d9c11"), []);
    }
}
