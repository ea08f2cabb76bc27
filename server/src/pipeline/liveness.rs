//! Whether a job is still going. The server's clock decides, so this is outside what a replay repeats.

use std::collections::VecDeque;

use gradwatch_store::RunState;

use crate::config::Liveness;

/// Step intervals remembered for the median.
const INTERVALS: usize = 64;

/// What the server has heard of a run lately.
#[derive(Debug)]
pub(crate) struct Pulse {
    last_heard_us: i64,
    last_step_us: i64,
    intervals_us: VecDeque<i64>,
}

impl Pulse {
    /// An owner that has just begun gives the job the benefit of the doubt: its silence counts from now on.
    pub(crate) fn new(now_us: i64) -> Self {
        Self { last_heard_us: now_us, last_step_us: now_us, intervals_us: VecDeque::new() }
    }

    /// Anything at all came from the job.
    pub(crate) fn heard(&mut self, now_us: i64) {
        self.last_heard_us = now_us;
    }

    /// A step came.
    pub(crate) fn stepped(&mut self, now_us: i64) {
        if self.intervals_us.len() == INTERVALS {
            self.intervals_us.pop_front();
        }
        self.intervals_us.push_back(now_us - self.last_step_us);
        self.last_step_us = now_us;
        self.last_heard_us = now_us;
    }

    pub(crate) fn last_heard_us(&self) -> i64 {
        self.last_heard_us
    }

    fn median_interval_us(&self) -> i64 {
        let mut sorted: Vec<i64> = self.intervals_us.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or(0)
    }

    /// The state that silence leads to, with how long it has lasted in microseconds; `None` when nothing changes.
    pub(crate) fn judge(&self, state: RunState, now_us: i64, config: &Liveness) -> Option<(RunState, i64)> {
        if !matches!(state, RunState::Running | RunState::Stalled) {
            return None;
        }
        let silent_us = now_us - self.last_heard_us;
        if silent_us >= seconds_us(config.crashed_after_s) {
            return Some((RunState::Crashed, silent_us));
        }
        let patience_us = self.median_interval_us().saturating_mul(i64::from(config.stalled_intervals));
        let stepless_us = now_us - self.last_step_us;
        let stalled = stepless_us >= patience_us.max(seconds_us(config.stalled_after_s));
        (stalled && state == RunState::Running).then_some((RunState::Stalled, stepless_us))
    }
}

fn seconds_us(seconds: u64) -> i64 {
    i64::try_from(seconds.saturating_mul(1_000_000)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: Liveness = Liveness {
        heartbeat_ms: 10_000,
        crashed_after_s: 120,
        stalled_after_s: 300,
        stalled_intervals: 10,
        check_every_ms: 1,
    };
    const SECOND: i64 = 1_000_000;

    #[test]
    fn silence_is_a_crash_after_two_minutes() {
        let pulse = Pulse::new(0);
        assert_eq!(pulse.judge(RunState::Running, 119 * SECOND, &CONFIG), None);
        assert_eq!(pulse.judge(RunState::Running, 120 * SECOND, &CONFIG), Some((RunState::Crashed, 120 * SECOND)));
        assert_eq!(pulse.judge(RunState::Finished, 500 * SECOND, &CONFIG), None);
    }

    #[test]
    fn heartbeats_without_steps_are_a_stall_after_five_minutes() {
        let mut pulse = Pulse::new(0);
        pulse.heard(300 * SECOND);
        assert_eq!(pulse.judge(RunState::Running, 299 * SECOND, &CONFIG), None);
        assert_eq!(pulse.judge(RunState::Running, 300 * SECOND, &CONFIG), Some((RunState::Stalled, 300 * SECOND)));
        assert_eq!(pulse.judge(RunState::Stalled, 301 * SECOND, &CONFIG), None);
    }

    #[test]
    fn a_slow_job_gets_ten_of_its_own_intervals() {
        let mut pulse = Pulse::new(0);
        for step in 1..=8 {
            pulse.stepped(step * 60 * SECOND);
        }
        pulse.heard(1_079 * SECOND);
        assert_eq!(pulse.judge(RunState::Running, 1_079 * SECOND, &CONFIG), None);
        pulse.heard(1_080 * SECOND);
        let stalled = Some((RunState::Stalled, 600 * SECOND));
        assert_eq!(pulse.judge(RunState::Running, 1_080 * SECOND, &CONFIG), stalled);
    }
}
