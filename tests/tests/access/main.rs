//! Who may do what: every path and every RPC, by every kind of caller.

mod bootstrap;
mod client;
mod fleet;
mod limits;
mod process;
mod projects;
mod revocation;
mod server;
mod tls;
mod walk;
