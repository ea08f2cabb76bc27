//! A YAML document as a tree.
//!
//! > **Invariant: a small file cannot become a large value.** Values, bytes and levels are counted as they would be with every
//! > alias written out; here aliases share what they refer to.

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
};

use serde_saphyr::granit_parser::{Event, Marker, Options, Parser, ScalarStyle, Span, Tag};

use crate::{Position, Problem};

/// The most values, aliases written out.
const MAX_NODES: usize = 250_000;
/// The most bytes of texts, likewise.
const MAX_TEXT_BYTES: usize = 16 * 1024 * 1024;
/// The most lists and mappings in each other.
const MAX_DEPTH: usize = 16;
/// The most problems with the YAML itself; what follows from them is not worth reading.
const MAX_PROBLEMS: usize = 20;

const TOO_DEEP: &str = "is nested more than 16 levels deep here";
const TOO_LARGE: &str =
    "the file has more than 250000 values or 16 MiB of text up to here, with its aliases written out";

/// A value.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) content: Content,
    /// Where it begins.
    pub(crate) position: Position,
    /// The same in bytes of the file.
    pub(crate) at: usize,
    size: Size,
}

/// What a value is with every alias in it written out.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    nodes: usize,
    text_bytes: usize,
    /// Lists and mappings in each other.
    levels: usize,
}

impl Size {
    /// Of a list of both; levels stay those of the deeper one.
    fn and(self, other: Self) -> Self {
        Self {
            nodes: self.nodes.saturating_add(other.nodes),
            text_bytes: self.text_bytes.saturating_add(other.text_bytes),
            levels: self.levels.max(other.levels),
        }
    }
}

#[derive(Debug)]
pub(crate) enum Content {
    Scalar(String, ScalarStyle),
    Sequence(Vec<Rc<Node>>),
    /// Keys are scalars, each once.
    Mapping(Vec<(Rc<Node>, Rc<Node>)>),
}

impl Node {
    /// The value of a key, where it is a mapping.
    pub(crate) fn get(&self, wanted: &str) -> Option<&Rc<Node>> {
        let Content::Mapping(entries) = &self.content else { return None };
        entries.iter().find(|(key, _)| key.text() == Some(wanted)).map(|(_, value)| value)
    }

    /// The text of a scalar.
    pub(crate) fn text(&self) -> Option<&str> {
        if let Content::Scalar(text, _) = &self.content { Some(text) } else { None }
    }

    /// Whether it says nothing: `null`, `~`, or not even that.
    pub(crate) fn is_null(&self) -> bool {
        match &self.content {
            Content::Scalar(text, ScalarStyle::Plain) => ["", "~", "null", "Null", "NULL"].contains(&text.as_str()),
            _ => false,
        }
    }

    pub(crate) fn describe(&self) -> &'static str {
        match &self.content {
            _ if self.is_null() => "nothing",
            Content::Scalar(..) => "a text",
            Content::Sequence(_) => "a list",
            Content::Mapping(_) => "a mapping",
        }
    }
}

/// Reads the one document of a file.
pub(crate) fn read(yaml: &str) -> Result<Rc<Node>, Vec<Problem>> {
    let mut options = Options::default();
    options.emit_comments = false;
    let mut builder = Builder::default();
    for event in Parser::new_from_str_with_options(yaml, options) {
        let (event, span) = match event {
            Ok(found) => found,
            Err(error) => {
                builder.problems.push(problem(position(*error.marker()), format!("is no YAML: {}", error.info())));
                return Err(builder.problems);
            }
        };
        if !builder.take(event, &span) {
            break;
        }
    }
    if !builder.problems.is_empty() {
        return Err(builder.problems);
    }
    builder.root.ok_or_else(|| {
        let message = "is empty; `rules: []` says that there are no rules";
        vec![problem(Position { line: 1, column: 1 }, message)]
    })
}

fn problem(position: Position, message: impl Into<String>) -> Problem {
    Problem { field: "file".to_owned(), position: Some(position), message: message.into() }
}

fn position(marker: Marker) -> Position {
    Position { line: marker.line().max(1), column: marker.col() + 1 }
}

