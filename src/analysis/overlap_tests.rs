use proptest::prelude::*;

use super::super::random_trace::{SPAN, UNIT_NS, any_trace, busy_units};
use super::*;
use crate::trace::activity::CopyKind;
use crate::trace::builder::TimelineBuilder;

fn by_name(t: &Timeline) -> Vec<Category> {
    let is_communication = |name: &str| name.starts_with("nccl");
    t.kernel_names
        .iter()
        .map(|name| if is_communication(t.text(name.short)) { Category::Communication } else { Category::Compute })
        .collect()
}

#[test]
fn exposed_time_is_what_nothing_more_useful_covers() {
    let mut b = TimelineBuilder::new();
    let p = b.process(1);
    let device = b.device(0);
    let streams = [b.stream(p, device, 1), b.stream(p, device, 2), b.stream(p, device, 3)];
    b.kernel(streams[0], "gemm", 0, 100, 0);
    b.kernel(streams[1], "ncclDevKernel_AllReduce", 60, 150, 0);
    b.copy(streams[2], CopyKind::HOST_TO_DEVICE, 140, 180, 0, 4);
    b.kernel(streams[0], "gemm", 200, 210, 0);
    let t = b.finish();
    let device = &overlap(&t, &by_name(&t), None).devices[0];
    assert_eq!((device.compute_ns, device.communication_ns, device.copy_ns), (110, 90, 40));
    assert_eq!((device.exposed_communication_ns, device.exposed_copy_ns, device.idle_ns), (50, 30, 20));
    assert_eq!((device.total_ns, device.busy_ns, device.summed_ns), (210, 190, 240));
    assert_eq!((device.max_streams, device.max_operations), (2, 2));
    let active: Vec<(u32, u64)> = device.streams_active.iter().map(|row| (row.streams, row.time_ns)).collect();
    assert_eq!(active, [(0, 20), (1, 140), (2, 50)]);
}

#[test]
fn two_operations_that_overlap_on_one_stream_are_one_stream() {
    let mut b = TimelineBuilder::new();
    let p = b.process(1);
    let device = b.device(0);
    let stream = b.stream(p, device, 1);
    b.kernel(stream, "a", 0, 10, 0);
    b.kernel(stream, "b", 5, 15, 0);
    let t = b.finish();
    let device = &overlap(&t, &[], None).devices[0];
    assert_eq!((device.max_streams, device.max_operations, device.busy_ns, device.summed_ns), (1, 2, 15, 20));
}

/// Two devices, `n` collectives; device 1 arrives `late` ns after device 0, except in every tenth.
fn ranks(n: i64, late: i64) -> Timeline {
    let mut b = TimelineBuilder::new();
    let p = b.process(1);
    let streams = [0, 1].map(|ordinal| {
        let device = b.device(ordinal);
        b.stream(p, device, 1)
    });
    for k in 0..n {
        let base = k * 10_000;
        let early = k % 10 == 9;
        for (rank, stream) in streams.into_iter().enumerate() {
            let delay = if (rank == 1) == early { 0 } else { late };
            b.kernel(stream, "gemm", base, base + 1_000 + delay, 0);
            b.kernel(stream, "ncclDevKernel_AllReduce", base + 1_000 + delay, base + 1_500 + late, 0);
        }
    }
    b.finish()
}

#[test]
fn the_device_that_mostly_comes_last_is_the_straggler_and_the_other_waits() {
    let t = ranks(20, 300);
    let balance = overlap(&t, &by_name(&t), None).balance.unwrap();
    assert_eq!((balance.collectives, balance.unmatched), (20, 0));
    assert_eq!((balance.skew.total_ns, balance.skew.p50_ns), (20 * 300, Some(300.0)));
    let waits: Vec<(u64, u64)> = balance.devices.iter().map(|row| (row.waited_ns, row.last)).collect();
    assert_eq!(waits, [(18 * 300, 2), (2 * 300, 18)]);
    assert_eq!(balance.straggler, Some(1));
    let work = [20 * 1_000 + 2 * 300, 20 * 1_000 + 18 * 300];
    assert_eq!(balance.work_ns, [(0, work[0]), (1, work[1])]);
    assert!((balance.imbalance.unwrap() - work[1] as f64 * 2.0 / (work[0] + work[1]) as f64).abs() < 1e-12);
}

