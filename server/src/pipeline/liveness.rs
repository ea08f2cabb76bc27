//! Whether a job is still going. The server's clock decides, so this is outside what a replay repeats.

use std::collections::VecDeque;

use gradwatch_store::{RunState, StepRow};

use crate::config::Liveness;

/// Step intervals remembered for the median.
pub(crate) const INTERVALS: usize = 64;

/// The shortest time over which a rhythm is judged.
const BURST_US: i64 = 1_000_000;

/// What the server has heard of a run lately.
#[derive(Debug)]
pub(crate) struct Pulse {
    /// Silence counts from here when nothing was heard since.
    began_us: i64,
    last_heard_us: Option<i64>,
    last_step_us: i64,
    /// Steps since the last interval was noted, and when that was.
    burst_steps: i64,
    burst_began_us: i64,
    intervals_us: VecDeque<i64>,
}

impl Pulse {
    /// An owner that has just begun gives the job the benefit of the doubt: its silence counts from now on. Its rhythm
    /// is read off its last recorded steps.
    pub(crate) fn new(now_us: i64, recorded: &[StepRow]) -> Self {
        let began_us = recorded.first().map_or(now_us, |step| step.received_at_us);
        let mut pulse = Self {
            began_us,
            last_heard_us: None,
            last_step_us: began_us,
            burst_steps: 0,
            burst_began_us: began_us,
            intervals_us: VecDeque::new(),
        };
        recorded.iter().skip(1).for_each(|step| pulse.stepped(step.received_at_us, 1));
        pulse.begin(now_us);
        pulse
    }

    /// Silence counts from now on: the one before is not this owner's, or not this attempt's.
    pub(crate) fn begin(&mut self, now_us: i64) {
        self.began_us = now_us;
        self.last_heard_us = None;
        self.last_step_us = now_us;
        self.burst_steps = 0;
        self.burst_began_us = now_us;
    }

    /// Anything at all came from the job.
    pub(crate) fn heard(&mut self, now_us: i64) {
        self.last_heard_us = Some(now_us);
    }

    /// Steps came. Those that come within a second are one interval each of the time they took together, so that a
    /// backlog that comes at once does not make a slow job look fast.
    pub(crate) fn stepped(&mut self, now_us: i64, steps: u32) {
        self.burst_steps += i64::from(steps);
        let took_us = now_us - self.burst_began_us;
        if took_us >= BURST_US {
            if self.intervals_us.len() >= INTERVALS {
                self.intervals_us.pop_front();
            }
            self.intervals_us.push_back(took_us / self.burst_steps.max(1));
            self.burst_steps = 0;
            self.burst_began_us = now_us;
        }
        self.last_step_us = now_us;
        self.heard(now_us);
    }

    /// When the job was last heard of by this owner.
    pub(crate) fn last_heard_us(&self) -> Option<i64> {
        self.last_heard_us
    }

    fn median_interval_us(&self) -> i64 {
        let mut sorted: Vec<i64> = self.intervals_us.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or(0)
    }

    /// The state that silence leads to, with how long it has lasted in microseconds; `None` when nothing changes. While
    /// the store was in trouble (last at `store_trouble_us`) it was we who could not listen, so silence counts from then.
    pub(crate) fn judge(
        &self,
        state: RunState,
        now_us: i64,
        store_trouble_us: i64,
        config: &Liveness,
    ) -> Option<(RunState, i64)> {
        if !matches!(state, RunState::Running | RunState::Stalled) {
            return None;
        }
        let silent_us = now_us - self.last_heard_us.unwrap_or(self.began_us).max(store_trouble_us);
        if silent_us >= seconds_us(config.crashed_after_s) {
            return Some((RunState::Crashed, silent_us));
        }
        let patience_us = self.median_interval_us().saturating_mul(i64::from(config.stalled_intervals));
        let stepless_us = now_us - self.last_step_us.max(store_trouble_us);
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
        assembly_timeout_s: 30,
        check_every_ms: 1,
    };
    const SECOND: i64 = 1_000_000;

    fn judge(pulse: &Pulse, state: RunState, now_us: i64) -> Option<(RunState, i64)> {
        pulse.judge(state, now_us, 0, &CONFIG)
    }

    #[test]
    fn silence_is_a_crash_after_two_minutes() {
        let pulse = Pulse::new(0, &[]);
        assert_eq!(judge(&pulse, RunState::Running, 119 * SECOND), None);
        assert_eq!(judge(&pulse, RunState::Running, 120 * SECOND), Some((RunState::Crashed, 120 * SECOND)));
        assert_eq!(judge(&pulse, RunState::Finished, 500 * SECOND), None);
    }

    #[test]
    fn a_store_in_trouble_is_not_the_jobs_silence() {
        let pulse = Pulse::new(0, &[]);
        assert_eq!(pulse.judge(RunState::Running, 300 * SECOND, 250 * SECOND, &CONFIG), None);
        let crashed = Some((RunState::Crashed, 120 * SECOND));
        assert_eq!(pulse.judge(RunState::Running, 370 * SECOND, 250 * SECOND, &CONFIG), crashed);
    }

    #[test]
    fn heartbeats_without_steps_are_a_stall_after_five_minutes() {
        let mut pulse = Pulse::new(0, &[]);
        pulse.heard(300 * SECOND);
        assert_eq!(judge(&pulse, RunState::Running, 299 * SECOND), None);
        assert_eq!(judge(&pulse, RunState::Running, 300 * SECOND), Some((RunState::Stalled, 300 * SECOND)));
        assert_eq!(judge(&pulse, RunState::Stalled, 301 * SECOND), None);
    }

    #[test]
    fn a_slow_job_gets_ten_of_its_own_intervals() {
        let mut pulse = Pulse::new(0, &[]);
        for step in 1..=8 {
            pulse.stepped(step * 60 * SECOND, 1);
        }
        pulse.heard(1_079 * SECOND);
        assert_eq!(judge(&pulse, RunState::Running, 1_079 * SECOND), None);
        pulse.heard(1_080 * SECOND);
        let stalled = Some((RunState::Stalled, 600 * SECOND));
        assert_eq!(judge(&pulse, RunState::Running, 1_080 * SECOND), stalled);
    }

    #[test]
    fn a_backlog_that_comes_at_once_does_not_make_a_slow_job_look_fast() {
        let mut pulse = Pulse::new(0, &[]);
        for step in 1..=3 {
            pulse.stepped(step * 600 * SECOND, 1);
        }
        // Four steps that had to wait, one after the other in a moment.
        for late in 0..4 {
            pulse.stepped(4_200 * SECOND + late, 1);
        }
        pulse.stepped(4_800 * SECOND, 1);
        assert_eq!(pulse.median_interval_us(), 600 * SECOND);
    }

    #[test]
    fn a_new_attempt_does_not_inherit_silence() {
        let mut pulse = Pulse::new(0, &[]);
        pulse.stepped(10 * SECOND, 1);
        pulse.begin(1_000 * SECOND);
        assert_eq!(judge(&pulse, RunState::Running, 1_119 * SECOND), None);
    }
}
