//! Generates Rust from the .proto files with a pure-Rust compiler, so that nobody needs protoc installed.

use std::{env, fs, path::PathBuf};

use prost::Message;

const PROTO: &str = "gradwatch/v1/telemetry.proto";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile([PROTO], ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("gradwatch.v1.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        // Sketch bytes stay slices of the received message: no second copy.
        .bytes(".")
        // Sorted keys: a frame encodes to the same bytes every time.
        .btree_map(".")
        .compile_fds(descriptors)?;
    Ok(())
}
