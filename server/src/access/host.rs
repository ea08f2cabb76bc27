//! Which names a server answers to that only its own machine is meant to reach.

use std::net::IpAddr;

use axum::http::{header, request::Parts, uri::Authority};

use crate::error::{Error, ErrorCode};

/// Refuses a name that is not this machine's own.
///
/// Invariant: a page of a browser on this machine cannot speak for its user. It can make its own name point to loopback
/// (DNS rebinding), so that the browser takes the server for the page's own; then the name is in the request.
///
/// # Errors
/// `PermissionDenied`.
pub(super) fn require_local(request: &Parts) -> Result<(), Error> {
    // HTTP/2 has it in the URI; a browser always sends one.
    let mut hosts = request.headers.get_all(header::HOST).iter();
    let are_local = hosts.all(|host| host.to_str().is_ok_and(|host| host.parse().is_ok_and(|host| is_local(&host))));
    if request.uri.authority().is_none_or(is_local) && are_local {
        return Ok(());
    }
    let message = "nobody is asked for a token here, so this server answers to localhost and to IP addresses only";
    Err(Error { field: Some("host".into()), ..Error::new(ErrorCode::PermissionDenied, message) })
}

/// An address cannot be made to point elsewhere, and `localhost` never leaves the machine.
fn is_local(authority: &Authority) -> bool {
    let host = authority.host().to_ascii_lowercase();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host);
    let name = host.strip_suffix('.').unwrap_or(&host);
    address.parse::<IpAddr>().is_ok() || name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_can_point_anywhere_are_told_from_this_machine() {
        for local in ["localhost", "LOCALHOST:7700", "localhost.", "gw.localhost:1", "127.0.0.1:7700", "[::1]:7700"] {
            assert!(is_local(&local.parse().unwrap()), "{local}");
        }
        for other in ["example.org", "localhost.example.org:7700", "notlocalhost", "127.0.0.1.example.org", "gpu3"] {
            assert!(!is_local(&other.parse().unwrap()), "{other}");
        }
    }
}
