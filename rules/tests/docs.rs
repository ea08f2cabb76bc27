//! What the documentation shows is what the code does.

use gradwatch_rules::{RuleFile, language::Condition};
use gradwatch_spectral::catalogue::DETECTORS;

const ALERTS: &str = include_str!("../../docs/alerts.md");

/// The blocks of the page: what stands behind the fence, and the lines.
fn blocks() -> Vec<(&'static str, &'static str)> {
    let parts: Vec<&str> = ALERTS.split("\n```").collect();
    parts.iter().skip(1).step_by(2).map(|block| block.split_once('\n').unwrap_or((block, ""))).collect()
}

#[test]
fn examples_of_rules_are_right() {
    let examples = blocks().into_iter().filter(|(kind, text)| *kind == "yaml" && text.contains("rules:\n"));
    let mut rules = 0;
    for (_, yaml) in examples {
        let file = RuleFile::parse(yaml, &["ops".to_owned()]).unwrap_or_else(|told| panic!("{told:#?}\n{yaml}"));
        rules += file.rules.len();
    }
    assert!(rules >= 3);
}

#[test]
fn examples_of_conditions_are_right() {
    let lines = blocks().into_iter().filter(|(kind, _)| *kind == "gradwatch").flat_map(|(_, text)| text.lines());
    let conditions: Vec<&str> = lines.collect();
    assert!(conditions.len() >= 10);
    for condition in conditions {
        Condition::parse(condition).unwrap_or_else(|problem| panic!("{condition}: {problem}"));
    }
}

#[test]
fn what_is_told_of_a_wrong_file_is_what_the_page_says() {
    let blocks = blocks();
    let at = blocks.iter().position(|(kind, _)| *kind == "yaml wrong").unwrap();
    let told = RuleFile::parse(blocks[at].1, &[]).unwrap_err();
    let lines: Vec<String> = told
        .iter()
        .map(|problem| {
            let place = problem.position.unwrap();
            format!("rules.yaml:{}:{}: {}: {}", place.line, place.column, problem.field, problem.message)
        })
        .collect();
    assert_eq!(lines.join("\n"), blocks[at + 1].1);
}

#[test]
fn every_detector_is_listed() {
    for detector in DETECTORS {
        assert!(ALERTS.contains(&format!("`{}`", detector.name)), "{}", detector.name);
    }
}
