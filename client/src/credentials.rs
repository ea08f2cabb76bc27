//! How a run is let in: the server's address, who it has to prove to be, and who we are.

use std::fmt;

use tonic::metadata::{AsciiMetadataValue, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};

use crate::error::OpenError;

/// Where a token is found that was not given to the builder.
const TOKEN_VARIABLE: &str = "GRADWATCH_TOKEN";

/// A token's text. `Debug` does not show it.
#[derive(Clone)]
pub(crate) struct Token(pub(crate) String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Sends the token, if there is one, with every call.
#[derive(Clone, Debug)]
pub(crate) struct Authorization(Option<AsciiMetadataValue>);

impl Authorization {
    /// Of the token given, or else of the environment's.
    pub(crate) fn new(token: Option<Token>) -> Result<Self, OpenError> {
        let Some(token) = token.map(|token| token.0).or_else(|| std::env::var(TOKEN_VARIABLE).ok()) else {
            return Ok(Self(None));
        };
        // An empty variable is none: that is what templates make of a missing value.
        if token.is_empty() {
            return Ok(Self(None));
        }
        // The text is not quoted: whatever it is, somebody meant it to be secret.
        let value = MetadataValue::try_from(format!("Bearer {token}"));
        let mut value =
            value.map_err(|_| OpenError::argument("token", "holds a character that no HTTP header may hold"))?;
        value.set_sensitive(true);
        Ok(Self(Some(value)))
    }
}

impl Interceptor for Authorization {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// Reads the server's URL. `https` asks the server for a certificate: of the authority given, or else of one that the
/// system trusts.
pub(crate) fn endpoint(server: &str, ca_certificate: Option<&str>) -> Result<Endpoint, OpenError> {
    let problem = |problem: String| OpenError::argument("server", format!("{server:?} {problem}"));
    let endpoint = Endpoint::from_shared(server.to_owned()).map_err(|error| problem(format!("is no URL: {error}")))?;
    match (endpoint.uri().scheme_str(), endpoint.uri().host()) {
        (Some("http"), Some(_)) if ca_certificate.is_some() => {
            Err(OpenError::argument("ca_certificate", format!("{server:?} is not of the form https://host:port")))
        }
        (Some("http"), Some(_)) => Ok(endpoint),
        (Some("https"), Some(_)) => {
            let (field, tls) = match ca_certificate {
                Some(pem) => ("ca_certificate", ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem))),
                None => ("server", ClientTlsConfig::new().with_native_roots()),
            };
            endpoint.tls_config(tls).map_err(|error| OpenError::argument(field, full_text(&error)))
        }
        _ => Err(problem("is not of the form http://host:port or https://host:port".to_owned())),
    }
}

/// An error with its reasons.
fn full_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_shown_nowhere() {
        let token = Token("gw_secret".to_owned());
        let authorization = Authorization::new(Some(token.clone())).unwrap();
        for text in [format!("{token:?}"), format!("{authorization:?}")] {
            assert!(!text.contains("gw_secret"), "{text}");
        }
        let error = Authorization::new(Some(Token("gw_sec\nret".to_owned()))).unwrap_err();
        assert!(error.to_string().starts_with("token: "), "{error}");
        assert!(!error.to_string().contains("gw_"), "{error}");
    }

    #[test]
    fn an_authority_must_be_one_and_needs_https() {
        let refused = |server, pem| endpoint(server, Some(pem)).unwrap_err().to_string();
        assert!(refused("http://127.0.0.1:7700", "").starts_with("ca_certificate: "));
        assert!(endpoint("ftp://127.0.0.1:7700", None).unwrap_err().to_string().starts_with("server: "));
    }
}
