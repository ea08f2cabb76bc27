//! Kept sketches, and readings computed again from them.

mod computed;
mod interrupted;
mod kept;
mod life;
mod support;
