//! `gradwatch rules init`.

use std::{fs::OpenOptions, io::Write, path::Path};

use super::InitArgs;
use crate::cli::{
    FAILED, Failure,
    out::{print, print_line},
};

/// The rules to begin with.
const DEFAULT_RULES: &str = include_str!("../../../default-rules.yaml");

pub(super) fn run(args: &InitArgs) -> Result<(), Failure> {
    let file = args.file.as_path();
    if file == Path::new("-") {
        return print(DEFAULT_RULES);
    }
    let failed = |error: std::io::Error| {
        let message = match error.kind() {
            std::io::ErrorKind::AlreadyExists => "is there already; --force overwrites it".to_owned(),
            _ => error.to_string(),
        };
        Failure::new(FAILED, format!("{}: {message}", file.display()))
    };
    let mut options = OpenOptions::new();
    options.write(true);
    // Whether it is there is asked in the same moment as it is made.
    if args.force {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    options.open(file).and_then(|mut file| file.write_all(DEFAULT_RULES.as_bytes())).map_err(failed)?;
    let file = file.display();
    print_line(format_args!("wrote {file}; next: gradwatch rules check {file}"))
}
