//! A GPU on the host: the same `kernels/*.cu`, compiled as C++ and run thread by thread (see kernels/emulation/emulation.hpp), behind the
//! trait that the engine drives a real device through.

mod backend;
mod compile;
mod gemm;
mod memory;
mod snippets;
mod stream;

use std::sync::Arc;

pub(crate) use backend::{Clock, EmulatedBackend, Options};
pub(crate) use compile::Order;

/// A device that behaves as `options` say; `None`, with the reason printed, where there is no C++ compiler.
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

/// A device whose threads take turns in this order.
pub(crate) fn with_order(order: Order) -> Option<Arc<EmulatedBackend>> {
    with_options(Options { order: Some(order), ..Options::default() })
}
