//! The binary as a person or a script calls it.

use std::{
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

use crate::binary;

/// What a command printed and ended with.
pub struct Ended {
    /// The exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ended {
    /// Fails with everything that was printed unless the command ended so.
    pub fn with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Fails unless standard error holds a text.
    pub fn says(&self, text: &str) {
        assert!(self.stderr.contains(text), "{text:?} is not in {}", self.stderr);
    }

    /// Standard output, which has to be JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}

/// The command, in a directory of its own and without the settings of whoever runs the tests.
pub fn command(dir: &Path) -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("GRADWATCH_") || name == "DATABASE_URL" {
            command.env_remove(name);
        }
    }
    command.current_dir(dir);
    command
}

/// Runs the command to its end.
pub fn gradwatch(dir: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Ended {
    let Output { status, stdout, stderr } =
        command(dir).envs(variables.iter().copied()).args(arguments).output().expect("the binary runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Ended { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}
