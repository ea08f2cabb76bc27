//! How much one token may send.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use governor::{
    DefaultDirectRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};
use tokio::time::sleep;

use crate::{
    config::Access,
    error::{Error, ErrorCode},
};

/// How long a stream waits for its turn before it is refused. Meanwhile it is not read, which slows its client down.
const PATIENCE: Duration = Duration::from_secs(5);
/// Frames are counted in these: finer units would make the time between two of them too short to count.
const UNIT_BYTES: usize = 1_024;

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
