//! Compiles the protocol of the gRPC port, without a protoc on the machine.

use std::path::PathBuf;

use prost::Message;

const PROTO: &str = "proto/open_inference.proto";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed={PROTO}");
    let descriptors = protox::compile([PROTO], ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("open_inference.binpb"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        // Bytes of tensors stay where they were received.
        .bytes(".")
        // The client is for the tests; rarely enough is it worth a second build.
        .build_client(true)
        .build_transport(false)
        .compile_fds(descriptors)?;
    Ok(())
}
