//! The language of conditions: what is understood, what is refused and where, and that no text costs more than its length.

mod bounds;
mod wrong;

use gradwatch_rules::language::{Condition, EventCondition, Expression, Family, Function, Number, TermSource, Truth};
use gradwatch_spectral::{detectors::Regime, layers::LayerInstrument};
use gradwatch_store::Kind;

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
