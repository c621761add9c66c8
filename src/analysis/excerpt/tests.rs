//! The excerpt against what was put into the timeline.

use proptest::prelude::*;

use super::*;
use crate::analysis::steps::{PhaseColumns, Step, StepSource, Steps, Workload};
use crate::trace::builder::TimelineBuilder;
use crate::trace::timeline::Timeline;

/// Kernels as (begin, length) on one stream, each launched 5 ns before it begins.
fn timeline(kernels: &[(i64, i64)]) -> Timeline {
    let mut builder = TimelineBuilder::new();
    let process = builder.process(1);
    let thread = builder.thread(process, 10);
    let device = builder.device(0);
    let stream = builder.stream(process, device, 7);
    for (at, (start, length)) in kernels.iter().enumerate() {
        let correlation = at as u32 + 1;
        builder.call(thread, "cudaLaunchKernel", start - 5, start - 3, correlation);
        builder.kernel(stream, "k", *start, start + length, correlation);
    }
    builder.finish()
}

fn options(start_ns: i64, end_ns: i64, max_bars: usize) -> ExcerptOptions<'static> {
    ExcerptOptions { start_ns, end_ns, chosen: "", classified: &[], phases: &[], gaps: &[], max_bars }
}

fn lane(view: &TimelineView, kind: LaneKind) -> Option<&Lane> {
    view.lanes.iter().find(|lane| lane.kind == kind)
}

#[test]
fn every_bar_knows_the_call_that_launched_it() {
    let view = timeline_view(&timeline(&[(100, 10), (200, 10), (300, 10)]), &options(0, 400, 0));
    let stream = lane(&view, LaneKind::Stream).unwrap();
    let first: usize = view.lanes.iter().take_while(|lane| lane.kind != LaneKind::Thread).map(Lane::len).sum();
    let calls = lane(&view, LaneKind::Thread).unwrap();
    for (bar, link) in stream.link.iter().enumerate() {
        assert_eq!(calls.start_ns[*link as usize - first], stream.start_ns[bar] - 5);
    }
}

#[test]
fn gaps_of_a_microsecond_are_drawn_whether_their_cause_is_listed_or_not() {
    let trace = timeline(&[(0, 1_000), (1_500, 500), (4_000, 1_000), (7_000, 10)]);
    let listed = [GapLane {
        device: 0,
        gaps: vec![Span { start_ns: 5_000, end_ns: 7_000, name: "why".to_owned(), class: "host_busy".to_owned() }],
    }];
    let view = timeline_view(&trace, &ExcerptOptions { gaps: &listed, ..options(0, 8_000, 0) });
    let gaps = lane(&view, LaneKind::Gaps).unwrap();
    assert_eq!((gaps.start_ns.as_slice(), gaps.end_ns.as_slice()), (&[2_000, 5_000][..], &[4_000, 7_000][..]));
    let classes: Vec<&str> = gaps.class.iter().map(|class| view.classes[usize::from(*class)].as_str()).collect();
    assert_eq!(classes, ["idle", "host_busy"]);
}

#[test]
fn nested_ranges_lie_below_each_other_and_python_is_left_out() {
    let mut builder = TimelineBuilder::new();
    let process = builder.process(1);
    let thread = builder.thread(process, 10);
    builder.range(thread, "outer", 0, Some(100));
    builder.range(thread, "inner", 10, Some(50));
    builder.range(thread, "beside", 60, Some(70));
    builder.range_of(crate::trace::host::RangeKind::Python, thread, "", "module.py(1): f", 0, Some(100));
    let view = timeline_view(&builder.finish(), &options(0, 100, 0));
    let lane = lane(&view, LaneKind::Thread).unwrap();
    let bars: Vec<(&str, u8)> =
        lane.name.iter().zip(&lane.depth).map(|(name, depth)| (view.names[*name as usize].as_str(), *depth)).collect();
    assert_eq!(bars, [("outer", 0), ("inner", 1), ("beside", 1)]);
    assert_eq!(view.left_out, ["1 Python functions are not drawn."]);
}

