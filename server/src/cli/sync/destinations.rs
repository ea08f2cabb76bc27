//! Which servers attempts go to, and whether those are there.

use std::collections::HashMap;

use gradwatch_client::spool::{Destination, SpooledAttempt};
use gradwatch_rest::{RestClient, RestError};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::cli::{Failure, ServerArgs, UNREACHABLE, runtime};

/// Every server is asked once, before anything is sent to it, whether it is there and knows the token: a job tries again
/// for ever, somebody who calls a command wants to hear of it.
pub(super) struct Destinations {
    runtime: Runtime,
    /// Wins over what jobs were told.
    server: Option<String>,
    token: Option<String>,
    ca_certificate: Option<String>,
    asked: HashMap<String, Result<(), Refusal>>,
}

/// Why nothing is sent to a server.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) unreachable: bool,
    pub(super) reason: String,
}

impl Destinations {
    pub(super) fn new(remote: &ServerArgs) -> Result<Self, Failure> {
        // Empty ones are none.
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let destinations = Self {
            runtime: runtime()?,
            server: given(&remote.server),
            token: given(&remote.token),
            ca_certificate: remote.ca_certificate()?,
            asked: HashMap::new(),
        };
        // What can be no token or certificate is wrong usage, whatever waits.
        destinations.client(destinations.server.as_deref().unwrap_or_default())?;
        Ok(destinations)
    }

    /// Where an attempt goes.
    pub(super) fn server(&self, attempt: &SpooledAttempt) -> String {
        self.server.clone().unwrap_or_else(|| attempt.server.clone())
    }

    /// Where attempts go that were meant for another server.
    pub(super) fn is_other(&self, attempt: &SpooledAttempt) -> bool {
        let plain = |server: &str| server.trim_end_matches('/').to_owned();
        self.server.as_ref().is_some_and(|server| plain(server) != plain(&attempt.server))
    }

    /// The server, if it is there and lets us in.
    pub(super) fn find(&mut self, server: &str) -> Result<Destination, Refusal> {
        let known = match self.asked.get(server) {
            Some(known) => known.clone(),
            None => {
                let known = self.ask(server);
                self.asked.insert(server.to_owned(), known.clone());
                known
            }
        };
        known?;
        let destination = Destination::new(server);
        let destination = self.token.iter().fold(destination, |destination, token| destination.token(token));
        Ok(self.ca_certificate.iter().fold(destination, |destination, pem| destination.ca_certificate(pem)))
    }

    /// A server that stopped answering is asked again, once; nothing more is sent to it.
    pub(super) fn lost(&mut self, server: &str, reason: String) -> Refusal {
        let refusal = self.ask(server).err().unwrap_or(Refusal { unreachable: false, reason });
        self.asked.insert(server.to_owned(), Err(refusal.clone()));
        refusal
    }

    fn ask(&self, server: &str) -> Result<(), Refusal> {
        let refusal =
            |failure: Failure| Refusal { unreachable: failure.exit_code == UNREACHABLE, reason: failure.message };
        let client = self.client(server).map_err(refusal)?;
        let answer = self.runtime.block_on(async {
            match client.get::<Value>("/readyz").await {
                // One that is there and cannot work is none.
                Err(RestError::Status { .. }) => {
                    return Err(Failure::new(UNREACHABLE, format!("{server} is not ready")));
                }
                ready => ready?,
            };
            // A token that may send need not be one that may read.
            match client.get::<Value>("/api/v1/runs?limit=1").await {
                Ok(_) | Err(RestError::Status { status: 403, .. }) => Ok(()),
                Err(error) => Err(error.into()),
            }
        });
        answer.map_err(refusal)
    }

    fn client(&self, server: &str) -> Result<RestClient, Failure> {
        Ok(RestClient::new(server, self.token.as_deref(), self.ca_certificate.as_deref())?)
    }
}
