//! How much one token may send.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use governor::{
    DefaultDirectRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};
use gradwatch_store::TokenId;
use tokio::time::sleep;

use crate::{
    config::{Access, Config},
    error::{Error, ErrorCode},
};

/// How long a stream waits for its turn before it is refused. Meanwhile it is not read, which slows its client down.
const PATIENCE: Duration = Duration::from_secs(5);
/// After this long without a use an allowance is dropped; the next one begins full.
const UNUSED: Duration = Duration::from_secs(60);
/// Frames are counted in these: finer units would make the time between two of them too short to count.
const UNIT_BYTES: usize = 1_024;

/// The allowances of all tokens.
pub(super) struct Allowances {
    config: Access,
    max_message_bytes: usize,
    /// By token, with the last use; `None` is everybody where no token is asked for.
    used: Mutex<HashMap<Option<TokenId>, Used>>,
}

type Used = (Instant, Arc<Allowance>);

impl Allowances {
    /// By the settings of a server.
    pub(super) fn new(config: &Config) -> Self {
        let max_message_bytes = config.limits.max_message_bytes;
        Self { config: config.access.clone(), max_message_bytes, used: Mutex::default() }
    }

    /// What a token may send, as used at an instant.
    ///
    /// Invariant: two connections of a token never have an allowance each: what one still holds stays.
    pub(super) fn of(&self, token_id: Option<TokenId>, now: Instant) -> Arc<Allowance> {
        // The map is whole after any panic: each change is one insertion or removal.
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, allowance)) = used.get_mut(&token_id) {
            *at = now;
            return Arc::clone(allowance);
        }
        used.retain(|_, (at, allowance)| {
            now.saturating_duration_since(*at) < UNUSED || Arc::strong_count(allowance) > 1
        });
        let allowance = Arc::new(Allowance::new(&self.config, self.max_message_bytes));
        used.insert(token_id, (now, Arc::clone(&allowance)));
        allowance
    }
}

/// What one token may send in a second, over all its connections.
pub(crate) struct Allowance {
    requests: Option<DefaultDirectRateLimiter>,
    /// In units of [`UNIT_BYTES`].
    frames: Option<DefaultDirectRateLimiter>,
    clock: DefaultClock,
}

impl Allowance {
    /// A message of `max_message_bytes` passes at once, however small the rate.
    pub(super) fn new(config: &Access, max_message_bytes: usize) -> Self {
        let limiter = |per_second: usize, burst: usize| {
            let per_second = NonZeroU32::new(clamped(per_second))?;
            let burst = NonZeroU32::new(clamped(burst)).map_or(per_second, |burst| burst.max(per_second));
            Some(RateLimiter::direct(Quota::per_second(per_second).allow_burst(burst)))
        };
        Self {
            requests: limiter(config.requests_per_s, 0),
            frames: limiter(config.frame_bytes_per_s.div_ceil(UNIT_BYTES), max_message_bytes.div_ceil(UNIT_BYTES)),
            clock: DefaultClock::default(),
        }
    }

    /// Counts a request.
    ///
    /// # Errors
    /// `ResourceExhausted` with the time until the next one.
    pub(super) fn request(&self) -> Result<(), Error> {
        let Some(limiter) = &self.requests else { return Ok(()) };
        let Err(early) = limiter.check() else { return Ok(()) };
        let wait = early.wait_time_from(self.clock.now());
        Err(exhausted("more requests than access.requests_per_s allows a token", wait))
    }

    /// Waits until the token may send so many bytes of frames.
    ///
    /// # Errors
    /// `ResourceExhausted` with the time until they fit, when that is too long to wait for.
    pub(crate) async fn frames(&self, bytes: usize) -> Result<(), Error> {
        let Some(limiter) = &self.frames else { return Ok(()) };
        let Some(units) = NonZeroU32::new(clamped(bytes.div_ceil(UNIT_BYTES))) else { return Ok(()) };
        let started = Instant::now();
        loop {
            // More than the burst is more than any message: it was refused before.
            let Ok(Err(early)) = limiter.check_n(units) else { return Ok(()) };
            let wait = early.wait_time_from(self.clock.now());
            if started.elapsed() + wait > PATIENCE {
                return Err(exhausted("more bytes of frames than access.frame_bytes_per_s allows a token", wait));
            }
            sleep(wait).await;
        }
    }
}

fn clamped(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn exhausted(message: &str, wait: Duration) -> Error {
    Error::new(ErrorCode::ResourceExhausted, message).retry_after(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowance(requests_per_s: usize, frame_bytes_per_s: usize) -> Allowance {
        Allowance::new(&Access { require_tokens: true, requests_per_s, frame_bytes_per_s }, 1 << 16)
    }

    #[test]
    fn an_allowance_is_dropped_when_nobody_holds_or_uses_it() {
        let config = Config::embedded(([127, 0, 0, 1], 0).into(), std::path::Path::new("data")).unwrap();
        let (allowances, start) = (Allowances::new(&config), Instant::now());
        let token = |number| Some(TokenId(uuid::Uuid::from_u128(number)));
        let held = allowances.of(token(1), start);
        allowances.of(token(2), start);
        allowances.of(token(3), start + UNUSED / 2);
        allowances.of(token(4), start + UNUSED);
        let used = allowances.used.lock().unwrap();
        assert!(used.contains_key(&token(1)) && used.contains_key(&token(3)) && used.contains_key(&token(4)));
        assert!(!used.contains_key(&token(2)));
        drop(used);
        assert!(Arc::ptr_eq(&held, &allowances.of(token(1), start + 2 * UNUSED)));
    }

    #[tokio::test]
    async fn zero_is_no_limit() {
        let unlimited = allowance(0, 0);
        for _ in 0..10_000 {
            unlimited.request().unwrap();
            unlimited.frames(1 << 24).await.unwrap();
        }
    }

    #[test]
    fn a_refused_request_is_told_when_to_come_back() {
        let two = allowance(2, 0);
        let refusal = (0..1_000).find_map(|_| two.request().err()).expect("a thousand requests take less than minutes");
        assert_eq!(refusal.code, ErrorCode::ResourceExhausted);
        assert!(refusal.retry_after.is_some_and(|wait| wait <= Duration::from_millis(500)), "{refusal:?}");
    }

    #[tokio::test]
    async fn what_would_take_too_long_is_refused_with_the_time_it_takes() {
        let slow = allowance(0, 1_024);
        slow.frames(1 << 16).await.unwrap();
        let refusal = slow.frames(1 << 16).await.unwrap_err();
        assert_eq!(refusal.code, ErrorCode::ResourceExhausted);
        let wait = refusal.retry_after.unwrap();
        assert!(wait > PATIENCE && wait <= Duration::from_secs(64), "{wait:?}");
        // A little is waited for.
        slow.frames(1).await.unwrap();
    }

    #[tokio::test]
    async fn the_largest_message_passes_whatever_the_rate() {
        allowance(0, 1).frames(1 << 16).await.unwrap();
    }
}
