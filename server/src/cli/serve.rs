//! `gradwatch serve`.

use std::io::IsTerminal;

use gradwatch_server::{
    Drained, ServeError,
    config::{Log, LogFormat},
    serve,
};
use tracing_subscriber::EnvFilter;

use super::{ConfigArgs, FAILED, Failure, StopSignals, USAGE, runtime};

pub(super) fn run(args: &ConfigArgs) -> Result<(), Failure> {
    let config = args.load()?;
    start_logging(&config.log)?;
    runtime()?.block_on(async {
        let mut stop = StopSignals::listen()?;
        let server = serve(config).await?;
        stop.wait().await;
        match server.shutdown().await {
            Drained::Completely => Ok(()),
            Drained::CutOff => {
                Err(Failure::new(FAILED, "the shutdown deadline cut streams off; nothing acknowledged is lost"))
            }
        }
    })
}

/// Logs go to standard error, so that what a command prints can be read by the next one.
pub(super) fn start_logging(log: &Log) -> Result<(), Failure> {
    let filter =
        EnvFilter::try_new(&log.filter).map_err(|error| Failure::new(USAGE, format!("log.filter: {error}")))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match log.format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        Self::new(if matches!(error, ServeError::Config(_) | ServeError::Rules(_)) { USAGE } else { FAILED }, error)
    }
}
