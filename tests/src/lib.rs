//! What the end-to-end tests share: a real server on a free port, a peer that speaks raw gRPC, and REST calls.

mod disk;
mod hostile;
mod job;
mod offline;
mod process;
mod rest;
mod server;
mod updates;
mod wire;

pub use disk::limit_file_bytes;
pub use hostile::{GarbageServer, ReservedPort};
pub use job::{Job, JobOptions, LEARNING_RATE, TENSOR, loss};
pub use offline::{Detected, Expected, Offline, Row, assert_detected, assert_readings, rows};
pub use process::{ServerProcess, binary};
pub use rest::{Rest, SseEvent, SseStream};
pub use server::{StoppedServer, TestServer, any_port};
pub use updates::{exact_sketches, random_walk};
pub use wire::{
    Peer, PeerStream, assert_status, frame, group_spec, next_attempt, open_request, payload_f32, spec, violated_field,
};

/// How long a test waits for something that has to happen. Generous: it decides how a failure looks, not whether a test
/// passes.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);
