//! A bearer token: who may do what.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Names a token without being it: may be shown and logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenId(pub Uuid);

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for TokenId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(text).map(Self)
    }
}

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Sending frames.
    Ingest,
    /// Reading what was recorded.
    Read,
    /// Changing and deleting runs, and making tokens; includes the others.
    Admin,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 3] = [Self::Ingest, Self::Read, Self::Admin];

    /// The word used in the API and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|scope| scope.as_str() == text);
        found.ok_or_else(|| format!("unknown scope {text:?}; one of ingest, read, admin"))
    }
}

/// SHA-256 of a token's text.
pub type TokenHash = [u8; 32];

/// A token as it stands, without its text, which nobody keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The token.
    pub token_id: TokenId,
    /// What it is for, in words.
    pub name: String,
    /// The only project it is good for; `None`: all.
    pub project: Option<String>,
    /// What it allows.
    pub scopes: BTreeSet<Scope>,
    /// When it was made, microseconds since the Unix epoch, server clock.
    pub created_at_us: i64,
    /// When it stops to be good.
    pub expires_at_us: Option<i64>,
    /// When somebody took it back.
    pub revoked_at_us: Option<i64>,
}

impl Token {
    /// Whether it is good at this instant.
    #[must_use]
    pub fn is_valid(&self, now_us: i64) -> bool {
        self.revoked_at_us.is_none() && self.expires_at_us.is_none_or(|expires_at_us| now_us < expires_at_us)
    }

    /// Whether it allows something, in the projects it is good for.
    #[must_use]
    pub fn allows(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope) || self.scopes.contains(&Scope::Admin)
    }
}
