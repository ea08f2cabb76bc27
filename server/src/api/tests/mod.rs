//! The router over a real store; only the pipeline is idle.

mod fixture;
mod layer_fixture;
mod layers;
mod lists;
mod live;
mod protocol;
mod rows;
mod series;
