//! What the processes of one launch have in common.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use uuid::Uuid;

/// The identity of one launch of a job, which all its processes share: one of them makes it and tells the others.
///
/// As text it is one line, to be broadcast by whatever the job uses for that:
///
/// ```
/// use gradwatch_client::Launch;
///
/// let launch = Launch::new();
/// assert_eq!(launch.to_string().parse::<Launch>()?, launch);
/// # Ok::<(), gradwatch_client::LaunchError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    run_id: Uuid,
    attempt_id: Uuid,
    started_at_us: i64,
}

/// Text that is no launch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("launch: {text:?} is not of the form run_id/attempt_id/started_at_us")]
pub struct LaunchError {
    text: String,
}

impl Launch {
    /// A launch of a new run.
    #[must_use]
    pub fn new() -> Self {
        Self::of_run(Uuid::new_v4())
    }

    /// A launch of a run that may have been launched before.
    #[must_use]
    pub fn of_run(run_id: Uuid) -> Self {
        Self { run_id, attempt_id: Uuid::new_v4(), started_at_us: now_us() }
    }

    /// The same launch with an attempt that another process began.
    pub(crate) fn with_attempt(self, attempt_id: Uuid) -> Self {
        Self { attempt_id, ..self }
    }

    /// The run's id.
    #[must_use]
    pub fn run_id(&self) -> Uuid {
        self.run_id
    }

    /// The id of the launch's first attempt.
    #[must_use]
    pub fn attempt_id(&self) -> Uuid {
        self.attempt_id
    }

    /// The attempt that training opens when it goes back for the `rewinds`th time, to behind `resumed_step`. All
    /// processes of the launch come to the same id without talking.
    pub(crate) fn rewound(&self, resumed_step: Option<u64>, rewinds: u64) -> Self {
        let to = resumed_step.map_or_else(|| "start".to_owned(), |step| step.to_string());
        Self {
            run_id: self.run_id,
            attempt_id: Uuid::new_v5(&self.attempt_id, format!("{to}/{rewinds}").as_bytes()),
            // Attempts are ordered by this where nothing else orders them, whatever the clock does.
            started_at_us: now_us().max(self.started_at_us.saturating_add(1)),
        }
    }

    pub(crate) fn started_at_us(&self) -> i64 {
        self.started_at_us
    }
}

impl Default for Launch {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.run_id, self.attempt_id, self.started_at_us)
    }
}

impl FromStr for Launch {
    type Err = LaunchError;

    fn from_str(text: &str) -> Result<Self, LaunchError> {
        let parse = || {
            let mut fields = text.trim().split('/');
            let launch = Self {
                run_id: fields.next()?.parse().ok()?,
                attempt_id: fields.next()?.parse().ok()?,
                started_at_us: fields.next()?.parse().ok()?,
            };
            fields.next().is_none().then_some(launch)
        };
        parse().ok_or_else(|| LaunchError { text: text.to_owned() })
    }
}

pub(crate) fn now_us() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_no_launch_is_named() {
        let launch = Launch::new();
        assert_eq!(format!(" {launch}\n").parse(), Ok(launch));
        for text in ["", "a/b/c", &format!("{launch}/1"), &launch.run_id.to_string()] {
            let error = text.parse::<Launch>().unwrap_err();
            assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
        }
    }

    #[test]
    fn processes_that_go_back_alike_come_to_the_same_attempt() {
        let launch = Launch::new();
        let other: Launch = launch.to_string().parse().unwrap();
        let ids = |launch: &Launch| {
            [(Some(4), 1), (Some(4), 2), (Some(5), 1), (None, 1)].map(|(step, n)| launch.rewound(step, n).attempt_id)
        };
        assert_eq!(ids(&launch), ids(&other));
        let distinct: std::collections::HashSet<_> = ids(&launch).into_iter().chain([launch.attempt_id]).collect();
        assert_eq!(distinct.len(), 5);
        assert!(launch.rewound(None, 1).started_at_us > launch.started_at_us);
    }
}
