//! `gradwatch demo`.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use clap::{Args, ValueEnum};
use gradwatch_client::WaitError;
use gradwatch_demo::{DemoError, DemoReport, FamilyReport, JobError, PROJECT, RestError, Server};
use gradwatch_server::{ServeError, ServerHandle, config::Config, serve};

use super::{FAILED, Failure, ServerArgs, StopSignals, UNREACHABLE, USAGE, runtime, serve::start_logging};

/// Small networks learn while the server watches them with all of its instruments, and what it says is printed.
#[derive(Args)]
pub(super) struct DemoArgs {
    /// What is learned
    #[arg(long, value_enum, default_value_t = Experiment::Addition)]
    experiment: Experiment,
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

#[derive(Clone, Copy, ValueEnum)]
enum Experiment {
    /// Addition modulo 71 from 2016 of the 5041 pairs, twice: with weight decay the network groks, without it only memorises
    Addition,
    /// Exclusive or, by networks of eight widths: how the cascades of their gradients grow with the width, and when they solve it
    Xor,
}

/// What the server said of it.
enum Report {
    Addition(DemoReport),
    Xor(FamilyReport),
}

impl Experiment {
    async fn run(self, server: &Server, seed: u64) -> Result<Report, DemoError> {
        Ok(match self {
            Self::Addition => Report::Addition(gradwatch_demo::run(server, seed).await?),
            Self::Xor => Report::Xor(gradwatch_demo::run_xor_family(server, seed).await?),
        })
    }

    fn words(self) -> &'static str {
        match self {
            Self::Addition => "training two networks of 436,224 parameters for 400 epochs",
            Self::Xor => "training 48 networks of 81 to 2,001 parameters",
        }
    }
}

pub(super) fn run(args: &DemoArgs) -> Result<(), Failure> {
    runtime()?.block_on(async {
        let Some(url) = args.remote.server.clone() else { return with_own_server(args).await };
        let ca_certificate = args.remote.ca_certificate()?;
        let server = Server { url, token: args.remote.token.clone(), ca_certificate };
        let report = args.experiment.run(&server, args.seed).await?;
        print_report(args, &report);
        Ok(())
    })
}

async fn with_own_server(args: &DemoArgs) -> Result<(), Failure> {
    let server = start(args).await?;
    let url = format!("http://{}", server.address());
    eprintln!("gradwatch serves on {url}; {}", args.experiment.words());
    let outcome = args.experiment.run(&Server { url, ..Server::default() }, args.seed).await;
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

fn print_report(args: &DemoArgs, report: &Report) {
    match report {
        Report::Addition(report) if args.json => println!("{}", serde_json::json!(report)),
        Report::Xor(report) if args.json => println!("{}", serde_json::json!(report)),
        Report::Addition(report) => {
            println!("\n{report}");
            let server = look_at(&report.server);
            for run in &report.runs {
                let metrics = "metric=edge.ratio_1&metric=scalar.test_accuracy&metric=cascade.phi";
                println!("  {server}/api/v1/runs/{}/series?{metrics}", run.run_id);
            }
        }
        Report::Xor(report) => {
            println!("\n{report}");
            let server = look_at(&report.server);
            println!("  {server}/api/v1/runs?label.width_family={}", report.family);
        }
    }
}

fn look_at(server: &str) -> &str {
    let server = server.trim_end_matches('/');
    println!("Look at");
    println!("  {server}/docs");
    println!("  {server}/api/v1/overview?project={PROJECT}");
    server
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
