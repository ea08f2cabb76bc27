//! Text from clients. NUL is refused at the door: a database that cannot store it would fail the transaction of
//! everyone who shares it.

/// Checks a name: not empty, no control characters, not too long.
pub(crate) fn name(text: &str, max_bytes: usize) -> Result<(), String> {
    if text.is_empty() {
        return Err("must not be empty".into());
    }
    value(text, max_bytes)
}

/// Checks a text that may be empty.
pub(super) fn value(text: &str, max_bytes: usize) -> Result<(), String> {
    if text.len() > max_bytes {
        return Err(format!("{} bytes long; the limit is {max_bytes}", text.len()));
    }
    if text.contains('\0') {
        return Err("contains a NUL character".into());
    }
    match text.chars().find(|character| character.is_control()) {
        Some(character) => Err(format!("contains the control character {character:?}")),
        None => Ok(()),
    }
}
