//! Activity records as CUPTI lays them out in memory, read field by field.
//!
//! The layouts are those of the bindings (CUDA 13.0); newer libraries append to them. A record is never read as a whole: its enumerations may
//! hold values that the bindings do not know, and reading those as a Rust enumeration would be undefined. The kind is read as a number first.

use std::ffi::{CStr, c_char};
use std::mem::offset_of;

use cudarc::cupti::sys;
use rustc_hash::FxHashMap;

use super::records::{
    CallRecord, CopyRecord, DeviceRecord, GraphRecord, KernelRecord, MemsetRecord, OverheadRecord, Record, SyncRecord,
};
use crate::trace::host::ApiClass;

/// What one record turned out to be.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Decoded {
    /// A record.
    Record(Record),
    /// A kind this build does not read.
    Unknown(u32),
}

/// Numbers the names of kernels.
#[derive(Debug, Default)]
pub(super) struct NameTable {
    numbers: FxHashMap<String, u32>,
    /// The names, by number.
    pub(super) names: Vec<String>,
}

impl NameTable {
    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.names.len() as u32;
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), number);
        number
    }
}

/// One field of a record, by the offset it has in its layout.
macro_rules! field {
    ($record:ident, $layout:ident . $field:ident as $type:ty) => {
        // SAFETY: the caller of `decode` promises a whole record of its kind; the field is inside it and may be unaligned.
        unsafe { $record.add(offset_of!(sys::$layout, $field)).cast::<$type>().read_unaligned() }
    };
}

const fn kind(kind: sys::CUpti_ActivityKind) -> u32 {
    kind as u32
}
const KERNEL: u32 = kind(sys::CUpti_ActivityKind::CUPTI_ACTIVITY_KIND_KERNEL);
const CONCURRENT_KERNEL: u32 = kind(sys::CUpti_ActivityKind::CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL);
const MEMCPY: u32 = kind(sys::CUpti_ActivityKind::CUPTI_ACTIVITY_KIND_MEMCPY);
const MEMCPY_PEER: u32 = kind(sys::CUpti_ActivityKind::CUPTI_ACTIVITY_KIND_MEMCPY2);
const MEMSET: u32 = kind(sys::CUpti_ActivityKind::CUPTI_ACTIVITY_KIND_MEMSET);
const RUNTIME: u32 = kind(sys::CUpti_ActivityKind::CUPTI_ACTIVITY_KIND_RUNTIME);
const DRIVER: u32 = kind(sys::CUpti_ActivityKind::CUPTI_ACTIVITY_KIND_DRIVER);
const SYNCHRONIZATION: u32 = kind(sys::CUpti_ActivityKind::CUPTI_ACTIVITY_KIND_SYNCHRONIZATION);
const OVERHEAD: u32 = kind(sys::CUpti_ActivityKind::CUPTI_ACTIVITY_KIND_OVERHEAD);
const GRAPH_TRACE: u32 = kind(sys::CUpti_ActivityKind::CUPTI_ACTIVITY_KIND_GRAPH_TRACE);
const DEVICE: u32 = kind(sys::CUpti_ActivityKind::CUPTI_ACTIVITY_KIND_DEVICE);

/// Text at `pointer`, or `None` for null.
///
/// # Safety
/// `pointer` is null or points to a C string.
unsafe fn text(pointer: *const c_char) -> Option<String> {
    // SAFETY: the caller's promise.
    (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned())
}

