//! The mathematics of gradwatch: sketches, windows of updates, the spectral edge, and detectors over it.
//!
//! Pure: no I/O, no async, no clock, no randomness without a seed. The same input gives the same bits on the same
//! processor. It can be used offline, without the service; formulas carry a tag that says whether the definition is
//! the \[source\]'s, the \[source's code\]'s or \[ours\].
//!
//! ```
//! use gradwatch_spectral::{detectors::DetectorConfig, edge::{EdgeParams, edge_readings}, followers::Followers};
//!
//! // One row an update, oldest first: here a steady direction with a wobble.
//! let updates: Vec<Vec<f32>> = (0..40).map(|t| (0..64).map(|i| 1.0 + ((t * 64 + i) as f32).sin()).collect()).collect();
//! let params = EdgeParams { window: 10, parameter_count: 64, sketch_dim: None };
//! let mut followers = Followers::new(params.window, &DetectorConfig::default());
//! for (step, mut reading) in (0u64..).zip(edge_readings(&updates, params, &[])?) {
//!     let detections = followers.follow(step, &mut reading);
//!     println!("{step} k* {:?} ratio {:?} {detections:?}", reading.position, reading.ratio);
//! }
//! # Ok::<(), gradwatch_spectral::window::WindowError>(())
//! ```

pub mod cascade;
pub mod catalogue;
pub mod curvature;
pub mod dead_directions;
pub mod detectors;
mod dot;
pub mod edge;
pub mod encoding;
pub mod followers;
mod gram;
pub mod health;
pub mod layer_followers;
pub mod layers;
pub mod learning_cell;
pub mod random;
pub mod sketch;
pub mod statistics;
pub mod window;

#[doc(hidden)]
pub use dot::dot_on_every_path;
