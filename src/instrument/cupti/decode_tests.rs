//! Records written byte by byte at the offsets that the C headers of CUPTI 13.0 give (`offsetof`, gcc 12), not at those of the bindings.

use std::ffi::CString;

use super::*;

/// A record of `size` bytes, aligned as CUPTI aligns them, all bytes set so that a field read from the wrong place shows.
struct Bytes(Vec<u64>);

impl Bytes {
    fn new(kind: u32, size: usize) -> Self {
        let mut bytes = Self(vec![u64::MAX; size.div_ceil(8)]);
        bytes.put(0, &kind.to_ne_bytes());
        bytes
    }
    fn put(&mut self, offset: usize, value: &[u8]) -> &mut Self {
        assert!(offset + value.len() <= self.0.len() * 8);
        // SAFETY: inside the vector, as asserted.
        let start = unsafe { self.0.as_mut_ptr().cast::<u8>().add(offset) };
        // SAFETY: as above.
        unsafe { start.copy_from_nonoverlapping(value.as_ptr(), value.len()) };
        self
    }
    fn u64(&mut self, offset: usize, value: u64) -> &mut Self {
        self.put(offset, &value.to_ne_bytes())
    }
    fn u32(&mut self, offset: usize, value: u32) -> &mut Self {
        self.put(offset, &value.to_ne_bytes())
    }
    fn decode(&self, names: &mut NameTable) -> Decoded {
        // SAFETY: a whole record, whose pointers the tests set.
        unsafe { decode(self.0.as_ptr().cast(), names) }
    }
}

#[test]
fn a_kernel_is_read_field_by_field() {
    let name = CString::new("_Z6kernelPf").unwrap();
    let mut bytes = Bytes::new(10, 216);
    bytes.put(6, &168_u16.to_ne_bytes()).u64(16, 1_000).u64(24, 2_500).u32(40, 1).u32(44, 3).u32(48, 14);
    for (place, value) in [128_u32, 2, 3, 256, 4, 5].into_iter().enumerate() {
        bytes.u32(52 + 4 * place, value);
    }
    bytes.u32(76, 49_152).u32(80, 1_024).u32(84, 16).u32(92, 77).u64(104, name.as_ptr() as u64);
    bytes.u64(144, 0x2_0000_0009).u32(176, 2).u32(180, 1).u32(184, 1);
    let mut names = NameTable::default();
    let expected = KernelRecord {
        start: 1_000,
        end: 2_500,
        device: 1,
        context: 3,
        stream: 14,
        correlation: 77,
        name: 0,
        grid: [128, 2, 3],
        block: [256, 4, 5],
        cluster: [2, 1, 1],
        registers: 168,
        static_shared_bytes: 49_152,
        dynamic_shared_bytes: 1_024,
        local_bytes_per_thread: 16,
        graph_node: 0x2_0000_0009,
    };
    assert_eq!(bytes.decode(&mut names), Decoded::Record(Record::Kernel(expected)));
    // A second launch of the same kernel adds no name, whatever the pointer.
    let again = CString::new("_Z6kernelPf").unwrap();
    bytes.u64(104, again.as_ptr() as u64);
    bytes.decode(&mut names);
    assert_eq!(names.names, ["_Z6kernelPf"]);
    // A kernel without a name, and the serialised kind.
    bytes.u32(0, 3).u64(104, 0);
    assert!(matches!(bytes.decode(&mut names), Decoded::Record(Record::Kernel(record)) if record.name == 1));
    assert_eq!(names.names[1], "");
}

#[test]
fn copies_between_and_within_devices_have_layouts_of_their_own() {
    let mut copy = Bytes::new(1, 96);
    copy.put(4, &[1, 2, 3])
        .u64(8, 4_096)
        .u64(16, 10)
        .u64(24, 20)
        .u32(32, 0)
        .u32(36, 1)
        .u32(40, 7)
        .u32(44, 5)
        .u64(64, 0);
    let mut expected = CopyRecord {
        start: 10,
        end: 20,
        device: 0,
        context: 1,
        stream: 7,
        correlation: 5,
        bytes: 4_096,
        kind: 1,
        source: 2,
        destination: 3,
        graph_node: 0,
    };
    assert_eq!(copy.decode(&mut NameTable::default()), Decoded::Record(Record::Copy(expected)));
    let mut peer = Bytes::new(22, 96);
    peer.put(4, &[10, 3, 3])
        .u64(8, 4_096)
        .u64(16, 10)
        .u64(24, 20)
        .u32(32, 0)
        .u32(36, 1)
        .u32(40, 7)
        .u32(60, 6)
        .u64(72, 9);
    expected = CopyRecord { kind: 10, source: 3, correlation: 6, graph_node: 9, ..expected };
    assert_eq!(peer.decode(&mut NameTable::default()), Decoded::Record(Record::Copy(expected)));
}

