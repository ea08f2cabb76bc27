//! Places in conditions, in every way in which YAML writes a text.

use gradwatch_rules::{Position, RuleFile};
use proptest::prelude::*;

use crate::{problems, told::assert_problems};

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

/// A condition whose one unknown metric stands behind names, white space and line breaks.
#[derive(Debug)]
struct Written {
    /// Names of scalars.
    names: Vec<String>,
    /// What stands between the words: blanks, and whether a line ends there.
    gaps: Vec<(usize, bool)>,
    /// Which characters are written as escapes where that is possible.
    escapes: Vec<bool>,
}

fn written() -> impl Strategy<Value = Written> {
    let name = "[a-z][a-z \"\\\\'é✓𝄞:#{}|>&*-]{0,6}[a-z\"'\\\\]";
    (
        proptest::collection::vec(name, 0..4),
        proptest::collection::vec((1..4usize, any::<bool>()), 12),
        proptest::collection::vec(any::<bool>(), 16),
    )
        .prop_map(|(names, gaps, escapes)| Written { names, gaps, escapes })
}

impl Written {
    fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        for name in &self.names {
            words.push(format!("scalar.\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"")));
            words.extend(["> 1", "and"].map(str::to_owned));
        }
        words.extend(["edge.ration", "< 1"].map(str::to_owned));
        words
    }

    /// The words with their gaps; a line goes on behind `indent`.
    fn text(&self, indent: &str, escaped: impl Fn(&str) -> String) -> String {
        let mut text = String::new();
        for (index, word) in self.words().iter().enumerate() {
            if index > 0 {
                let (blanks, breaks) = self.gaps[index % self.gaps.len()];
                text.push_str(&" ".repeat(blanks));
                if breaks {
                    text.push_str(&format!("\n{indent}"));
                }
            }
            text.push_str(&escaped(word));
        }
        text
    }

    /// A word in double quotation marks, with some of its characters by number.
    fn double_quoted(&self, word: &str) -> String {
        let escaped = word.chars().enumerate().map(|(index, c)| match c {
            '"' | '\\' => format!("\\{c}"),
            ' ' if self.escapes[index % 16] => "\\x20".to_owned(),
            // The metric that is looked for is left as it is.
            'é' | '✓' if self.escapes[index % 16] => format!("\\u{:04x}", c as u32),
            '𝄞' if self.escapes[index % 16] => format!("\\U{:08x}", c as u32),
            c => c.to_string(),
        });
        escaped.collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_condition_is_wrong_at_its_place_in_every_style(written in written()) {
        let as_it_is = |word: &str| word.to_owned();
        let indent = "      ";
        for (style, yaml) in [
            ("single", format!("'{}'", written.text(indent, |word| word.replace('\'', "''")))),
            ("double", format!("\"{}\"", written.text(indent, |word| written.double_quoted(word)))),
            ("literal", format!("|\n{indent}{}", written.text(indent, as_it_is))),
            ("folded", format!(">-  # why\n{indent}{}", written.text(indent, as_it_is))),
        ] {
            let yaml = format!("rules:\n  - name: a\n    when: {yaml}\n    for: 2\n");
            let told = RuleFile::parse(&yaml, &[]).unwrap_err();
            let place = yaml.find("edge.ration").map(|at| Position::in_text(&yaml, at));
            prop_assert_eq!(told.len(), 1, "{}: {:?}\n{}", style, told, yaml);
            prop_assert!(told[0].message.contains("did you mean `edge.ratio`?"), "{style}: {told:?}\n{yaml}");
            prop_assert_eq!(told[0].position, place, "{}: {:?}\n{}", style, told, yaml);
        }
    }
}
