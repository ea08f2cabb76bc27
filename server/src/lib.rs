//! The gradwatch server. [`serve`] is the whole application: `main.rs` parses, validates and calls it, tests call it on
//! port 0.

pub mod access;
mod alerts;
mod api;
mod clock;
pub mod config;
pub mod error;
mod http_server;
mod ingest;
mod metrics;
mod pipeline;
mod readiness;
mod reanalysis;
mod recorder;
mod retention;
mod server;
mod state;
mod tls;

pub use api::{openapi_json, token_json};
pub use server::{Drained, ServeError, ServerHandle, open_store, serve, serve_on};
