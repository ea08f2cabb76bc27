//! A migration that is added must be compiled in: the macro that embeds them only watches those it has seen.

fn main() {
    println!("cargo:rerun-if-changed=../migrations/sqlite");
    println!("cargo:rerun-if-changed=../migrations/postgres");
}
