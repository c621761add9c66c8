//! The sweep against a brute-force reading of the definition, on random small timelines.

use proptest::prelude::*;

use super::*;
use crate::trace::activity::CopyKind;
use crate::trace::builder::TimelineBuilder;
use crate::trace::host::RangeKind;

/// A random trace: few threads, short times, so that ties, touching, nesting and crossing all happen.
#[derive(Debug, Clone)]
struct Case {
    /// (thread, begin, length, name, kind, ended by another thread).
    ranges: Vec<(usize, i64, Option<i64>, usize, bool, bool)>,
    /// (thread, begin, length); the correlation is the position plus one.
    calls: Vec<(usize, i64, i64)>,
    /// (correlation, or none, begin, length, kind of operation).
    ops: Vec<(usize, i64, i64, u8)>,
}

const NAMES: [&str; 4] = ["a", "b", "step 1", "layer.2"];

fn case(nested_only: bool) -> impl Strategy<Value = Case> {
    let range = (
        0..2_usize,
        0..40_i64,
        prop::option::weighted(0.95, 0..25_i64),
        0..4_usize,
        any::<bool>(),
        prop::bool::weighted(0.1),
    );
    let call = (0..2_usize, 0..45_i64, 0..6_i64);
    let op = (0..14_usize, 0..200_i64, 0..9_i64, 0..4_u8);
    (prop::collection::vec(range, 0..14), prop::collection::vec(call, 0..12), prop::collection::vec(op, 0..20))
        .prop_map(move |(mut ranges, calls, ops)| {
            if nested_only {
                // Ends pulled in to the nearest enclosing range: what push/pop can produce.
                let mut kept: Vec<(usize, i64, Option<i64>, usize, bool, bool)> = Vec::new();
                for mut range in ranges.drain(..) {
                    range.2 = Some(range.2.unwrap_or(3));
                    range.5 = false;
                    let end = |r: &(usize, i64, Option<i64>, usize, bool, bool)| r.1 + r.2.unwrap_or(0);
                    let crosses = kept.iter().any(|other| {
                        other.0 == range.0
                            && ((other.1 < range.1 && range.1 < end(other) && end(other) < end(&range))
                                || (range.1 < other.1 && other.1 < end(&range) && end(&range) < end(other)))
                    });
                    if !crosses {
                        kept.push(range);
                    }
                }
                ranges = kept;
            }
            Case { ranges, calls, ops }
        })
}

fn build(case: &Case) -> Timeline {
    let mut b = TimelineBuilder::new();
    let p = b.process(1);
    let threads = [b.thread(p, 1), b.thread(p, 2)];
    let device = b.device(0);
    let stream = b.stream(p, device, 7);
    let mut other_end = Vec::new();
    for (thread, start, length, name, start_end, elsewhere) in &case.ranges {
        let kind = if *start_end { RangeKind::StartEnd } else { RangeKind::PushPop };
        b.range_of(kind, threads[*thread], "", NAMES[*name], *start, length.map(|length| start + length));
        other_end.push(if *elsewhere { threads[1 - thread] } else { NO_ROW });
    }
    b.timeline().ranges.end_thread = other_end;
    for (at, (thread, start, length)) in case.calls.iter().enumerate() {
        b.call(threads[*thread], "cudaLaunchKernel", *start, start + length, at as u32 + 1);
    }
    for (correlation, start, length, kind) in &case.ops {
        let correlation = *correlation as u32;
        match kind {
            0 | 1 => b.kernel(stream, "k", *start, start + length, correlation),
            2 => b.copy(stream, CopyKind::HOST_TO_DEVICE, *start, start + length, correlation, 4),
            _ => b.graph(stream, *start, start + length, correlation, 1),
        };
    }
    b.finish()
}

/// The definition, word for word, in quadratic time.
struct Brute<'a> {
    t: &'a Timeline,
}