#[test]
fn few_collectives_or_none_name_no_straggler() {
    let t = ranks(5, 300);
    assert_eq!(overlap(&t, &by_name(&t), None).balance.unwrap().straggler, None);
    let t = ranks(20, 0);
    let balance = overlap(&t, &by_name(&t), None).balance.unwrap();
    assert_eq!((balance.straggler, balance.skew.max_ns), (None, Some(0)));
    assert_eq!(balance.imbalance, Some(1.0));
}

#[test]
fn collectives_that_one_device_has_more_often_are_not_matched() {
    let mut b = TimelineBuilder::new();
    let p = b.process(1);
    let streams = [0, 1].map(|ordinal| {
        let device = b.device(ordinal);
        b.stream(p, device, 1)
    });
    b.kernel(streams[0], "ncclA", 0, 10, 0);
    b.kernel(streams[0], "ncclA", 20, 30, 0);
    b.kernel(streams[1], "ncclA", 21, 30, 0);
    let t = b.finish();
    let balance = overlap(&t, &[Category::Communication], None).balance.unwrap();
    assert_eq!((balance.collectives, balance.unmatched), (0, 3));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn classes_and_streams_add_up_to_the_window_and_equal_a_bitmap(
        t in any_trace(),
        window in prop::option::of((0_i64..SPAN / 2, SPAN / 2..SPAN)),
    ) {
        let classes = by_name(&t);
        let given = window.map(|(from, to)| Interval::new(from * UNIT_NS, to * UNIT_NS));
        for device in &overlap(&t, &classes, given).devices {
            let (from, to) = (device.window.start_ns / UNIT_NS, device.window.end_ns / UNIT_NS);
            let class = |op: OpRef| match op.kind() {
                OpKind::Copy => COPY,
                OpKind::Kernel if classes[t.kernels.name[op.row()] as usize] == Category::Communication => COMMUNICATION,
                _ => COMPUTE,
            };
            let bits = |wanted: usize| busy_units(&t, device.device, SPAN, |op| class(op) == wanted);
            let (compute, communication, copy) = (bits(COMPUTE), bits(COMMUNICATION), bits(COPY));
            let count = |of: &dyn Fn(usize) -> bool| (from..to).filter(|unit| of(*unit as usize)).count() as u64 * UNIT_NS as u64;
            prop_assert_eq!(device.compute_ns, count(&|u| compute[u]));
            prop_assert_eq!(device.communication_ns, count(&|u| communication[u]));
            prop_assert_eq!(device.copy_ns, count(&|u| copy[u]));
            prop_assert_eq!(device.exposed_communication_ns, count(&|u| communication[u] && !compute[u]));
            prop_assert_eq!(device.exposed_copy_ns, count(&|u| copy[u] && !compute[u] && !communication[u]));
            prop_assert_eq!(device.work_ns, count(&|u| compute[u] || copy[u]));
            prop_assert_eq!(
                device.compute_ns + device.exposed_communication_ns + device.exposed_copy_ns + device.idle_ns,
                device.total_ns
            );
            prop_assert_eq!(device.streams_active.iter().map(|row| row.time_ns).sum::<u64>(), device.total_ns);
            let streams: Vec<Vec<bool>> = (0..t.streams.len())
                .map(|stream| busy_units(&t, device.device, SPAN, |op| t.op_stream(op) == stream))
                .collect();
            for row in &device.streams_active {
                let active = |u: usize| streams.iter().filter(|bits| bits[u]).count() as u32 == row.streams;
                prop_assert_eq!(row.time_ns, count(&active));
            }
        }
    }
}
