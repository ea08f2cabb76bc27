//! No text costs more than its length, and what is printed is the same again.

use gradwatch_rules::{Position, language::Condition};
use proptest::prelude::*;

/// What is nested is counted before the stack grows: a small stack is enough for any text.
fn on_a_small_stack<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::Builder::new().stack_size(1024 * 1024).spawn(work).unwrap().join().unwrap()
}

#[test]
fn what_is_too_deep_or_too_long_is_an_error_and_no_crash() {
    on_a_small_stack(|| {
        let deep = |open: &str, close: &str, levels: usize| {
            Condition::parse(&format!("{}edge.ratio < 1{}", open.repeat(levels), close.repeat(levels)))
        };
        for (open, close) in [("(", ")"), ("not ", ""), ("not(", ")"), ("((", "))")] {
            let problem = deep(open, close, 10_000).unwrap_err();
            assert!(problem.message.contains("a condition has at most 4096"), "{problem}");
        }
        // As many as the text may hold, and the first that is too many.
        for (text, column) in [
            ("(".repeat(4_096), 65),
            ("-".repeat(4_096), 65),
            ("not ".repeat(1_024), 257),
            ("abs(".repeat(1_024), 257),
            ("-(".repeat(2_048), 65),
            (format!("1 < {}", "(".repeat(4_000)), 69),
        ] {
            let problem = Condition::parse(&text).unwrap_err();
            assert_eq!(problem.position, Some(Position { line: 1, column }), "{problem}");
            assert!(problem.message.contains("more than 64 levels"), "{problem}");
        }
        assert!(deep("(", ")", 64).is_ok());
        assert!(deep("(", ")", 65).is_err());
        assert!(deep("not ", "", 61).is_ok());
        assert!(Condition::parse(&format!("{}1 < edge.ratio", "-".repeat(60))).is_ok());

        let many = |parts: usize| vec!["scalar.a > 1"; parts].join(" and ");
        assert!(Condition::parse(&many(60)).is_ok());
        assert!(Condition::parse(&many(100)).unwrap_err().message.contains("more than 256 parts"));
        let sum = |parts: usize| format!("{} > 1", vec!["scalar.a"; parts].join(" + "));
        assert!(Condition::parse(&sum(60)).is_ok());
        assert!(Condition::parse(&sum(100)).unwrap_err().message.contains("64 levels"));

        for garbage in ["(", "a", "\"", "é", "-", " ", "1", "{", "\0", "\n", "not ", "edge.ratio{"] {
            let text = garbage.repeat(1024 * 1024 / garbage.len());
            assert!(Condition::parse(&text).unwrap_err().message.contains("bytes long"), "{garbage:?}");
        }
    });
}

/// The printed tree of anything that is understood is the same tree; its text aside, which is as it was written.
fn same_again(condition: &Condition) -> Result<(), TestCaseError> {
    let printed = condition.to_string();
    let again = Condition::parse(&printed);
    match (condition, again) {
        (Condition::Expression(before), Ok(Condition::Expression(after))) => {
            prop_assert_eq!(&before.terms, &after.terms, "{}", &printed);
            prop_assert_eq!(&before.truth, &after.truth, "{}", &printed);
            prop_assert_eq!(before.family, after.family, "{}", &printed);
        }
        (Condition::Event(before), Ok(Condition::Event(after))) => prop_assert_eq!(before, &after),
        // Numbers with many digits may need more room than the condition had.
        (_, Err(problem)) if printed.len() > 4_096 => prop_assert!(problem.message.contains("bytes long")),
        (_, other) => return Err(TestCaseError::fail(format!("{printed}: {other:?}"))),
    }
    Ok(())
}

