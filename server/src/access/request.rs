//! Making tokens.

use std::{collections::BTreeSet, time::Duration};

use gradwatch_store::{Scope, Store, StoreError, Token, TokenId};
use uuid::Uuid;

use super::Secret;
use crate::{
    clock,
    error::{Error, ErrorCode},
    ingest::text,
};

/// Longest name of a token.
const MAX_NAME_BYTES: usize = 256;
/// Longest life: what is to last longer has no end at all.
const MAX_EXPIRES_IN: Duration = Duration::from_secs(100 * 366 * 86_400);

/// Tokens of one project that are good at a time: what its admins make costs everybody's database. Two that are made at
/// once may both be the last.
const MAX_LIVE_OF_PROJECT: usize = 1_000;

/// What a new token is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRequest {
    /// What it is for, in words.
    pub name: String,
    /// The only project it is good for; `None`: all.
    pub project: Option<String>,
    /// What it allows; at least one.
    pub scopes: BTreeSet<Scope>,
    /// How long it is good; `None`: until it is revoked.
    pub expires_in: Option<Duration>,
}

impl TokenRequest {
    /// Makes the token. Its text is answered here and never again.
    ///
    /// # Errors
    /// Names the field at fault; or the store's own.
    pub async fn create(self, store: &dyn Store) -> Result<(Token, Secret), Error> {
        let (token, secret) = (self.token()?, Secret::generate());
        if let Some(project) = &token.project {
            refuse_too_many(project, &store.tokens().await?, token.created_at_us)?;
        }
        store.create_token(&token, &secret.hash()).await?;
        tracing::info!(token_id = %token.token_id, name = token.name, project = token.project, "token created");
        Ok((token, secret))
    }

    fn token(self) -> Result<Token, Error> {
        let check = |field: &str, value: &str| {
            text::name(value, MAX_NAME_BYTES).map_err(|message| Error::invalid(field, message))
        };
        check("name", &self.name)?;
        if let Some(project) = &self.project {
            check("project", project)?;
        }
        if self.scopes.is_empty() {
            return Err(Error::invalid("scopes", "names none; at least one of ingest, read, admin is needed"));
        }
        if self.expires_in.is_some_and(|expires_in| expires_in.is_zero() || expires_in > MAX_EXPIRES_IN) {
            return Err(Error::invalid("expires_in_s", "is not between a second and a hundred years"));
        }
        let created_at_us = clock::now_us();
        // A hundred years of microseconds fit.
        let until = |expires_in: Duration| created_at_us.saturating_add(expires_in.as_micros() as i64);
        Ok(Token {
            token_id: TokenId(Uuid::new_v4()),
            name: self.name,
            project: self.project,
            scopes: self.scopes,
            created_at_us,
            expires_at_us: self.expires_in.map(until),
            revoked_at_us: None,
        })
    }
}

fn refuse_too_many(project: &str, tokens: &[Token], now_us: i64) -> Result<(), Error> {
    let is_live = |token: &&Token| token.project.as_deref() == Some(project) && token.is_valid(now_us);
    if tokens.iter().filter(is_live).count() < MAX_LIVE_OF_PROJECT {
        return Ok(());
    }
    let message = format!("has {MAX_LIVE_OF_PROJECT} tokens already, which is the most; revoke one first");
    Err(Error { field: Some("project".into()), ..Error::new(ErrorCode::Conflict, message) })
}

/// Makes a token for all projects, with the scope `admin`, of a text that somebody chose; once, however often it is
/// called. A token that was revoked stays revoked.
///
/// # Errors
/// When the store fails.
pub(crate) async fn bootstrap(store: &dyn Store, secret: &Secret) -> Result<(), StoreError> {
    let hash = secret.hash();
    if store.token_by_hash(&hash).await?.is_none() {
        let token = Token {
            token_id: TokenId(Uuid::new_v4()),
            name: "bootstrap".into(),
            project: None,
            scopes: BTreeSet::from([Scope::Admin]),
            created_at_us: clock::now_us(),
            expires_at_us: None,
            revoked_at_us: None,
        };
        match store.create_token(&token, &hash).await {
            Ok(()) => tracing::info!(token_id = %token.token_id, "bootstrap token created"),
            // Another server of the same database was faster.
            Err(StoreError::UniqueViolation(_)) => {}
            Err(error) => return Err(error),
        }
    }
    if let Some(token) = store.token_by_hash(&hash).await?
        && !token.is_valid(clock::now_us())
    {
        tracing::warn!(token_id = %token.token_id, "the bootstrap token was revoked; it opens nothing");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_has_so_many_tokens_that_are_good() {
        let request = TokenRequest {
            name: "test".into(),
            project: Some("vision".into()),
            scopes: BTreeSet::from([Scope::Read]),
            expires_in: None,
        };
        let token = request.token().unwrap();
        let now_us = token.created_at_us;
        let mut tokens = vec![token; MAX_LIVE_OF_PROJECT];
        let refused = refuse_too_many("vision", &tokens, now_us).unwrap_err();
        assert_eq!((refused.code, refused.field.as_deref()), (ErrorCode::Conflict, Some("project")));
        refuse_too_many("other", &tokens, now_us).unwrap();
        tokens[0].revoked_at_us = Some(now_us);
        refuse_too_many("vision", &tokens, now_us).unwrap();
    }
}
