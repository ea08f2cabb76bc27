//! What a person sees while the server computes.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// Lines that a whole analysis prints when it cannot draw a bar.
const LINES: u64 = 10;

/// All of it goes to standard error: standard output is for the summary.
pub(super) enum Progress {
    Bar(ProgressBar),
    Lines { told: u64 },
    Silent,
}

impl Progress {
    pub(super) fn new(silent: bool) -> Self {
        if silent {
            return Self::Silent;
        }
        if !std::io::stderr().is_terminal() {
            return Self::Lines { told: 0 };
        }
        let style = ProgressStyle::with_template("{bar:40} {pos}/{len} rows  {eta} left")
            .expect("the template is valid: it never changes");
        Self::Bar(ProgressBar::new(0).with_style(style))
    }

    pub(super) fn show(&mut self, done: u64, total: u64) {
        match self {
            Self::Bar(bar) => {
                bar.set_length(total);
                bar.set_position(done);
            }
            Self::Lines { told } => {
                let tenths = done.saturating_mul(LINES).checked_div(total).unwrap_or_default();
                if tenths > *told {
                    *told = tenths;
                    eprintln!("{done} of {total} rows");
                }
            }
            Self::Silent => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Self::Bar(bar) = self {
            bar.abandon();
        }
    }
}
