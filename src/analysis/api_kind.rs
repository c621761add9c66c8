//! What a call of the CUDA or HIP API does, told by its name.
//!
//! Names come as the tools write them: runtime and driver, with the version suffix of CUPTI (`cudaLaunchKernel_v7000`, `cuMemcpyDtoH_v2`,
//! `cudaLaunchKernel_ptsz_v7000`), and the HIP spellings. Whether a call *blocked* cannot be told by its name alone: a `MemcpyAsync` from or to
//! pageable memory returns only when the copy is done. [`Calls`] therefore also looks at the copies themselves.

use serde::{Deserialize, Serialize};

use crate::trace::activity::OpKind;
use crate::trace::places::NO_ROW;
use crate::trace::timeline::Timeline;

/// What an API call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApiKind {
    /// Launches a kernel.
    LaunchKernel,
    /// Launches an instantiated graph.
    LaunchGraph,
    /// A copy whose call need not wait for it.
    CopyAsync,
    /// A copy that blocks the host by definition of the API.
    CopySync,
    /// Sets memory, asynchronously or not.
    Memset,
    /// Waits for a stream.
    SyncStream,
    /// Waits for a device or context.
    SyncDevice,
    /// Waits for an event on the host.
    SyncEvent,
    /// Makes a stream wait for an event; the host goes on.
    StreamWaitEvent,
    /// Records an event.
    EventRecord,
    /// Asks whether an event or a stream is done, without waiting.
    Query,
    /// Allocates device memory, or pinned or registered host memory.
    Allocate,
    /// Releases it.
    Free,
    /// Allocates in stream order.
    AllocateAsync,
    /// Releases in stream order.
    FreeAsync,
    /// Loads or compiles a module, library or function.
    ModuleLoad,
    /// Instantiates or updates an executable graph.
    GraphInstantiate,
    /// Captures a graph, or edits or destroys one.
    GraphBuild,
    /// Anything else.
    Other,
}

