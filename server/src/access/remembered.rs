//! What the store said of tokens, and who may ask it.
//!
//! Invariant: whoever guesses tokens has at most [`MAX_STRANGERS`] look-ups going on and fills [`MAX_UNKNOWN`] places.
//! Tokens that exist are remembered in places of their own and asked for past that gate, one look-up a token at a time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use gradwatch_store::{StoreError, Token, TokenHash, TokenId};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, ErrorCode};

/// How long what the store said of a token is believed.
const BELIEVED: Duration = Duration::from_secs(2);
/// Look-ups at once of texts that were never seen to be a token: fewer than the store has connections to read with.
const MAX_STRANGERS: usize = 2;
/// Texts remembered to be no token.
const MAX_UNKNOWN: usize = 1_000;
/// When a text that could not be looked up may come again.
const STRANGER_RETRY: Duration = Duration::from_secs(1);

type Found = Option<Arc<Token>>;

/// What the store said of tokens.
pub(super) struct Remembered {
    state: Mutex<State>,
    strangers: Arc<Semaphore>,
}

#[derive(Default)]
struct State {
    /// Tokens that exist, also expired and revoked ones: no more than the store holds.
    known: HashMap<TokenHash, (Instant, Arc<Token>)>,
    unknown: HashMap<TokenHash, Instant>,
    /// Look-ups going on.
    asking: HashMap<TokenHash, Arc<Asking>>,
}

/// One look-up, shared by all who want its answer.
struct Asking {
    answer: OnceCell<Result<Found, Error>>,
    /// Held by the look-up of a stranger until nobody waits for it.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Default for Remembered {
    fn default() -> Self {
        Self { state: Mutex::default(), strangers: Arc::new(Semaphore::new(MAX_STRANGERS)) }
    }
}

impl Remembered {
    /// The token with a hash, remembered or looked up.
    ///
    /// # Errors
    /// `ResourceExhausted` when too many texts are looked up that nobody knows; the look-up's own.
    pub(super) async fn get(
        &self,
        hash: &TokenHash,
        look_up: impl AsyncFnOnce() -> Result<Option<Token>, StoreError>,
    ) -> Result<Found, Error> {
        let asking = {
            let mut state = self.lock();
            if let Some(found) = state.fresh(hash) {
                return Ok(found);
            }
            match state.asking.get(hash) {
                Some(asking) => Arc::clone(asking),
                None => {
                    let permit = if state.known.contains_key(hash) { None } else { Some(self.stranger()?) };
                    let asking = Arc::new(Asking { answer: OnceCell::new(), _permit: permit });
                    state.asking.insert(*hash, Arc::clone(&asking));
                    asking
                }
            }
        };
        let seat = Seat { remembered: self, hash: *hash, asking };
        // Whoever gives up while it looks up leaves that to the next who waits.
        let answer = seat.asking.answer.get_or_init(async || {
            let answer = look_up().await.map(|found| found.map(Arc::new)).map_err(Error::from);
            self.settle(hash, &seat.asking, &answer);
            answer
        });
        answer.await.clone()
    }

    /// A token was revoked: what is remembered of it is no longer so.
    ///
    /// Invariant: a look-up that began before may have seen the token as it was. It is detached here, so that its answer
    /// is neither remembered nor given to whoever asks from now on.
    pub(super) fn forget(&self, token_id: TokenId) {
        let mut state = self.lock();
        state.asking.clear();
        state.known.retain(|_, (_, token)| token.token_id != token_id);
    }

    fn stranger(&self) -> Result<OwnedSemaphorePermit, Error> {
        Arc::clone(&self.strangers).try_acquire_owned().map_err(|_| {
            let message = "too many tokens are looked up that this server has not seen yet";
            Error::new(ErrorCode::ResourceExhausted, message).retry_after(STRANGER_RETRY)
        })
    }

    fn settle(&self, hash: &TokenHash, asking: &Arc<Asking>, answer: &Result<Found, Error>) {
        let mut state = self.lock();
        if state.asking.get(hash).is_none_or(|current| !Arc::ptr_eq(current, asking)) {
            return;
        }
        state.asking.remove(hash);
        match answer {
            Ok(Some(token)) => {
                state.unknown.remove(hash);
                state.known.insert(*hash, (Instant::now(), Arc::clone(token)));
            }
            Ok(None) => {
                state.known.remove(hash);
                if state.unknown.len() >= MAX_UNKNOWN {
                    state.unknown.clear();
                }
                state.unknown.insert(*hash, Instant::now());
            }
            Err(_) => {}
        }
    }