impl Brute<'_> {
    fn used(&self) -> Vec<usize> {
        (0..self.t.ranges.len()).filter(|row| self.t.ranges.other_end_thread(*row).is_none()).collect()
    }
    fn length(&self, row: usize) -> i64 {
        self.t.ranges.end_ns[row] - self.t.ranges.start_ns[row]
    }
    fn contains(&self, row: usize, thread: u32, start: i64, end: i64) -> bool {
        let r = &self.t.ranges;
        r.thread[row] == thread && r.start_ns[row] <= start && r.end_ns[row] >= end
    }
    fn of_call(&self, call: usize) -> Vec<usize> {
        let api = &self.t.api;
        self.used()
            .into_iter()
            .filter(|row| self.contains(*row, api.thread[call], api.start_ns[call], api.end_ns[call]))
            .collect()
    }
    fn innermost(&self, rows: &[usize]) -> Option<usize> {
        rows.iter().copied().min_by_key(|row| (self.length(*row), std::cmp::Reverse(*row)))
    }
    fn parent(&self, row: usize) -> Option<usize> {
        let r = &self.t.ranges;
        let around: Vec<usize> = self
            .used()
            .into_iter()
            .filter(|other| {
                self.contains(*other, r.thread[row], r.start_ns[row], r.end_ns[row])
                    && (self.length(*other) > self.length(row) || *other < row)
            })
            .collect();
        self.innermost(&around)
    }
}

fn check(case: &Case) -> Result<(), TestCaseError> {
    let t = build(case);
    let p = project(&t);
    let brute = Brute { t: &t };
    let row = |value: u32| (value != NO_ROW).then_some(value as usize);
    for range in brute.used() {
        prop_assert_eq!(row(p.parent[range]), brute.parent(range), "parent of range {}", range);
    }
    let mut inclusive = vec![0_i64; t.ranges.len()];
    let mut own = vec![0_i64; t.ranges.len()];
    let mut ops = vec![0_u32; t.ranges.len()];
    let mut projected: Vec<Option<(i64, i64)>> = vec![None; t.ranges.len()];
    let (mut nowhere, mut all) = (0, 0);
    for op in t.ops_by_start() {
        let around = t.op_call(op).map_or(Vec::new(), |call| brute.of_call(call));
        let innermost = brute.innermost(&around);
        prop_assert_eq!(p.op_range(op), innermost, "innermost range of {:?}", op);
        let ns = match op.kind() {
            OpKind::Kernel | OpKind::Graph => t.op_end_ns(op) - t.op_start_ns(op),
            _ => 0,
        };
        all += ns;
        match innermost {
            Some(range) => own[range] += ns,
            None => nowhere += ns,
        }
        for range in around {
            inclusive[range] += ns;
            ops[range] += 1;
            let (first, last) = projected[range].unwrap_or((i64::MAX, i64::MIN));
            projected[range] = Some((first.min(t.op_start_ns(op)), last.max(t.op_end_ns(op))));
        }
    }
    for range in 0..t.ranges.len() {
        prop_assert_eq!(p.inclusive.get(range), inclusive[range], "inclusive time of range {}", range);
        prop_assert_eq!(p.own.get(range), own[range], "own time of range {}", range);
        prop_assert_eq!(p.ops[range], ops[range], "operations of range {}", range);
        prop_assert_eq!(p.projected_ns(&t, range), projected[range], "projection of range {}", range);
    }
    // The parts add up to all time: over ranges, over paths, and by kind of attribution.
    prop_assert_eq!(own.iter().sum::<i64>() + nowhere, all);
    prop_assert_eq!(p.kernels.total_ns(), all);
    prop_assert_eq!(p.kernels.outside_ns + p.kernels.unlinked_ns, nowhere);
    prop_assert_eq!(p.paths.iter().map(|path| path.self_ns).sum::<i64>() + nowhere, all);
    let ambiguous = (0..t.api.len())
        .filter(|call| {
            let around = brute.of_call(*call);
            around.iter().any(|a| {
                around.iter().any(|b| {
                    let r = &t.ranges;
                    r.start_ns[*a] < r.start_ns[*b] && r.end_ns[*a] < r.end_ns[*b]
                })
            })
        })
        .count();
    prop_assert_eq!(p.ambiguous_calls, ambiguous as u64);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn crossing_ranges_are_projected_as_the_definition_says(case in case(false)) {
        check(&case)?;
    }

    #[test]
    fn nested_ranges_are_projected_as_the_definition_says(case in case(true)) {
        check(&case)?;
    }
}

