//! Which variables are settings.

use std::env;

use figment::providers::Env;

/// Variables that share the prefix but belong to the commands and to jobs, not to the server's settings.
const OTHER_VARIABLES: &[&str] =
    &["config", "server", "token", "ca_certificate", "bootstrap_token", "mode", "spool_dir"];

/// The settings of the environment.
///
/// Invariant: a variable that is no setting is an error, so that a misspelt one is noticed; but for those that
/// Kubernetes gives every container for each service beside it.
pub(super) fn settings() -> Env {
    Env::prefixed("GRADWATCH_")
        .ignore(OTHER_VARIABLES)
        .filter(|name| !is_service_link(name.as_str()))
        .filter(|name| name != "database_url" || is_set("GRADWATCH_DATABASE_URL"))
        .split("__")
}

/// What everyone else calls the address of the database.
pub(super) fn database_url() -> Env {
    Env::raw().only(&["database_url"]).filter(|_| is_set("DATABASE_URL"))
}

/// An empty variable is none: that is what templates make of a missing value.
fn is_set(variable: &str) -> bool {
    env::var_os(variable).is_some_and(|value| !value.is_empty())
}

/// Such as `GRADWATCH_PORT=tcp://10.0.0.1:7700` for a service `gradwatch`, or `GRADWATCH_DB_SERVICE_HOST` for a service
/// `gradwatch-db`; the name comes without the prefix. No setting is called like one.
fn is_service_link(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let words: Vec<&str> = name.split('_').collect();
    // An empty word: two underscores stand before a setting in a section.
    if words.contains(&"") {
        return false;
    }
    match words.as_slice() {
        [.., "port"] | [.., "service", "host"] => true,
        [.., "port", number, "tcp" | "udp" | "sctp"]
        | [.., "port", number, "tcp" | "udp" | "sctp", "addr" | "proto"] => number.parse::<u16>().is_ok(),
        words => words.windows(2).any(|pair| pair == ["service", "port"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_links_are_told_from_settings() {
        for link in [
            "PORT",
            "SERVICE_HOST",
            "SERVICE_PORT",
            "SERVICE_PORT_GRPC",
            "PORT_7700_TCP",
            "PORT_7700_TCP_ADDR",
            "PORT_7700_TCP_PORT",
            "PORT_7700_TCP_PROTO",
            "DB_SERVICE_HOST",
            "DB_PORT_5432_TCP_ADDR",
        ] {
            assert!(is_service_link(link), "{link}");
        }
        for other in ["LISTEN", "LISTN", "PORTS", "PORT_LISTEN", "PORT_7700_ADDR", "API__PORT", "LOG__FORMAT"] {
            assert!(!is_service_link(other), "{other}");
        }
    }
}
