//! Texts with placeholders: `{{ rule }} on {{ run_name }}: {{ value "edge.ratio" }}`.
//!
//! > **Invariant: rendering is one pass and bounded.** What a placeholder stands for is copied, never read for placeholders
//! > again, and a text ends at [`MAX_RENDERED_BYTES`].

use std::{borrow::Cow, collections::BTreeMap};

use gradwatch_store::RunId;

use crate::{
    Severity,
    language::{Fault, TermSource, shown, unquoted},
};

/// The longest text that comes out.
pub const MAX_RENDERED_BYTES: usize = 8 * 1024;

const PLACEHOLDERS: &str =
    "run_name, run_id, project, group, step, rule, severity, value \"edge.ratio\" and labels.NAME";

/// A text with placeholders that are known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    RunName,
    RunId,
    Project,
    Group,
    Step,
    Rule,
    Severity,
    /// The text of a term.
    Value(String),
    Label(String),
}

/// What placeholders stand for.
#[derive(Clone, Copy, Debug)]
pub struct TemplateContext<'a> {
    /// `{{ run_name }}`
    pub run_name: &'a str,
    /// `{{ run_id }}`
    pub run_id: RunId,
    /// `{{ project }}`
    pub project: &'a str,
    /// `{{ group }}`: the group or layer; empty where the alert is the run's.
    pub group: &'a str,
    /// `{{ step }}`
    pub step: u64,
    /// `{{ rule }}`
    pub rule: &'a str,
    /// `{{ severity }}`
    pub severity: Severity,
    /// `{{ value "edge.ratio" }}`: the newest values of the condition's terms, by their texts.
    pub values: &'a BTreeMap<String, f64>,
    /// `{{ labels.team }}`: nothing where there is no such label.
    pub labels: &'a BTreeMap<String, String>,
}

impl Template {
    /// Reads a text; `terms` are the texts of those of the rule's condition, where it was understood.
    pub(crate) fn parse(text: &str, terms: Option<&[String]>) -> Result<Self, Fault> {
        let mut parts = Vec::new();
        let mut done = 0;
        while let Some(open) = text[done..].find("{{").map(|at| done + at) {
            if open > done {
                parts.push(Part::Text(text[done..open].to_owned()));
            }
            let inside = open + 2;
            let close = closing(&text[inside..])
                .ok_or_else(|| Fault::new(open, "`{{` is never closed; a placeholder ends with `}}`"))?;
            parts.push(placeholder(&text[inside..inside + close], open, terms)?);
            done = inside + close + 2;
        }
        if done < text.len() {
            parts.push(Part::Text(text[done..].to_owned()));
        }
        Ok(Self { parts })
    }

    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// The text, at most [`MAX_RENDERED_BYTES`] long. A value that is unknown is called so.
    #[must_use]
    pub fn render(&self, context: &TemplateContext<'_>) -> String {
        const MORE: &str = "…";
        let mut rendered = String::new();
        for part in &self.parts {
            let piece = part.render(context);
            let room = MAX_RENDERED_BYTES - MORE.len() - rendered.len();
            if piece.len() > room {
                rendered.push_str(&piece[..piece.floor_char_boundary(room)]);
                rendered.push_str(MORE);
                return rendered;
            }
            rendered.push_str(&piece);
        }
        rendered
    }
}

impl Part {
    fn render<'a>(&'a self, context: &TemplateContext<'a>) -> Cow<'a, str> {
        match self {
            Self::Text(text) => text.into(),
            Self::RunName => context.run_name.into(),
            Self::RunId => context.run_id.to_string().into(),
            Self::Project => context.project.into(),
            Self::Group => context.group.into(),
            Self::Step => context.step.to_string().into(),
            Self::Rule => context.rule.into(),
            Self::Severity => context.severity.as_str().into(),
            Self::Value(term) => context.values.get(term).map_or("unknown".into(), |value| number(*value).into()),
            Self::Label(name) => context.labels.get(name).map_or("", String::as_str).into(),
        }
    }
}

/// At most six digits that count.
fn number(value: f64) -> String {
    let magnitude = value.abs();
    if value == 0.0 {
        return "0".to_owned();
    }
    if !(1e-4..1e6).contains(&magnitude) {
        let text = format!("{value:.5e}");
        return match text.split_once('e') {
            Some((digits, exponent)) => format!("{}e{exponent}", without_zeros(digits)),
            None => text,
        };
    }
    // 0.00012345 has its first digit at 10^-4.
    let decimals = (5 - magnitude.log10().floor() as i32).clamp(0, 9) as usize;
    without_zeros(&format!("{value:.decimals$}")).to_owned()
}

fn without_zeros(digits: &str) -> &str {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits }
}

