//! `gradwatch demo`.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use clap::Args;
use gradwatch_client::WaitError;
use gradwatch_demo::{DemoError, DemoReport, JobError, PROJECT, RestError, Server};
use gradwatch_server::{ServeError, ServerHandle, config::Config, serve};

use super::{FAILED, Failure, ServerArgs, StopSignals, UNREACHABLE, USAGE, runtime, serve::start_logging};

/// Learns addition modulo 71 from 2016 of the 5041 pairs, twice: with weight decay the network groks, without it only
/// memorises. Both stream to the server, which shows when the spectrum of the updates changes.
#[derive(Args)]
pub(super) struct DemoArgs {
    /// Fixes weights, split and sketch, and so the table
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    remote: ServerArgs,
    /// Where the started server listens; any free port when this one is taken
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7700", conflicts_with = "server")]
    listen: SocketAddr,
    /// Where the started server keeps its data
    #[arg(long, value_name = "DIR", default_value = "./gradwatch-data/demo", conflicts_with = "server")]
    data_dir: PathBuf,
    /// Leave when the table is printed, instead of serving until Ctrl-C
    #[arg(long)]
    exit: bool,
    /// Print the table as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &DemoArgs) -> Result<(), Failure> {
    runtime()?.block_on(async {
        let Some(url) = args.remote.server.clone() else { return with_own_server(args).await };
        let ca_certificate = args.remote.ca_certificate()?;
        let server = Server { url, token: args.remote.token.clone(), ca_certificate };
        let report = gradwatch_demo::run(&server, args.seed).await?;
        print_report(args, &report);
        Ok(())
    })
}

async fn with_own_server(args: &DemoArgs) -> Result<(), Failure> {
    let server = start(args).await?;
    let url = format!("http://{}", server.address());
    eprintln!("gradwatch serves on {url}; training two networks of 436,224 parameters for 400 epochs");
    let outcome = gradwatch_demo::run(&Server { url, ..Server::default() }, args.seed).await;
    if let Ok(report) = &outcome {
        print_report(args, report);
        if !args.exit {
            eprintln!("Serving until Ctrl-C.");
            StopSignals::listen()?.wait().await;
        }
    }
    server.shutdown().await;
    outcome.map(|_| ()).map_err(Failure::from)
}

async fn start(args: &DemoArgs) -> Result<ServerHandle, Failure> {
    let mut config = Config::embedded(args.listen, &args.data_dir)?;
    if config.requires_tokens() {
        return Err(Failure::new(USAGE, "--listen: beyond loopback a server asks for tokens; the demo's asks nobody"));
    }
    config.log.filter = "warn".into();
    start_logging(&config.log)?;
    match serve(config.clone()).await {
        Err(ServeError::Listen { address, cause }) if cause.kind() == std::io::ErrorKind::AddrInUse => {
            eprintln!("{address} is taken (`--server http://{address}` would use it); taking a free port");
            config.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            Ok(serve(config).await?)
        }
        started => Ok(started?),
    }
}

fn print_report(args: &DemoArgs, report: &DemoReport) {
    if args.json {
        println!("{}", serde_json::json!(report));
        return;
    }
    println!("\n{report}");
    let server = report.server.trim_end_matches('/');
    println!("Look at");
    println!("  {server}/docs");
    println!("  {server}/api/v1/overview?project={PROJECT}");
    for run in &report.runs {
        println!("  {server}/api/v1/runs/{}/series?metric=edge.ratio_1&metric=scalar.test_accuracy", run.run_id);
    }
}

impl From<DemoError> for Failure {
    fn from(error: DemoError) -> Self {
        let unreachable = matches!(
            error,
            DemoError::Rest(RestError::Unreachable { .. })
                | DemoError::Job { cause: JobError::FirstFrame(WaitError::Stalled { .. }), .. }
        );
        Self::new(if unreachable { UNREACHABLE } else { FAILED }, error)
    }
}
