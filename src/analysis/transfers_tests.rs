use super::super::intervals::PhaseWindow;
use super::*;
use crate::trace::builder::TimelineBuilder;

struct Scene {
    b: TimelineBuilder,
    thread: u32,
    stream: u32,
}

fn scene() -> Scene {
    let mut b = TimelineBuilder::new();
    let p = b.process(1);
    let thread = b.thread(p, 1);
    let device = b.device(0);
    let stream = b.stream(p, device, 7);
    Scene { b, thread, stream }
}

#[test]
fn copies_are_grouped_with_bytes_union_and_bandwidth() {
    let mut s = scene();
    let mib = 1 << 20;
    // 1 MiB in 100 us and in 50 us, which overlap by 20 us, and one of 4 bytes.
    s.b.copy(s.stream, CopyKind::HOST_TO_DEVICE, 0, 100_000, 0, mib);
    s.b.copy(s.stream, CopyKind::HOST_TO_DEVICE, 80_000, 130_000, 0, mib);
    s.b.copy(s.stream, CopyKind::HOST_TO_DEVICE, 200_000, 202_000, 0, 4);
    s.b.copy(s.stream, CopyKind::DEVICE_TO_DEVICE, 300_000, 310_000, 0, mib);
    *s.b.timeline().copies.source.last_mut().unwrap() = MemoryKind::UNKNOWN;
    let analysis = transfers(&s.b.finish(), Phases::default());
    let group = &analysis.copies[0];
    assert_eq!((group.operation.as_str(), group.pageable), ("Host-to-Device", Some(true)));
    assert_eq!((group.duration.count, group.duration.total_ns, group.union_ns), (3, 152_000, 132_000));
    assert_eq!((group.bytes, group.tiny, group.tiny_ns), (2 * mib + 4, 1, 2_000));
    let rates = [mib as f64 / 100e-6, mib as f64 / 50e-6];
    let close = |got: Option<f64>, expected: f64| (got.unwrap() / expected - 1.0).abs() < 1e-9;
    assert!(close(group.p50_bytes_per_s, f64::midpoint(rates[0], rates[1])));
    assert!(close(group.best_bytes_per_s, rates[1]));
    assert!(close(group.mean_bytes_per_s, (2 * mib + 4) as f64 / 152e-6));
    // Both sides on the device: no host memory, even if one kind is not recorded.
    assert_eq!((analysis.copies[1].operation.as_str(), analysis.copies[1].pageable), ("Device-to-Device", Some(false)));
}

#[test]
fn pinned_and_unknown_host_memory_are_kept_apart() {
    let mut s = scene();
    for (row, kind) in [MemoryKind::PINNED, MemoryKind::UNKNOWN, MemoryKind::PAGEABLE].into_iter().enumerate() {
        let from = row as i64 * 100;
        s.b.copy(s.stream, CopyKind::DEVICE_TO_HOST, from, from + 10, 0, 4);
        *s.b.timeline().copies.destination.last_mut().unwrap() = kind;
    }
    let groups = transfers(&s.b.finish(), Phases::default()).copies;
    let mut flags: Vec<Option<bool>> = groups.iter().map(|group| group.pageable).collect();
    flags.sort();
    assert_eq!(flags, [None, Some(false), Some(true)]);
    assert!(groups.iter().all(|group| group.p50_bytes_per_s.is_none() && group.mean_bytes_per_s.is_some()));
}

#[test]
fn copies_that_hold_up_the_host_are_counted_with_their_time() {
    let mut s = scene();
    s.b.call(s.thread, "cudaMemcpy_v3020", 0, 50, 1);
    s.b.copy(s.stream, CopyKind::DEVICE_TO_HOST, 20, 40, 1, 4);
    s.b.call(s.thread, "cuMemcpyDtoHAsync_v2", 100, 180, 2);
    s.b.copy(s.stream, CopyKind::DEVICE_TO_HOST, 120, 170, 2, 4);
    s.b.call(s.thread, "cudaMemcpyAsync_v3020", 200, 210, 3);
    s.b.copy(s.stream, CopyKind::DEVICE_TO_HOST, 220, 270, 3, 4);
    let group = &transfers(&s.b.finish(), Phases::default()).copies[0];
    assert_eq!((group.synchronous, group.blocked_asynchronous, group.blocked_host_ns), (1, 1, 130));
}

#[test]
fn copies_and_allocations_are_assigned_to_phases() {
    let mut s = scene();
    s.b.call(s.thread, "cudaMalloc_v3020", 0, 30, 1);
    s.b.call(s.thread, "cudaMalloc_v3020", 105, 109, 2);
    s.b.call(s.thread, "cuMemFreeAsync", 190, 191, 3);
    s.b.copy(s.stream, CopyKind::HOST_TO_DEVICE, 10, 20, 0, 64);
    s.b.copy(s.stream, CopyKind::DEVICE_TO_HOST, 110, 120, 0, 4);
    s.b.copy(s.stream, CopyKind::DEVICE_TO_DEVICE, 130, 140, 0, 8);
    s.b.memset(s.stream, 150, 153, 0, 1024);
    let t = s.b.finish();
    let names = ["decode".to_owned()];
    let window = |from, to| PhaseWindow { phase: 0, device: None, interval: Interval::new(from, to) };
    let windows = [window(100, 125), window(125, 160)];
    let analysis = transfers(&t, Phases { names: &names, windows: &windows });
    let phase = &analysis.phases[0];
    assert_eq!((phase.windows, phase.copies, phase.bytes, phase.total_ns, phase.host_copies), (2, 2, 12, 20, 1));
    let malloc = &analysis.allocations[0];
    assert_eq!((malloc.call.as_str(), malloc.duration.count, malloc.duration.total_ns), ("cudaMalloc", 2, 34));
    assert_eq!((malloc.steady_calls, malloc.steady_ns), (1, 4));
    assert_eq!(analysis.allocations[1].steady_calls, 0);
    assert_eq!((analysis.memsets[0].duration.total_ns, analysis.memsets[0].bytes), (3, 1024));
    // Without phases, the second half of the device work (10 to 153) counts as steady.
    let analysis = transfers(&t, Phases::default());
    assert_eq!(analysis.steady_from_ns, Some(81));
    assert_eq!(analysis.allocations.iter().map(|row| row.steady_calls).collect::<Vec<_>>(), [1, 1]);
}
