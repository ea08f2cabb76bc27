//! Checks of what a builder declares: groups, kinds, window lengths, and the memory that they take.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use crate::buffer::ENTRY_OVERHEAD_BYTES;
use crate::error::OpenError;
use crate::spec::{Group, Kind, Spec};
use crate::validate::check_name;

/// The window length unless one is given.
pub const DEFAULT_WINDOW: u32 = 10;
const WINDOW_LENGTHS: RangeInclusive<u32> = 3..=64;

pub(crate) fn check_windows(windows: Vec<u32>) -> Result<Vec<u32>, OpenError> {
    if windows.is_empty() {
        return Ok(vec![DEFAULT_WINDOW]);
    }
    for (i, window) in windows.iter().enumerate() {
        if !WINDOW_LENGTHS.contains(window) {
            return Err(OpenError::argument("window", format!("{window} is not between 3 and 64")));
        }
        if windows[..i].contains(window) {
            return Err(OpenError::argument("window", format!("{window} was given twice")));
        }
    }
    Ok(windows)
}

pub(crate) fn check_kinds(kinds: Vec<Kind>) -> Result<Vec<Kind>, OpenError> {
    if kinds.is_empty() {
        return Err(OpenError::argument("kinds", "is empty"));
    }
    match kinds.iter().enumerate().find(|(i, kind)| kinds[..*i].contains(kind)) {
        Some((_, kind)) => Err(OpenError::argument("kinds", format!("{kind} was given twice"))),
        None => Ok(kinds),
    }
}

pub(crate) fn check_groups(groups: Vec<(String, Vec<(String, u64)>)>) -> Result<Vec<Group>, OpenError> {
    if groups.is_empty() {
        return Err(OpenError::argument("group", "none was declared"));
    }
    let mut names = HashSet::new();
    for (group, tensors) in &groups {
        let group_field = format!("group {group:?}");
        check_name(&group_field, group)?;
        if !names.insert(group) {
            return Err(OpenError::argument(group_field, "was given twice"));
        }
        if tensors.is_empty() {
            return Err(OpenError::argument(group_field, "has no tensors"));
        }
        let mut tensor_names = HashSet::new();
        for (tensor, elements) in tensors {
            let field = format!("{group_field}: tensor {tensor:?}");
            check_name(&field, tensor)?;
            if *elements == 0 {
                return Err(OpenError::argument(field, "has no elements"));
            }
            if !tensor_names.insert(tensor) {
                return Err(OpenError::argument(field, "was given twice"));
            }
        }
    }
    Ok(groups.into_iter().map(|(name, tensors)| Group::new(name, tensors)).collect())
}

/// A quarter of the buffer must hold what the server may ask for again: the longest window and one frame more.
pub(crate) fn check_buffer(spec: &Spec, given: usize) -> Result<(), OpenError> {
    let rows = spec.window_lengths.iter().max().map_or(0, |&longest| longest as usize) + 1;
    let frame_bytes = spec.frame_bytes() + ENTRY_OVERHEAD_BYTES;
    let needed = frame_bytes.saturating_mul(4 * rows);
    if given < needed { Err(OpenError::BufferTooSmall { given, needed, rows, frame_bytes }) } else { Ok(()) }
}
