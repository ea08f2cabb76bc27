//! Checks at the door: what a server would have to refuse later is refused here, by name.

use crate::error::{OpenError, SubmitError};

/// The longest name of anything, in bytes.
pub const MAX_NAME_BYTES: usize = 256;
/// The most scalars one frame carries. A server may take fewer, and then rejects the frame.
pub const MAX_SCALARS_PER_FRAME: usize = 1024;
/// Steps stay exact in a float64, which is what charts and JSON hold them in.
pub(crate) const MAX_STEP: u64 = (1 << 53) - 1;

/// What is wrong with a name: text without control characters (NUL cannot be stored by Postgres, and none of them can
/// be shown), 1 to [`MAX_NAME_BYTES`] bytes.
pub(crate) fn name_problem(name: &str) -> Option<&'static str> {
    if name.is_empty() { Some("is empty") } else { text_problem(name) }
}

/// The same for a label's value, which may be empty.
pub(crate) fn text_problem(text: &str) -> Option<&'static str> {
    if text.len() > MAX_NAME_BYTES {
        Some("is longer than 256 bytes")
    } else if text.contains(char::is_control) {
        Some("holds a control character")
    } else {
        None
    }
}

/// A name of the builder.
pub(crate) fn check_name(field: impl Into<String>, name: &str) -> Result<(), OpenError> {
    name_problem(name).map_or(Ok(()), |problem| Err(OpenError::argument(field, problem)))
}

/// A name of a frame's scalar. The error quotes only the name's beginning.
pub(crate) fn check_scalar_name(name: &str) -> Result<(), SubmitError> {
    name_problem(name)
        .map_or(Ok(()), |problem| Err(SubmitError::ScalarName { name: name.chars().take(64).collect(), problem }))
}
