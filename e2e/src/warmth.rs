//! How warm a cluster stays while something happens to it.
//!
//! [`Load`](load::Load) reads a fixed sequence of keys at a constant rate and records the source of
//! every answer. [`Origin`](origin::Origin) counts the calls that reach it, so no figure depends on
//! what members report about themselves. [`Trace`](trace::Trace) puts both into seconds around the
//! change, [`Figures`](figures::Figures) are computed from it, and [`Bar`](bars::Bar) judges them.
//! [`plot`] draws a trace. Only [`load`] and [`origin`] do anything at run time; the rest is pure.
//!
//! Modules import in one direction: `plot`, `bars`, `figures`, `trace`, `load`, `origin`,
//! `keys`.

pub mod bars;
pub mod figures;
pub mod keys;
pub mod load;
pub mod origin;
pub mod plot;
pub mod trace;

use tokio::runtime::{Builder, Runtime};

/// One thread for all that a load or an origin does.
fn runtime() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().expect("a runtime can be built")
}
