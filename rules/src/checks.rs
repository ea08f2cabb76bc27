//! What is checked of a rule, wherever it comes from.

use std::{collections::BTreeMap, sync::Arc};

use gradwatch_spectral::window::WINDOW_LENGTHS;

use crate::{
    Hold, Problem, RuleDefinition, Template,
    group_filter::GroupFilter,
    language::{CompiledRule, Condition, EventCondition, Family, Fault, Term, shown},
    yaml::{Step, field},
};

/// The longest name of a rule or a receiver.
pub(crate) const MAX_NAME_BYTES: usize = 100;
/// The longest text of any other kind.
const MAX_TEXT_BYTES: usize = 4 * 1024;
/// The longest summary, name of a project or value of a label.
const MAX_LINE_BYTES: usize = 1024;
/// The longest glob: as long as the name of a group may be.
const MAX_GLOB_BYTES: usize = 256;
/// The most labels, annotations or receivers of a rule.
pub(crate) const MAX_ENTRIES: usize = 32;
/// Steps are below 2^53.
const MAX_STEPS: u64 = 1 << 53;
/// Names that no rule has: over REST they are calls beside the rules, such as `alerts/rules/check`.
const RESERVED_NAMES: [&str; 2] = ["check", "reload"];
/// Labels that every alert has of its own.
const OWN_LABELS: [&str; 6] = ["alertname", "rule", "project", "run", "group", "severity"];

/// What is wrong with a part of a definition.
#[derive(Debug)]
pub(crate) struct Finding {
    /// The way to the part.
    pub(crate) path: Vec<Step>,
    /// The place in its text, in bytes.
    pub(crate) at: Option<usize>,
    pub(crate) message: String,
}

/// Collects what is wrong.
#[derive(Debug, Default)]
pub(crate) struct Findings(pub(crate) Vec<Finding>);

impl Findings {
    pub(crate) fn add(&mut self, path: &[&str], message: impl Into<String>) {
        self.add_at(keys(path), None, message);
    }

    pub(crate) fn add_at(&mut self, path: Vec<Step>, at: Option<usize>, message: impl Into<String>) {
        self.0.push(Finding { path, at, message: message.into() });
    }

    fn add_fault(&mut self, path: &[&str], fault: Fault) {
        self.add_at(keys(path), Some(fault.at), fault.message);
    }

    /// A line: no control characters, not too long.
    pub(crate) fn line(&mut self, path: &[&str], text: &str, max_bytes: usize) {
        if text.len() > max_bytes {
            self.add(path, format!("is {} bytes long; the limit is {max_bytes}", text.len()));
        } else if let Some((at, found)) = text.char_indices().find(|(_, found)| found.is_control()) {
            self.add_at(keys(path), Some(at), format!("contains the control character {found:?}"));
        }
    }

    /// A name of a rule or a receiver.
    pub(crate) fn name(&mut self, path: &[&str], name: &str) {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        if !(1..=MAX_NAME_BYTES).contains(&name.len()) || !name.bytes().all(is_plain) {
            let message = format!("a name has 1 to {MAX_NAME_BYTES} letters, digits, `_`, `-` and `.`, and no others");
            self.add(path, message);
        }
    }
}

fn keys(path: &[&str]) -> Vec<Step> {
    path.iter().map(|key| Step::Key((*key).to_owned())).collect()
}

impl CompiledRule {
    /// Checks a rule that comes alone, as JSON over REST; positions are those in the text of the field.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn new(definition: RuleDefinition) -> Result<Self, Vec<Problem>> {
        let texts = definition.clone();
        compile(definition).map_err(|findings| {
            let problem = |finding: Finding| {
                let name = field("", &finding.path);
                match (finding.at, text_of(&texts, &finding.path)) {
                    (Some(at), Some(text)) => Fault::new(at, finding.message).into_problem(name, text),
                    _ => Problem { field: name, position: None, message: finding.message },
                }
            };
            findings.into_iter().map(problem).collect()
        })
    }
}

