//! The `gradwatch.v1` wire contract: messages, the `Telemetry` client and server, and the descriptor set that gRPC
//! reflection serves. Everything here is generated from `proto/gradwatch/v1/telemetry.proto`.

/// Version 1 of the contract.
pub mod v1 {
    tonic::include_proto!("gradwatch.v1");

    /// The encoded `FileDescriptorSet` of this package, for gRPC reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/gradwatch.v1.bin"));
}
