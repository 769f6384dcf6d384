//! Compiles the protos with protox, so this crate needs no protoc.

use std::path::PathBuf;

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "larder/v1/cache.proto",
        "larder/v1/entry.proto",
        "larder/v1/peer.proto",
        "larder/v1/snapshot.proto",
        "larder/v1/admin.proto",
        "groupcachepb/groupcache.proto",
    ];
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(files, ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        // Values and keys reference the received buffer and are not copied.
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}
