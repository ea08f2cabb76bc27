//! Attempts of several shards: steps are joined, whatever comes when, and go on without who does not come.

mod assembling;
mod client;
mod ending;
mod lost;
mod made;
mod restart;
