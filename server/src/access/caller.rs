//! Who sends a request.

use std::{fmt, sync::Arc};

use gradwatch_store::{Run, RunId, Scope, Store, StoreError, Token, TokenHash};

use super::allowance::Allowance;
use crate::error::{Error, ErrorCode};

/// Who sends a request, as the guard found out. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Caller {
    /// `None` where no token is asked for: anyone may do everything.
    token: Option<(Arc<Token>, TokenHash)>,
    allowance: Arc<Allowance>,
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Caller").field(&self.token.as_ref().map(|(token, _)| token.token_id)).finish()
    }
}

impl Caller {
    pub(super) fn anyone(allowance: Arc<Allowance>) -> Self {
        Self { token: None, allowance }
    }

    pub(super) fn of_token(token: Arc<Token>, hash: TokenHash, allowance: Arc<Allowance>) -> Self {
        Self { token: Some((token, hash)), allowance }
    }

    pub(super) fn token(&self) -> Option<(&Token, &TokenHash)> {
        self.token.as_ref().map(|(token, hash)| (&**token, hash))
    }

    /// The name of its token; empty where no token is asked for.
    pub(crate) fn name(&self) -> &str {
        self.token.as_ref().map_or("", |(token, _)| &token.name)
    }

    /// How much it may send.
    pub(crate) fn allowance(&self) -> &Allowance {
        &self.allowance
    }

    /// The only project it may see and change; `None`: all.
    pub(crate) fn project(&self) -> Option<&str> {
        self.token.as_ref().and_then(|(token, _)| token.project.as_deref())
    }

    /// Refuses what the token does not allow.
    pub(super) fn require(&self, scope: Scope) -> Result<(), Error> {
        match &self.token {
            Some((token, _)) if !token.allows(scope) => {
                Err(denied(format!("this needs a token with the scope {}", scope.as_str())))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a token of one project.
    pub(super) fn require_all_projects(&self) -> Result<(), Error> {
        match self.project() {
            Some(_) => Err(denied("this needs a token for all projects")),
            None => Ok(()),
        }
    }

    /// Refuses a project that is named and not the token's own.
    pub(crate) fn require_project(&self, project: &str) -> Result<(), Error> {
        match self.project() {
            Some(own) if own != project => Err(Error {
                field: Some("project".into()),
                ..denied(format!("the token is good for project {own:?} only"))
            }),
            _ => Ok(()),
        }
    }

    /// A run, if the caller may know it.
    ///
    /// Invariant: a run of another project is answered for like one that does not exist.
    ///
    /// # Errors
    /// `UnknownRun`.
    pub(crate) async fn run(&self, store: &dyn Store, run_id: RunId) -> Result<Run, StoreError> {
        let run = store.run(run_id).await?;
        match self.project() {
            Some(own) if own != run.project => Err(StoreError::UnknownRun(run_id)),
            _ => Ok(run),
        }
    }
}

fn denied(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::PermissionDenied, message)
}
