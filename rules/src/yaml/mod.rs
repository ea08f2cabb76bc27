//! YAML whose every value knows its place.

mod deserialize;
mod locate;
mod tree;

pub(crate) use deserialize::{Misfit, deserialize};
pub(crate) use locate::locate;
pub(crate) use tree::{Content, Node, read};

use crate::language::printable;

/// A step on the way from a value to a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

/// The name of the part of `root` to which `path` leads: `rules[2].select.kind`.
pub(crate) fn field(root: &str, path: &[Step]) -> String {
    let mut field = root.to_owned();
    for step in path {
        match step {
            Step::Key(key) => {
                if !field.is_empty() {
                    field.push('.');
                }
                field.extend(key.chars().map(printable));
            }
            Step::Index(index) => field.push_str(&format!("[{index}]")),
        }
    }
    field
}
