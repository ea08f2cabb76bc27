//! The gradwatch client: two lines in a training loop.
//!
//! A [`Run`] turns parameters into sketches of their updates and hands them to a thread of its own, which delivers
//! them to a gradwatch server. Training is never blocked and never sees an error from the network: a dead, slow or
//! lying server costs at most [`RunBuilder::buffer_bytes`] (and a quarter of it for the hand-over); what does not fit
//! is dropped in one stretch, counted, and marked on the run.
//!
//! ```no_run
//! use gradwatch_client::{Encoding, Frame, Run};
//!
//! let mut weights = vec![0.0_f32; 1 << 20];
//! let mut run = Run::builder("http://127.0.0.1:7700")
//!     .project("vision")
//!     .name("resnet-50")
//!     .label("host", "node-3")
//!     .config(serde_json::json!({"batch_size": 256}))
//!     .group("hidden", [("W", weights.len())])
//!     .window(20)
//!     .encoding(Encoding::F16)
//!     .open()?;
//! for step in 0..1000 {
//!     weights[0] += 0.1; // one training step
//!     let frame = Frame::new().learning_rate(0.1).scalar("loss", 1.5).parameters("hidden", [("W", &weights)]);
//!     if let Err(error) = run.submit(step, frame) {
//!         eprintln!("gradwatch: {error}"); // a mistake in the call; training may ignore it
//!     }
//! }
//! println!("{}", run.close());
//! # Ok::<(), gradwatch_client::OpenError>(())
//! ```
//!
//! Beside its updates a run can send snapshots of layers, on a schedule much slower than its updates, for the instruments
//! that read them (cascade, curvature, dead directions, learning cell). What they need is computed when they are due:
//!
//! ```no_run
//! use gradwatch_client::{
//!     Activation, BatchKind, CascadeSnapshot, CurvatureSnapshot, DeadDirectionsSnapshot, Frame, Layer, LayerInstrument,
//!     LearningCellSnapshot, Run, spectra,
//! };
//!
//! # fn hessian_vector_product(direction: &[f64]) -> Vec<f64> { direction.to_vec() }
//! # let (weights, gradient) = (vec![0.1_f32; 64 * 128], vec![0.1_f32; 64 * 128]);
//! # let (activations, errors) = (vec![0.1_f32; 6400 * 64], vec![0.1_f32; 6400 * 64]);
//! # let (outer, inner) = (vec![0.1_f32; 512], vec![0.1_f32; 512 * 10]);
//! let mut run = Run::builder("http://127.0.0.1:7700")
//!     .project("vision")
//!     .name("mlp")
//!     .group("hidden", [("W", weights.len())])
//!     .layer("gradient", Layer::cascade().every(500))
//!     .layer("hidden", Layer::curvature().every(20_000))
//!     .layer("hidden", Layer::dead_directions(64).every(2_000))
//!     .layer("block", Layer::learning_cell(10, Activation::Tanh))
//!     .open()?;
//! for step in 0..100_000 {
//!     // one training step
//!     let mut frame = Frame::new()
//!         .parameters("hidden", [("W", &weights)])
//!         .cascade("gradient", CascadeSnapshot::of_gradient([&gradient]))
//!         .dead_directions("hidden", DeadDirectionsSnapshot::of_samples(&activations, &errors, BatchKind::Train))
//!         .learning_cell("block", LearningCellSnapshot::new(&outer, &inner));
//!     let (sigma, h);
//!     if run.snapshot_due(LayerInstrument::Curvature, "hidden", step)? {
//!         let directions = spectra::gradient_directions(64, 128, &gradient, 20)?;
//!         h = Vec::from_iter((0..directions.sigma.len()).map(|k| {
//!             let direction = directions.rank_one(k);
//!             hessian_vector_product(&direction).iter().zip(&direction).map(|(hv, v)| hv * v).sum()
//!         }));
//!         sigma = directions.sigma;
//!         frame = frame.curvature("hidden", CurvatureSnapshot::new(&sigma, &h));
//!     }
//!     run.submit(step, frame)?;
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! When no process holds all parameters (FSDP, ZeRO, tensor parallel), each one opens the same run as a shard of it and
//! submits the slices that it owns; the server adds the sketches up. One process makes a [`Launch`] and tells the others,
//! and each calls [`RunBuilder::launch`] and [`RunBuilder::shard`].

mod attached;
mod buffer;
mod builder;
mod composer;
mod credentials;
mod declared;
mod edge_terms;
mod error;
mod frame;
mod handover;
mod launch;
mod layer;
#[cfg(test)]
mod random;
mod repeatable;
mod run;
mod shared;
mod snapshot;
mod spec;
pub mod spool;
mod status;
mod uploader;
mod validate;

pub use builder::{DEFAULT_BUFFER_BYTES, DEFAULT_CLOSE_TIMEOUT, DEFAULT_STALL_TIMEOUT, RunBuilder};
pub use declared::DEFAULT_WINDOW;
pub use edge_terms::EdgeTerms;
pub use error::{OpenError, SubmitError, WaitError};
pub use frame::{Frame, TensorSlice};
pub use gradwatch_spectral::dead_directions::BatchKind;
pub use gradwatch_spectral::encoding::Encoding;
pub use gradwatch_spectral::layers::LayerInstrument;
pub use gradwatch_spectral::learning_cell::Activation;
pub use gradwatch_spectral::sketch::{DEFAULT_DIM, SketchError, Sketcher, TensorName};
pub use launch::{Launch, LaunchError};
pub use layer::{DEFAULT_LAYER_INTERVAL, Layer};
pub use repeatable::RepeatableAttempt;
pub use run::{Outcome, Run};
pub use snapshot::{CascadeSnapshot, CurvatureSnapshot, DeadDirectionsSnapshot, LearningCellSnapshot, Reals};
pub use spec::Kind;
pub use spool::Spool;
pub use status::{CloseReport, Status};
pub use uuid::Uuid;
pub use validate::{MAX_NAME_BYTES, MAX_SCALARS_PER_FRAME};

/// What a job computes its snapshots with, on whatever thread it has to spare.
pub mod spectra {
    pub use gradwatch_spectral::cascade::{
        Cascade, WINDOW_VALUES, WindowsError, whole_cascade, window_positions, windows,
    };
    pub use gradwatch_spectral::curvature::{
        CurvatureError, GradientDirections, Kronecker, gradient_directions, kronecker,
    };
    pub use gradwatch_spectral::dead_directions::{
        SampleError, eigenvalues, gram_of_gradients, remove_gauge, singular_values,
    };
}
