//! Random small traces against a count that looks at every unit of time by itself.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::test_traces::{assert_sums, compared};
use crate::analysis::idle::{IdleOptions, idle};
use crate::analysis::projection::project;
use crate::analysis::random_trace::{UNIT_NS, any_trace};
use crate::analysis::steps::{PhasePatterns, Steps, steps};
use crate::compare::result::{Attribution, ChangeKind};
use crate::trace::activity::{CopyKind, OpKind};
use crate::trace::builder::TimelineBuilder;
use crate::trace::timeline::Timeline;

const KERNELS: [&str; 4] = ["gemm_f16", "rms_norm_f16", "rope_f16", "ncclDevKernel_AllReduce"];

/// (which kernel, stream, gap, length, latency)
type Op = (usize, usize, i64, i64, i64);

/// Steps in ranges with operations on three streams of one or two devices, which overlap and reach into the next step.
fn stepped_trace() -> impl Strategy<Value = Timeline> {
    let op = (0..KERNELS.len() + 1, 0_usize..3, 0_i64..6, 0_i64..12, 1_i64..4);
    let step = (
        prop::sample::select(vec!["prefill", "decode", "decode", "decode"]),
        prop::collection::vec(op, 0..6),
        0_i64..20,
    );
    (prop::collection::vec(step, 0..8), 1_usize..3).prop_map(|(steps, devices)| build(&steps, devices))
}

fn build(steps: &[(&str, Vec<Op>, i64)], devices: usize) -> Timeline {
    let mut b = TimelineBuilder::new();
    let process = b.process(1);
    let thread = b.thread(process, 1);
    let devices: Vec<u32> = (0..devices as u32).map(|ordinal| b.device(ordinal)).collect();
    let streams: Vec<u32> =
        (0..3).map(|stream| b.stream(process, devices[stream % devices.len()], stream as u64)).collect();
    let (mut host, mut correlation) = (0_i64, 0);
    let mut free = [0_i64; 3];
    for (phase, ops, pause) in steps {
        let begin = host;
        for (name, stream, gap, length, latency) in ops {
            correlation += 1;
            let start = (host + latency).max(free[*stream] + gap);
            free[*stream] = start + length;
            let (from, to) = (start * UNIT_NS, free[*stream] * UNIT_NS);
            b.call(thread, "cudaLaunchKernel_v7000", host * UNIT_NS + 1, host * UNIT_NS + 300, correlation);
            match KERNELS.get(*name) {
                Some(name) => b.kernel(streams[*stream], name, from, to, correlation),
                None => b.copy(streams[*stream], CopyKind::DEVICE_TO_HOST, from, to, correlation, 64),
            };
            host += 1;
        }
        b.range(thread, phase, begin * UNIT_NS, Some(host * UNIT_NS));
        host += pause;
    }
    b.finish()
}

/// Wall time, busy time and time by kind of operation, of every phase, in units of time times devices.
#[derive(Debug, Default, PartialEq)]
struct Count {
    wall: i64,
    busy: i64,
    ops: BTreeMap<String, i64>,
}

fn op_label(t: &Timeline, kind: OpKind, row: usize) -> String {
    match kind {
        OpKind::Kernel => t.text(t.kernel_names[t.kernels.name[row] as usize].short).to_owned(),
        OpKind::Copy => format!("[memcpy {}]", t.copies.kind[row].label()),
        OpKind::Memset => "[memset]".to_owned(),
        OpKind::Graph => "[whole graph]".to_owned(),
    }
}

/// Phase of the instant `unit` on a device whose processes' steps are `steps`; begins and ends of steps are multiples of the unit.
fn phase_at(steps: &Steps, unit: i64) -> String {
    let all = &steps.columns.steps;
    if all.is_empty() {
        return "trace".to_owned();
    }
    let at = unit * UNIT_NS;
    let inside = all.iter().rev().find(|step| step.start_ns <= at && at < step.end_ns);
    if let Some(step) = inside {
        return steps.phases[usize::from(step.phase)].name.clone();
    }
    let before = all.iter().all(|step| step.start_ns > at);
    let after = all.iter().all(|step| step.end_ns <= at);
    if before || after { "outside" } else { "between_steps" }.to_owned()
}

fn brute_force(t: &Timeline, steps: &Steps) -> BTreeMap<String, Count> {
    let mut phases: BTreeMap<String, Count> = BTreeMap::new();
    for device in 0..t.devices.len() {
        let ops: Vec<_> = t.ops_by_start().into_iter().filter(|op| t.op_device(*op) == device).collect();
        if ops.is_empty() {
            continue;
        }
        let first_step = steps.columns.steps.iter().map(|step| step.start_ns).min();
        let last_step = steps.columns.steps.iter().map(|step| step.end_ns).max();
        let begin = ops.iter().map(|op| t.op_start_ns(*op)).chain(first_step).min().unwrap() / UNIT_NS;
        let end = ops.iter().map(|op| t.op_end_ns(*op)).chain(last_step).max().unwrap() / UNIT_NS;
        for unit in begin..end {
            let count = phases.entry(phase_at(steps, unit)).or_default();
            count.wall += 1;
            let here = |op: &&crate::trace::activity::OpRef| {
                t.op_start_ns(**op) <= unit * UNIT_NS && unit * UNIT_NS < t.op_end_ns(**op)
            };
            let running: Vec<_> = ops.iter().filter(here).collect();
            count.busy += i64::from(!running.is_empty());
            for op in running {
                *count.ops.entry(op_label(t, op.kind(), op.row())).or_default() += 1;
            }
        }
    }
    phases
}