fn steps(lengths: &[i64]) -> Steps {
    let phase = crate::analysis::steps::Phase {
        name: "decode".to_owned(),
        steps: lengths.len() as u64,
        kernels: 0,
        copies_and_sets: 0,
        graphs: 0,
        gpu_sum_ns: 0,
        busy_union_ns: 0,
        wall_ns: None,
        step_ns: None,
        kernels_per_step: None,
        launches_per_step: None,
    };
    let mut at = 0;
    let table = lengths
        .iter()
        .map(|length| {
            let step = Step {
                start_ns: at,
                end_ns: at + length,
                phase: 0,
                kernels: 1,
                launches: 1,
                busy_ns: *length,
                gpu_sum_ns: *length,
            };
            at += length;
            step
        })
        .collect();
    Steps {
        workload: Workload::Inference,
        source: StepSource::PhaseRanges,
        confidence: Some(1.0),
        evidence: Vec::new(),
        phases: vec![phase],
        table,
        steps_omitted: 0,
        drift: Vec::new(),
        stragglers: Vec::new(),
        stragglers_omitted: 0,
        hints: Vec::new(),
        columns: PhaseColumns::default(),
    }
}

#[test]
fn the_stretch_shows_ordinary_steps_from_the_middle() {
    // Slow at first, one straggler among the ordinary ones.
    let lengths = [9_000, 9_000, 1_000, 1_000, 5_000, 1_000, 1_000, 1_000, 1_000];
    let steps = steps(&lengths);
    let starts: Vec<(i64, i64)> = steps.table.iter().map(|step| (step.start_ns, step.end_ns - step.start_ns)).collect();
    let stretch = representative_stretch(&timeline(&starts), Some(&steps)).unwrap();
    assert_eq!(stretch.chosen, "Steps 5 to 7 (decode), of the most ordinary length.");
    let (from, to) = (steps.table[5].start_ns, steps.table[7].end_ns);
    assert!(stretch.start_ns < from && stretch.start_ns > from - 1_000, "{stretch:?}");
    assert!(stretch.end_ns > to && stretch.end_ns < to + 1_000, "{stretch:?}");
}

#[test]
fn without_steps_the_densest_stretch_is_shown() {
    let mut kernels: Vec<(i64, i64)> = (0..10).map(|at| (at * 30_000_000, 10)).collect();
    kernels.extend((0..100).map(|at| (400_000_000 + at * 100_000, 10)));
    let stretch = representative_stretch(&timeline(&kernels), None).unwrap();
    assert!(stretch.start_ns <= 400_000_000 && stretch.end_ns >= 409_900_010, "{stretch:?}");
    assert!(stretch.end_ns - stretch.start_ns < 110_000_000, "{stretch:?}");
    assert_eq!(representative_stretch(&timeline(&[(5, 10)]), None).unwrap().chosen, "The whole trace.");
    assert_eq!(representative_stretch(&Timeline::default(), None), None);
}

proptest! {
    #[test]
    fn what_is_shown_is_whole(
        kernels in proptest::collection::vec((0_i64..2_000, 0_i64..200), 0..60),
        from in 0_i64..1_000, length in 0_i64..1_500, limit in 1_usize..80,
    ) {
        let trace = timeline(&kernels);
        let view = timeline_view(&trace, &options(from, from + length, limit));
        prop_assert!(view.start_ns == from && view.end_ns <= from + length.max(1));
        // Each kernel that reaches into the stretch as it was shortened is there, and no other.
        let cut = view.end_ns < from + length;
        let mut wanted: Vec<(i64, i64)> = kernels
            .iter()
            .map(|(start, length)| (*start, start + length))
            .filter(|(start, end)| *end >= from && *start < view.end_ns)
            .collect();
        wanted.sort_unstable();
        // One that begins where the stretch ends is in it or not: whether the stretch was shortened to just there cannot be told from outside.
        let mut found: Vec<(i64, i64)> = lane(&view, LaneKind::Stream)
            .map_or_else(Vec::new, |lane| lane.start_ns.iter().copied().zip(lane.end_ns.iter().copied()).collect());
        prop_assert!(found.iter().all(|(start, _)| *start <= view.end_ns));
        found.retain(|(start, _)| *start < view.end_ns);
        found.sort_unstable();
        // Bars that all reach in from before the stretch leave no end to cut at.
        if view.end_ns > view.start_ns + 1 {
            prop_assert_eq!(found, wanted);
            prop_assert!(view.bar_count() <= limit || !cut);
        }
        for lane in &view.lanes {
            prop_assert!(lane.start_ns.is_sorted());
            prop_assert!(lane.name.iter().all(|name| (*name as usize) < view.names.len()));
            prop_assert!(lane.class.iter().all(|class| usize::from(*class) < view.classes.len()));
            prop_assert!(lane.link.iter().all(|link| *link == NO_LINK || (*link as usize) < view.bar_count()));
            prop_assert_eq!(view.names.len(), view.labels.len());
        }
    }
}
