//! `gradwatch token`.

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::{Args, Subcommand};
use gradwatch_rest::RestClient;
use gradwatch_server::{
    access::TokenRequest,
    config::{Config, Flags},
    error::ErrorCode,
    open_store, token_json,
};
use gradwatch_store::{Scope, Store, StoreError, TokenId};
use http::Method;
use serde_json::{Value, json};

use super::{FAILED, Failure, ServerArgs, USAGE, runtime};

#[derive(Subcommand)]
pub(super) enum TokenCommand {
    /// Make a token and print it; it is never shown again
    Create(CreateArgs),
    /// List tokens, also expired and revoked ones
    List(ListArgs),
    /// Take a token back; its open streams end within five seconds
    Revoke(RevokeArgs),
}

#[derive(Args)]
pub(super) struct CreateArgs {
    /// What it is for
    #[arg(long)]
    name: String,
    /// The only project it is good for; without it, all
    #[arg(long)]
    project: Option<String>,
    /// What it allows: ingest, read or admin (which includes the others); repeated for more
    #[arg(long = "scope", required = true, value_name = "SCOPE")]
    scopes: Vec<Scope>,
    /// How long it is good, such as 90d, 12h, 30m or 45s; without it, until it is revoked
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    expires_in: Option<Duration>,
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Args)]
pub(super) struct RevokeArgs {
    /// The token's id, as `token list` shows it
    token_id: TokenId,
    #[command(flatten)]
    place: PlaceArgs,
}

/// Where the tokens are kept: with a running server, or in a data directory without one.
#[derive(Args)]
struct PlaceArgs {
    #[command(flatten)]
    remote: ServerArgs,
    /// A TOML file of settings, which say where the data is
    #[arg(long, value_name = "FILE", env = "GRADWATCH_CONFIG")]
    config: Option<PathBuf>,
    /// Where SQLite keeps its files
    #[arg(long, value_name = "DIR", conflicts_with = "server")]
    data_dir: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: &TokenCommand) -> Result<(), Failure> {
    runtime()?.block_on(async {
        match command {
            TokenCommand::Create(args) => create(args).await,
            TokenCommand::List(args) => list(&args.place).await,
            TokenCommand::Revoke(args) => revoke(args).await,
        }
    })
}

/// Where tokens are kept.
enum Place {
    Server(RestClient),
    Store(Arc<dyn Store>),
}

impl PlaceArgs {
    async fn open(&self) -> Result<Place, Failure> {
        if let Some(client) = self.remote.client()? {
            return Ok(Place::Server(client));
        }
        let flags = Flags { data_dir: self.data_dir.clone(), ..Flags::default() };
        let config = Config::load(self.config.as_deref(), &flags)?;
        let store = open_store(&config).await.map_err(|error| match error {
            StoreError::DataDir(_) => {
                Failure::new(FAILED, format!("{error}; if a server runs on it, ask the server: --server URL"))
            }
            error => error.into(),
        })?;
        Ok(Place::Store(store))
    }
}

async fn create(args: &CreateArgs) -> Result<(), Failure> {
    let request = TokenRequest {
        name: args.name.clone(),
        project: args.project.clone(),
        scopes: args.scopes.iter().copied().collect(),
        expires_in: args.expires_in,
    };
    let made: Value = match args.place.open().await? {
        Place::Server(client) => {
            let scopes: Vec<&str> = request.scopes.iter().map(|scope| scope.as_str()).collect();
            let body = json!({
                "name": request.name,
                "project": request.project,
                "scopes": scopes,
                "expires_in_s": request.expires_in.map(|time| time.as_secs()),
            });
            client.call(Method::POST, "/api/v1/tokens", Some(&body)).await?
        }
        Place::Store(store) => {
            let made = request.create(&*store).await;
            store.close().await;
            let (token, secret) = made.map_err(|error| {
                Failure::new(if error.code == ErrorCode::InvalidArgument { USAGE } else { FAILED }, error)
            })?;
            let mut made = token_json(&token);
            made["token"] = secret.expose().into();
            made
        }
    };
    if args.place.json {
        println!("{made}");
    } else {
        // The token alone, so that a script can take it.
        eprintln!("token {} ({}); it is not shown again:", word(&made["token_id"]), word(&made["name"]));
        println!("{}", word(&made["token"]));
    }
    Ok(())
}

async fn list(place: &PlaceArgs) -> Result<(), Failure> {
    let listed: Value = match place.open().await? {
        Place::Server(client) => client.get("/api/v1/tokens").await?,
        Place::Store(store) => {
            let tokens = store.tokens().await;
            store.close().await;
            json!({ "items": tokens?.iter().map(token_json).collect::<Vec<_>>(), "next_cursor": null })
        }
    };
    if place.json {
        println!("{listed}");
        return Ok(());
    }
    for token in listed["items"].as_array().into_iter().flatten() {
        let scopes: Vec<&str> = token["scopes"].as_array().into_iter().flatten().map(word).collect();
        let project = token["project"].as_str().unwrap_or("(all projects)");
        let (id, scopes, name) = (word(&token["token_id"]), scopes.join(","), word(&token["name"]));
        print!("{id}  {scopes:<17}  {project:<20}  {name}");
        for (member, what) in [("expires_at", "expires"), ("revoked_at", "revoked")] {
            if let Some(at) = token[member].as_str() {
                print!("  {what} {at}");
            }
        }
        println!();
    }
    Ok(())
}

async fn revoke(args: &RevokeArgs) -> Result<(), Failure> {
    let token_id = args.token_id;
    match args.place.open().await? {
        Place::Server(client) => {
            client.call::<Value>(Method::DELETE, &format!("/api/v1/tokens/{token_id}"), None).await?;
        }
        Place::Store(store) => {
            let now_us = jiff::Timestamp::now().as_microsecond();
            let known = store.revoke_token(token_id, now_us).await;
            store.close().await;
            if !known? {
                return Err(Failure::new(FAILED, format!("token {token_id} is unknown")));
            }
        }
    }
    if args.place.json {
        println!("{}", json!({ "token_id": token_id.to_string(), "revoked": true }));
    } else {
        println!("revoked {token_id}");
    }
    Ok(())
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A number and a unit: days, hours, minutes or seconds.
fn parse_time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a time such as 90d, 12h, 30m or 45s");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        'd' => 86_400,
        'h' => 3_600,
        'm' => 60,
        's' => 1,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::new(FAILED, error)
    }
}