/// The text of a field in which there are places.
fn text_of<'d>(definition: &'d RuleDefinition, path: &[Step]) -> Option<&'d str> {
    let keys: Vec<&str> = path.iter().map(|step| if let Step::Key(key) = step { key.as_str() } else { "" }).collect();
    match keys[..] {
        ["when"] => Some(&definition.when),
        ["summary"] => Some(&definition.summary),
        ["annotations", name] => definition.annotations.get(name).map(String::as_str),
        ["labels", name] => definition.labels.get(name).map(String::as_str),
        ["select", "project"] => definition.select.project.as_deref(),
        ["select", "group"] => definition.select.group.as_deref(),
        ["select", "labels", name] => definition.select.labels.get(name).map(String::as_str),
        _ => None,
    }
}

/// Checks a rule.
pub(crate) fn compile(definition: RuleDefinition) -> Result<CompiledRule, Vec<Finding>> {
    let mut findings = Findings::default();
    findings.name(&["name"], &definition.name);
    if RESERVED_NAMES.contains(&definition.name.as_str()) {
        findings.add(&["name"], format!("no rule may be called `{}`: REST has a call of that name", definition.name));
    }
    let condition = Condition::read(&definition.when).map_err(|fault| findings.add_fault(&["when"], fault)).ok();
    let groups = select(&definition, condition.as_ref(), &mut findings);
    if let Some(condition) = &condition {
        times(&definition, condition, &mut findings);
    }
    let terms: Option<Vec<String>> = condition.as_ref().map(|condition| match condition {
        Condition::Expression(expression) => expression.terms.iter().map(Term::to_string).collect(),
        Condition::Event(_) => Vec::new(),
    });
    let terms = terms.as_deref();
    // A block of YAML ends with a line break.
    let line = definition.summary.trim_end();
    findings.line(&["summary"], line, MAX_LINE_BYTES);
    let summary = template(&["summary"], line, terms, &mut findings);
    for (name, value) in entries("labels", &definition.labels, &mut findings) {
        findings.line(&["labels", name], value, MAX_LINE_BYTES);
        if OWN_LABELS.contains(&name.as_str()) {
            findings
                .add(&["labels", name], format!("every alert has a label `{name}` of its own; choose another name"));
        }
    }
    let mut annotations = BTreeMap::new();
    for (name, text) in entries("annotations", &definition.annotations, &mut findings) {
        if text.len() > MAX_TEXT_BYTES {
            let message = format!("is {} bytes long; the limit is {MAX_TEXT_BYTES}", text.len());
            findings.add(&["annotations", name], message);
            continue;
        }
        if let Some(at) = text.find('\0') {
            findings.add_at(keys(&["annotations", name]), Some(at), "contains a NUL character");
        }
        let template = template(&["annotations", name], text, terms, &mut findings);
        annotations.insert(name.clone(), template);
    }
    receivers(&definition.receivers, &mut findings);
    match condition {
        Some(condition) if findings.0.is_empty() => {
            Ok(CompiledRule { definition, condition: Arc::new(condition), groups, summary, annotations })
        }
        _ => Err(findings.0),
    }
}

fn template(path: &[&str], text: &str, terms: Option<&[String]>, findings: &mut Findings) -> Template {
    if text.len() > MAX_TEXT_BYTES {
        return Template::default();
    }
    Template::parse(text, terms).unwrap_or_else(|fault| {
        findings.add_fault(path, fault);
        Template::default()
    })
}

/// Labels or annotations with names that receivers take. None where they are too many: each would be told of.
fn entries<'d>(
    field: &str,
    entries: &'d BTreeMap<String, String>,
    findings: &mut Findings,
) -> impl Iterator<Item = (&'d String, &'d String)> + use<'d> {
    let is_few = entries.len() <= MAX_ENTRIES;
    if !is_few {
        findings.add(&[field], format!("are {} entries; the limit is {MAX_ENTRIES}", entries.len()));
    }
    for name in entries.keys().filter(|_| is_few) {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let begins_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if name.len() > MAX_NAME_BYTES || !begins_well || !name.chars().all(is_plain) {
            let message =
                format!("a name here has at most {MAX_NAME_BYTES} letters, digits and `_`, and begins with no digit");
            findings.add(&[field, name], message);
        }
    }
    entries.iter().filter(move |_| is_few)
}

