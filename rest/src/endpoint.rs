//! Where a URL leads.

use http::{Uri, uri::Scheme};

/// What a URL of http or https says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether it is `https`.
    pub is_tls: bool,
    /// A name or an address; an IPv6 address without its brackets.
    pub host: String,
    /// The port, also where the URL leaves it out.
    pub port: u16,
    /// What the header `host` says.
    pub authority: String,
    /// Path and query, from the slash on.
    pub target: String,
}

/// Why a text leads nowhere. Does not repeat the text, which may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// It has not the form of one.
    #[error("is not of the form http://host:port/path")]
    NotAUrl,
    /// Of another scheme.
    #[error("is neither http nor https")]
    Scheme,
    /// It holds a user's name, which belongs into a header.
    #[error("holds a user name or password, which nothing sends")]
    UserInfo,
}

impl Endpoint {
    /// Reads a URL.
    ///
    /// # Errors
    /// When it is none that can be called.
    pub fn parse(url: &str) -> Result<Self, EndpointError> {
        let uri: Uri = url.parse().map_err(|_| EndpointError::NotAUrl)?;
        let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
            return Err(EndpointError::NotAUrl);
        };
        let is_tls = match scheme {
            scheme if *scheme == Scheme::HTTP => false,
            scheme if *scheme == Scheme::HTTPS => true,
            _ => return Err(EndpointError::Scheme),
        };
        if authority.as_str().contains('@') {
            return Err(EndpointError::UserInfo);
        }
        // A host in brackets is an IPv6 address.
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(EndpointError::NotAUrl);
        }
        // Uri takes any digits for a port, and knows none of those that are too many.
        let port = match authority.as_str().strip_prefix(authority.host()).unwrap_or_default() {
            "" | ":" => {
                if is_tls {
                    443
                } else {
                    80
                }
            }
            _ => authority.port_u16().ok_or(EndpointError::NotAUrl)?,
        };
        Ok(Self {
            is_tls,
            host,
            port,
            authority: authority.as_str().to_owned(),
            target: uri.path_and_query().map_or("/", |target| target.as_str()).to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_to_go() {
        for (url, is_tls, host, port, authority, target) in [
            ("http://example.org", false, "example.org", 80, "example.org", "/"),
            ("https://example.org/a/b?c=d", true, "example.org", 443, "example.org", "/a/b?c=d"),
            ("http://[::1]:7700/x", false, "::1", 7700, "[::1]:7700", "/x"),
            ("HTTPS://Example.org:1/", true, "Example.org", 1, "Example.org:1", "/"),
        ] {
            let (host, authority, target) = (host.to_owned(), authority.to_owned(), target.to_owned());
            assert_eq!(Endpoint::parse(url), Ok(Endpoint { is_tls, host, port, authority, target }), "{url}");
        }
    }

    #[test]
    fn what_is_no_url_is_refused_and_not_repeated() {
        for (text, error) in [
            ("", EndpointError::NotAUrl),
            ("example.org", EndpointError::NotAUrl),
            ("/secret", EndpointError::NotAUrl),
            ("http:///secret", EndpointError::NotAUrl),
            ("http://secret host/", EndpointError::NotAUrl),
            ("http://host:99999/", EndpointError::NotAUrl),
            ("ftp://example.org/secret", EndpointError::Scheme),
            ("http://user:secret@example.org/", EndpointError::UserInfo),
            ("https://secret@example.org/", EndpointError::UserInfo),
        ] {
            assert_eq!(Endpoint::parse(text), Err(error), "{text}");
            assert!(!error.to_string().contains("secret"));
        }
    }
}
