//! What a person sees while rows or runs are read or computed.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// Lines that a whole command prints when it cannot draw a bar.
const LINES: u64 = 10;

/// All of it goes to standard error: standard output is for the summary.
pub(super) enum Progress {
    Bar(ProgressBar),
    Lines { told: u64, unit: &'static str },
    Silent,
}

impl Progress {
    /// Of so many `unit`, such as rows.
    pub(super) fn new(unit: &'static str, silent: bool) -> Self {
        if silent {
            return Self::Silent;
        }
        if !std::io::stderr().is_terminal() {
            return Self::Lines { told: 0, unit };
        }
        let style = ProgressStyle::with_template(&format!("{{bar:40}} {{pos}}/{{len}} {unit}{{msg}}  {{eta}} left"))
            .expect("the template is valid: only a word of ours changes");
        Self::Bar(ProgressBar::new(0).with_style(style))
    }

    /// Something to know that stops nothing. Said with --json too: it is not on standard output.
    pub(super) fn warn(&self, text: &str) {
        match self {
            Self::Bar(bar) => bar.suspend(|| eprintln!("warning: {text}")),
            Self::Lines { .. } | Self::Silent => eprintln!("warning: {text}"),
        }
    }

    /// So many rows are done, the last of them at `step` where the command goes by steps.
    pub(super) fn show(&mut self, done: u64, total: u64, step: Option<u64>) {
        let at = step.map(|step| format!(", step {step}")).unwrap_or_default();
        match self {
            Self::Bar(bar) => {
                bar.set_length(total);
                bar.set_message(at);
                bar.set_position(done);
            }
            Self::Lines { told, unit } => {
                let tenths = done.saturating_mul(LINES).checked_div(total).unwrap_or_default();
                if tenths > *told {
                    *told = tenths;
                    eprintln!("{done} of {total} {unit}{at}");
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
