//! A private throw-away PostgreSQL for tests and benchmarks: nothing of the machine's own is touched, and nothing is left
//! behind, however the process ends that started it.

mod binaries;
mod cluster;
mod database;
mod proxy;

pub use cluster::{Cluster, ClusterOptions};
pub use database::TestDatabase;
pub use proxy::{Direction, Proxy};
