//! The curvature instrument: what it recovers, what it refuses, what it leaves undefined.

mod client;
mod made;
mod power_laws;
mod stable;
#[path = "../support/mod.rs"]
mod support;
mod undefined;
mod zeta;
