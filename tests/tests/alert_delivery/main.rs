//! What receivers are told: the right thing, at least once, in order, and nowhere else.

mod addresses;
mod alertmanager;
mod changed;
mod crash;
mod engine;
mod grouping;
mod mock;
mod recorded;
mod sending;
mod signatures;
mod tls;
mod world;