impl ApiKind {
    /// Kind of the call named `name`.
    pub fn of(name: &str) -> Self {
        let base = base_name(name);
        // The prefix says which API; what is left has one spelling for all of them.
        let rest = ["cuda", "hip", "cu"].iter().find_map(|prefix| base.strip_prefix(prefix)).unwrap_or(base);
        if !rest.starts_with(|c: char| c.is_ascii_uppercase()) {
            return Self::Other;
        }
        if let Some(kind) = Self::of_graph_or_launch(rest).or_else(|| Self::of_memory(rest)) {
            return kind;
        }
        match rest {
            "StreamSynchronize" => Self::SyncStream,
            "DeviceSynchronize" | "CtxSynchronize" | "ThreadSynchronize" => Self::SyncDevice,
            "EventSynchronize" => Self::SyncEvent,
            "StreamWaitEvent" => Self::StreamWaitEvent,
            "EventQuery" | "StreamQuery" => Self::Query,
            _ if rest.starts_with("EventRecord") => Self::EventRecord,
            _ if rest.starts_with("ModuleLoad")
                || rest.starts_with("LibraryLoad")
                || rest.starts_with("Link")
                || rest == "LibraryGetKernel"
                || rest == "LibraryGetModule"
                || rest == "KernelGetFunction"
                || rest == "ModuleGetFunction"
                || rest == "FuncLoad" =>
            {
                Self::ModuleLoad
            }
            _ => Self::Other,
        }
    }
    fn of_graph_or_launch(rest: &str) -> Option<Self> {
        if rest.starts_with("GraphLaunch") {
            return Some(Self::LaunchGraph);
        }
        if rest.starts_with("GraphInstantiate") || rest.starts_with("GraphExec") || rest.starts_with("GraphUpload") {
            return Some(Self::GraphInstantiate);
        }
        if rest.starts_with("Graph") || rest == "StreamBeginCapture" || rest == "StreamEndCapture" {
            return Some(Self::GraphBuild);
        }
        let launches = rest.starts_with("Launch") && !rest.starts_with("LaunchHostFunc")
            || rest.starts_with("ModuleLaunch")
            || rest.starts_with("ExtLaunch")
            || rest.starts_with("ExtModuleLaunch");
        launches.then_some(Self::LaunchKernel)
    }
    fn of_memory(rest: &str) -> Option<Self> {
        if rest.starts_with("Memcpy") || rest.starts_with("MemPrefetch") {
            let asynchronous = rest.contains("Async") || rest.starts_with("MemPrefetch") || rest.contains("Batch");
            return Some(if asynchronous { Self::CopyAsync } else { Self::CopySync });
        }
        if rest.starts_with("Memset") {
            return Some(Self::Memset);
        }
        if matches!(rest, "MallocAsync" | "MemAllocAsync" | "MallocFromPoolAsync" | "MemAllocFromPoolAsync") {
            return Some(Self::AllocateAsync);
        }
        if matches!(rest, "FreeAsync" | "MemFreeAsync") {
            return Some(Self::FreeAsync);
        }
        let allocates = rest.starts_with("Malloc")
            || rest.starts_with("MemAlloc")
            || rest.starts_with("HostAlloc")
            || rest.starts_with("HostRegister")
            || rest.starts_with("HostMalloc")
            || rest.starts_with("MemHostAlloc")
            || rest.starts_with("MemHostRegister")
            || matches!(rest, "MemCreate" | "MemMap" | "MemSetAccess" | "MemAddressReserve" | "ExtMallocWithFlags");
        if allocates {
            return Some(Self::Allocate);
        }
        let frees = rest == "Free"
            || rest.starts_with("FreeHost")
            || rest.starts_with("FreeArray")
            || rest.starts_with("FreeMipmapped")
            || rest.starts_with("MemFree")
            || rest.starts_with("HostFree")
            || rest.starts_with("HostUnregister")
            || rest.starts_with("MemHostUnregister")
            || matches!(rest, "MemRelease" | "MemUnmap" | "MemAddressFree");
        frees.then_some(Self::Free)
    }
    /// True for the calls that put kernels on a device.
    pub fn is_launch(self) -> bool {
        matches!(self, Self::LaunchKernel | Self::LaunchGraph)
    }
    /// True for the calls that put any work on a device.
    pub fn submits_work(self) -> bool {
        matches!(self, Self::LaunchKernel | Self::LaunchGraph | Self::CopyAsync | Self::CopySync | Self::Memset)
    }
    /// True for the calls that make the host wait by definition.
    pub fn is_wait(self) -> bool {
        matches!(self, Self::SyncStream | Self::SyncDevice | Self::SyncEvent | Self::CopySync)
    }
    /// True for allocations and releases, in stream order or not.
    pub fn is_allocation(self) -> bool {
        matches!(self, Self::Allocate | Self::Free | Self::AllocateAsync | Self::FreeAsync)
    }
    /// True for what prepares graphs.
    pub fn is_graph_setup(self) -> bool {
        matches!(self, Self::GraphInstantiate | Self::GraphBuild)
    }
}

/// A call's name without the suffixes that only say which version or variant was called: `cudaLaunchKernel_ptsz_v7000` is
/// `cudaLaunchKernel`, `cuMemcpyDtoHAsync_v2` is `cuMemcpyDtoHAsync`.
pub fn base_name(name: &str) -> &str {
    let mut base = name;
    loop {
        let Some((before, suffix)) = base.rsplit_once('_') else { return base };
        let version = suffix.strip_prefix('v').is_some_and(|v| !v.is_empty() && v.bytes().all(|b| b.is_ascii_digit()));
        if before.is_empty() || !(version || suffix == "ptsz" || suffix == "ptds" || suffix == "spt") {
            return base;
        }
        base = before;
    }
}

/// Kind of every API call of a timeline, and which copies blocked the host.
#[derive(Debug, Clone)]
pub struct Calls {
    by_row: Vec<ApiKind>,
    blocked: Vec<u64>,
}

