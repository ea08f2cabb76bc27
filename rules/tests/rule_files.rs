//! Files of rules: what they may say, and that everything wrong in them is told at its place in the file.

use gradwatch_rules::{
    GroupBy, Hold, Position, Problem, ReceiverDefinition, ReceiverKind, RuleDefinition, RuleFile, Severity,
    file::MAX_FILE_BYTES, language::CompiledRule,
};
use proptest::prelude::*;

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
fn marked(yaml: &str) -> (String, Vec<(usize, usize)>) {
    let (mut lines, mut places) = (Vec::new(), Vec::new());
    for line in yaml.lines() {
        if line.trim_start().starts_with('^') {
            let columns = line.char_indices().filter(|(_, c)| *c == '^').map(|(at, _)| at + 1);
            places.extend(columns.map(|column| (lines.len(), column)));
        } else {
            lines.push(line);
        }
    }
    (lines.join("\n") + "\n", places)
}

/// Every problem of a file at its place, and no others. Below each faulty line stands `^` where it is.
fn assert_problems(yaml: &str, says: &[&str]) {
    let (yaml, places) = marked(yaml);
    let told = problems(&yaml);
    assert_eq!(told.len(), says.len(), "{yaml}\n{}", told.join("\n"));
    assert_eq!(places.len(), says.len(), "{yaml}");
    for ((told, says), (line, column)) in told.iter().zip(says).zip(places) {
        let place = format!("{line}:{column} ");
        assert!(told.starts_with(&place) && told.contains(says), "at {place}there should be {says:?}\n{told}\n{yaml}");
    }
}

#[test]
fn conditions_are_wrong_at_their_place_in_the_file() {
    for (yaml, says) in [
        // Plain: a syntax error, an unknown metric, a type error, a division by zero, nesting.
        (
            r#"rules:
  - name: a
    when: edge.ratio < < 1
                       ^
  - name: b
    when: scalar.a > 1 and edge.ration < 1
                           ^
  - name: c
    when: edge.ratio and 1
          ^
  - name: d
    when: edge.ratio / (2 - 2) > 1
                       ^
"#,
            &["rules[0].when: found `<`", "did you mean `edge.ratio`?", "`edge.ratio` is a number", "divides by zero"]
                [..],
        ),
        // Quoted, with what is escaped in each.
        (
            r#"rules:
  - name: a
    when: 'scalar."it''s" > 1 and edge.ration < 1'
                                  ^
  - name: b
    when: "scalar.\"a\u0020b\" > 1 \t and edge.ration < 1"
                                          ^
  - {name: c, when: "edge.ratio <"}
                                 ^
  - {name: d, "when": 'edge.ratio'}
                       ^
"#,
            &[
                "rules[0].when: there is no",
                "rules[1].when: there is no",
                "rules[2].when: the condition ends",
                "is a number",
            ],
        ),
        // Over several lines.
        (
            r#"rules:
  - name: a
    when: |
      scalar.a > 1
        and edge.ration < 1
            ^
  - name: b
    when: >-
      scalar.a > 1

      and
      edge.ration < 1
      ^
  - name: c
    when: scalar.a > 1
      and edge.ration < 1
          ^
  - name: d
    when: "scalar.\"a
      b\" > 1 \
      and edge.ration < 1"
          ^
  - name: e
    when:
      edge.ration < 1
      ^
  - name: f
    when: |2 # why
        scalar.a >
                  ^
"#,
            &[
                "rules[0].when",
                "rules[1].when",
                "rules[2].when",
                "rules[3].when",
                "rules[4].when",
                "rules[5].when: the condition ends",
            ],
        ),
        // Columns are counted in characters.
        (
            "rules:\n  - {name: a, when: 'scalar.\"é✓\" > 1 and edge.ration < 1'}\n                                         ^\n",
            &["did you mean"],
        ),
        // Through an alias: where it is defined.
        (
            r#"rules:
  - name: a
    when: &it edge.ration < 1
              ^
  - name: b
    when: transition to forgetting
"#,
            &["did you mean"],
        ),
    ] {
        assert_problems(yaml, says);
    }
}

#[test]
fn ten_thousand_parentheses_are_told_in_one_line() {
    for (open, close) in [("(", ")"), ("not ", ""), ("-", "")] {
        let (open, close) = (open.repeat(10_000), close.repeat(10_000));
        let told = problems(&format!("rules:\n  - name: a\n    when: '{open}edge.ratio < 1{close}'\n"));
        assert_eq!(told.len(), 1);
        assert!(told[0].starts_with("3:12 rules[0].when: is ") && told[0].contains("at most 4096"), "{}", told[0]);
    }
    let told = problems(&format!("rules:\n  - name: a\n    when: {}edge.ratio < 1\n", "(".repeat(2_000)));
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("3:75 rules[0].when: is nested more than 64"), "{}", told[0]);
}

