//! `gradwatch sync`.

mod delivery;
mod destinations;
mod listing;

use std::{env, ffi::OsString, path::PathBuf};

use clap::Args;
use gradwatch_client::{
    Uuid,
    spool::{SpooledAttempt, scan},
};
use serde_json::json;

use self::{delivery::Fate, destinations::Destinations};
use super::{
    FAILED, Failure, ServerArgs, UNREACHABLE, USAGE,
    out::{print, print_line},
};

/// Send what jobs left on disk
///
/// That is frames of jobs that were offline, and frames that no server had acknowledged when a job ended or was killed.
///
/// A job keeps its frames in a spool until a server has them. This command finds what waits there and sends it, the
/// attempts of a run in their order, and removes what the server has settled. It is as if the jobs had sent it: the server
/// knows up to where it has each attempt, so that sending twice, or being killed and called again, is harmless. What a
/// job is still writing is left alone.
#[derive(Args)]
#[command(after_help = "Examples: what waits; send it; send it every ten minutes, by cron\n\n  \
    gradwatch sync --dry-run\n  \
    gradwatch sync --server http://gradwatch.example:7700\n  \
    */10 * * * *  gradwatch sync --server http://gradwatch.example:7700\n\n\
    Each attempt goes to the server that its job was told, unless --server names another.\n\
    To give up frames that cannot be sent, delete the folder that is named with them.\n\
    Exit codes: 0 nothing waits any more but what jobs are writing, 1 something was refused or cannot be read,\n\
    2 wrong usage, 3 no server.")]
pub(super) struct SyncArgs {
    /// The spool [default: gradwatch/spool in $XDG_STATE_HOME or ~/.local/state, as for jobs]
    #[arg(long, value_name = "DIR", env = "GRADWATCH_SPOOL_DIR")]
    dir: Option<OsString>,
    /// Only this run
    #[arg(long, value_name = "RUN")]
    run: Option<Uuid>,
    #[command(flatten)]
    remote: ServerArgs,
    /// Say what waits and send nothing
    #[arg(long, visible_alias = "list")]
    dry_run: bool,
    /// Print JSON, and no progress
    #[arg(long)]
    json: bool,
}

impl SyncArgs {
    /// Where jobs keep what waits, unless they were told otherwise: see `default_spool_dir` of the Python package.
    fn dir(&self) -> Result<PathBuf, Failure> {
        let is_set = |path: &PathBuf| !path.as_os_str().is_empty();
        // An empty variable is none, as for jobs.
        if let Some(dir) = self.dir.clone().map(PathBuf::from).filter(is_set) {
            return Ok(dir);
        }
        let state = env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(is_set);
        let state = state.or_else(|| Some(env::home_dir().filter(is_set)?.join(".local/state")));
        let state = state.ok_or_else(|| Failure::new(USAGE, "--dir: which folder? There is no home to look in"))?;
        Ok(state.join("gradwatch/spool"))
    }
}

pub(super) fn run(args: &SyncArgs) -> Result<(), Failure> {
    let dir = args.dir()?;
    let unreadable = |error| Failure::new(FAILED, format!("--dir: {}: {error}", dir.display()));
    let mut attempts = scan(&dir).map_err(unreadable)?;
    attempts.retain(|attempt| args.run.is_none_or(|run_id| attempt.run_id == run_id));
    if args.dry_run {
        return if args.json {
            let items: Vec<_> = attempts.iter().map(listing::json).collect();
            print_line(json!({ "dir": dir, "attempts": items }))
        } else if attempts.is_empty() {
            print_line(format_args!("nothing waits in {}", dir.display()))
        } else {
            print(listing::table(&attempts))
        };
    }
    let mut destinations = Destinations::new(&args.remote)?;
    let fates = delivery::deliver(&attempts, &mut destinations, args.json)?;
    let told: Vec<_> = attempts.iter().zip(&fates).collect();
    if args.json {
        let items: Vec<_> = told.iter().map(|(attempt, fate)| fate.json(attempt)).collect();
        print_line(json!({ "dir": dir, "attempts": items }))?;
    } else if attempts.is_empty() {
        print_line(format_args!("nothing waits in {}", dir.display()))?;
    } else {
        print_line(summary(&told))?;
    }
    let unreachable = fates.iter().find_map(|fate| match fate {
        Fate::Unreachable { reason } => Some(reason),
        _ => None,
    });
    if let Some(reason) = unreachable {
        return Err(Failure::new(UNREACHABLE, format!("{reason}; what waits stays in {}", dir.display())));
    }
    let left = fates.iter().filter(|fate| matches!(fate, Fate::Left { .. })).count();
    if left > 0 {
        return Err(Failure::new(FAILED, format!("{left} of {} attempts were not delivered", attempts.len())));
    }
    Ok(())
}

/// One line about everything.
fn summary(told: &[(&SpooledAttempt, &Fate)]) -> String {
    let (mut attempts, mut frames, mut lost, mut live) = (0_u64, 0_u64, 0_u64, 0_u64);
    for (_, fate) in told {
        match fate {
            Fate::Delivered(delivered) => {
                attempts += 1;
                frames += delivered.settled;
                lost += delivered.dropped + delivered.rejected;
            }
            Fate::Live => live += 1,
            Fate::Unreachable { .. } | Fate::Left { .. } => {}
        }
    }
    let mut line = format!("{attempts} of {} attempts delivered, {frames} frames", told.len());
    if lost > 0 {
        line += &format!("; {lost} frames were given up or rejected");
    }
    if live > 0 {
        line += &format!("; {live} left alone");
    }
    line
}
