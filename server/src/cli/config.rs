//! `gradwatch config`.

use clap::{Args, Subcommand};
use gradwatch_server::config::DEFAULT_FILE;

use super::{ConfigArgs, FAILED, Failure};

#[derive(Subcommand)]
pub(super) enum ConfigCommand {
    /// Say whether the settings that `serve` would use are valid
    Check(PrintArgs),
    /// Print the settings that `serve` would use
    Show(PrintArgs),
    /// Print the default file: every setting with its documentation
    Default,
}

#[derive(Args)]
pub(super) struct PrintArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: &ConfigCommand) -> Result<(), Failure> {
    match command {
        ConfigCommand::Default => print!("{DEFAULT_FILE}"),
        ConfigCommand::Check(args) => {
            let checked = args.config.load();
            if args.json {
                let error = checked.as_ref().err().map(ToString::to_string);
                println!("{}", serde_json::json!({ "valid": error.is_none(), "error": error }));
            }
            checked?;
            if !args.json {
                println!("configuration is valid");
            }
        }
        ConfigCommand::Show(args) => {
            let config = args.config.load()?;
            let text = if args.json {
                serde_json::to_string_pretty(&config).map_err(|error| error.to_string())
            } else {
                toml::to_string(&config).map_err(|error| error.to_string())
            };
            println!("{}", text.map_err(|error| Failure::new(FAILED, error))?.trim_end());
        }
    }
    Ok(())
}
