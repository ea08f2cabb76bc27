//! A file of receivers and rules.

use std::{collections::HashMap, rc::Rc};

use crate::{
    Position, Problem, ReceiverDefinition, RuleDefinition, checks,
    checks::{Finding, MAX_ENTRIES},
    language::{CompiledRule, Condition, Fault, did_you_mean, shown},
    receiver_checks,
    yaml::{self, Content, Misfit, Node, Step},
};

/// The most rules of a file, and of a server.
pub const MAX_RULES: usize = 2_000;
/// The most receivers of a file, and of a server.
pub const MAX_RECEIVERS: usize = 200;
/// The longest file.
pub const MAX_FILE_BYTES: usize = 4 * 1024 * 1024;
/// The most problems that are told; the rest is counted.
const MAX_PROBLEMS: usize = 100;
/// Of how many receivers the names are told to someone who names none of them.
const SHOWN_NAMES: usize = 5;

/// What a file holds, checked as a whole.
#[derive(Clone, Debug)]
pub struct RuleFile {
    /// Whom to tell.
    pub receivers: Vec<ReceiverDefinition>,
    /// The rules, with their conditions understood.
    pub rules: Vec<CompiledRule>,
}

impl RuleFile {
    /// Reads YAML. Rules may name receivers of the file, and those in `known_receivers`.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with line and column in the file.
    pub fn parse(yaml: &str, known_receivers: &[String]) -> Result<Self, Vec<Problem>> {
        if yaml.len() > MAX_FILE_BYTES {
            let message = format!("is {} bytes long; the limit is {MAX_FILE_BYTES}", yaml.len());
            return Err(vec![file_problem(Position { line: 1, column: 1 }, message)]);
        }
        // A mark of the byte order is no part of the text, and no editor counts it.
        let yaml = yaml.strip_prefix('\u{feff}').unwrap_or(yaml);
        if let Some(at) = yaml.find('\0') {
            return Err(vec![file_problem(Position::in_text(yaml, at), "contains a NUL character")]);
        }
        let root = yaml::read(yaml)?;
        let mut reader = Reader { yaml, problems: Vec::new(), left_out: 0 };
        let file = reader.file(&root, known_receivers);
        if reader.problems.is_empty() {
            return Ok(file);
        }
        reader.problems.sort_by_key(|problem| problem.position.map(|at| (at.line, at.column)));
        if reader.left_out > 0 {
            let message = format!("has {} more problems, which are not told", reader.left_out);
            reader.problems.push(file_problem(root.position, message));
        }
        Err(reader.problems)
    }
}

fn file_problem(position: Position, message: impl Into<String>) -> Problem {
    Problem { field: "file".to_owned(), position: Some(position), message: message.into() }
}

/// Reads a file to its end, whatever it finds.
struct Reader<'y> {
    yaml: &'y str,
    problems: Vec<Problem>,
    left_out: usize,
}

