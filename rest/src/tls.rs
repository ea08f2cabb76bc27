//! Who an `https` server has to prove to be.

use std::{io, sync::Arc};

use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

use crate::error::RestError;

/// The authorities that are trusted.
#[derive(Clone, Debug)]
pub struct Tls(Authorities);

#[derive(Clone, Debug)]
enum Authorities {
    /// Those that the system trusts, which are looked for when they are needed.
    System,
    Given(RootCertStore),
}

impl Tls {
    /// Those that the system trusts, looked for once: for whoever calls often.
    #[must_use]
    pub fn of_system() -> Self {
        Self(Authorities::Given(system_roots()))
    }

    pub(crate) fn new(ca_certificate: Option<&str>) -> Result<Self, RestError> {
        let Some(pem) = ca_certificate else { return Ok(Self(Authorities::System)) };
        let wrong = |problem: String| RestError::argument("ca_certificate", &problem);
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
            roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(wrong("holds no certificate".to_owned()));
        }
        Ok(Self(Authorities::Given(roots)))
    }

    pub(crate) async fn connect(&self, host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let roots = match &self.0 {
            Authorities::Given(roots) => roots.clone(),
            Authorities::System => system_roots(),
        };
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }
}

fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}
