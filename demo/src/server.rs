//! The server that a demo streams to.

use gradwatch_client::{Run, RunBuilder};

/// What the demo's runs are filed under.
pub const PROJECT: &str = "demo";

/// Where the demo streams to.
#[derive(Clone, Default)]
pub struct Server {
    /// Such as `http://127.0.0.1:7700`.
    pub url: String,
    /// A token for the project [`PROJECT`] that may send and read, where the server asks for one.
    pub token: Option<String>,
    /// PEM certificates of the authority that an `https` server is certified by, unless the system trusts it.
    pub ca_certificate: Option<String>,
}

impl Server {
    /// A run of the project there.
    pub(crate) fn run_builder(&self) -> RunBuilder {
        let mut builder = Run::builder(&self.url).project(PROJECT);
        if let Some(token) = &self.token {
            builder = builder.token(token);
        }
        if let Some(pem) = &self.ca_certificate {
            builder = builder.ca_certificate(pem);
        }
        builder
    }
}
