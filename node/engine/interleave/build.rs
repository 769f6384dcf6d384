//! Sets `cfg(shuttle)`, with which the engine's `sync.rs` uses shuttle's locks and atomics.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(shuttle)");
    println!("cargo::rustc-cfg=shuttle");
    println!("cargo::rerun-if-changed=build.rs");
}
