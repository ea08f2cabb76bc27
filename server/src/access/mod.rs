//! Who is asking, what they may, and how much of it.
//!
//! Invariant: nothing is reachable that `requirement` does not declare; `guard` stands in front of every route and
//! every RPC. What a caller may see is decided by the `Caller` that the guard leaves in the request: without one,
//! handlers refuse.

mod allowance;
mod caller;
mod guard;
mod host;
mod remembered;
mod request;
mod requirement;
mod secret;

use std::{
    future::pending,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::http::{HeaderMap, header};
use gradwatch_store::{Store, Token, TokenHash, TokenId};
use tokio::time::sleep;

use crate::{
    clock, config,
    error::{Error, ErrorCode},
};

use allowance::Allowances;
pub(crate) use caller::Caller;
pub(crate) use guard::protect;
use remembered::Remembered;
pub use request::TokenRequest;
pub(crate) use request::bootstrap;
pub use secret::{Secret, SecretError};

/// How often open streams look whether their token is still good. Together: within five seconds.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Knows tokens.
pub(crate) struct Access {
    store: Arc<dyn Store>,
    is_required: bool,
    /// Nobody is asked, because only this machine is meant to get here.
    is_local_only: bool,
    remembered: Remembered,
    allowances: Allowances,
}

impl Access {
    /// By the settings of a server.
    pub(crate) fn new(config: &config::Config, store: Arc<dyn Store>) -> Self {
        Self {
            store,
            is_required: config.requires_tokens(),
            is_local_only: !config.requires_tokens() && config.listen.ip().is_loopback(),
            remembered: Remembered::default(),
            allowances: Allowances::new(config),
        }
    }

    /// Who sends a request, by its `Authorization`.
    ///
    /// # Errors
    /// `Unauthenticated` when a token is asked for and there is no good one; `Unavailable` when the store cannot say.
    async fn authenticate(&self, headers: &HeaderMap) -> Result<Caller, Error> {
        if !self.is_required {
            return Ok(Caller::anyone(self.allowances.of(None, Instant::now())));
        }
        let Some(text) = bearer(headers) else {
            return Err(unauthenticated("this server asks for a token: send `Authorization: Bearer gw_…`"));
        };
        // What cannot be a token costs no look-up.
        if Secret::check(text).is_err() {
            return Err(refused());
        }
        let hash = secret::hash(text);
        match self.look_up(&hash).await? {
            Some(token) if token.is_valid(clock::now_us()) => {
                let allowance = self.allowances.of(Some(token.token_id), Instant::now());
                Ok(Caller::of_token(token, hash, allowance))
            }
            _ => Err(refused()),
        }
    }

    async fn look_up(&self, hash: &TokenHash) -> Result<Option<Arc<Token>>, Error> {
        self.remembered.get(hash, async || self.store.token_by_hash(hash).await).await
    }

    /// A token was revoked through this server.
    pub(crate) fn forget(&self, token_id: TokenId) {
        self.remembered.forget(token_id);
    }

    /// Ends within five seconds after the caller's token has expired or was revoked. A store that cannot answer ends
    /// nothing before the token expires: it settles nothing either.
    pub(crate) async fn ended(self: Arc<Self>, caller: Caller) {
        let Some((token, hash)) = caller.token() else { return pending().await };
        tokio::select! {
            () = expired(token) => {}
            () = self.revoked(hash) => {}
        }
    }

    async fn revoked(&self, hash: &TokenHash) {
        loop {
            sleep(LOOK_EVERY).await;
            match self.look_up(hash).await {
                Ok(Some(token)) if token.is_valid(clock::now_us()) => {}
                Ok(_) => return,
                Err(error) => tracing::debug!(%error, "whether a token is still good is not known"),
            }
        }
    }
}

/// When a token has had its time, which needs no store to be known.
async fn expired(token: &Token) {
    let Some(expires_at_us) = token.expires_at_us else { return pending().await };
    while clock::now_us() < expires_at_us {
        sleep(LOOK_EVERY).await;
    }
}

/// Which of them it is would help whoever found an old one.
fn refused() -> Error {
    unauthenticated("the token is unknown, expired or revoked")
}

/// The error of a caller that is not known, or no longer.
pub(crate) fn unauthenticated(message: &str) -> Error {
    Error::new(ErrorCode::Unauthenticated, message)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}
