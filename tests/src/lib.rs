//! What the end-to-end tests share: a real server on a free port, a peer that speaks raw gRPC, and REST calls.

mod checkpoints;
mod command;
mod crashing;
mod disk;
mod faults;
mod faulty_store;
mod guard;
mod hostile;
mod job;
pub mod killed_jobs;
mod made;
mod model;
mod offline;
mod place;
mod process;
mod rest;
mod server;
mod settled;
pub mod torture;
mod updates;
mod wire;
mod writer;

pub use checkpoints::{MadeTensor, MadeTraining};
pub use command::{Ended, command, gradwatch};
pub use crashing::CrashingServer;
pub use disk::{SmallDisk, limit_file_bytes};
pub use faults::{AlertCall, Fault, Planned};
pub use faulty_store::FaultyStore;
pub use hostile::{GarbageServer, ReservedPort};
pub use job::{Job, JobOptions, LEARNING_RATE, TENSOR, loss};
pub use made::{Flaw, GROUPS, Made, STRIDE, Slot, WINDOWS};
pub use model::{ModelJob, Op};
pub use offline::{Detected, Expected, Offline, Row, assert_detected, assert_readings, rows};
pub use place::{Backend, Place};
pub use process::{ServerProcess, binary};
pub use rest::{Rest, SseEvent, SseStream};
pub use server::{StoppedServer, TestServer, any_port};
pub use settled::{Attempt, assert_settled};
pub use updates::{exact_sketches, random_walk};
pub use wire::{
    Peer, PeerStream, assert_status, frame, group_spec, next_attempt, open_request, payload_f32, spec, violated_field,
};
pub use writer::{Writer, tolerated};

/// How long a test waits for something that has to happen. Generous: it decides how a failure looks, not whether a test
/// passes.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);
