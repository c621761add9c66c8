use proptest::prelude::*;

use super::*;
use crate::analysis::classify::{Classifier, UserRule};
use crate::stats::quantile::quantile;
use crate::stats::summary;
use crate::trace::builder::TimelineBuilder;
use crate::trace::places::NO_ROW;

/// A kernel of a test: stream, name, phase, module, begin, duration.
type Call = (u32, usize, u16, u32, i64, i64);

const NAMES: [&str; 4] =
    ["badd_f32", "nvjet_tst_64x8_64x16_4x1_v_bz_TNT", "mystery", "void at::native::reduce_kernel<512, 1>(int)"];

fn timeline(calls: &[Call]) -> Timeline {
    let mut builder = TimelineBuilder::new();
    let process = builder.process(1);
    let devices = [builder.device(0), builder.device(1)];
    let streams: Vec<u32> = (0..3).map(|at| builder.stream(process, devices[at / 2], 7 + at as u64)).collect();
    for (stream, name, _, _, start, duration) in calls {
        builder.kernel(streams[*stream as usize], NAMES[*name], *start, start + duration, 0);
    }
    builder.copy(streams[0], CopyKind::HOST_TO_DEVICE, 5, 9, 0, 1000);
    builder.copy(streams[2], CopyKind::HOST_TO_DEVICE, 20, 30, 0, 24);
    builder.copy(streams[0], CopyKind::DEVICE_TO_HOST, 40, 41, 0, 8);
    builder.memset(streams[1], 50, 53, 0, 64);
    builder.finish()
}

fn summarised(timeline: &Timeline, keys: &SummaryKeys<'_>) -> KernelSummary {
    kernel_summary(timeline, &classify_names(timeline, &Classifier::builtin()), keys)
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0)
}

/// Begins are distinct and ascending, so that the rows of the finished timeline are those of the list.
fn calls() -> impl Strategy<Value = Vec<Call>> {
    let call = (0..3_u32, 0..NAMES.len(), 0..4_u16, 0..3_u32, 1..50_i64, 0..2000_i64);
    prop::collection::vec(call, 0..80).prop_map(|mut calls| {
        let mut now = 0;
        for call in &mut calls {
            now += call.4;
            call.4 = now;
        }
        calls
    })
}

proptest! {
    #[test]
    fn every_row_says_what_counting_by_hand_says(calls in calls(), by_device in any::<bool>(), by_stream in any::<bool>(), by_phase in any::<bool>(), by_module in any::<bool>()) {
        let timeline = timeline(&calls);
        let phase_names = ["prefill".to_owned(), "decode".to_owned(), "other".to_owned()];
        let module_names = ["layer 0".to_owned(), "layer 1".to_owned()];
        // Phase 3 and module 2 are beyond the names: "none".
        let phases: Vec<u16> = calls.iter().map(|call| if call.2 == 3 { NO_PHASE } else { call.2 }).collect();
        let modules: Vec<u32> = calls.iter().map(|call| if call.3 == 2 { NO_ROW } else { call.3 }).collect();
        let keys = SummaryKeys {
            phase_names: &phase_names,
            kernel_phase: by_phase.then_some(&phases),
            module_names: &module_names,
            kernel_module: by_module.then_some(&modules),
            by_device,
            by_stream,
            ..SummaryKeys::default()
        };
        let summary = summarised(&timeline, &keys);
        let all: i64 = calls.iter().map(|call| call.5).sum();
        let mut seen = 0;
        for row in summary.rows.iter().filter(|row| row.activity == Activity::Kernel) {
            // The calls of this row, one by one.
            let own: Vec<f64> = calls.iter().enumerate().filter(|(at, call)| {
                let phase = by_phase.then(|| phase_names.get(call.2 as usize)).flatten();
                let module = by_module.then(|| module_names.get(call.3 as usize)).flatten();
                let kernel = timeline.kernels.stream[*at];
                row.full_name == NAMES[call.1]
                    && row.phase.as_ref() == phase
                    && row.module.as_ref() == module
                    && row.stream == by_stream.then_some(kernel)
                    && row.device == (by_stream || by_device).then_some(call.0 / 2)
            }).map(|(_, call)| call.5 as f64).collect();
            prop_assert_eq!(row.calls, own.len() as u64);
            seen += row.calls;
            let total: f64 = own.iter().sum();
            prop_assert_eq!(row.total_ns as f64, total);
            prop_assert!(close(row.mean_ns, total / own.len() as f64));
            for (p, got) in [(0.5, row.p50_ns), (0.95, row.p95_ns), (0.99, row.p99_ns), (0.0, row.min_ns as f64), (1.0, row.max_ns as f64)] {
                prop_assert!(close(got, quantile(&own, p).unwrap()), "p{}: {} of {:?}", p, got, own);
            }
            let std = summary::standard_deviation(&own, row.mean_ns);
            prop_assert_eq!(row.std_ns.is_some(), std.is_some());
            prop_assert!(row.std_ns.zip(std).is_none_or(|(a, b)| (a - b).abs() < 1e-6));
            if all > 0 {
                prop_assert!(close(row.share.unwrap(), total / all as f64));
            }
            if let Some(phase) = &row.phase {
                let of_phase: i64 = calls.iter().filter(|call| phase_names.get(call.2 as usize) == Some(phase)).map(|call| call.5).sum();
                prop_assert_eq!(row.share_of_phase.is_some(), of_phase > 0);
                prop_assert!(row.share_of_phase.is_none_or(|share| close(share, total / of_phase as f64)));
            }
        }
        prop_assert_eq!(seen, calls.len() as u64);
        prop_assert!(summary.rows.is_sorted_by(|a, b| a.total_ns >= b.total_ns));
        // Classes are the rows added up.
        for class in &summary.classes {
            let rows: Vec<_> = summary.rows.iter().filter(|row| (row.activity, row.class, &row.phase) == (class.activity, class.class, &class.phase)).collect();
            prop_assert_eq!(class.calls, rows.iter().map(|row| row.calls).sum::<u64>());
            prop_assert_eq!(class.total_ns, rows.iter().map(|row| row.total_ns).sum::<i64>());
            let mut names: Vec<_> = rows.iter().map(|row| &row.full_name).collect();
            names.sort();
            names.dedup();
            prop_assert_eq!(class.names, names.len() as u64);
        }
        let mystery = calls.iter().filter(|call| NAMES[call.1] == "mystery").count() as u64;
        prop_assert_eq!(summary.coverage.kernels - summary.coverage.classified, mystery);
        prop_assert_eq!(summary.coverage.kernel_ns, all);
    }

    #[test]
    fn rows_beyond_the_limit_are_summed_up(calls in calls(), limit in 1..4_usize) {
        let timeline = timeline(&calls);
        let every = summarised(&timeline, &SummaryKeys::default());
        let cut = summarised(&timeline, &SummaryKeys { max_rows: limit, ..SummaryKeys::default() });
        prop_assert_eq!(&cut.rows[..], &every.rows[..limit.min(every.rows.len())]);
        let left: i64 = every.rows.iter().skip(limit).map(|row| row.total_ns).sum();
        prop_assert_eq!((cut.remainder.rows, cut.remainder.total_ns), (every.rows.len().saturating_sub(limit) as u64, left));
        prop_assert_eq!(cut.classes, every.classes);
    }
}

