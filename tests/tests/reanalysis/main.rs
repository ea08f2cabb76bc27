//! Kept sketches, and readings computed again from them.

mod command;
mod computed;
mod interrupted;
mod kept;
mod life;
mod support;