/// A list or mapping whose end has not come yet.
struct Open {
    position: Position,
    at: usize,
    anchor: usize,
    is_mapping: bool,
    children: Vec<Rc<Node>>,
}

#[derive(Default)]
struct Builder {
    root: Option<Rc<Node>>,
    open: Vec<Open>,
    /// What aliases refer to; never 0.
    anchors: HashMap<usize, Rc<Node>>,
    total: Size,
    documents: usize,
    problems: Vec<Problem>,
}

impl Builder {
    /// False: enough is known.
    fn take(&mut self, event: Event<'_>, span: &Span) -> bool {
        let (start, at) = (position(span.start), span.start.byte_offset().unwrap_or(0));
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), span);
                if text.contains('\0') {
                    self.problems.push(problem(start, "contains a NUL character"));
                }
                let size = Size { nodes: 1, text_bytes: text.len(), levels: 0 };
                self.count(size);
                let content = Content::Scalar(text.into_owned(), style);
                self.add(Node { content, position: start, at, size }, anchor);
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), span);
                self.open.push(Open { position: start, at, anchor, is_mapping: false, children: Vec::new() });
            }
            Event::MappingStart(_, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), span);
                self.open.push(Open { position: start, at, anchor, is_mapping: true, children: Vec::new() });
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(node) => {
                    let node = Rc::clone(node);
                    if self.open.len() + node.size.levels > MAX_DEPTH {
                        return self.give_up(start, TOO_DEEP);
                    }
                    self.count(node.size);
                    self.attach(node);
                }
                None => return self.give_up(start, "an alias refers to what it is part of"),
            },
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return self.give_up(start, "a second document begins here; a file of rules has one");
                }
            }
            _ => {}
        }
        if self.open.len() > MAX_DEPTH {
            return self.give_up(start, TOO_DEEP);
        }
        if self.total.nodes > MAX_NODES || self.total.text_bytes > MAX_TEXT_BYTES {
            return self.give_up(start, TOO_LARGE);
        }
        self.problems.len() < MAX_PROBLEMS
    }

    fn give_up(&mut self, position: Position, message: &str) -> bool {
        self.problems.push(problem(position, message));
        false
    }

    fn count(&mut self, size: Size) {
        self.total = self.total.and(size);
    }

    fn refuse_tag(&mut self, tag: Option<&Tag>, span: &Span) {
        if tag.is_some() {
            let at = position(span.tag_start().unwrap_or(span.start));
            self.problems.push(problem(at, "has a tag (`!…`), which means nothing here; leave it out"));
        }
    }

    fn close(&mut self) {
        let Some(Open { position, at, anchor, is_mapping, children }) = self.open.pop() else { return };
        // What it holds was counted when it came.
        let own = Size { nodes: 1, text_bytes: 0, levels: 0 };
        self.count(own);
        let mut size = children.iter().fold(own, |size, child| size.and(child.size));
        size.levels += 1;
        let content = if is_mapping { self.mapping(children) } else { Content::Sequence(children) };
        self.add(Node { content, position, at, size }, anchor);
    }

    fn mapping(&mut self, children: Vec<Rc<Node>>) -> Content {
        let mut entries = Vec::with_capacity(children.len() / 2);
        let mut seen = HashSet::new();
        let mut children = children.into_iter();
        while let (Some(key), Some(value)) = (children.next(), children.next()) {
            match key.text().map(str::to_owned) {
                None => {
                    let message = "a key is a text, not a list or a mapping; a text that begins with `{` or `[` stands in quotation marks";
                    self.problems.push(problem(key.position, message));
                }
                Some(text) if text == "<<" => {
                    self.problems.push(problem(key.position, "merging by `<<` is not supported; write the keys out"));
                }
                Some(text) if !seen.insert(text.clone()) => {
                    self.problems.push(problem(key.position, format!("the key {text:?} comes twice in one mapping")));
                }
                Some(_) => entries.push((key, value)),
            }
        }
        Content::Mapping(entries)
    }

    fn add(&mut self, node: Node, anchor: usize) {
        let node = Rc::new(node);
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        self.attach(node);
    }

    fn attach(&mut self, node: Rc<Node>) {
        match self.open.last_mut() {
            Some(open) => open.children.push(node),
            None => self.root = Some(node),
        }
    }
}
