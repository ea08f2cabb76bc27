//! Which groups or layers a selector takes.

use globset::{Glob, GlobMatcher};

/// Which groups or layers a selector takes, by name. Made once a rule, as a glob takes longer to compile than to ask.
#[derive(Clone, Debug)]
pub(crate) enum GroupFilter {
    /// Every one.
    All,
    /// This one: what most selectors name, and what costs least.
    Name(String),
    /// Those that match.
    Glob(GlobMatcher),
}

impl GroupFilter {
    pub(crate) fn new(group: Option<&str>) -> Result<Self, globset::Error> {
        Ok(match group {
            None => Self::All,
            Some(text) if !text.contains(['*', '?', '[', ']', '{', '}', '\\']) => Self::Name(text.to_owned()),
            Some(text) => Self::Glob(Glob::new(text)?.compile_matcher()),
        })
    }

    /// Whether it takes this one; what concerns the run as a whole has an empty name.
    pub(crate) fn takes(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Name(text) => text == name,
            Self::Glob(glob) => glob.is_match(name),
        }
    }
}