#[test]
fn everything_wrong_is_told_at_once() {
    assert_problems(
        r#"receivers:
  - name: ops
    webhook: {url: "ftp://example.org", secrets: [whsec_short, "***"], secret: x}
                                                                       ^
  - name: ops
          ^
    webhook: {url: "ftp://example.org", secrets: [whsec_short, "***"]}
                   ^                              ^            ^
    group_by: []
              ^
    group_wait_s: 3601
                  ^
    max_concurrency: 0
                     ^
    max_per_minute: 6001
                    ^
    timeout_s: 61
               ^
  - name: none
    ^
  - name: two
    ^
    slack: {url: "https://a"}
    webhook: {url: "https://a"}
  - name: both
    slack: {url: "https://user:password@a", url_env: "A B"}
           ^
  - name: bad name
          ^
    alertmanager: {url: "https://", bearer_env: 1X}
                        ^                       ^
  - name: unsigned
    webhook: {url: "https://a/#x"}
             ^     ^
rulez: []
^
rules:
  - name: a
    when: edge.ratio < 1
    whem: 1
    ^
  - name: a
          ^
    when: edge.ratio < 1
    for: 0
         ^
  - name: c
    when: run.stalled
    for: 3
         ^
    max_age: 10
             ^
    select: {group: "a*"}
                    ^
  - name: d
    when: edge.gap_collapse
    for: 10m
         ^
    receivers: [ops, nobody, ops]
                     ^       ^
  - name: e
    when: edge.ratio < 1
    select: {kind: updates}
                   ^
  - name: f
    when: edge.ratio < 1
    select: {project: "", group: "a[", window: 2}
                      ^          ^             ^
    summary: "at {{ stp }}"
                 ^
    labels: {severity: x, "a-b": y}
                       ^         ^
    annotations: {more: "{{ value \"edge.gap\" }} {{"}
                         ^
  - when: edge.ratio < 1
    ^
  - just text
    ^
  - name: g
    when: edge.ratio < 1
    severity: bad
              ^
  - name: h
    when: edge.ratio < 1
    max_age: ten
             ^
  - name: i
    when: [1]
          ^
  - name: j
    when: edge.ration < 1
          ^
    for: -1
         ^
"#,
        &[
            "receivers[0].webhook: there is no key `secret`; did you mean `secrets`?",
            "receivers[1].name: \"ops\" is a name already taken in line 2",
            "receivers[1].webhook.url: begins with neither",
            "receivers[1].webhook.secrets[0]: a secret is `whsec_`",
            "receivers[1].webhook.secrets[1]: a secret is `whsec_`",
            "receivers[1].group_by: is empty",
            "receivers[1].group_wait_s: 3601 is out of range; it is 0 to 3600",
            "receivers[1].max_concurrency: 0 is out of range; it is 1 to 32",
            "receivers[1].max_per_minute: 6001 is out of range; it is 1 to 6000",
            "receivers[1].timeout_s: 61 is out of range; it is 1 to 60",
            "receivers[2]: needs one of webhook, slack and alertmanager",
            "receivers[3]: has more than one of",
            "receivers[4].slack: has both `url` and `url_env`",
            "receivers[5].name: a name has 1 to 100 letters",
            "receivers[5].alertmanager.url: ",
            "receivers[5].alertmanager.bearer_env: the name of an environment variable",
            "receivers[6].webhook: needs `secrets` or `secrets_env`",
            "receivers[6].webhook.url: has a fragment",
            "file: there is no key `rulez`",
            "rules[0]: there is no key `whem`; did you mean `when`?",
            "rules[1].name: \"a\" is a name already taken",
            "rules[1].for: 0 is out of range",
            "rules[2].for: a stalled run has no readings",
            "rules[2].max_age: an event has no values",
            "rules[2].select.group: the condition looks at the run as a whole",
            "rules[3].for: the event happens at one moment",
            "rules[3].receivers[1]: there is no receiver \"nobody\"; there are ops",
            "rules[3].receivers[2]: \"ops\" comes twice",
            "rules[4].select.kind: is `updates`; did you mean `update`?",
            "rules[5].select.project: is empty",
            "rules[5].select.group: is no glob",
            "rules[5].select.window: 2 is out of range",
            "rules[5].summary: there is no placeholder `stp`",
            "rules[5].labels.severity: every alert has a label `severity`",
            "rules[5].labels.a-b: a name here has",
            "rules[5].annotations.more: the condition has no one metric `edge.gap`",
            "rules[6]: the key `name` is missing",
            "rules[7]: is the text \"just text\", and should be a mapping",
            "rules[8].severity: is `bad`; there are info, warning, critical",
            "rules[9].max_age: is the text \"ten\", and should be a whole number",
            "rules[10].when: is a list, and should be a text",
            "rules[11].when: there is no metric `edge.ration`",
            "rules[11].for: -1 is out of range",
        ],
    );
}

