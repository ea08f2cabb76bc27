//! Files of rules: what they may say, and that everything wrong in them is told at its place in the file.

mod bounds;
mod places;
mod rest;
mod told;

use gradwatch_rules::{
    GroupBy, Hold, Position, Problem, ReceiverDefinition, ReceiverKind, RuleDefinition, RuleFile, Severity,
    language::CompiledRule,
};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

const GOOD: &str = r#"
# Who is told.
receivers:
  - name: ops
    webhook:
      url: https://example.org/hooks/gradwatch?x=1
      secrets: [whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw]
    group_by: [rule, run]
    group_wait_s: 30
    send_resolved: false
  - name: chat
    slack: {url_env: SLACK_URL}
  - {name: pager, alertmanager: {url: "http://[::1]:9093", bearer_env: AM_TOKEN}, timeout_s: 5}

rules:
  - name: gap.collapse-1
    select: {project: vision, labels: {team: "42", size: 42}, group: "blocks.*", kind: update, window: 20}
    when: edge.ratio < 1.2 and mean(scalar.loss, 50) > 2
    for: 3
    keep_firing_for: 1h30m
    max_age: 100
    severity: critical
    summary: '{{ rule }} on {{ run_name }}: {{ value "edge.ratio" }}'
    labels: {team: vision}
    annotations:
      runbook: https://example.org/runbook
      more: |
        In {{ group }}
        at step {{ step }}.
    receivers: [ops, chat, other]
  - name: forgets
    when: transition to forgetting
  - name: stalls
    when: run.stalled
    for: 20m
"#;

#[test]
fn a_file_is_read_whole() {
    let file = RuleFile::parse(GOOD, &["other".to_owned()]).unwrap();
    let [ops, chat, pager] = &file.receivers[..] else { panic!("{file:?}") };
    assert_eq!((ops.group_wait_s, ops.send_resolved, ops.max_concurrency), (30, false, 4));
    assert_eq!(ops.group_by, [GroupBy::Rule, GroupBy::Run]);
    let url = "https://example.org/hooks/gradwatch?x=1".to_owned();
    assert_eq!(ops.kind, ReceiverKind::Webhook { url, secrets: vec![SECRET.into()], secrets_env: None });
    assert_eq!(chat.kind, ReceiverKind::Slack { url: None, url_env: Some("SLACK_URL".into()) });
    assert_eq!((pager.timeout_s, pager.max_per_minute, pager.group_wait_s), (5, 60, 5));

    let [collapse, forgets, stalls] = &file.rules[..] else { panic!("{file:?}") };
    let definition = &collapse.definition;
    assert_eq!(
        (definition.hold, definition.keep_firing_for),
        (Some(Hold::Readings(3)), Some(Hold::Microseconds(5_400_000_000)))
    );
    assert_eq!((definition.max_age, definition.severity), (Some(100), Severity::Critical));
    assert_eq!(definition.select.labels["size"], "42");
    assert_eq!(collapse.annotations.len(), 2);
    assert!(!collapse.summary.is_empty() && forgets.summary.is_empty());
    assert_eq!(forgets.definition.severity, Severity::Warning);
    assert_eq!(stalls.definition.hold, Some(Hold::Microseconds(1_200_000_000)));
}

#[test]
fn what_is_read_goes_through_json_and_back() {
    let file = RuleFile::parse(GOOD, &["other".to_owned()]).unwrap();
    for receiver in file.receivers {
        let json = serde_json::to_value(&receiver).unwrap();
        assert_eq!(serde_json::from_value::<ReceiverDefinition>(json).unwrap(), receiver);
        receiver.check().unwrap();
    }
    for rule in file.rules {
        let json = serde_json::to_value(&rule.definition).unwrap();
        let definition: RuleDefinition = serde_json::from_value(json).unwrap();
        assert_eq!(definition, rule.definition);
        assert_eq!(CompiledRule::new(definition).unwrap().condition, rule.condition);
    }
}

/// The problems of a file as `line:column field: message`.
fn problems(yaml: &str) -> Vec<String> {
    let told = RuleFile::parse(yaml, &[]).map(|file| format!("{file:?}")).expect_err(yaml);
    told.iter().map(shown).collect()
}

fn shown(problem: &Problem) -> String {
    let Position { line, column } = problem.position.expect("every problem of a file has a place");
    format!("{line}:{column} {}: {}", problem.field, problem.message)
}

/// Finds the place of `^` in the line below the text it points at, and takes these lines out.
#[test]
fn aliases_stand_for_what_they_name() {
    let yaml = "rules:\n  - {name: a, when: run.crashed, receivers: &who [x]}\n  - {name: b, when: run.stalled, receivers: *who}\n";
    let file = RuleFile::parse(yaml, &["x".to_owned()]).unwrap();
    assert_eq!(file.rules[1].definition.receivers, ["x"]);
}
