//! Benchmarks of the whole service, beside what bounds them.

fn main() {}
