//! Cascade (TDU-OFC; arXiv 2604.16431, 2604.04655, 2605.02968): a gradient is put on a graph as load, sites above a
//! threshold topple onto their neighbours, and the size of the response is measured against the number of sites.

mod reading;

pub use reading::CascadeReading;

/// A snapshot of a gradient.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CascadeSnapshot {
    /// R windows of N_K magnitudes each, every tensor divided by its RMS. Empty when only `whole` is sent.
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