/// Reads the record at `record`.
///
/// # Safety
/// `record` points to a whole activity record of the kind its first four bytes say, whose pointers to text are null or valid.
pub(super) unsafe fn decode(record: *const u8, names: &mut NameTable) -> Decoded {
    // SAFETY: every record begins with its kind.
    let kind = unsafe { record.cast::<u32>().read_unaligned() };
    Decoded::Record(match kind {
        KERNEL | CONCURRENT_KERNEL => {
            let name = field!(record, CUpti_ActivityKernel10.name as *const c_char);
            // SAFETY: the caller's promise.
            let name = unsafe { text(name) }.unwrap_or_default();
            let size = |value: i32| value.cast_unsigned();
            Record::Kernel(KernelRecord {
                start: field!(record, CUpti_ActivityKernel10.start as u64),
                end: field!(record, CUpti_ActivityKernel10.end as u64),
                device: field!(record, CUpti_ActivityKernel10.deviceId as u32),
                context: field!(record, CUpti_ActivityKernel10.contextId as u32),
                stream: field!(record, CUpti_ActivityKernel10.streamId as u32),
                correlation: field!(record, CUpti_ActivityKernel10.correlationId as u32),
                name: names.number(&name),
                grid: [
                    size(field!(record, CUpti_ActivityKernel10.gridX as i32)),
                    size(field!(record, CUpti_ActivityKernel10.gridY as i32)),
                    size(field!(record, CUpti_ActivityKernel10.gridZ as i32)),
                ],
                block: [
                    size(field!(record, CUpti_ActivityKernel10.blockX as i32)),
                    size(field!(record, CUpti_ActivityKernel10.blockY as i32)),
                    size(field!(record, CUpti_ActivityKernel10.blockZ as i32)),
                ],
                cluster: [
                    field!(record, CUpti_ActivityKernel10.clusterX as u32),
                    field!(record, CUpti_ActivityKernel10.clusterY as u32),
                    field!(record, CUpti_ActivityKernel10.clusterZ as u32),
                ],
                registers: field!(record, CUpti_ActivityKernel10.registersPerThread as u16),
                static_shared_bytes: size(field!(record, CUpti_ActivityKernel10.staticSharedMemory as i32)),
                dynamic_shared_bytes: size(field!(record, CUpti_ActivityKernel10.dynamicSharedMemory as i32)),
                local_bytes_per_thread: field!(record, CUpti_ActivityKernel10.localMemoryPerThread as u32),
                graph_node: field!(record, CUpti_ActivityKernel10.graphNodeId as u64),
            })
        }
        MEMCPY => Record::Copy(CopyRecord {
            start: field!(record, CUpti_ActivityMemcpy6.start as u64),
            end: field!(record, CUpti_ActivityMemcpy6.end as u64),
            device: field!(record, CUpti_ActivityMemcpy6.deviceId as u32),
            context: field!(record, CUpti_ActivityMemcpy6.contextId as u32),
            stream: field!(record, CUpti_ActivityMemcpy6.streamId as u32),
            correlation: field!(record, CUpti_ActivityMemcpy6.correlationId as u32),
            bytes: field!(record, CUpti_ActivityMemcpy6.bytes as u64),
            kind: field!(record, CUpti_ActivityMemcpy6.copyKind as u8),
            source: field!(record, CUpti_ActivityMemcpy6.srcKind as u8),
            destination: field!(record, CUpti_ActivityMemcpy6.dstKind as u8),
            graph_node: field!(record, CUpti_ActivityMemcpy6.graphNodeId as u64),
        }),
        MEMCPY_PEER => Record::Copy(CopyRecord {
            start: field!(record, CUpti_ActivityMemcpyPtoP4.start as u64),
            end: field!(record, CUpti_ActivityMemcpyPtoP4.end as u64),
            device: field!(record, CUpti_ActivityMemcpyPtoP4.deviceId as u32),
            context: field!(record, CUpti_ActivityMemcpyPtoP4.contextId as u32),
            stream: field!(record, CUpti_ActivityMemcpyPtoP4.streamId as u32),
            correlation: field!(record, CUpti_ActivityMemcpyPtoP4.correlationId as u32),
            bytes: field!(record, CUpti_ActivityMemcpyPtoP4.bytes as u64),
            kind: field!(record, CUpti_ActivityMemcpyPtoP4.copyKind as u8),
            source: field!(record, CUpti_ActivityMemcpyPtoP4.srcKind as u8),
            destination: field!(record, CUpti_ActivityMemcpyPtoP4.dstKind as u8),
            graph_node: field!(record, CUpti_ActivityMemcpyPtoP4.graphNodeId as u64),
        }),
        MEMSET => Record::Memset(MemsetRecord {
            start: field!(record, CUpti_ActivityMemset4.start as u64),
            end: field!(record, CUpti_ActivityMemset4.end as u64),
            device: field!(record, CUpti_ActivityMemset4.deviceId as u32),
            context: field!(record, CUpti_ActivityMemset4.contextId as u32),
            stream: field!(record, CUpti_ActivityMemset4.streamId as u32),
            correlation: field!(record, CUpti_ActivityMemset4.correlationId as u32),
            bytes: field!(record, CUpti_ActivityMemset4.bytes as u64),
            value: field!(record, CUpti_ActivityMemset4.value as u32),
            // Two bytes in this record, one in the others; the kinds are below 256.
            memory: field!(record, CUpti_ActivityMemset4.memoryKind as u16) as u8,
            graph_node: field!(record, CUpti_ActivityMemset4.graphNodeId as u64),
        }),
        RUNTIME | DRIVER => Record::Call(CallRecord {
            class: if kind == RUNTIME { ApiClass::RUNTIME } else { ApiClass::DRIVER },
            function: field!(record, CUpti_ActivityAPI.cbid as u32),
            start: field!(record, CUpti_ActivityAPI.start as u64),
            end: field!(record, CUpti_ActivityAPI.end as u64),
            process: field!(record, CUpti_ActivityAPI.processId as u32),
            thread: field!(record, CUpti_ActivityAPI.threadId as u32),
            correlation: field!(record, CUpti_ActivityAPI.correlationId as u32),
            result: field!(record, CUpti_ActivityAPI.returnValue as u32),
        }),
        SYNCHRONIZATION => Record::Sync(SyncRecord {
            kind: field!(record, CUpti_ActivitySynchronization2.type_ as u32).min(u32::from(u8::MAX)) as u8,
            start: field!(record, CUpti_ActivitySynchronization2.start as u64),
            end: field!(record, CUpti_ActivitySynchronization2.end as u64),
            context: field!(record, CUpti_ActivitySynchronization2.contextId as u32),
            stream: field!(record, CUpti_ActivitySynchronization2.streamId as u32),
            correlation: field!(record, CUpti_ActivitySynchronization2.correlationId as u32),
            event: field!(record, CUpti_ActivitySynchronization2.cudaEventId as u32),
        }),
        OVERHEAD => {
            const THREAD: u32 = sys::CUpti_ActivityObjectKind::CUPTI_ACTIVITY_OBJECT_THREAD as u32;
            let owner = field!(record, CUpti_ActivityOverhead3.objectKind as u32);
            let thread = offset_of!(sys::CUpti_ActivityOverhead3, objectId)
                + offset_of!(sys::CUpti_ActivityObjectKindId__bindgen_ty_1, threadId);
            Record::Overhead(OverheadRecord {
                kind: field!(record, CUpti_ActivityOverhead3.overheadKind as u32),
                start: field!(record, CUpti_ActivityOverhead3.start as u64),
                end: field!(record, CUpti_ActivityOverhead3.end as u64),
                // SAFETY: the union is inside the record, and an owner that is a thread is in this member of it.
                thread: (owner == THREAD).then(|| unsafe { record.add(thread).cast::<u32>().read_unaligned() }),
            })
        }
        GRAPH_TRACE => Record::Graph(GraphRecord {
            start: field!(record, CUpti_ActivityGraphTrace2.start as u64),
            end: field!(record, CUpti_ActivityGraphTrace2.end as u64),
            device: field!(record, CUpti_ActivityGraphTrace2.deviceId as u32),
            context: field!(record, CUpti_ActivityGraphTrace2.contextId as u32),
            stream: field!(record, CUpti_ActivityGraphTrace2.streamId as u32),
            correlation: field!(record, CUpti_ActivityGraphTrace2.correlationId as u32),
            graph: field!(record, CUpti_ActivityGraphTrace2.graphId as u32),
        }),
        DEVICE => {
            let name = field!(record, CUpti_ActivityDevice5.name as *const c_char);
            Record::Device(DeviceRecord {
                id: field!(record, CUpti_ActivityDevice5.id as u32),
                // SAFETY: the caller's promise.
                name: unsafe { text(name) },
                uuid: uuid(field!(record, CUpti_ActivityDevice5.uuid as [u8; 16])),
                sm_count: field!(record, CUpti_ActivityDevice5.numMultiprocessors as u32),
                clock_khz: field!(record, CUpti_ActivityDevice5.coreClockRate as u32),
                bandwidth_kbytes_per_s: field!(record, CUpti_ActivityDevice5.globalMemoryBandwidth as u64),
                memory_bytes: field!(record, CUpti_ActivityDevice5.globalMemorySize as u64),
                l2_bytes: field!(record, CUpti_ActivityDevice5.l2CacheSize as u32),
                max_warps_per_sm: field!(record, CUpti_ActivityDevice5.maxWarpsPerMultiprocessor as u32),
                compute_capability: (
                    field!(record, CUpti_ActivityDevice5.computeCapabilityMajor as u32),
                    field!(record, CUpti_ActivityDevice5.computeCapabilityMinor as u32),
                ),
            })
        }
        other => return Decoded::Unknown(other),
    })
}

/// `8-4-4-4-12` hexadecimal digits, or `None` for zeros.
fn uuid(bytes: [u8; 16]) -> Option<String> {
    if bytes == [0; 16] {
        return None;
    }
    let mut text = String::with_capacity(36);
    for (place, byte) in bytes.iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    Some(text)
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