#[test]
fn copies_and_memory_sets_are_rows_beside_the_kernels() {
    let timeline = timeline(&[(0, 0, 0, 0, 1, 100)]);
    let summary = summarised(&timeline, &SummaryKeys::default());
    let row = |name: &str| summary.rows.iter().find(|row| row.name == name).unwrap();
    let to_device = row("[CUDA memcpy Host-to-Device]");
    assert_eq!(
        (to_device.class, to_device.calls, to_device.total_ns, to_device.bytes),
        (KernelClass::Memcpy, 2, 14, Some(1024))
    );
    assert_eq!((to_device.share, to_device.share_of_phase), (None, None));
    assert_eq!(row("[CUDA memset]").bytes, Some(64));
    assert_eq!(row("badd_f32").share, Some(1.0));
    assert_eq!(summary.coverage.kernels, 1);
}

#[test]
fn kernels_that_shorten_to_the_same_name_keep_rows_of_their_own() {
    let mut builder = TimelineBuilder::new();
    let process = builder.process(1);
    let device = builder.device(0);
    let stream = builder.stream(process, device, 7);
    builder.kernel(stream, "void a::scale<float>(float*)", 0, 10, 0);
    builder.kernel(stream, "void b::scale<float>(float*)", 20, 25, 0);
    let timeline = builder.finish();
    let summary = summarised(&timeline, &SummaryKeys::default());
    let names: Vec<&str> = summary.rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["scale<f32>", "scale<f32> #2"]);
}

#[test]
fn a_user_names_and_classes_kernels() {
    let timeline = timeline(&[(0, 2, 0, 0, 1, 100)]);
    let rule = UserRule { pattern: "^mystery$".to_owned(), class: KernelClass::Ssm, name: Some("my scan".to_owned()) };
    let classifier = Classifier::with_user_rules(&[rule]).unwrap();
    let summary = kernel_summary(&timeline, &classify_names(&timeline, &classifier), &SummaryKeys::default());
    assert_eq!((summary.rows[0].name.as_str(), summary.rows[0].class), ("my scan", KernelClass::Ssm));
    assert_eq!(summary.coverage.classified, 1);
}

#[test]
fn the_ends_of_the_range_saturate_instead_of_wrapping() {
    let mut builder = TimelineBuilder::new();
    let process = builder.process(1);
    let device = builder.device(0);
    let stream = builder.stream(process, device, 7);
    for _ in 0..3 {
        builder.kernel(stream, "badd_f32", i64::MIN, i64::MAX, 0);
    }
    let summary = summarised(&builder.finish(), &SummaryKeys::default());
    assert_eq!((summary.rows[0].total_ns, summary.rows[0].max_ns), (i64::MAX, i64::MAX));
    assert_eq!(summary.rows[0].std_ns, Some(0.0));
}

#[test]
fn graphs_recorded_as_a_whole_are_counted_apart() {
    let mut builder = TimelineBuilder::new();
    let process = builder.process(1);
    let device = builder.device(0);
    let stream = builder.stream(process, device, 7);
    for start in [0, 100, 200] {
        builder.graph(stream, start, start + 50, 0, if start == 0 { 1 } else { 2 });
    }
    let summary = summarised(&builder.finish(), &SummaryKeys::default());
    assert_eq!(summary.whole_graphs, SummaryRemainder { rows: 2, calls: 3, total_ns: 150 });
    assert!(summary.rows.is_empty() && summary.coverage.kernels == 0);
}