impl Calls {
    /// Looks at every call once.
    pub fn new(timeline: &Timeline) -> Self {
        let api = &timeline.api;
        let mut known: Vec<Option<ApiKind>> = vec![None; timeline.strings.len()];
        let by_row: Vec<ApiKind> = api
            .name
            .iter()
            .map(|name| *known[name.0 as usize].get_or_insert_with(|| ApiKind::of(timeline.text(*name))))
            .collect();
        let mut blocked = vec![0_u64; by_row.len().div_ceil(64)];
        let copies = &timeline.copies;
        for (row, call) in copies.call.iter().enumerate() {
            if *call == NO_ROW {
                continue;
            }
            let call = *call as usize;
            // It returned after its own copy was done, and had begun before: it waited, whatever its name says.
            let waited = copies.end_ns[row] <= api.end_ns[call] && copies.end_ns[row] >= api.start_ns[call];
            if waited && by_row[call] == ApiKind::CopyAsync {
                blocked[call / 64] |= 1 << (call % 64);
            }
        }
        Self { by_row, blocked }
    }
    /// Kind of call `row`.
    pub fn kind(&self, row: usize) -> ApiKind {
        self.by_row[row]
    }
    /// Whether call `row` is an asynchronous copy that nevertheless returned only after its copy was done.
    pub fn copy_blocked(&self, row: usize) -> bool {
        self.blocked[row / 64] >> (row % 64) & 1 == 1
    }
    /// Whether call `row` makes the host wait for a device: a synchronisation, a synchronous copy, or an asynchronous one that blocked.
    pub fn waits(&self, row: usize) -> bool {
        self.by_row[row].is_wait() || self.copy_blocked(row)
    }
}

