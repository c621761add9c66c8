//! Builds a timeline row by row with names instead of row numbers: for tests, generators and live tracers.

use super::activity::{CopyKind, KernelName, KernelRow, LaunchConfig, MemoryKind, SyncKind};
use super::host::{ApiClass, OverheadOrigin, RangeKind, RangeRow};
use super::places::{Device, NO_ROW, Process, Stream, Thread};
use super::timeline::Timeline;

/// Builds a [`Timeline`]. The rows it returns are valid until [`Self::finish`] sorts the tables.
#[derive(Debug, Clone, Default)]
pub struct TimelineBuilder {
    timeline: Timeline,
}

impl TimelineBuilder {
    /// An empty timeline.
    pub fn new() -> Self {
        Self::default()
    }
    /// The timeline so far, for what has no method here.
    pub fn timeline(&mut self) -> &mut Timeline {
        &mut self.timeline
    }
    /// Adds a process and returns its row.
    pub fn process(&mut self, pid: u32) -> u32 {
        self.timeline.processes.push(Process { pid, ..Process::default() });
        (self.timeline.processes.len() - 1) as u32
    }
    /// Adds a thread of a process and returns its row.
    pub fn thread(&mut self, process: u32, tid: u64) -> u32 {
        self.timeline.threads.push(Thread { process, tid, ..Thread::default() });
        (self.timeline.threads.len() - 1) as u32
    }
    /// Adds a device and returns its row.
    pub fn device(&mut self, ordinal: u32) -> u32 {
        self.timeline.devices.push(Device { ordinal, ..Device::default() });
        (self.timeline.devices.len() - 1) as u32
    }
    /// Row of stream `stream` of context 1 of a device, as process `process` uses it.
    pub fn stream(&mut self, process: u32, device: u32, stream: u64) -> u32 {
        let ordinal = self.timeline.devices[device as usize].ordinal;
        self.timeline.stream(Stream { process, device, ordinal, context: 1, stream })
    }
    /// Adds an API call. `correlation` 0 means none.
    pub fn call(&mut self, thread: u32, name: &str, start_ns: i64, end_ns: i64, correlation: u32) -> u32 {
        let name = self.timeline.strings.intern(name);
        let api = &mut self.timeline.api;
        api.start_ns.push(start_ns);
        api.end_ns.push(end_ns);
        api.thread.push(thread);
        api.name.push(name);
        api.correlation.push(correlation);
        api.class.push(ApiClass::RUNTIME);
        api.result.push(0);
        (api.start_ns.len() - 1) as u32
    }
    /// Adds a kernel with an unknown launch configuration.
    pub fn kernel(&mut self, stream: u32, name: &str, start_ns: i64, end_ns: i64, correlation: u32) -> u32 {
        self.kernel_with(stream, name, start_ns, end_ns, correlation, LaunchConfig::default(), 0)
    }
    /// Adds a kernel.
    #[expect(clippy::too_many_arguments, reason = "the columns of a kernel")]
    pub fn kernel_with(
        &mut self,
        stream: u32,
        name: &str,
        start_ns: i64,
        end_ns: i64,
        correlation: u32,
        config: LaunchConfig,
        graph_node: u64,
    ) -> u32 {
        let text = self.timeline.strings.intern(name);
        let name = self.timeline.kernel_name(KernelName { demangled: text, short: text, mangled: None });
        let config = self.timeline.launch_config(config);
        self.timeline.push_kernel(KernelRow { start_ns, end_ns, name, stream, correlation, config, graph_node });
        (self.timeline.kernels.len() - 1) as u32
    }
    /// Adds a copy; host memory is pageable.
    pub fn copy(
        &mut self,
        stream: u32,
        kind: CopyKind,
        start_ns: i64,
        end_ns: i64,
        correlation: u32,
        bytes: u64,
    ) -> u32 {
        let (source, destination) = match kind {
            CopyKind::HOST_TO_DEVICE => (MemoryKind::PAGEABLE, MemoryKind::DEVICE),
            CopyKind::DEVICE_TO_HOST => (MemoryKind::DEVICE, MemoryKind::PAGEABLE),
            _ => (MemoryKind::DEVICE, MemoryKind::DEVICE),
        };
        let copies = &mut self.timeline.copies;
        copies.start_ns.push(start_ns);
        copies.end_ns.push(end_ns);
        copies.stream.push(stream);
        copies.correlation.push(correlation);
        copies.bytes.push(bytes);
        copies.kind.push(kind);
        copies.source.push(source);
        copies.destination.push(destination);
        (copies.start_ns.len() - 1) as u32
    }
    /// Adds a memory set of device memory to 0.
    pub fn memset(&mut self, stream: u32, start_ns: i64, end_ns: i64, correlation: u32, bytes: u64) -> u32 {
        let memsets = &mut self.timeline.memsets;
        memsets.start_ns.push(start_ns);
        memsets.end_ns.push(end_ns);
        memsets.stream.push(stream);
        memsets.correlation.push(correlation);
        memsets.bytes.push(bytes);
        memsets.value.push(0);
        memsets.memory.push(MemoryKind::DEVICE);
        (memsets.start_ns.len() - 1) as u32
    }
    /// Adds the launch of a whole graph.
    pub fn graph(&mut self, stream: u32, start_ns: i64, end_ns: i64, correlation: u32, executable: u32) -> u32 {
        let graphs = &mut self.timeline.graphs;
        graphs.start_ns.push(start_ns);
        graphs.end_ns.push(end_ns);
        graphs.stream.push(stream);
        graphs.correlation.push(correlation);
        graphs.graph.push(executable);
        graphs.executable.push(executable);
        (graphs.start_ns.len() - 1) as u32
    }
    /// Adds a synchronisation record.
    pub fn sync(&mut self, stream: u32, kind: SyncKind, start_ns: i64, end_ns: i64, correlation: u32) -> u32 {
        let syncs = &mut self.timeline.syncs;
        syncs.start_ns.push(start_ns);
        syncs.end_ns.push(end_ns);
        syncs.stream.push(stream);
        syncs.correlation.push(correlation);
        syncs.kind.push(kind);
        syncs.event.push(0);
        (syncs.start_ns.len() - 1) as u32
    }
    /// Adds a push/pop range of the default domain; `None` for one that was never closed.
    pub fn range(&mut self, thread: u32, name: &str, start_ns: i64, end_ns: Option<i64>) -> u32 {
        self.range_of(RangeKind::PushPop, thread, "", name, start_ns, end_ns)
    }
    /// Adds a range.
    pub fn range_of(
        &mut self,
        kind: RangeKind,
        thread: u32,
        domain: &str,
        name: &str,
        start_ns: i64,
        end_ns: Option<i64>,
    ) -> u32 {
        let name = self.timeline.strings.intern(name);
        let domain = self.timeline.strings.intern(domain);
        self.timeline.ranges.push(RangeRow { start_ns, end_ns, thread, kind, name, domain })
    }
    /// Adds time the profiler took; `None` where no thread is known.
    pub fn overhead(&mut self, thread: Option<u32>, name: &str, start_ns: i64, end_ns: i64) {
        let name = self.timeline.strings.intern(name);
        let overheads = &mut self.timeline.overheads;
        overheads.start_ns.push(start_ns);
        overheads.end_ns.push(end_ns);
        overheads.thread.push(thread.unwrap_or(NO_ROW));
        overheads.name.push(name);
        overheads.origin.push(OverheadOrigin::Profiler);
    }
    /// Sorts, joins and hands over.
    pub fn finish(mut self) -> Timeline {
        self.timeline.finish();
        self.timeline
    }
}
