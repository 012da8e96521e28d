//! Compiles the protocol of the gRPC port and the format of profiles, without a protoc on the machine.

use std::path::PathBuf;

use prost::Message;

const PROTO: &str = "proto/open_inference.proto";
const PROFILE: &str = "proto/profile.proto";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed={PROTO}");
    println!("cargo::rerun-if-changed={PROFILE}");
    let descriptors = protox::compile([PROTO], ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("open_inference.binpb"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        // Bytes of tensors stay where they were received.
        .bytes(".")
        // Counts the parts of a message first.
        .codec_path("crate::grpc::codec::Counted")
        // The client is for the tests; rarely enough is it worth a second build.
        .build_client(true)
        .build_transport(false)
        .compile_fds(descriptors)?;
    tonic_prost_build::configure().compile_fds(protox::compile([PROFILE], ["proto"])?)?;
    Ok(())
}