impl Reader<'_> {
    fn file(&mut self, root: &Node, known_receivers: &[String]) -> RuleFile {
        let mut file = RuleFile { receivers: Vec::new(), rules: Vec::new() };
        let Content::Mapping(entries) = &root.content else {
            let message =
                format!("is {}, and should be a mapping with the keys `receivers` and `rules`", root.describe());
            self.tell("file", root.position, message);
            return file;
        };
        for (key, _) in entries {
            if !matches!(key.text(), Some("receivers" | "rules")) {
                let name = key.text().unwrap_or_default();
                self.tell(
                    "file",
                    key.position,
                    format!("there is no key `{}`; there are `receivers` and `rules`", shown(name)),
                );
            }
        }
        let receivers = self.list(root, "receivers", MAX_RECEIVERS);
        let rules = self.list(root, "rules", MAX_RULES);
        // Also those that are wrong otherwise: that a rule names them is right.
        let named: Vec<&str> = receivers.iter().filter_map(|node| node.get("name")?.text()).collect();
        let known: Vec<&str> = named.into_iter().chain(known_receivers.iter().map(String::as_str)).collect();
        self.unique("receivers", receivers);
        for (index, node) in receivers.iter().enumerate() {
            let root = format!("receivers[{index}]");
            match yaml::deserialize::<ReceiverDefinition>(node) {
                Ok(receiver) => {
                    self.tell_findings(&root, node, receiver_checks::findings(&receiver));
                    file.receivers.push(receiver);
                }
                Err(misfit) => self.tell_misfit(&root, node, &misfit.discreet()),
            }
        }
        self.unique("rules", rules);
        for (index, node) in rules.iter().enumerate() {
            let root = format!("rules[{index}]");
            match yaml::deserialize::<RuleDefinition>(node) {
                Ok(rule) => {
                    // To look for what was meant takes time, and nobody reads it behind the last problem that is told.
                    let with_hints = self.problems.len() < MAX_PROBLEMS;
                    self.tell_findings(&root, node, unknown_receivers(&rule, &known, with_hints));
                    match checks::compile(rule) {
                        Ok(rule) => file.rules.push(rule),
                        Err(findings) => self.tell_findings(&root, node, findings),
                    }
                }
                Err(misfit) => {
                    self.tell_misfit(&root, node, &misfit);
                    // What is wrong with the condition does not wait for the rest to be right.
                    let fault = node.get("when").and_then(|when| Condition::read(when.text()?).err());
                    let finding = |Fault { at, message }| {
                        let path = vec![Step::Key("when".to_owned())];
                        Finding { path, at: Some(at), message }
                    };
                    self.tell_findings(&root, node, fault.map(finding).into_iter().collect());
                }
            }
        }
        file
    }

    fn list<'n>(&mut self, root: &'n Node, key: &str, limit: usize) -> &'n [Rc<Node>] {
        let Some(node) = root.get(key) else { return &[] };
        match &node.content {
            Content::Sequence(items) if items.len() <= limit => items,
            Content::Sequence(items) => {
                self.tell(key, node.position, format!("are {}; the limit is {limit}", items.len()));
                &[]
            }
            _ => {
                self.tell(key, node.position, format!("is {}, and should be a list", node.describe()));
                &[]
            }
        }
    }

    /// Tells of names that come twice.
    fn unique(&mut self, list: &str, items: &[Rc<Node>]) {
        let mut lines = HashMap::new();
        for (index, item) in items.iter().enumerate() {
            let Some(node) = item.get("name") else { continue };
            let Some(name) = node.text() else { continue };
            if let Some(line) = lines.insert(name, node.position.line) {
                let message = format!("{:?} is a name already taken in line {line}", shown(name));
                self.tell(format!("{list}[{index}].name"), node.position, message);
            }
        }
    }

    fn tell_misfit(&mut self, root: &str, node: &Node, misfit: &Misfit) {
        let field = yaml::field(root, &misfit.path());
        self.tell(field, misfit.position().unwrap_or(node.position), misfit.message.clone());
    }

    fn tell_findings(&mut self, root: &str, node: &Node, findings: Vec<Finding>) {
        for Finding { path, at, message } in findings {
            // A place takes reading the file from its beginning.
            if self.problems.len() == MAX_PROBLEMS {
                self.left_out += 1;
                continue;
            }
            let part = part(node, &path);
            let position = at.and_then(|at| self.place(part, at)).unwrap_or(part.position);
            self.tell(yaml::field(root, &path), position, message);
        }
    }

    /// Where a byte of a scalar's text stands in the file.
    fn place(&self, node: &Node, at: usize) -> Option<Position> {
        let Content::Scalar(text, style) = &node.content else { return None };
        let place = yaml::locate(self.yaml, node.at, *style, text, at)?;
        Some(Position::in_text(self.yaml, place))
    }

    fn tell(&mut self, field: impl Into<String>, position: Position, message: impl Into<String>) {
        if self.problems.len() == MAX_PROBLEMS {
            self.left_out += 1;
            return;
        }
        self.problems.push(Problem { field: field.into(), position: Some(position), message: message.into() });
    }
}

/// The part of a value to which a path leads, or the last one on the way that there is.
fn part<'n>(node: &'n Node, path: &[Step]) -> &'n Node {
    let mut part = node;
    for step in path {
        let next = match (step, &part.content) {
            (Step::Key(key), _) => part.get(key),
            (Step::Index(index), Content::Sequence(items)) => items.get(*index),
            _ => None,
        };
        match next {
            Some(next) => part = next,
            None => break,
        }
    }
    part
}

fn unknown_receivers(rule: &RuleDefinition, known: &[&str], with_hints: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, name) in rule.receivers.iter().take(MAX_ENTRIES).enumerate() {
        if !known.contains(&name.as_str()) {
            let path = vec![Step::Key("receivers".to_owned()), Step::Index(index)];
            let some = known.iter().take(SHOWN_NAMES).copied().collect::<Vec<_>>().join(", ");
            let more = if known.len() > SHOWN_NAMES { ", …" } else { "" };
            let all = if known.is_empty() { "there are none".to_owned() } else { format!("there are {some}{more}") };
            let hint = if with_hints { did_you_mean(name, known.iter().copied(), &all) } else { String::new() };
            findings.push(Finding { path, at: None, message: format!("there is no receiver {:?}{hint}", shown(name)) });
        }
    }
    findings
}
