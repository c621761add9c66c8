//! Names Kineto gives to categories, copies and synchronisations, over the years and on CUDA, ROCm and XPU.

use crate::trace::activity::{CopyKind, MemoryKind, SyncKind};
use crate::trace::host::{ApiClass, RangeKind};

/// What an event is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Category {
    Kernel,
    Copy,
    Memset,
    /// The launch of a whole graph, as our own export has it.
    Graph,
    Api(ApiClass),
    Range(RangeKind),
    Sync,
    CudaEvent,
    Overhead,
    /// A user's annotation as the device saw it. It spans idle time too and is no work of the device.
    DeviceAnnotation,
    Instant,
    Flow,
    /// From the forward to the backward pass.
    HostFlow,
    /// What the profiler says of itself: its window, its counters.
    Profiler,
    /// None, or one Kineto does not have.
    #[default]
    Other,
}

/// The category of the value of `cat`.
pub(super) fn category(raw: &[u8]) -> Category {
    match raw {
        b"kernel" | b"Kernel" => Category::Kernel,
        b"gpu_memcpy" | b"Memcpy" => Category::Copy,
        b"gpu_memset" | b"Memset" => Category::Memset,
        b"cuda_graph" => Category::Graph,
        b"cuda_runtime"
        | b"Runtime"
        | b"hip"
        | b"hip_runtime"
        | b"xpu_runtime"
        | b"privateuse1_runtime"
        | b"mtia_runtime" => Category::Api(ApiClass::RUNTIME),
        b"cuda_driver" | b"hip_driver" | b"xpu_driver" | b"privateuse1_driver" => Category::Api(ApiClass::DRIVER),
        b"cpu_op" | b"Operator" => Category::Range(RangeKind::Operator),
        b"python_function" => Category::Range(RangeKind::Python),
        b"user_annotation" => Category::Range(RangeKind::Annotation),
        b"nvtx" => Category::Range(RangeKind::PushPop),
        b"gpu_user_annotation" => Category::DeviceAnnotation,
        b"cuda_sync" => Category::Sync,
        b"cuda_event" => Category::CudaEvent,
        b"overhead" => Category::Overhead,
        b"cpu_instant_event" => Category::Instant,
        b"fwdbwd" => Category::HostFlow,
        b"ac2g" | b"async" | b"async_cpu_to_gpu" | b"async_gpu" => Category::Flow,
        b"Trace" | b"cuda_profiler_range" => Category::Profiler,
        _ => Category::Other,
    }
}

/// What a copy is called: `Memcpy HtoD (Pageable -> Device)`, or on ROCm `HtoD`, `CopyHostToDevice`.
pub(super) fn copy_kind(name: &[u8]) -> Option<CopyKind> {
    const KINDS: [(&[u8], &[u8], CopyKind); 11] = [
        (b"HtoD", b"HostToDevice", CopyKind::HOST_TO_DEVICE),
        (b"DtoH", b"DeviceToHost", CopyKind::DEVICE_TO_HOST),
        (b"DtoD", b"DeviceToDevice", CopyKind::DEVICE_TO_DEVICE),
        (b"PtoP", b"PeerToPeer", CopyKind::PEER_TO_PEER),
        (b"HtoH", b"HostToHost", CopyKind::HOST_TO_HOST),
        (b"HtoA", b"HostToArray", CopyKind::HOST_TO_ARRAY),
        (b"AtoH", b"ArrayToHost", CopyKind::ARRAY_TO_HOST),
        (b"AtoA", b"ArrayToArray", CopyKind::ARRAY_TO_ARRAY),
        (b"AtoD", b"ArrayToDevice", CopyKind::ARRAY_TO_DEVICE),
        (b"DtoA", b"DeviceToArray", CopyKind::DEVICE_TO_ARRAY),
        (b"P2P", b"Peer-to-Peer", CopyKind::PEER_TO_PEER),
    ];
    let has = |word: &[u8]| memchr::memmem::find(name, word).is_some();
    KINDS.iter().find(|(short, long, _)| has(short) || has(long)).map(|(_, _, kind)| *kind)
}

/// Source and destination memory in the brackets of a copy's name, or the one memory of a memory set's.
pub(super) fn memory_kinds(name: &[u8]) -> (MemoryKind, MemoryKind) {
    let inner = name.iter().position(|byte| *byte == b'(').map(|at| &name[at + 1..]);
    let inner = inner.and_then(|rest| rest.iter().rposition(|byte| *byte == b')').map(|at| &rest[..at]));
    let Some(inner) = inner else { return (MemoryKind::UNKNOWN, MemoryKind::UNKNOWN) };
    match memchr::memmem::find(inner, b"->") {
        Some(at) => (memory_kind(inner[..at].trim_ascii()), memory_kind(inner[at + 2..].trim_ascii())),
        None => (memory_kind(inner.trim_ascii()), memory_kind(inner.trim_ascii())),
    }
}

fn memory_kind(name: &[u8]) -> MemoryKind {
    match name {
        b"Pageable" => MemoryKind::PAGEABLE,
        b"Pinned" => MemoryKind::PINNED,
        b"Device" => MemoryKind::DEVICE,
        b"Array" => MemoryKind::ARRAY,
        b"Managed" => MemoryKind::MANAGED,
        b"Device Static" => MemoryKind(6),
        b"Managed Static" => MemoryKind(7),
        _ => MemoryKind::UNKNOWN,
    }
}

/// What a synchronisation waited for.
pub(super) fn sync_kind(name: &[u8]) -> SyncKind {
    match name {
        b"Event Sync" | b"Event Synchronize" => SyncKind::EVENT,
        b"Stream Wait Event" => SyncKind::STREAM_WAIT_EVENT,
        b"Stream Sync" | b"Stream Synchronize" => SyncKind::STREAM,
        b"Context Sync" | b"Context Synchronize" | b"Device Sync" => SyncKind::CONTEXT,
        _ => SyncKind(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_told_apart_by_name_or_by_what_rocm_calls_them() {
        assert_eq!(copy_kind(b"Memcpy HtoD (Pageable -> Device)"), Some(CopyKind::HOST_TO_DEVICE));
        assert_eq!(copy_kind(b"CopyDeviceToHost"), Some(CopyKind::DEVICE_TO_HOST));
        assert_eq!(copy_kind(b"PtoP"), Some(CopyKind::PEER_TO_PEER));
        assert_eq!(copy_kind(b"Memcpy ? (Unknown -> Unknown)"), None);
        assert_eq!(memory_kinds(b"Memcpy DtoH (Device -> Pinned)"), (MemoryKind::DEVICE, MemoryKind::PINNED));
        assert_eq!(memory_kinds(b"Memset (Device)"), (MemoryKind::DEVICE, MemoryKind::DEVICE));
        assert_eq!(memory_kinds(b"Memset"), (MemoryKind::UNKNOWN, MemoryKind::UNKNOWN));
    }
}