    /// The maps are whole after any panic: each change is one insertion or removal.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What is remembered and still believed.
    fn fresh(&self, hash: &TokenHash) -> Option<Found> {
        if let Some((at, token)) = self.known.get(hash) {
            return (at.elapsed() < BELIEVED).then(|| Some(Arc::clone(token)));
        }
        self.unknown.get(hash).is_some_and(|at| at.elapsed() < BELIEVED).then_some(None)
    }
}

/// Somebody who waits for a look-up. The last one to leave takes an unanswered look-up along: callers that go away leave
/// nothing behind.
struct Seat<'a> {
    remembered: &'a Remembered,
    hash: TokenHash,
    asking: Arc<Asking>,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut state = self.remembered.lock();
        let is_current = state.asking.get(&self.hash).is_some_and(|current| Arc::ptr_eq(current, &self.asking));
        // The map's own and this one; new ones are made under the lock only.
        if is_current && Arc::strong_count(&self.asking) == 2 {
            state.asking.remove(&self.hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        future::pending,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use gradwatch_store::Scope;
    use tokio::{sync::Notify, task::yield_now};
    use uuid::Uuid;

    use super::*;

    fn token() -> Token {
        Token {
            token_id: TokenId(Uuid::from_u128(1)),
            name: "test".into(),
            project: None,
            scopes: BTreeSet::from([Scope::Read]),
            created_at_us: 0,
            expires_at_us: None,
            revoked_at_us: None,
        }
    }

    fn hash(number: u64) -> TokenHash {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&number.to_le_bytes());
        hash
    }

    async fn never() -> Result<Option<Token>, StoreError> {
        panic!("the store is not asked")
    }

    #[tokio::test]
    async fn guesses_neither_starve_a_known_token_nor_fill_its_place() {
        let remembered = Arc::new(Remembered::default());
        remembered.get(&hash(0), async || Ok(Some(token()))).await.unwrap();
        for number in 1..=5_000 {
            assert_eq!(remembered.get(&hash(number), async || Ok(None)).await.unwrap(), None);
        }
        assert!(remembered.lock().unknown.len() <= MAX_UNKNOWN);
        assert!(remembered.get(&hash(0), never).await.unwrap().is_some());

        let hanging: Vec<_> = (10_001..=10_002)
            .map(|number| {
                let remembered = Arc::clone(&remembered);
                tokio::spawn(async move { remembered.get(&hash(number), pending).await })
            })
            .collect();
        while remembered.strangers.available_permits() > 0 {
            yield_now().await;
        }
        let refused = remembered.get(&hash(10_003), never).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::ResourceExhausted);
        assert!(refused.retry_after.is_some());
        // What was good is refreshed all the same.
        remembered.lock().known.get_mut(&hash(0)).unwrap().0 -= BELIEVED;
        assert!(remembered.get(&hash(0), async || Ok(Some(token()))).await.unwrap().is_some());
        // Who goes away makes room.
        for task in hanging {
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
        }
        assert_eq!(remembered.get(&hash(10_003), async || Ok(None)).await.unwrap(), None);
        assert!(remembered.lock().asking.is_empty());
    }

    #[tokio::test]
    async fn one_look_up_answers_all_who_wait() {
        let (remembered, hash) = (Remembered::default(), hash(0));
        let (go, count) = (Notify::new(), AtomicUsize::new(0));
        let look_up = async || {
            count.fetch_add(1, Ordering::Relaxed);
            go.notified().await;
            Ok(Some(token()))
        };
        let (one, other, ()) = tokio::join!(remembered.get(&hash, look_up), remembered.get(&hash, look_up), async {
            go.notify_one();
        });
        assert!(one.unwrap().is_some() && other.unwrap().is_some());
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn what_was_seen_before_a_revocation_is_not_remembered() {
        let (remembered, hash) = (Remembered::default(), hash(0));
        let stale = remembered.get(&hash, async || {
            let seen = token();
            remembered.forget(seen.token_id);
            Ok(Some(seen))
        });
        stale.await.unwrap();
        let revoked = remembered.get(&hash, async || Ok(Some(Token { revoked_at_us: Some(1), ..token() })));
        assert!(revoked.await.unwrap().is_some_and(|token| !token.is_valid(2)));
    }
}
