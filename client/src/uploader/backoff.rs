//! When to try again.

use std::time::Duration;

const BASE: Duration = Duration::from_millis(200);
const CAP: Duration = Duration::from_secs(30);

/// Exponential backoff with full jitter (Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog 2015): the
/// n-th delay is uniform between 0 and min(cap, base · 2^n), so that clients of a restarted server spread out.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next delay.
    pub(super) fn next_delay(&mut self) -> Duration {
        let bound = self.bound();
        self.failures = self.failures.saturating_add(1);
        rand::random_range(Duration::ZERO..=bound)
    }

    /// The connection did what it is for.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    fn bound(&self) -> Duration {
        BASE.saturating_mul(1 << self.failures.min(16)).min(CAP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_double_up_to_the_cap_and_start_again() {
        let mut backoff = Backoff::default();
        let mut bounds = Vec::new();
        for _ in 0..100 {
            bounds.push(backoff.bound().as_millis());
            let bound = backoff.bound();
            assert!(backoff.next_delay() <= bound);
        }
        assert_eq!(bounds[..9], [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000]);
        assert_eq!(bounds[99], 30_000);
        backoff.reset();
        assert_eq!(backoff.bound(), BASE);
    }
}
