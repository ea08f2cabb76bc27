//! Why a text cannot be understood, and where.

use winnow::{error::ParserError, stream::Stream};

use crate::{Position, Problem};

/// What is wrong at one place of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The place, in bytes from the beginning.
    pub(crate) at: usize,
    /// What is wrong, and what would be right.
    pub(crate) message: String,
}

impl Fault {
    pub(crate) fn new(at: usize, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }

    /// As a problem of the field that holds `text`.
    pub(crate) fn into_problem(self, field: impl Into<String>, text: &str) -> Problem {
        let position = Some(Position::in_text(text, self.at));
        Problem { field: field.into(), position, message: self.message }
    }
}

/// What a parser that does not match leaves behind is never shown: every error that is has a place and a text of its own.
impl<I: Stream> ParserError<I> for Fault {
    type Inner = Self;

    fn from_input(_: &I) -> Self {
        Self::new(0, "")
    }

    fn into_inner(self) -> Result<Self, Self> {
        Ok(self)
    }
}
