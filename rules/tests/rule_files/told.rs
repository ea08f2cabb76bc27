//! What is wrong with a file is told whole.

use gradwatch_rules::RuleFile;

use crate::problems;

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
pub(crate) fn assert_problems(yaml: &str, says: &[&str]) {
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
        (
            "rules:\n  - summary: {{ rule }}\n",
            "2:15 file: a key is a text, not a list or a mapping; a text that begins with",
        ),
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

/// What is told of a wrong secret or address never repeats it.
#[test]
fn secrets_are_not_told() {
    let yaml = "receivers:\n  - name: a\n    webhook: {url: 'gopher://hidden', secrets: [whsec_hidden]}\n  - {name: b, slack: {url: 'hidden url'}}\n";
    let told = problems(yaml);
    assert_eq!(told.len(), 3);
    assert!(told.iter().all(|told| !told.contains("hidden")), "{told:?}");
    let yaml = "receivers:\n  - name: a\n    webhook: {url: 'https://hidden', secrets: [whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw]}\n  - {name: b, slack: {url: 'https://hidden'}}\n";
    let printed = format!("{:?}", RuleFile::parse(yaml, &[]).unwrap());
    assert!(!printed.contains("hidden") && !printed.contains("whsec_"), "{printed}");
}

#[test]
fn problems_are_one_line_each() {
    let rule = "rules:\n  - name: a\n    when: edge.ratio < 1\n";
    for (line, says) in [
        (r#"    "\e[2Jred\nb": 1"#, "4:5 rules[0]: there is no key ` [2Jred b`; there are name"),
        (r#"    labels: {"\e[2Jred\nb": x}"#, "4:29 rules[0].labels. [2Jred b: a name here has"),
        (r#"    severity: "\e[2Jred\nb""#, "4:15 rules[0].severity: is ` [2Jred b`; there are"),
        (r#"    select: {group: ""}"#, "4:21 rules[0].select.group: is empty; leave it out"),
    ] {
        let told = problems(&format!("{rule}{line}\n"));
        assert!(told.len() == 1 && told[0].starts_with(says), "{told:?}");
    }
}
