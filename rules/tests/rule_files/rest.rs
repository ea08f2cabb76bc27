//! Rules and receivers that come alone, as JSON.

use gradwatch_rules::{Problem, ReceiverDefinition, RuleDefinition, language::CompiledRule};

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
