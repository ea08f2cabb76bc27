//! TLS by rustls.

use std::{path::Path, sync::Arc};

use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use crate::config::ConfigError;

/// What the server agrees to speak, the preferred first: gRPC needs HTTP/2.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Reads certificate and key.
///
/// # Errors
/// Names the setting, the file and what is wrong with it.
pub(crate) fn acceptor(cert: &Path, key: &Path) -> Result<TlsAcceptor, ConfigError> {
    let invalid = |field, file: &Path, problem: &dyn std::fmt::Display| ConfigError::Invalid {
        field,
        message: format!("{}: {problem}", file.display()),
    };
    let of_cert = |problem: &dyn std::fmt::Display| invalid("tls_cert", cert, problem);
    let of_key = |problem: &dyn std::fmt::Display| invalid("tls_key", key, problem);
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(cert).and_then(Iterator::collect).map_err(|error| of_cert(&error))?;
    if chain.is_empty() {
        return Err(of_cert(&"holds no certificate"));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| of_key(&error))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| of_cert(&error))?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| of_key(&format!("does not fit {}: {error}", cert.display())))?;
    config.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
    Ok(TlsAcceptor::from(Arc::new(config)))
}