/// Where the `}}` is that closes a placeholder: the first one that stands in no quotation marks.
fn closing(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut is_quoted, mut at) = (false, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if is_quoted => at += 1,
            b'"' => is_quoted = !is_quoted,
            b'}' if !is_quoted && bytes.get(at + 1) == Some(&b'}') => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

fn placeholder(inside: &str, at: usize, terms: Option<&[String]>) -> Result<Part, Fault> {
    let word = inside.trim();
    if let Some(label) = word.strip_prefix("labels.") {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        if let Some(quoted) = unquoted(label) {
            return Ok(Part::Label(quoted));
        }
        if label.is_empty() || !label.chars().all(is_plain) {
            return Err(Fault::new(
                at,
                "behind `labels.` stands the name of a label, such as `labels.team` or `labels.\"a b\"`",
            ));
        }
        return Ok(Part::Label(label.to_owned()));
    }
    if let Some(rest) = word.strip_prefix("value")
        && rest.starts_with([' ', '"'])
    {
        return value(rest.trim(), at, terms).map(Part::Value);
    }
    Ok(match word {
        "run_name" => Part::RunName,
        "run_id" => Part::RunId,
        "project" => Part::Project,
        "group" => Part::Group,
        "step" => Part::Step,
        "rule" => Part::Rule,
        "severity" => Part::Severity,
        _ => {
            return Err(Fault::new(at, format!("there is no placeholder `{}`; there are {PLACEHOLDERS}", shown(word))));
        }
    })
}

/// The term whose value is wanted: by its whole text, or by its metric where the condition has it once.
fn value(quoted: &str, at: usize, terms: Option<&[String]>) -> Result<String, Fault> {
    let Some(text) = unquoted(quoted) else {
        return Err(Fault::new(
            at,
            "behind `value` stands a metric in quotation marks, such as `value \"edge.ratio\"`",
        ));
    };
    let source = TermSource::read(&text).map_err(|fault| Fault::new(at, fault.message))?;
    let wanted = source.to_string();
    let Some(terms) = terms else { return Ok(wanted) };
    if terms.contains(&wanted) {
        return Ok(wanted);
    }
    let qualified: Vec<&String> = terms.iter().filter(|term| term.split('{').next() == Some(&wanted)).collect();
    if let [only] = qualified[..] {
        return Ok(only.clone());
    }
    let known = if terms.is_empty() { "has none".to_owned() } else { format!("has {}", shown(&terms.join(", "))) };
    Err(Fault::new(at, format!("the condition has no one metric `{wanted}` whose value could be shown; it {known}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::Condition;

    const CONDITION: &str =
        r#"edge.ratio < 1.2 and mean(scalar.loss, 5) > 2 and edge.gap{group="a\"}}"} < 1 and edge.gap > 0"#;

    fn terms(text: &str) -> Vec<String> {
        match Condition::parse(text).unwrap() {
            Condition::Expression(expression) => expression.terms.iter().map(ToString::to_string).collect(),
            Condition::Event(_) => Vec::new(),
        }
    }

    fn render(text: &str) -> String {
        let values = [("edge.ratio", 1.125), ("scalar.loss", 2.0 / 3.0e7), (r#"edge.gap{group="a\"}}"}"#, 1234.5678)];
        let values = values.into_iter().map(|(term, value)| (term.to_owned(), value)).collect();
        let labels = [("team", "{{ rule }}"), ("a b", "odd")];
        let labels = labels.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let context = TemplateContext {
            run_name: "width 96",
            run_id: RunId(uuid::Uuid::nil()),
            project: "vision",
            group: "attention",
            step: 1200,
            rule: "collapse",
            severity: Severity::Critical,
            values: &values,
            labels: &labels,
        };
        Template::parse(text, Some(&terms(CONDITION))).unwrap().render(&context)
    }

    #[test]
    fn placeholders_are_filled() {
        for (text, rendered) in [
            ("", ""),
            ("plain } text { with } braces", "plain } text { with } braces"),
            ("{{rule}}: {{ run_name }} at {{ step }}", "collapse: width 96 at 1200"),
            ("{{ project }}/{{ group }} {{ severity }}", "vision/attention critical"),
            ("ratio {{ value \"edge.ratio\" }}", "ratio 1.125"),
            ("loss {{ value \"scalar.loss\" }}", "loss 6.66667e-8"),
            (r#"{{ value "edge.gap{group=\"a\\\"}}\"}" }}"#, "1234.57"),
            ("{{ value \"edge.gap\" }}", "unknown"),
            ("{{ labels.team }}|{{ labels.\"a b\" }}|{{ labels.none }}", "{{ rule }}|odd|"),
            ("{{ run_id }}", "00000000-0000-0000-0000-000000000000"),
        ] {
            assert_eq!(render(text), rendered, "{text}");
        }
    }

    #[test]
    fn numbers_have_six_digits() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (-0.5, "-0.5"),
            (0.1 + 0.2, "0.3"),
            (123_456.7, "123457"),
            (999_999.9, "1000000"),
            (1e6, "1e6"),
            (0.000_123_456_78, "0.000123457"),
            (1.5e-9, "1.5e-9"),
            (f64::MAX, "1.79769e308"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn unknown_placeholders_are_refused_where_they_stand() {
        let terms = terms(CONDITION);
        for (text, at, says) in [
            ("a {{ nme }}", 2, "no placeholder `nme`"),
            ("{{ rule }} {{ rule", 11, "never closed"),
            ("{{ }}", 0, "no placeholder ``"),
            ("{{ value edge.ratio }}", 0, "in quotation marks"),
            ("{{ value \"edge.ration\" }}", 0, "did you mean `edge.ratio`"),
            ("{{ value \"edge.drift\" }}", 0, "it has edge.ratio, scalar.loss"),
            ("{{ value \"1 + 1\" }}", 0, "is no metric"),
            ("{{ labels. }}", 0, "name of a label"),
            ("{{ labels.a b }}", 0, "name of a label"),
            ("{{ {{ rule }} }}", 0, "no placeholder"),
        ] {
            let fault = Template::parse(text, Some(&terms)).unwrap_err();
            assert_eq!(fault.at, at, "{text}: {}", fault.message);
            assert!(fault.message.contains(says), "{text}: {}", fault.message);
        }
    }

    #[test]
    fn what_comes_out_is_bounded() {
        let rendered = render(&"{{ run_name }}é".repeat(2_000));
        assert!(rendered.len() <= MAX_RENDERED_BYTES && rendered.len() > MAX_RENDERED_BYTES - 10, "{}", rendered.len());
        assert!(rendered.ends_with('…'));
    }
}
