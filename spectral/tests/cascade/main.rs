//! The cascade instrument: golden values, made fields, everything undefined or refused, and the fit over widths.

mod fields;
mod fleet;
mod golden;
mod modular_addition;
mod reading;
#[path = "../support/mod.rs"]
mod support;
mod windows;
mod xor;

use gradwatch_spectral::cascade::{CascadeSnapshot, windows as windows_of};
use half::f16;

/// Windows as the server gets them: float16 on the wire.
fn through_float16(windows: &[Vec<f32>]) -> Vec<Vec<f64>> {
    windows.iter().map(|window| window.iter().map(|value| f16::from_f32(*value).to_f64()).collect()).collect()
}

/// The snapshot that a client sends of these tensors.
fn snapshot_of(tensors: &[Vec<f32>]) -> CascadeSnapshot {
    let tensors: Vec<&[f32]> = tensors.iter().map(Vec::as_slice).collect();
    CascadeSnapshot { windows: through_float16(&windows_of(&tensors).expect("large enough and finite")), whole: None }
}
