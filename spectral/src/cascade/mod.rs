//! Cascade (TDU-OFC; arXiv 2604.16431, 2604.04655, 2605.02968): a gradient is put on a graph as load, sites above a
//! threshold topple onto their neighbours, and the size of the response is measured against the number of sites.
//!
//! The papers' algorithm is only partly public. What is here reproduces the direction of their results, not their
//! levels. Two dimensions share nothing but the baseline 1 of iid Gaussian values: `nest_dimension` \[ours\], over
//! blocks of one gradient, and `fleet_dimension` \[source\], over models of several widths. On the same modular-addition
//! task the second falls where the first rises: never take one for the other, and compare a run with its own past rather
//! than with 1.

mod fleet;
mod graph;
mod kernel;
mod line;
mod nest;
mod reading;
mod threshold;
mod whole;
mod windows;

pub use self::{
    fleet::{FleetDimension, FleetPoint, LeftOut, fleet_dimension},
    graph::Graph,
    kernel::{Cascade, Rule, relax},
    nest::{Nest, NestLayout, nest},
    reading::{CascadeReading, reading},
    threshold::threshold,
    whole::whole_cascade,
    windows::{WINDOW_VALUES, WINDOWS, WindowsError, window_positions, windows},
};

/// A snapshot of a gradient.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CascadeSnapshot {
    /// R windows of N_K magnitudes each, every tensor divided by its RMS: see [`windows()`]. Empty when only `whole` is
    /// sent.
    pub windows: Vec<Vec<f64>>,
    /// The response of the whole gradient, for `fleet_dimension`.
    pub whole: Option<WholeGradient>,
}

/// What is known of the whole gradient.
#[derive(Debug, Clone, PartialEq)]
pub enum WholeGradient {
    /// All its entries, of a model small enough.
    Entries(Vec<f64>),
    /// The cascade fraction that the client found itself.
    Fraction {
        /// N, the number of entries.
        sites: u64,
        /// phi = s/N.
        phi: f64,
    },
}