/// Truths made by the grammar, with more parentheses than they need.
fn truths() -> impl Strategy<Value = String> {
    let metric = prop_oneof![
        Just("edge.ratio".to_owned()),
        Just(r#"edge.gap{group="a\"}b", window=20}"#.to_owned()),
        Just("scalar.loss".to_owned()),
        Just(r#"scalar."a b""#.to_owned()),
        Just(r#"cascade.phi{layer="x"}"#.to_owned()),
    ];
    let number = prop_oneof![
        metric.clone(),
        (0.001..1e9f64).prop_map(|number| format!("{number:?}")),
        (metric.clone(), 3..1000usize).prop_map(|(metric, n)| format!("zscore({metric}, {n})")),
        (metric, 0.0..1.0f64).prop_map(|(metric, q)| format!("quantile({metric}, {q:?}, 9)")),
    ]
    .prop_recursive(4, 16, 2, |inner| {
        prop_oneof![
            (inner.clone(), "[-+*/]", inner.clone()).prop_map(|(a, sign, b)| format!("({a}) {sign} ({b})")),
            (inner.clone(), "[-+*/]", inner.clone()).prop_map(|(a, sign, b)| format!("{a} {sign} {b}")),
            inner.clone().prop_map(|a| format!("-({a})")),
            inner.prop_map(|a| format!("abs({a})")),
        ]
    });
    let compared =
        (number.clone(), prop_oneof!["[<>]", "[<>=!]="], number).prop_map(|(a, sign, b)| format!("{a} {sign} {b}"));
    prop_oneof![8 => compared, 1 => Just("true".to_owned())].prop_recursive(4, 16, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 2..4).prop_map(|parts| format!("({})", parts.join(") and ("))),
            proptest::collection::vec(inner.clone(), 2..4).prop_map(|parts| parts.join(" or ")),
            inner.clone().prop_map(|a| format!("not ({a})")),
            inner.prop_map(|a| format!("not {a}")),
        ]
    })
}

fn words() -> impl Strategy<Value = String> {
    let word = proptest::sample::select(vec![
        "edge.ratio",
        "scalar.a",
        "scalar.\"",
        "\"",
        "{",
        "}",
        "group=",
        "\"all\"",
        "(",
        ")",
        ",",
        "mean(",
        "quantile(",
        "abs(",
        "1",
        "0",
        "2.5",
        "1e9",
        "-",
        "+",
        "*",
        "/",
        "<",
        "<=",
        "==",
        "!=",
        "=",
        "and",
        "or",
        "not",
        "true",
        "transition",
        "to",
        "from",
        "plateau",
        "edge.gap_collapse",
        "job.",
        "cascade.phi",
        "é",
        ".",
        "&",
        "\\",
        "\n",
    ]);
    proptest::collection::vec((word, proptest::bool::ANY), 0..60).prop_map(|words| {
        words.into_iter().map(|(word, space)| format!("{word}{}", if space { " " } else { "" })).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_printed_is_the_same_again(text in truths()) {
        match Condition::parse(&text) {
            Ok(condition) => same_again(&condition)?,
            // What the grammar makes is well formed: it may only say nothing, divide by zero, or be too large.
            Err(problem) => {
                let known = ["is always", "divides by zero", "no finite number", "64 levels", "256 parts", "already for each"];
                prop_assert!(known.iter().any(|known| problem.message.contains(known)), "{text}: {problem}");
            }
        }
    }

    #[test]
    fn any_words_give_a_condition_or_a_place(text in words()) {
        match Condition::parse(&text) {
            Ok(condition) => same_again(&condition)?,
            Err(problem) => {
                let at = problem.position.unwrap();
                let line = text.split('\n').nth(at.line - 1);
                prop_assert!(line.is_some_and(|line| at.column <= line.chars().count() + 1), "{text:?}: {problem}");
                prop_assert!(!problem.message.is_empty());
            }
        }
    }

    #[test]
    fn any_text_gives_a_condition_or_a_place(text in any::<String>()) {
        if let Err(problem) = Condition::parse(&text) {
            prop_assert!(problem.position.is_some() && !problem.message.is_empty());
        }
    }
}