#[test]
fn times_beyond_32_bits_are_kept_exactly() {
    let mut column = DurationColumn::zeros(2);
    for _ in 0..3 {
        column.add(1, 2_000_000_000);
    }
    column.add(1, 7);
    column.add(0, i64::from(u32::MAX));
    assert_eq!((column.get(0), column.get(1)), (4_294_967_295, 6_000_000_007));
}

#[test]
fn a_replayed_kernel_knows_where_it_was_captured_and_where_it_was_replayed() {
    let mut b = TimelineBuilder::new();
    let p = b.process(1);
    let thread = b.thread(p, 1);
    let device = b.device(0);
    let stream = b.stream(p, device, 7);
    b.range(thread, "capture", 0, Some(100));
    b.range(thread, "layers.4.mlp", 10, Some(20));
    b.call(thread, "cudaLaunchKernel", 12, 14, 1);
    b.range(thread, "decode", 200, Some(300));
    b.call(thread, "cudaGraphLaunch", 210, 220, 2);
    for (node, original, start) in [(5_u64, 0_u64, 12_i64), (1 << 33, 5, 60)] {
        let nodes = &mut b.timeline().graph_nodes;
        nodes.start_ns.push(start);
        nodes.end_ns.push(start + 1);
        nodes.thread.push(thread);
        nodes.node.push(node);
        nodes.original.push(original);
        nodes.name.push(crate::trace::strings::StringId(0));
    }
    b.kernel_with(stream, "k", 230, 240, 2, crate::trace::activity::LaunchConfig::default(), 1 << 33);
    let t = b.finish();
    let p = project(&t);
    let name = |range: Option<usize>| range.map(|range| t.text(t.ranges.name[range]));
    assert_eq!(name(p.op_range(OpRef::new(OpKind::Kernel, 0))), Some("decode"));
    assert_eq!(name(p.kernel_capture_range(&t, 0)), Some("layers.4.mlp"));
    let modules = modules(&t, &p);
    assert_eq!(modules.layer_of_kernel(&t, &p, 0), Some(4));
}

#[test]
fn a_kernel_without_a_call_goes_to_the_operator_its_external_id_names() {
    let mut b = TimelineBuilder::new();
    let p = b.process(1);
    let thread = b.thread(p, 1);
    let device = b.device(0);
    let stream = b.stream(p, device, 7);
    b.range_of(RangeKind::Python, thread, "", "outer", 0, Some(100));
    let operator = b.range_of(RangeKind::Operator, thread, "", "aten::mm", 10, Some(20));
    b.kernel(stream, "k", 30, 37, 0);
    b.kernel(stream, "lost", 40, 45, 0);
    b.timeline().kernels.operator = vec![operator, NO_ROW];
    let t = b.finish();
    let p = project(&t);
    assert_eq!(p.kernel_range, [1, NO_ROW]);
    assert_eq!((p.inclusive.get(0), p.own.get(0), p.own.get(1)), (7, 0, 7));
    assert_eq!((p.kernels.by_operator_ns, p.kernels.unlinked_ns), (7, 5));
}

#[test]
fn a_name_within_itself_is_not_counted_twice() {
    let mut b = TimelineBuilder::new();
    let p = b.process(1);
    let thread = b.thread(p, 1);
    let device = b.device(0);
    let stream = b.stream(p, device, 7);
    b.range(thread, "block", 0, Some(100));
    b.range(thread, "block", 10, Some(50));
    b.call(thread, "cudaLaunchKernel", 20, 21, 1);
    b.call(thread, "cudaLaunchKernel", 60, 61, 2);
    b.kernel(stream, "k", 30, 40, 1);
    b.kernel(stream, "k", 70, 75, 2);
    let t = b.finish();
    let summary = summary(&t, &project(&t), 10);
    let block = &summary.by_name[0];
    assert_eq!((block.instances, block.gpu_inclusive_sum_ns, block.gpu_self_sum_ns), (2, 15, 15));
    assert_eq!((block.wall_sum_ns, block.projected_sum_ns, block.ops), (100, 45, 2));
    assert_eq!(summary.by_path.iter().map(|path| path.gpu_self_sum_ns).collect::<Vec<_>>(), [5, 10]);
    assert_eq!(summary.attributed_share, Some(1.0));
}