#[test]
fn yaml_that_is_none_or_too_much_is_told_at_its_place() {
    for (yaml, says) in [
        ("", "1:1 file: is empty; `rules: []` says"),
        ("# nothing\n", "1:1 file: is empty"),
        ("just text", "1:1 file: is a text, and should be a mapping"),
        ("rules: {a: 1}\n", "1:8 rules: is a mapping, and should be a list"),
        ("rules:\nreceivers: []\n", "1:6 rules: is nothing, and should be a list"),
        ("rules:\n  - name: a\n   when: b\n", "3:4 file: is no YAML: "),
        ("rules: [\n", "file: is no YAML: "),
        ("rules:\n\t- name: a\n", "2:2 file: is no YAML: tabs"),
        ("rules: []\nrules: []\n", "2:1 file: the key \"rules\" comes twice"),
        ("rules:\n  - name: a\n    name: b\n", "3:5 file: the key \"name\" comes twice"),
        ("rules: []\n---\nrules: []\n", "2:1 file: a second document begins here"),
        ("rules: []\0", "1:10 file: contains a NUL"),
        ("rules:\n  - name: \"a\\0\"\n", "2:11 file: contains a NUL"),
        ("rules: !include other.yaml\n", "1:8 file: has a tag"),
        ("a: &a {x: 1}\nb: {<<: *a}\n", "2:5 file: merging by `<<`"),
        ("{[a]: 1}\n", "1:2 file: a key is a text"),
        ("a: &a [*a]\n", "1:8 file: an alias refers to what it is part of"),
        ("a: *b\n", "1:4 file: is no YAML: "),
    ] {
        let told = problems(yaml);
        assert_eq!(told.len(), 1, "{yaml:?}: {told:?}");
        assert!(told[0].contains(says), "{yaml:?}: {}", told[0]);
    }
    let file = RuleFile::parse("rules: []\n", &[]).unwrap();
    assert!(file.rules.is_empty() && file.receivers.is_empty());
}

#[test]
fn a_mark_of_the_byte_order_is_no_text() {
    let told = problems("\u{feff}rules: [{name: a, when: edge.ration < 1}]\n");
    assert!(told.len() == 1 && told[0].starts_with("1:25 rules[0].when"), "{told:?}");
}

/// Line breaks of Windows.
#[test]
fn carriage_returns_are_line_breaks() {
    let told = problems("rules:\r\n  - name: a\r\n    when: |\r\n      scalar.a > 1\r\n      and edge.ration < 1\r\n");
    assert!(told.len() == 1 && told[0].starts_with("5:11 rules[0].when"), "{told:?}");
}

#[test]
fn aliases_stand_for_what_they_name() {
    let yaml = "rules:\n  - {name: a, when: run.crashed, receivers: &who [x]}\n  - {name: b, when: run.stalled, receivers: *who}\n";
    let file = RuleFile::parse(yaml, &["x".to_owned()]).unwrap();
    assert_eq!(file.rules[1].definition.receivers, ["x"]);
}

