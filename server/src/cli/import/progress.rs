//! What a person sees while checkpoints are read.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// Lines that a whole import prints when it cannot draw a bar.
const LINES: usize = 10;

/// All of it goes to standard error: standard output is for the summary.
pub(super) enum Progress {
    Bar(ProgressBar),
    Lines { done: usize, total: usize },
    Silent,
}

impl Progress {
    pub(super) fn new(total: usize, silent: bool) -> Self {
        if silent {
            return Self::Silent;
        }
        if !std::io::stderr().is_terminal() {
            return Self::Lines { done: 0, total };
        }
        let style = ProgressStyle::with_template("{bar:40} {pos}/{len} rows  step {msg}  {eta} left")
            .expect("the template is valid: it never changes");
        Self::Bar(ProgressBar::new(total as u64).with_style(style))
    }

    /// Something to know that stops nothing. Said with --json too: it is not on standard output.
    pub(super) fn warn(&self, text: &str) {
        match self {
            Self::Bar(bar) => bar.suspend(|| eprintln!("warning: {text}")),
            Self::Lines { .. } | Self::Silent => eprintln!("warning: {text}"),
        }
    }

    /// The row of a step was handed over.
    pub(super) fn row(&mut self, step: u64) {
        match self {
            Self::Bar(bar) => {
                bar.set_message(step.to_string());
                bar.inc(1);
            }
            Self::Lines { done, total } => {
                *done += 1;
                if (*done * LINES / *total) > ((*done - 1) * LINES / *total) {
                    eprintln!("{done} of {total} rows, step {step}");
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
