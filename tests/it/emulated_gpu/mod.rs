//! A GPU on the host: the same `kernels/*.cu`, compiled as C++ and run thread by thread (see kernels/emulation/emulation.hpp), behind the
//! trait that the engine drives a real device through.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests are tests, and a skipped one must say so"
)]

mod backend;
mod checks;
mod compile;
mod gemm;
mod memory;
mod mutants;
mod snippets;
mod stream;

use std::sync::Arc;

use perfprof::engine::gpu::backend::SharedBackend;

pub(crate) use backend::{Clock, EmulatedBackend, Options};
pub(crate) use compile::Order;

/// A device that behaves as `options` say; `None`, with the reason printed, where there is no C++ compiler.
#[expect(clippy::print_stderr, reason = "a skipped test must say so")]
pub(crate) fn with_options(options: Options) -> Option<Arc<EmulatedBackend>> {
    if let Some(reason) = compile::unavailable() {
        eprintln!("skipped: kernels cannot be run on the host: {reason}");
        return None;
    }
    Some(Arc::new(EmulatedBackend::new(options)))
}

/// A device as it is by default.
pub(crate) fn backend() -> Option<Arc<EmulatedBackend>> {
    with_options(Options::default())
}

/// [`backend`], as the engine takes it.
pub(crate) fn shared() -> Option<SharedBackend> {
    backend().map(|backend| backend as SharedBackend)
}

/// A device on which each launch takes `ns` ns and nothing else takes any.
pub(crate) fn virtual_clock(ns: u64) -> Option<SharedBackend> {
    let options = Options { clock: Clock::Virtual(ns), ..Options::default() };
    with_options(options).map(|backend| backend as SharedBackend)
}

/// A device whose threads take turns in this order.
pub(crate) fn with_order(order: Order) -> Option<Arc<EmulatedBackend>> {
    with_options(Options { order: Some(order), ..Options::default() })
}
