//! When a message is tried again.

use std::time::Duration;

use gradwatch_store::{Message, MessageState};
use jiff::{Timestamp, fmt::rfc2822};

use super::outcome::{Attempted, Outcome};

/// The first wait; each further one is twice as long, up to the last.
const FIRST: Duration = Duration::from_secs(5);
const LAST: Duration = Duration::from_secs(3_600);
/// Waits are longer or shorter by up to this share, so that what failed together does not come back together.
const JITTER: f64 = 0.2;
/// A message is given up this long after it was made.
pub(super) const GIVE_UP_AFTER_US: i64 = 24 * 3_600 * 1_000_000;

/// Where a message stands after an attempt that ended at `now_us`. `dice` is of [0, 1).
///
/// Invariant: what was not taken stays waiting until its time is up, whatever went wrong. The last attempt is made when
/// it is up, not before.
pub(super) fn after_attempt(message: &mut Message, attempted: &Attempted, now_us: i64, dice: f64) {
    message.attempts = message.attempts.saturating_add(1);
    // A day from now at most, also where the clock has been set back.
    message.give_up_at_us = message.give_up_at_us.min(now_us.saturating_add(GIVE_UP_AFTER_US));
    if attempted.outcome == Outcome::Delivered {
        (message.state, message.ended_at_us) = (MessageState::Delivered, Some(now_us));
    } else if now_us >= message.give_up_at_us {
        (message.state, message.ended_at_us) = (MessageState::Failed, Some(now_us));
    } else {
        let wait = backoff(message.attempts, dice).max(attempted.retry_after.unwrap_or_default());
        let wait_us = i64::try_from(wait.as_micros()).unwrap_or(i64::MAX);
        message.next_attempt_at_us = now_us.saturating_add(wait_us).min(message.give_up_at_us);
    }
}

/// The wait behind so many attempts.
fn backoff(attempts: u32, dice: f64) -> Duration {
    let doubled = FIRST.saturating_mul(1_u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX));
    doubled.min(LAST).mul_f64(1.0 - JITTER + 2.0 * JITTER * dice)
}

/// What `retry-after` says: seconds, or a date.
pub(super) fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok()?;
    Some(Duration::try_from(at.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    const HOUR_US: i64 = 3_600_000_000;

    fn message() -> Message {
        Message {
            message_id: Uuid::nil(),
            sequence: 1,
            receiver: "r".to_owned(),
            group_key: "g".to_owned(),
            content: json!({}),
            state: MessageState::Waiting,
            attempts: 0,
            created_at_us: 0,
            next_attempt_at_us: 0,
            give_up_at_us: GIVE_UP_AFTER_US,
            ended_at_us: None,
        }
    }

    fn failed(retry_after_s: Option<u64>) -> Attempted {
        let mut attempted = Attempted::failed(Outcome::Status, "no");
        attempted.retry_after = retry_after_s.map(Duration::from_secs);
        attempted
    }

    #[test]
    fn waits_grow_from_seconds_to_an_hour_over_a_day_and_then_it_is_given_up() {
        let (mut message, mut now_us, mut waits) = (message(), 0, Vec::new());
        while message.state == MessageState::Waiting {
            after_attempt(&mut message, &failed(None), now_us, 0.5);
            if message.state == MessageState::Waiting {
                waits.push((message.next_attempt_at_us - now_us) / 1_000_000);
                now_us = message.next_attempt_at_us;
            }
        }
        assert_eq!(waits[..11], [5, 10, 20, 40, 80, 160, 320, 640, 1_280, 2_560, 3_600]);
        assert!(waits.iter().all(|wait| *wait <= 3_600));
        assert_eq!((message.state, message.ended_at_us), (MessageState::Failed, Some(24 * HOUR_US)));
        assert_eq!(message.attempts as usize, waits.len() + 1);
    }

    #[test]
    fn waits_differ_by_a_fifth() {
        assert_eq!(backoff(1, 0.0), Duration::from_secs(4));
        assert_eq!(backoff(u32::MAX, 0.999_999_999).as_secs(), 4_319);
    }

    #[test]
    fn a_receiver_that_says_when_is_heard_unless_that_is_too_late() {
        let mut waiting = message();
        after_attempt(&mut waiting, &failed(Some(600)), 0, 0.5);
        assert_eq!(waiting.next_attempt_at_us, 600_000_000);
        // Not sooner than it would have been.
        after_attempt(&mut waiting, &failed(Some(0)), 0, 0.5);
        assert_eq!(waiting.next_attempt_at_us, 10_000_000);
        after_attempt(&mut waiting, &failed(Some(u64::MAX)), 0, 0.5);
        assert_eq!((waiting.next_attempt_at_us, waiting.state), (24 * HOUR_US, MessageState::Waiting));
    }

    #[test]
    fn a_clock_that_was_set_back_makes_no_day_longer() {
        let (mut waiting, now_us) = (message(), -30 * GIVE_UP_AFTER_US);
        after_attempt(&mut waiting, &failed(Some(u64::MAX)), now_us, 0.5);
        assert_eq!(
            (waiting.next_attempt_at_us, waiting.give_up_at_us),
            (now_us + GIVE_UP_AFTER_US, now_us + GIVE_UP_AFTER_US)
        );
    }

    #[test]
    fn what_is_delivered_is_over() {
        let mut message = message();
        after_attempt(&mut message, &Attempted { outcome: Outcome::Delivered, ..failed(None) }, 7, 0.5);
        assert_eq!((message.state, message.attempts, message.ended_at_us), (MessageState::Delivered, 1, Some(7)));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = "2015-10-21T07:27:30Z".parse().unwrap();
        let seconds = |text| retry_after(text, now).map(|wait| wait.as_secs());
        assert_eq!(seconds("120"), Some(120));
        assert_eq!(seconds("Wed, 21 Oct 2015 07:28:00 GMT"), Some(30));
        assert_eq!(seconds("Wed, 21 Oct 2015 07:00:00 GMT"), Some(0));
        for nonsense in ["", "soon", "-5", "1e9", "Wed, 99 Oct 2015 07:28:00 GMT"] {
            assert_eq!(seconds(nonsense), None, "{nonsense}");
        }
    }
}
