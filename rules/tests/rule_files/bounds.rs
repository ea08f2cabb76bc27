//! No file costs more than its length.

use gradwatch_rules::{RuleDefinition, RuleFile, Selector, file::MAX_FILE_BYTES, language::CompiledRule};
use proptest::prelude::*;

use crate::{GOOD, problems};

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

/// To look for what was meant, for each of 64,000 names in 200, would take the better part of an hour.
#[test]
fn what_was_meant_is_not_looked_for_without_end() {
    let receivers: String = (0..200).map(|index| format!("  - name: n{index}{}\n", "x".repeat(90))).collect();
    let names: Vec<String> = (0..32).map(|index| format!("z{index}{}", "y".repeat(90))).collect();
    let rules: String = (1..2_000).map(|i| format!("  - {{name: r{i}, when: run.crashed, receivers: *r}}\n")).collect();
    let first = format!("  - {{name: r0, when: run.crashed, receivers: &r [{}]}}\n", names.join(", "));
    let told = problems(&format!("receivers:\n{receivers}rules:\n{first}{rules}"));
    assert!(told.len() == 101 && told[100].contains("64100 more problems"), "{}", told[100]);

    // A name that is far longer than any may be is not compared.
    let long = format!("receivers:\n{}", format!("  - name: {}\n", "x".repeat(20_000)).repeat(199));
    let told = problems(&format!("{long}rules:\n{first}"));
    assert_eq!(told.len(), 101, "{}", told[100]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

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

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever glob a rule may have can be compiled, and takes no more than it looks like.
    #[test]
    fn any_glob_compiles_or_is_told(glob in r"([a-z*?\[\]{},!^\\-]|\*\*/|\[!?[a-é]\]|\{a,b\}|𝄞){0,128}") {
        let definition = RuleDefinition {
            select: Selector { group: Some(glob.clone()), ..Selector::default() },
            ..serde_json::from_value(serde_json::json!({"name": "a", "when": "edge.ratio < 1"})).unwrap()
        };
        match CompiledRule::new(definition) {
            Ok(_) => {
                let matcher = globset::Glob::new(&glob).unwrap().compile_matcher();
                let is_plain = !glob.contains(|c| r"*?[]{}\".contains(c));
                prop_assert!(!is_plain || matcher.is_match(&glob));
            }
            Err(told) => prop_assert!(told.iter().all(|problem| problem.field == "select.group")),
        }
    }
}

#[test]
fn the_deepest_glob_compiles() {
    for glob in [
        "{".repeat(127) + "a" + &"}".repeat(127),
        "[!a]".repeat(64),
        "**/".repeat(85),
        "{a,".repeat(64) + &"}".repeat(64),
    ] {
        let json = serde_json::json!({"name": "a", "when": "edge.ratio < 1", "select": {"group": glob}});
        CompiledRule::new(serde_json::from_value(json).unwrap()).unwrap();
        globset::Glob::new(&glob).unwrap().compile_matcher().is_match("a");
    }
}