fn own_steps(t: &Timeline) -> Steps {
    steps(t, &project(t), &PhasePatterns::default()).unwrap()
}

/// Units that the times of a phase were divided by, times the time.
fn total(found: &Attribution, phase: &str, of: impl Fn(&crate::compare::result::AttributionRow) -> bool) -> f64 {
    let units = found.phases.iter().find(|row| row.phase == phase).map_or(0, |row| row.units[0]) as f64;
    found.rows.iter().filter(|row| row.phase == phase && of(row)).map(|row| row.baseline_ns * units).sum()
}

fn close(a: f64, b: i64) -> bool {
    (a - (b * UNIT_NS) as f64).abs() < 1e-3
}

fn check_against_brute_force(t: &Timeline) -> Result<(), TestCaseError> {
    let found = compared(t, t);
    assert_sums(&found);
    prop_assert!(found.rows.iter().all(|row| row.delta_ns.abs() < 1e-6));
    if t.op_count() == 0 {
        return Ok(());
    }
    let with_idle = found.diagnostics.iter().all(|diagnostic| diagnostic.code != "idle_refused");
    for (phase, count) in brute_force(t, &own_steps(t)) {
        let change = found.phases.iter().find(|row| row.phase == phase);
        let Some(change) = change else {
            return Err(TestCaseError::fail(format!("{phase} is missing: {count:?}")));
        };
        let whole = if with_idle { count.wall } else { count.busy };
        prop_assert!(close(change.baseline_ns * change.units[0] as f64, whole), "{} {:?} {:?}", phase, change, count);
        for (label, units) in &count.ops {
            let sum = total(&found, &phase, |row| row.kernel.as_deref() == Some(label));
            prop_assert!(close(sum, *units), "{phase} {label} {sum} {units}");
        }
        let overlap = count.ops.values().sum::<i64>() - count.busy;
        prop_assert!(close(-total(&found, &phase, |row| row.change == ChangeKind::Overlap), overlap));
        if with_idle {
            let idle = total(&found, &phase, |row| row.change == ChangeKind::Idle);
            prop_assert!(close(idle, count.wall - count.busy));
        }
    }
    Ok(())
}

/// Idle time by cause over all phases, against the analysis that knows no steps.
fn check_causes(t: &Timeline) -> Result<(), TestCaseError> {
    let found = compared(t, t);
    if found.diagnostics.iter().any(|diagnostic| diagnostic.code == "idle_refused") || t.op_count() == 0 {
        return Ok(());
    }
    let devices = idle(t, &IdleOptions::default());
    for row in found.rows.iter().filter(|row| row.change == ChangeKind::Idle) {
        // Before the first and after the last operation of a device there is idle time only where a step begins or ends there.
        if row.class == "before_work" || row.class == "after_work" || row.class == "below_1us" {
            continue;
        }
        let expected: u64 = devices
            .iter()
            .flat_map(|device| &device.idle_by_cause)
            .filter(|cause| cause.cause.name() == row.class)
            .map(|cause| cause.spread.total_ns)
            .sum();
        let phases: Vec<&str> = found.phases.iter().map(|phase| phase.phase.as_str()).collect();
        let sum: f64 = phases.iter().map(|phase| total(&found, phase, |other| other.class == row.class)).sum();
        prop_assert!((sum - expected as f64).abs() < 1e-3, "{} {} {}", row.class, sum, expected);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn parts_of_stepped_traces_equal_a_count_of_every_instant(t in stepped_trace()) {
        check_against_brute_force(&t)?;
        check_causes(&t)?;
    }

    #[test]
    fn parts_of_any_trace_equal_a_count_of_every_instant(t in any_trace()) {
        check_against_brute_force(&t)?;
        check_causes(&t)?;
    }

    #[test]
    fn two_traces_add_up_and_swapping_them_turns_every_sign(a in stepped_trace(), b in stepped_trace()) {
        let (there, back) = (compared(&a, &b), compared(&b, &a));
        assert_sums(&there);
        assert_sums(&back);
        prop_assert_eq!(there.phases.len(), back.phases.len());
        for phase in &there.phases {
            let other = back.phases.iter().find(|other| other.phase == phase.phase);
            prop_assert!(other.is_some_and(|other| (other.delta_ns + phase.delta_ns).abs() < 1e-6 && other.units == [phase.units[1], phase.units[0]]));
            let sorted = |found: &Attribution, sign: f64| {
                let mut deltas: Vec<f64> =
                    found.rows.iter().filter(|row| row.phase == phase.phase).map(|row| sign * row.delta_ns).collect();
                deltas.sort_by(f64::total_cmp);
                deltas
            };
            let (forward, backward) = (sorted(&there, 1.0), sorted(&back, -1.0));
            prop_assert_eq!(forward.len(), backward.len());
            for (x, y) in forward.iter().zip(&backward) {
                prop_assert!((x - y).abs() < 1e-6, "{:?} {:?}", forward, backward);
            }
        }
    }
}