#[test]
fn bombs_are_refused() {
    // Ten levels of ten aliases each: 10^10 texts if they were written out.
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..=10 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        laughs.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    let told = problems(&laughs);
    assert!(told.len() == 1 && told[0].contains("more than 250000 values"), "{told:?}");

    // A long text a hundred times.
    let aliases = vec!["*long"; 100].join(", ");
    let told = problems(&format!("a: &long {}\nb: [{aliases}]\n", "x".repeat(1024 * 1024)));
    assert!(told.len() == 1 && told[0].contains("16 MiB of text"), "{told:?}");
    // Levels behind an alias.
    let told =
        problems(&format!("a: &a {}1{}\nb: {}*a{}\n", "[".repeat(10), "]".repeat(10), "[".repeat(9), "]".repeat(9)));
    assert!(told.len() == 1 && told[0].contains("2:13 file: is nested more than 16"), "{told:?}");

    for deep in ["[".repeat(100_000), "{a: ".repeat(100_000), "- ".repeat(100_000), "? ".repeat(100_000)] {
        let told = problems(&deep);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("more than 16 levels") || told[0].contains("is no YAML"), "{told:?}");
    }
    for wide in ["[],".repeat(1_000_000), "- a\n".repeat(1_000_000)] {
        let told = problems(&format!("[{wide}"));
        assert_eq!(told.len(), 1, "{told:?}");
    }
    let told = problems(&"a".repeat(MAX_FILE_BYTES + 1));
    assert!(told[0].contains("the limit is"), "{told:?}");

    let rules = |count: usize| {
        let rule = |index| format!("  - {{name: r{index}, when: edge.ration < 1}}\n");
        format!("rules:\n{}", (0..count).map(rule).collect::<String>())
    };
    let told = problems(&rules(2_001));
    assert_eq!(told, ["2:3 rules: are 2001; the limit is 2000"]);
    let told = problems(&rules(2_000));
    assert_eq!(told.len(), 101);
    assert!(told[100].contains("has 1900 more problems"), "{}", told[100]);
}

#[test]
fn rules_by_rest_are_checked_alike() {
    let rule = |json: serde_json::Value| -> Vec<String> {
        let definition: RuleDefinition = serde_json::from_value(json).unwrap();
        CompiledRule::new(definition).unwrap_err().iter().map(Problem::to_string).collect()
    };
    let told = rule(serde_json::json!({
        "name": "a b",
        "when": "edge.ratio < 1\n and edge.ration < 1",
        "summary": "x\u{0}",
        "labels": {"rule": "x"},
        "select": {"group": "a[", "labels": {"a": "\u{7}"}},
        "receivers": ["a", "a"],
    }));
    let says = [
        "name: a name has",
        "line 2, column 6: when: there is no metric `edge.ration`; did you mean `edge.ratio`?",
        "line 1, column 1: select.labels.a: contains the control character",
        "select.group: is no glob",
        "line 1, column 2: summary: contains the control character",
        "labels.rule: every alert",
        "receivers[1]: \"a\" comes twice",
    ];
    assert_eq!(told.len(), says.len(), "{told:#?}");
    for (told, says) in told.iter().zip(says) {
        assert!(told.starts_with(says), "{told} is no {says}");
    }
    let told = rule(serde_json::json!({"name": "a", "when": "edge.ratio < 1", "annotations": {"x": "a\n {{ b }}"}}));
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("line 2, column 2: annotations.x: there is no placeholder `b`"), "{}", told[0]);

    for json in [
        serde_json::json!({"name": "a", "when": "run.crashed", "what": 1}),
        serde_json::json!({"name": "a", "when": "run.crashed", "for": "never"}),
        serde_json::json!({"name": "a", "when": "run.crashed", "select": {"groups": "a"}}),
    ] {
        assert!(serde_json::from_value::<RuleDefinition>(json).is_err());
    }
    for json in [
        serde_json::json!({"name": "a", "slack": {"url": "https://a"}, "slacks": 1}),
        serde_json::json!({"name": "a", "slack": {"url": "https://a", "uri": 1}}),
        serde_json::json!({"name": "a"}),
    ] {
        assert!(serde_json::from_value::<ReceiverDefinition>(json).is_err());
    }
}

/// What is told of a wrong secret or address never repeats it.
#[test]
fn secrets_are_not_told() {
    let yaml = "receivers:\n  - name: a\n    webhook: {url: 'gopher://hidden', secrets: [whsec_hidden]}\n  - {name: b, slack: {url: 'hidden url'}}\n";
    let told = problems(yaml);
    assert_eq!(told.len(), 3);
    assert!(told.iter().all(|told| !told.contains("hidden")), "{told:?}");
}

proptest! {
    /// A good file in which something was cut out, doubled or overwritten.
    #[test]
    fn damaged_files_are_read_or_told(at in 0..GOOD.len(), length in 0..40usize, garbage in "[ -~\\n\\t]{0,12}") {
        let end = (at + length).min(GOOD.len());
        let damaged = format!("{}{garbage}{}", &GOOD[..at], &GOOD[end..]);
        if let Err(told) = RuleFile::parse(&damaged, &["other".to_owned()]) {
            prop_assert!(!told.is_empty());
            prop_assert!(told.iter().all(|problem| problem.position.is_some() && !problem.message.is_empty()));
        }
    }

    #[test]
    fn any_text_is_read_or_told(text in any::<String>()) {
        if let Err(told) = RuleFile::parse(&text, &[]) {
            prop_assert!(!told.is_empty() && told.iter().all(|problem| problem.position.is_some()));
        }
    }
}