#[test]
fn memory_sets_calls_waits_overheads_and_graphs_are_read() {
    let mut names = NameTable::default();
    let mut set = Bytes::new(2, 88);
    set.u32(4, 0xAB).u64(8, 512).u64(16, 1).u64(24, 2).u32(32, 0).u32(36, 1).u32(40, 7).u32(44, 4);
    set.put(50, &3_u16.to_ne_bytes()).u64(64, 0);
    let expected = MemsetRecord {
        start: 1,
        end: 2,
        device: 0,
        context: 1,
        stream: 7,
        correlation: 4,
        bytes: 512,
        value: 0xAB,
        memory: 3,
        graph_node: 0,
    };
    assert_eq!(set.decode(&mut names), Decoded::Record(Record::Memset(expected)));

    for (kind, class) in [(5, ApiClass::RUNTIME), (4, ApiClass::DRIVER)] {
        let mut call = Bytes::new(kind, 40);
        call.u32(4, 211).u64(8, 100).u64(16, 150).u32(24, 4_000).u32(28, 4_001).u32(32, 9).u32(36, 700);
        let expected = CallRecord {
            class,
            function: 211,
            start: 100,
            end: 150,
            process: 4_000,
            thread: 4_001,
            correlation: 9,
            result: 700,
        };
        assert_eq!(call.decode(&mut names), Decoded::Record(Record::Call(expected)));
    }

    let mut wait = Bytes::new(38, 56);
    wait.u32(4, 3).u64(8, 5).u64(16, 6).u32(24, 10).u32(28, 1).u32(32, 7).u32(36, u32::MAX);
    let expected = SyncRecord { kind: 3, start: 5, end: 6, context: 1, stream: 7, correlation: 10, event: u32::MAX };
    assert_eq!(wait.decode(&mut names), Decoded::Record(Record::Sync(expected)));

    let mut overhead = Bytes::new(17, 56);
    overhead.u32(4, 0x1_0000).u32(8, 2).u32(12, 4_000).u32(16, 4_001).u64(24, 7).u64(32, 8);
    let expected = OverheadRecord { kind: 0x1_0000, start: 7, end: 8, thread: Some(4_001) };
    assert_eq!(overhead.decode(&mut names), Decoded::Record(Record::Overhead(expected)));
    // Booked to a process, not to a thread.
    overhead.u32(8, 1);
    assert_eq!(
        overhead.decode(&mut names),
        Decoded::Record(Record::Overhead(OverheadRecord { thread: None, ..expected }))
    );

    let mut graph = Bytes::new(51, 56);
    graph.u32(4, 12).u64(8, 1).u64(16, 9).u32(24, 0).u32(28, 5).u32(32, 1).u32(36, 7);
    let expected = GraphRecord { start: 1, end: 9, device: 0, context: 1, stream: 7, correlation: 12, graph: 5 };
    assert_eq!(graph.decode(&mut names), Decoded::Record(Record::Graph(expected)));
}

#[test]
fn a_device_is_read_with_its_name_and_uuid() {
    let name = CString::new("NVIDIA H200").unwrap();
    let mut device = Bytes::new(8, 184);
    device
        .u64(8, 4_800_000_000)
        .u64(16, 150_000_000_000)
        .u32(28, 62_914_560)
        .u32(36, 1_980_000)
        .u32(44, 132)
        .u32(52, 64);
    device.u32(104, 9).u32(108, 0).u32(112, 2).put(120, &(0..16).collect::<Vec<u8>>()).u64(136, name.as_ptr() as u64);
    let expected = DeviceRecord {
        id: 2,
        name: Some("NVIDIA H200".to_owned()),
        uuid: Some("00010203-0405-0607-0809-0a0b0c0d0e0f".to_owned()),
        sm_count: 132,
        clock_khz: 1_980_000,
        bandwidth_kbytes_per_s: 4_800_000_000,
        memory_bytes: 150_000_000_000,
        l2_bytes: 62_914_560,
        max_warps_per_sm: 64,
        compute_capability: (9, 0),
    };
    assert_eq!(device.decode(&mut NameTable::default()), Decoded::Record(Record::Device(expected)));
}

#[test]
fn kinds_nobody_knows_yet_are_counted_not_read() {
    for kind in [0, 12, 60, 9_999, u32::MAX] {
        assert_eq!(Bytes::new(kind, 8).decode(&mut NameTable::default()), Decoded::Unknown(kind));
    }
}

#[test]
fn the_layouts_of_the_bindings_have_the_sizes_of_the_headers() {
    let sizes = [
        (size_of::<sys::CUpti_ActivityKernel10>(), 216),
        (size_of::<sys::CUpti_ActivityMemcpy6>(), 96),
        (size_of::<sys::CUpti_ActivityMemcpyPtoP4>(), 96),
        (size_of::<sys::CUpti_ActivityMemset4>(), 88),
        (size_of::<sys::CUpti_ActivityAPI>(), 40),
        (size_of::<sys::CUpti_ActivitySynchronization2>(), 56),
        (size_of::<sys::CUpti_ActivityOverhead3>(), 56),
        (size_of::<sys::CUpti_ActivityGraphTrace2>(), 56),
        (size_of::<sys::CUpti_ActivityDevice5>(), 184),
    ];
    for (found, expected) in sizes {
        assert_eq!(found, expected);
    }
}
