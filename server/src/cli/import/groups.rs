//! Groups by patterns of tensor names.

use std::str::FromStr;

use globset::{Glob, GlobSet, GlobSetBuilder};

/// `NAME=GLOB[,GLOB]`.
#[derive(Clone, Debug)]
pub(super) struct GroupPattern {
    pub(super) name: String,
    pub(super) text: String,
    globs: GlobSet,
}

impl GroupPattern {
    /// Every tensor.
    pub(super) fn all() -> Self {
        "all=*".parse().unwrap_or_else(|error: String| unreachable!("{error}"))
    }

    pub(super) fn matches(&self, tensor: &str) -> bool {
        self.globs.is_match(tensor)
    }
}

impl FromStr for GroupPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, patterns) =
            text.split_once('=').ok_or_else(|| format!("{text:?} is not of the form NAME=GLOB[,GLOB]"))?;
        if name.is_empty() {
            return Err(format!("{text:?} has no name before the ="));
        }
        let mut globs = GlobSetBuilder::new();
        for pattern in split_at_commas(patterns) {
            if pattern.is_empty() {
                return Err(format!("group {name:?}: an empty pattern"));
            }
            globs.add(Glob::new(pattern).map_err(|error| format!("group {name:?}: {error}"))?);
        }
        let globs = globs.build().map_err(|error| format!("group {name:?}: {error}"))?;
        Ok(Self { name: name.to_owned(), text: patterns.to_owned(), globs })
    }
}

/// At the commas outside of `{a,b}` and `[,]`.
fn split_at_commas(patterns: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0_usize);
    for (at, c) in patterns.char_indices() {
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&patterns[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&patterns[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_whole_names_and_dots_are_nothing_special() {
        let group: GroupPattern = "attention=*.wq.*,*.{wk,wv}.*,head".parse().unwrap();
        assert_eq!(group.name, "attention");
        for tensor in ["blocks.0.wq.weight", "a/b.wk.x", "blocks.11.attn.wv.bias", "head"] {
            assert!(group.matches(tensor), "{tensor}");
        }
        for tensor in ["wq", "blocks.0.WQ.weight", "heads", "blocks.0.w1.weight"] {
            assert!(!group.matches(tensor), "{tensor}");
        }
        assert!(GroupPattern::all().matches("any.thing/at all"));
    }

    #[test]
    fn what_is_wrong_with_a_pattern_is_said() {
        for (text, word) in
            [("attention", "NAME=GLOB"), ("=*", "no name"), ("a=x,,y", "empty"), ("a=", "empty"), ("a=[x", "\"a\"")]
        {
            let error = text.parse::<GroupPattern>().unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
