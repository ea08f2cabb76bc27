//! The language of conditions: what is understood, what is refused and where, and that no text costs more than its length.

use gradwatch_rules::{
    Position,
    language::{Condition, EventCondition, Expression, Family, Function, Number, TermSource, Truth},
};
use gradwatch_spectral::{detectors::Regime, layers::LayerInstrument};
use gradwatch_store::Kind;
use proptest::prelude::*;

fn expression(text: &str) -> Expression {
    match Condition::parse(text) {
        Ok(Condition::Expression(expression)) => expression,
        other => panic!("{text}: {other:?}"),
    }
}

/// The tree as it is printed, with the parentheses it needs.
fn printed(text: &str) -> String {
    Condition::parse(text).unwrap_or_else(|problem| panic!("{text}: {problem}")).to_string()
}

#[test]
fn expressions_are_understood_with_the_usual_precedence() {
    for (text, meaning) in [
        ("edge.ratio < 1.2 and scalar.loss > 2", "edge.ratio < 1.2 and scalar.loss > 2.0"),
        ("edge.ratio<1.2", "edge.ratio < 1.2"),
        ("  edge.ratio\n\t<= 1e-3 ", "edge.ratio <= 0.001"),
        ("mean(edge.ratio, 50) >= 1", "mean(edge.ratio, 50) >= 1.0"),
        ("min(edge.gap,2) == 0 or max(edge.gap, 1000) != 1", "min(edge.gap, 2) == 0.0 or max(edge.gap, 1000) != 1.0"),
        ("stddev(scalar.loss, 20) > 1", "stddev(scalar.loss, 20) > 1.0"),
        ("slope(scalar.loss, 20) > 0", "slope(scalar.loss, 20) > 0.0"),
        ("zscore(update.norm_z, 3) > 4", "zscore(update.norm_z, 3) > 4.0"),
        ("quantile(edge.gap, 0.9, 50) > 1", "quantile(edge.gap, 0.9, 50) > 1.0"),
        ("delta(scalar.loss) > 0.5", "delta(scalar.loss) > 0.5"),
        ("abs(scalar.a - scalar.b) > 0.5", "abs(scalar.a - scalar.b) > 0.5"),
        ("scalar.a + scalar.b * scalar.c < 1", "scalar.a + scalar.b * scalar.c < 1.0"),
        ("(scalar.a + scalar.b) * scalar.c < 1", "(scalar.a + scalar.b) * scalar.c < 1.0"),
        ("scalar.a - (scalar.b - scalar.c) < 1", "scalar.a - (scalar.b - scalar.c) < 1.0"),
        ("scalar.a - scalar.b - scalar.c < 1", "scalar.a - scalar.b - scalar.c < 1.0"),
        ("scalar.a / scalar.b / 2 < 1", "scalar.a / scalar.b / 2.0 < 1.0"),
        ("-scalar.a * 2 < --scalar.b", "-scalar.a * 2.0 < --scalar.b"),
        ("-(scalar.a + 1) < -1", "-(scalar.a + 1.0) < -1.0"),
        ("scalar.a > 2 * 3 + 1 / 4", "scalar.a > 6.25"),
        ("scalar.a > abs(-2)", "scalar.a > 2.0"),
        ("not scalar.a < 1 and scalar.b < 1", "not scalar.a < 1.0 and scalar.b < 1.0"),
        ("not (scalar.a < 1 and scalar.b < 1)", "not (scalar.a < 1.0 and scalar.b < 1.0)"),
        ("not not scalar.a < 1", "not not scalar.a < 1.0"),
        ("scalar.a<1 or scalar.b<1 and scalar.c<1", "scalar.a < 1.0 or scalar.b < 1.0 and scalar.c < 1.0"),
        ("(scalar.a<1 or scalar.b<1) and scalar.c<1", "(scalar.a < 1.0 or scalar.b < 1.0) and scalar.c < 1.0"),
        (
            "(scalar.a<1 and scalar.b<1) and (scalar.c<1 and true)",
            "scalar.a < 1.0 and scalar.b < 1.0 and scalar.c < 1.0 and true",
        ),
        (
            "edge.ratio{group=\"all\", kind = \"gradient\" , window=20} < 1",
            "edge.ratio{group=\"all\", kind=\"gradient\", window=20} < 1.0",
        ),
        ("edge.sigma_64 < 1", "edge.sigma_64 < 1.0"),
        ("cascade.phi{layer=\"blocks.3\"} < 1", "cascade.phi{layer=\"blocks.3\"} < 1.0"),
        ("scalar.\"a b\" > 1 and scalar.\"loss\" > 1", "scalar.\"a b\" > 1.0 and scalar.loss > 1.0"),
        (r#"scalar."say \"\\\"" > 1"#, r#"scalar."say \"\\\"" > 1.0"#),
        ("scalar.val.top5 > 1 and scalar.val.\"x/y\" > 1", "scalar.val.top5 > 1.0 and scalar.\"val.x/y\" > 1.0"),
        ("scalar.and > 1e300", "scalar.and > 1e300"),
        ("transition to forgetting", "transition to forgetting"),
        (" transition  from plateau\nto transition ", "transition from plateau to transition"),
        ("run.stalled", "run.stalled"),
        ("run.crashed", "run.crashed"),
        ("edge.gap_collapse", "edge.gap_collapse"),
        ("numeric.nonfinite", "numeric.nonfinite"),
        ("job.evaluated_2", "job.evaluated_2"),
    ] {
        assert_eq!(printed(text), meaning, "{text}");
        assert_eq!(printed(meaning), meaning, "{text}");
    }
}

#[test]
fn trees_are_what_they_say() {
    let it = expression("mean(edge.ratio, 50) < 1.5 * edge.ratio and delta(scalar.loss) > 0");
    assert_eq!(it.family, Family::Groups);
    let terms: Vec<(String, usize)> = it.terms.iter().map(|term| (term.to_string(), term.readings)).collect();
    assert_eq!(terms, [("edge.ratio".to_owned(), 50), ("scalar.loss".to_owned(), 2)]);
    let Truth::And(parts) = &it.truth else { panic!("{it:?}") };
    let Truth::Compare(_, left, right) = &parts[0] else { panic!("{it:?}") };
    assert_eq!(*left, Number::Windowed { function: Function::Mean, term: 0, readings: 50 });
    assert_eq!(*right, Number::Multiply(Box::new(Number::Constant(1.5)), Box::new(Number::Term(0))));

    let it = expression(r#"edge.gap{kind="gradient",group="all",window=10} > 1"#);
    assert_eq!(it.family, Family::Run);
    let gap =
        TermSource::Edge { metric: "gap", group: Some("all".into()), kind: Some(Kind::Gradient), window: Some(10) };
    assert_eq!(it.terms[0].source, gap);

    assert_eq!(expression("curvature.exponent > 1").family, Family::Layers(LayerInstrument::Curvature));
    assert_eq!(
        expression(r#"curvature.exponent > 1 and edge.gap{group="a"} > 1"#).family,
        Family::Layers(LayerInstrument::Curvature)
    );
    assert_eq!(expression(r#"edge.gap > 1 and cascade.phi{layer="a"} > 1"#).family, Family::Groups);
    assert_eq!(expression("scalar.loss > 1").family, Family::Run);

    for (text, event) in [
        ("transition to forgetting", EventCondition::Transition { from: None, to: Regime::Forgetting }),
        (
            "transition from plateau to transition",
            EventCondition::Transition { from: Some(Regime::Plateau), to: Regime::Transition },
        ),
        ("run.stalled", EventCondition::Stalled),
        ("run.crashed", EventCondition::Crashed),
        ("update.spike", EventCondition::Happened("update.spike".into())),
        ("job.evaluated", EventCondition::Happened("job.evaluated".into())),
    ] {
        assert_eq!(Condition::parse(text).unwrap(), Condition::Event(event), "{text}");
    }
}

/// Every metric, flag and event that there is can be asked for.
#[test]
fn every_known_name_is_understood() {
    use gradwatch_spectral::{
        catalogue::{DETECTORS, EDGE_METRICS},
        layers::FieldType,
    };
    for metric in EDGE_METRICS {
        assert_eq!(expression(&format!("{} > 1", metric.name)).terms[0].to_string(), metric.name);
    }
    for detector in DETECTORS {
        let happened = Condition::Event(EventCondition::Happened(detector.name.into()));
        assert_eq!(Condition::parse(detector.name).unwrap(), happened);
    }
    for instrument in LayerInstrument::ALL {
        for field in instrument.fields() {
            let read = Condition::parse(&format!("{instrument}.{} > 1", field.name));
            let is_number = !matches!(field.field_type, FieldType::Word | FieldType::List);
            assert_eq!(read.is_ok(), is_number, "{instrument}.{}: {read:?}", field.name);
        }
    }
}

#[test]
fn what_is_wrong_is_said_where_it_is() {
    let mut wrong = Vec::new();
    for (text, line, column, says) in [
        // Words.
        ("", 1, 1, "is empty"),
        (" \n ", 1, 1, "is empty"),
        ("edge.ratio < 1 & scalar.a > 1", 1, 16, "write `and`"),
        ("edge.ratio < 1 || scalar.a > 1", 1, 16, "write `or`"),
        ("!(edge.ratio < 1)", 1, 1, "write `not`"),
        ("edge.ratio = 1", 1, 12, "to compare, write `==`"),
        ("edge.ratio < .5", 1, 14, "begins with a digit"),
        ("edge.ratio < 5.", 1, 14, "written like"),
        ("edge.ratio < 10m", 1, 14, "durations stand in `for`"),
        ("edge.ratio < 1e999", 1, 14, "too large"),
        ("edge.ratio < 1e400 + 1", 1, 14, "too large"),
        ("edge. < 1", 1, 6, "ends with a dot"),
        ("scalar.'a' < 1", 1, 8, "ends with a dot"),
        ("scalar.\"a < 1", 1, 8, "never closed"),
        ("scalar.\"a\\n\" < 1", 1, 10, "behind `\\` stands"),
        ("scalar.\"a\nb\" < 1", 1, 10, "no control characters"),
        ("edge.ratio < 1\n  and % 2", 2, 7, "means nothing here"),
        ("édge.ratio < 1", 1, 1, "means nothing here"),
        ("scalar.\"é✓\" < ü", 1, 15, "means nothing here"),
        ("edge.ratio < 1\0", 1, 15, "NUL"),
        // Grammar.
        ("edge.ratio <", 1, 13, "the condition ends where a metric"),
        ("edge.ratio <  \n", 1, 13, "the condition ends where a metric"),
        ("< 1", 1, 1, "found `<`, where a metric"),
        ("edge.ratio < and", 1, 14, "found `and`, where a metric"),
        ("edge.ratio < 1 and", 1, 19, "ends"),
        ("edge.ratio < \"1\"", 1, 14, "the text \"1\""),
        ("(edge.ratio < 1", 1, 16, "operator or `)`"),
        ("edge.ratio < 1)", 1, 15, "no parenthesis is open"),
        ("()", 1, 2, "found `)`"),
        ("edge.ratio 1 < 2", 1, 12, "found the number 1.0, where an operator"),
        ("edge.ratio < 1 scalar.loss > 2", 1, 16, "found `scalar.loss`, where an operator"),
        ("edge.ratio{group} < 1", 1, 17, "where `=` is needed"),
        ("edge.ratio{group=all} < 1", 1, 18, "double quotation marks"),
        ("edge.ratio{group=\"a\" < 1", 1, 22, "`,` or `}`"),
        ("edge.ratio{} < 1", 1, 12, "a qualifier such as"),
        ("edge.ratio{group=\"a\",group=\"b\"} < 1", 1, 22, "comes twice"),
        ("mean(edge.ratio, 5 < 1", 1, 23, "`,` or `)`"),
        // Names.
        ("edge.ration < 1", 1, 1, "did you mean `edge.ratio`?"),
        ("scalar.loss > 2 and edge.ration < 1", 1, 21, "did you mean `edge.ratio`?"),
        ("ratio < 1", 1, 1, "did you mean `edge.ratio`?"),
        ("loss < 1", 1, 1, "`scalar.loss`"),
        ("completely.unknown < 1", 1, 1, "metrics begin with edge."),
        ("edge.sigma_65 < 1", 1, 1, "no metric"),
        ("cascade.phy < 1", 1, 1, "did you mean `cascade.phi`?"),
        ("curvature.rank_model > 1", 1, 1, "holds words"),
        ("curvature.preconditioner > 1", 1, 1, "holds lists"),
        ("edge.\"ratio\" < 1", 1, 1, "only names of scalars"),
        ("edge.ratio AND 1", 1, 12, "found `AND`"),
        ("True", 1, 1, "lower case: `true`"),
        ("avg(edge.ratio, 5) < 1", 1, 1, "functions are mean"),
        ("meen(edge.ratio, 5) < 1", 1, 1, "did you mean `mean`?"),
        ("mean < 1", 1, 1, "is a function"),
        ("edge.ratio{layer=\"a\"} < 1", 1, 12, "takes group, kind and window"),
        ("cascade.phi{group=\"a\"} < 1", 1, 13, "takes layer"),
        ("scalar.loss{group=\"a\"} < 1", 1, 13, "no qualifiers"),
        ("edge.ratio{kind=\"updates\"} < 1", 1, 17, "\"update\" or \"gradient\""),
        ("edge.ratio{window=2} < 1", 1, 19, "3 to 64"),
        ("edge.ratio{window=65} < 1", 1, 19, "3 to 64"),
        ("edge.ratio{window=20.5} < 1", 1, 19, "3 to 64"),
        ("edge.ratio{group=3} < 1", 1, 18, "is a name"),
        ("edge.ratio{group=\"\"} < 1", 1, 18, "1 to 256"),
        // Types.
        ("edge.ratio", 1, 1, "a condition needs what is true or false, and `edge.ratio` is a number"),
        ("edge.ratio and 1", 1, 1, "`and` needs what is true or false, and `edge.ratio` is a number"),
        ("edge.ratio < 1 and 1", 1, 20, "`1` is a number"),
        ("not edge.ratio", 1, 5, "`not` needs"),
        ("(edge.ratio < 1) + 1 > 2", 1, 1, "`+` needs a number, and `(edge.ratio < 1)` is true or false"),
        ("1 < edge.ratio < 2", 1, 1, "join comparisons with `and`"),
        ("edge.ratio == true", 1, 15, "`==` needs a number, and `true` is true or false"),
        ("-(edge.ratio < 1) > 2", 1, 2, "`-` needs a number"),
        ("abs(edge.ratio > 1) > 2", 1, 5, "`abs` needs a number"),
        // Functions.
        ("mean(edge.ratio) < 1", 1, 1, "was given 1 argument; write `mean(metric, n)`"),
        ("mean() < 1", 1, 1, "was given 0 arguments"),
        ("delta(edge.ratio, 2) < 1", 1, 1, "write `delta(metric)`"),
        ("quantile(edge.ratio, 50) < 1", 1, 1, "write `quantile(metric, q, n)`"),
        ("quantile(edge.ratio, 1.5, 50) < 1", 1, 22, "from 0 to 1, not `1.5`"),
        ("mean(edge.ratio, 1) < 1", 1, 18, "2 to 1000, not `1`"),
        ("mean(edge.ratio, 1001) < 1", 1, 18, "2 to 1000"),
        ("mean(edge.ratio, 2.5) < 1", 1, 18, "2 to 1000"),
        ("mean(edge.ratio, scalar.n) < 1", 1, 18, "not `scalar.n`"),
        ("zscore(edge.ratio, 2) < 1", 1, 20, "3 to 1000"),
        ("mean(2 * edge.ratio, 5) < 1", 1, 6, "one metric, not of `2 * edge.ratio`"),
        ("mean(3, 5) < 1", 1, 6, "one metric, not of `3`"),
        ("mean(edge.ration, 5) < 1", 1, 6, "did you mean `edge.ratio`?"),
        // Constants.
        ("edge.ratio / 0 < 1", 1, 14, "divides by zero"),
        ("edge.ratio / (1 - 1) < 1", 1, 14, "divides by zero"),
        ("scalar.a > 1 and\n1 / -0.0 > edge.ratio", 2, 5, "divides by zero: `1 / -0.0`"),
        ("edge.ratio > 1e308 * 10", 1, 14, "no finite number"),
        ("1 < 2", 1, 1, "always true"),
        ("true", 1, 1, "always true"),
        ("edge.ratio > 1 and 1 > 2", 1, 1, "always false"),
        ("edge.ratio > 1 or not false", 1, 1, "always true"),
        // Families.
        ("edge.ratio > 1 and cascade.phi > 1", 1, 20, "already for each group"),
        ("cascade.phi > 1 and edge.ratio > 1", 1, 21, "already for each layer"),
        ("cascade.phi > 1 and curvature.exponent > 1", 1, 21, "each layer of curvature"),
        // Events.
        ("transition", 1, 11, "`to` or `from`"),
        ("transition to", 1, 14, "a regime"),
        ("transition to forgeting", 1, 15, "found `forgeting`"),
        ("transition from plateau", 1, 24, "`to`"),
        ("transition from plateau to plateau", 1, 28, "never happens"),
        ("transition to forgetting and edge.ratio < 1", 1, 26, "stands alone"),
        ("edge.gap_collapse and edge.ratio < 1", 1, 19, "stands alone"),
        ("edge.ratio < 1 and edge.gap_collapse", 1, 20, "is an event"),
        ("edge.gap_collapse{group=\"a\"}", 1, 18, "takes no qualifiers"),
        ("edge.gap_colapse", 1, 1, "did you mean `edge.gap_collapse`?"),
        ("run.stoled", 1, 1, "did you mean `run.stalled`?"),
        ("job.", 1, 5, "ends with a dot"),
        ("job.Evaluated", 1, 1, "lower-case"),
    ] {
        let problem = Condition::parse(text).expect_err(text);
        let is_right = problem.position == Some(Position { line, column }) && problem.message.contains(says);
        if !is_right || problem.field != "when" {
            wrong.push(format!("{text:?} is to say {says:?} at {line}:{column}: {problem}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

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