fn receivers(receivers: &[String], findings: &mut Findings) {
    if receivers.len() > MAX_ENTRIES {
        findings.add(&["receivers"], format!("are {} names; the limit is {MAX_ENTRIES}", receivers.len()));
        return;
    }
    for (index, name) in receivers.iter().enumerate() {
        if receivers[..index].contains(name) {
            let path = vec![Step::Key("receivers".to_owned()), Step::Index(index)];
            findings.add_at(path, None, format!("{:?} comes twice", shown(name)));
        }
    }
}

fn select(definition: &RuleDefinition, condition: Option<&Condition>, findings: &mut Findings) -> GroupFilter {
    let select = &definition.select;
    if let Some(project) = &select.project {
        findings.line(&["select", "project"], project, MAX_LINE_BYTES);
        if project.is_empty() {
            findings.add(&["select", "project"], "is empty; leave it out to mean every project");
        }
    }
    if select.labels.len() > MAX_ENTRIES {
        findings.add(&["select", "labels"], format!("are {} labels; the limit is {MAX_ENTRIES}", select.labels.len()));
    }
    for (name, value) in select.labels.iter().take(MAX_ENTRIES) {
        findings.line(&["select", "labels", name], value, MAX_LINE_BYTES);
        if name.is_empty() || name.len() > MAX_LINE_BYTES || name.chars().any(char::is_control) {
            findings
                .add(&["select", "labels", name], "the name of a label has 1 to 1024 bytes and no control characters");
        }
    }
    // A glob that is too long is not even compiled.
    let groups = GroupFilter::new(select.group.as_deref().filter(|glob| glob.len() <= MAX_GLOB_BYTES));
    if let Some(glob) = &select.group {
        findings.line(&["select", "group"], glob, MAX_GLOB_BYTES);
        if let Err(error) = &groups {
            findings.add(&["select", "group"], format!("is no glob such as `blocks.*`: {}", error.kind()));
        } else if glob.is_empty() {
            findings.add(&["select", "group"], "is empty; leave it out to mean every group");
        } else if condition.is_some_and(is_of_the_run) {
            let message = "the condition looks at the run as a whole, which has no group to select; leave it out";
            findings.add(&["select", "group"], message);
        }
    }
    if let Some(window) = select.window
        && !WINDOW_LENGTHS.contains(&window)
    {
        let (least, most) = WINDOW_LENGTHS.into_inner();
        findings.add(&["select", "window"], format!("{window} is out of range; windows have {least} to {most} rows"));
    }
    groups.unwrap_or(GroupFilter::All)
}

/// Whether a condition has one answer a run.
fn is_of_the_run(condition: &Condition) -> bool {
    match condition {
        Condition::Expression(expression) => expression.family == Family::Run,
        Condition::Event(EventCondition::Transition { .. }) => false,
        Condition::Event(EventCondition::Stalled | EventCondition::Crashed) => true,
        Condition::Event(EventCondition::Happened(event)) => {
            ["run.", "job.", "segment."].iter().any(|of_the_run| event.starts_with(of_the_run))
        }
    }
}

fn times(definition: &RuleDefinition, condition: &Condition, findings: &mut Findings) {
    match (condition, definition.hold) {
        (Condition::Event(EventCondition::Stalled), Some(Hold::Readings(_))) => {
            findings.add(&["for"], "a stalled run has no readings to count; write a time such as 20m");
        }
        (Condition::Event(EventCondition::Happened(_) | EventCondition::Crashed), Some(hold))
            if hold != Hold::Readings(1) =>
        {
            let message = "the event happens at one moment, and cannot hold for longer; leave `for` out";
            findings.add(&["for"], message);
        }
        _ => {}
    }
    if let Some(max_age) = definition.max_age {
        if max_age > MAX_STEPS {
            findings.add(&["max_age"], format!("{max_age} is out of range; it counts steps, at most 2^53"));
        } else if matches!(condition, Condition::Event(_)) {
            findings.add(&["max_age"], "an event has no values that could be old; leave it out");
        }
    }
}
