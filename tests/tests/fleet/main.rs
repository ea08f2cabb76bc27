//! What only several runs tell together: `fleet_dimension` over a width family and `error_split` over a crossed design, over
//! REST, of runs that were sent over gRPC.

mod asking;
mod dimension;
mod made;
mod split;
