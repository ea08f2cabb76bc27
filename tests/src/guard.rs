//! What ends with a test process, however that ends: SIGKILL leaves it no time to clean up.

use std::{
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

/// Waits until its standard input closes, which happens however the process ends that holds the other side; cleans up
/// unless it was told that there is no need.
const SCRIPT: &str = r#"
word=
read -r word
[ "$word" = over ] && exit
kill -KILL "$1" 2>/dev/null
case "$2" in "$3"/?*)
    # It may hold the folder open for another instant.
    sleep 1
    rm -rf "$2"
esac
"#;

/// Kills another process, and removes its folder if that is a temporary one, should this process end before the guard is
/// dropped.
pub(crate) struct Guard(Child);

impl Guard {
    pub(crate) fn new(process: &Child, folder: &Path) -> Self {
        let mut guard = Command::new("/bin/sh");
        guard.args(["-c", SCRIPT, "gradwatch-guard", &process.id().to_string()]).arg(folder).arg(std::env::temp_dir());
        // A group of its own: Ctrl-C in the terminal ends us, and the guard then cleans up.
        guard.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(guard.spawn().expect("/bin/sh starts"))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(mut pipe) = self.0.stdin.take() {
            // It may have been ended by whoever ends us.
            let _ = writeln!(pipe, "over");
        }
        let _ = self.0.wait();
    }
}