/// Whether an operation belongs to a graph launch: a whole graph, or a node of one.
pub(crate) fn in_graph(timeline: &Timeline, calls: &Calls, op: crate::trace::activity::OpRef) -> bool {
    let node = |column: &[u64]| column.get(op.row()).is_some_and(|node| *node != 0);
    let marked = match op.kind() {
        OpKind::Graph => true,
        OpKind::Kernel => node(&timeline.kernels.graph_node),
        OpKind::Copy => node(&timeline.copies.graph_node),
        OpKind::Memset => node(&timeline.memsets.graph_node),
    };
    // Kineto marks no nodes, but the call that launched them says it.
    marked || timeline.op_call(op).is_some_and(|call| calls.kind(call) == ApiKind::LaunchGraph)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::activity::CopyKind;
    use crate::trace::builder::TimelineBuilder;

    #[test]
    fn names_seen_in_traces_are_told_apart() {
        use ApiKind::*;
        let expected = [
            ("cudaLaunchKernel_v7000", LaunchKernel),
            ("cudaLaunchKernel_ptsz_v7000", LaunchKernel),
            ("cudaLaunchKernelExC_v11060", LaunchKernel),
            ("cudaLaunchCooperativeKernel_v9000", LaunchKernel),
            ("cuLaunchKernel", LaunchKernel),
            ("cuLaunchKernelEx", LaunchKernel),
            ("hipLaunchKernel", LaunchKernel),
            ("hipExtModuleLaunchKernel", LaunchKernel),
            ("hipModuleLaunchKernel", LaunchKernel),
            ("cudaLaunchHostFunc_v10000", Other),
            ("cudaGraphLaunch_v10000", LaunchGraph),
            ("cuGraphLaunch", LaunchGraph),
            ("hipGraphLaunch", LaunchGraph),
            ("cudaMemcpyAsync_v3020", CopyAsync),
            ("cudaMemcpyAsync_ptsz_v7000", CopyAsync),
            ("cuMemcpyHtoDAsync_v2", CopyAsync),
            ("cudaMemcpy2DAsync_v3020", CopyAsync),
            ("cudaMemcpyPeerAsync_v4000", CopyAsync),
            ("hipMemcpyWithStream", CopySync),
            ("cudaMemcpy_v3020", CopySync),
            ("cuMemcpyDtoH_v2", CopySync),
            ("cudaMemcpyToSymbol_v3020", CopySync),
            ("cudaMemsetAsync_v3020", Memset),
            ("cuMemsetD8Async", Memset),
            ("cudaStreamSynchronize_v3020", SyncStream),
            ("cuStreamSynchronize", SyncStream),
            ("cudaDeviceSynchronize_v3020", SyncDevice),
            ("hipDeviceSynchronize", SyncDevice),
            ("cuCtxSynchronize", SyncDevice),
            ("cudaEventSynchronize_v3020", SyncEvent),
            ("cudaEventRecord_v3020", EventRecord),
            ("cudaEventRecordWithFlags_v11010", EventRecord),
            ("cudaEventQuery_v3020", Query),
            ("cudaStreamWaitEvent_v3020", StreamWaitEvent),
            ("cudaStreamIsCapturing_v10000", Other),
            ("cudaStreamGetCaptureInfo_v2_v11030", Other),
            ("cudaMalloc_v3020", Allocate),
            ("cudaHostAlloc_v3020", Allocate),
            ("cudaMallocHost_v3020", Allocate),
            ("cudaHostRegister_v4000", Allocate),
            ("cuMemCreate", Allocate),
            ("cudaFree_v3020", Free),
            ("cuMemFree_v2", Free),
            ("cudaFreeHost_v3020", Free),
            ("cuMemAllocAsync", AllocateAsync),
            ("cudaMallocAsync_v11020", AllocateAsync),
            ("cuMemFreeAsync", FreeAsync),
            ("hipFreeAsync", FreeAsync),
            ("cuModuleLoadData", ModuleLoad),
            ("cuModuleGetLoadingMode", Other),
            ("cuLibraryLoadData", ModuleLoad),
            ("cuLibraryGetKernel", ModuleLoad),
            ("cuKernelGetFunction", ModuleLoad),
            ("cuKernelGetName", Other),
            ("cudaGraphInstantiate_v12000", GraphInstantiate),
            ("cudaGraphExecUpdate_v10020", GraphInstantiate),
            ("cudaStreamBeginCapture_v10000", GraphBuild),
            ("cudaStreamEndCapture_v10000", GraphBuild),
            ("cudaGraphDestroy_v10000", GraphBuild),
            ("cudaMemGetInfo_v3020", Other),
            ("cuMemGetInfo_v2", Other),
            ("custom_call", Other),
            ("", Other),
        ];
        for (name, kind) in expected {
            assert_eq!(ApiKind::of(name), kind, "{name}");
        }
    }

    #[test]
    fn only_version_suffixes_are_cut_off() {
        assert_eq!(base_name("cudaLaunchKernel_ptsz_v7000"), "cudaLaunchKernel");
        assert_eq!(base_name("cuMemcpyDtoHAsync_v2"), "cuMemcpyDtoHAsync");
        assert_eq!(base_name("my_kernel_vector"), "my_kernel_vector");
        assert_eq!(base_name("_v2"), "_v2");
    }

    #[test]
    fn an_asynchronous_copy_that_outlasts_its_copy_counts_as_a_wait() {
        let mut b = TimelineBuilder::new();
        let p = b.process(1);
        let (thread, device) = (b.thread(p, 1), b.device(0));
        let stream = b.stream(p, device, 7);
        b.call(thread, "cudaMemcpyAsync_v3020", 0, 100, 1);
        b.call(thread, "cudaMemcpyAsync_v3020", 200, 210, 2);
        b.copy(stream, CopyKind::DEVICE_TO_HOST, 50, 90, 1, 4);
        b.copy(stream, CopyKind::DEVICE_TO_HOST, 250, 290, 2, 4);
        let t = b.finish();
        let calls = Calls::new(&t);
        assert!(calls.waits(0) && !calls.waits(1));
    }
}
