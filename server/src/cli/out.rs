//! What a command prints for whoever called it.

use std::{
    fmt,
    io::{self, ErrorKind, Write},
};

use super::{FAILED, Failure};

/// Prints a text. That nobody reads on is no failure: `gradwatch rules list | head`.
pub(super) fn print(text: impl fmt::Display) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(FAILED, format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Prints a line.
pub(super) fn print_line(text: impl fmt::Display) -> Result<(), Failure> {
    print(format_args!("{text}\n"))
}
