//! A real training job small enough for a laptop CPU: a quadratic two-layer network learns addition modulo M from part of
//! the addition table. With weight decay it *groks* (it first memorises, then suddenly generalises); without, it only
//! memorises. The task and network are those of Gromov, "Grokking modular arithmetic" (arXiv:2301.02679).
//! Beside it stands the XOR family, networks of eight widths that are so small that their whole gradient can be watched.
//!
//! ```
//! use gradwatch_demo::{ModularAddition, TrainingConfig};
//!
//! let config = TrainingConfig { modulus: 7, train_pairs: 30, width: 16, epochs: 3, ..TrainingConfig::default() };
//! let mut job = ModularAddition::new(config)?;
//! while !job.is_finished() {
//!     let report = job.epoch();
//!     println!("{} {}", report.epoch, report.loss);
//! }
//! # Ok::<(), gradwatch_demo::ConfigError>(())
//! ```

mod adam;
mod config;
#[cfg(test)]
mod dense;
mod evaluation;
mod family;
mod family_report;
mod hessian;
mod job;
mod layers;
mod network;
mod random;
mod report;
mod rest;
mod run;
mod server;
mod snapshots;
mod streamed;
mod table;
mod training;
mod xor;

pub use config::{ConfigError, TrainingConfig};
pub use family::MemberRun;
pub use family_report::{DimensionPoint, FamilyReport};
pub use gradwatch_rest::RestError;
pub use job::JobError;
pub use layers::{LayerReadings, Reading};
pub use report::{DemoReport, EdgeView, EventView, RunReport};
pub use run::{DemoError, run, run_one, run_xor_family};
pub use server::{PROJECT, Server};
pub use snapshots::Snapshots;
pub use table::{AdditionTable, Pair};
pub use training::{EpochReport, ModularAddition};
pub use xor::{Xor, XorReport};
