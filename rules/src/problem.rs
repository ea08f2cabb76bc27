//! What is wrong with what a user wrote, and where.

use std::fmt;

use serde::Serialize;

/// A place in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Position {
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
}

impl Position {
    /// The place of a byte of a text. A byte behind the end is the end. Lines end as YAML says: with LF, CR LF or CR.
    #[must_use]
    pub fn in_text(text: &str, at: usize) -> Self {
        let bytes = text.as_bytes();
        let before = &bytes[..at.min(bytes.len())];
        let is_end = |at: &usize| match bytes[*at] {
            b'\n' => true,
            b'\r' => bytes.get(at + 1) != Some(&b'\n'),
            _ => false,
        };
        let line_start = (0..before.len()).rev().find(is_end).map_or(0, |end| end + 1);
        let is_start = |byte: &&u8| **byte & 0xC0 != 0x80;
        Self {
            line: 1 + (0..before.len()).filter(is_end).count(),
            column: 1 + before[line_start..].iter().filter(is_start).count(),
        }
    }
}

/// Why a rule or a file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct Problem {
    /// Which field, such as `rules[2].when`.
    pub field: String,
    /// Where in the file, or in the text of the field where there is no file.
    pub position: Option<Position>,
    /// What is wrong with it, and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Position { line, column }) = self.position {
            write!(f, "line {line}, column {column}: ")?;
        }
        write!(f, "{}: {}", self.field, self.message)
    }
}
