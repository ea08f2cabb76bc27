//! Who may do what: every path and every RPC, by every kind of caller.

mod bootstrap;
mod limits;
mod projects;
mod revocation;
mod server;
mod walk;
