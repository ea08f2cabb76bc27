//! The address of a database, which may hold a password.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// What the driver knows in the query of an address.
const PARAMETERS: &[&str] = &[
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

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

    /// Refuses what is no address of a PostgreSQL database, and what the driver would log or misread.
    ///
    /// # Errors
    /// What is wrong with it, without quoting any of its values.
    pub(super) fn check(&self) -> Result<(), String> {
        if !(self.0.starts_with("postgres://") || self.0.starts_with("postgresql://")) {
            return Err("must begin with postgres:// or postgresql://".into());
        }
        if self.is_ambiguous() {
            return Err(
                "has a ? or # before an @: write them as %3F, %23 and %40 where they belong to a password or a \
                        parameter"
                    .into(),
            );
        }
        // The driver ignores what it does not know, and logs its value.
        let query = self.0.split_once('?').map_or("", |(_, query)| query);
        let query = query.split('#').next().unwrap_or_default();
        let mut keys = form_urlencoded::parse(query.as_bytes()).map(|(key, _)| key);
        let is_known = |key: &str| PARAMETERS.contains(&key) || key.starts_with("options[");
        match keys.find(|key| !is_known(key)) {
            Some(unknown) => Err(format!("has the unknown parameter {unknown:?}; one of {}", PARAMETERS.join(", "))),
            None => Ok(()),
        }
    }

    /// Whether a ? or # that may be one of the password stands before an @ that may be one of a parameter.
    fn is_ambiguous(&self) -> bool {
        self.0.rsplit_once('@').is_some_and(|(before, _)| before.contains(['?', '#']))
    }

    /// The address without secrets. Parameters are left out, because a password can be one; and so is all of what has
    /// another form.
    fn masked(&self) -> String {
        let Some((scheme, rest)) = self.0.split_once("://") else { return "***".to_owned() };
        if self.is_ambiguous() {
            return format!("{scheme}://***");
        }
        // The last @, because passwords are not always encoded as they should be.
        let (user, place) = match rest.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, rest),
        };
        let place = place.split(['?', '#']).next().unwrap_or_default();
        match user.map(|user| user.split_once(':').ok_or(user)) {
            Some(Ok((user, _))) => format!("{scheme}://{user}:***@{place}"),
            Some(Err(user)) => format!("{scheme}://{user}@{place}"),
            None => format!("{scheme}://{place}"),
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
            ("postgres://u:pa?ss@h/d", "postgres://***"),
            ("postgres://u:pa#ss@h/d", "postgres://***"),
            ("postgres://u:pa/ss@h/d", "postgres://u:***@h/d"),
            ("postgres://h/d?password=se@cret", "postgres://***"),
            ("postgres://u:secret@h/d#secret", "postgres://u:***@h/d"),
            ("secret", "***"),
        ] {
            let url = DatabaseUrl::from(url);
            let debug = format!("{url:?}");
            let json = serde_json::to_string(&url).expect("text");
            assert_eq!((url.to_string().as_str(), debug.as_str()), (printed, printed));
            assert_eq!(json, format!("{printed:?}"));
        }
    }

    #[test]
    fn what_the_driver_would_log_is_refused_without_its_value() {
        for known in ["", "?sslmode=require", "?host=/run/pg&options[a]=b&password=x"] {
            assert_eq!(DatabaseUrl(format!("postgres://u:secret@h/d{known}")).check(), Ok(()));
        }
        for (url, told) in [
            ("mysql://u:secret@h/d", "postgres://"),
            ("postgres://u:p@h/d?sslmode=require&sslpassword=secret", "\"sslpassword\""),
            ("postgres://u:sec?ret@h/d", "%3F"),
            ("postgres://h/d?password=sec@ret", "%40"),
        ] {
            let refused = DatabaseUrl::from(url).check().expect_err(url);
            assert!(refused.contains(told), "{refused}");
            assert!(!refused.contains("sec") && !refused.contains("ret@"), "{refused}");
        }
    }
}
