//! The address of a database, which may hold a password.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// Such as `postgres://user:password@host/database`. Invariant: whatever prints it (a log, an error, `config show`) masks
/// the password; only [`DatabaseUrl::expose`] gives it away.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// The address with its password, for the driver alone.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it is the address of a PostgreSQL database.
    pub(crate) fn is_postgres(&self) -> bool {
        self.0.starts_with("postgres://") || self.0.starts_with("postgresql://")
    }

    /// The address without secrets. Parameters are left out, because a password can be one; and so is all of what has
    /// another form.
    fn masked(&self) -> String {
        let Some((scheme, rest)) = self.0.split_once("://") else { return "***".to_owned() };
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        // The last @, because passwords are not always encoded as they should be.
        match rest.rsplit_once('@') {
            Some((user, place)) => match user.split_once(':') {
                Some((user, _)) => format!("{scheme}://{user}:***@{place}"),
                None => format!("{scheme}://{user}@{place}"),
            },
            None => format!("{scheme}://{rest}"),
        }
    }
}

impl From<&str> for DatabaseUrl {
    fn from(url: &str) -> Self {
        Self(url.to_owned())
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

impl Serialize for DatabaseUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.masked())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_print_holds_a_password() {
        for (url, printed) in [
            ("postgres://u:secret@h:5432/d", "postgres://u:***@h:5432/d"),
            ("postgresql://u:se:cr@et@h/d?sslmode=require", "postgresql://u:***@h/d"),
            ("postgres://h/d?user=u&password=secret", "postgres://h/d"),
            ("postgres://u@h/d", "postgres://u@h/d"),
            ("secret", "***"),
        ] {
            let url = DatabaseUrl::from(url);
            let debug = format!("{url:?}");
            let json = serde_json::to_string(&url).expect("text");
            assert_eq!((url.to_string().as_str(), debug.as_str()), (printed, printed));
            assert_eq!(json, format!("{printed:?}"));
        }
    }
}
