//! Servers that run already.

use std::path::PathBuf;

use clap::Args;
use gradwatch_rest::{RestClient, RestError};

use super::{FAILED, Failure, UNREACHABLE, USAGE};

/// Which server, and who is calling.
#[derive(Args)]
pub(super) struct ServerArgs {
    /// Use a server that runs already, such as http://127.0.0.1:7700
    #[arg(long, value_name = "URL", env = "GRADWATCH_SERVER")]
    pub(super) server: Option<String>,
    /// The token for that server; better given by GRADWATCH_TOKEN, which no list of processes shows
    #[arg(long, value_name = "TOKEN", env = "GRADWATCH_TOKEN", hide_env_values = true)]
    pub(super) token: Option<String>,
    /// A PEM file with the authority that certifies that https server, unless the system trusts it
    #[arg(long, value_name = "FILE", env = "GRADWATCH_CA_CERTIFICATE")]
    ca_certificate: Option<PathBuf>,
}

impl ServerArgs {
    /// The PEM text, when there is a file.
    pub(super) fn ca_certificate(&self) -> Result<Option<String>, Failure> {
        let Some(file) = &self.ca_certificate else { return Ok(None) };
        let read = std::fs::read_to_string(file);
        read.map(Some).map_err(|error| Failure::new(USAGE, format!("--ca-certificate: {}: {error}", file.display())))
    }

    /// Calls the server, if one was named.
    pub(super) fn client(&self) -> Result<Option<RestClient>, Failure> {
        let Some(server) = &self.server else { return Ok(None) };
        Ok(Some(RestClient::new(server, self.token.as_deref(), self.ca_certificate()?.as_deref())?))
    }
}

impl From<RestError> for Failure {
    fn from(error: RestError) -> Self {
        let exit_code = match &error {
            RestError::Argument { .. } => USAGE,
            RestError::Unreachable { .. } => UNREACHABLE,
            RestError::Status { .. } | RestError::Answer { .. } => FAILED,
        };
        Self::new(exit_code, error)
    }
}
