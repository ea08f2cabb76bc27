//! Snapshots of layers, from a frame to their readings: read once, in order, whatever happens to the server meanwhile.

mod backlog;
mod client;
mod declared;
mod made;
mod readings;
mod refused;
mod restart;
mod sent;
mod served;
mod world;
