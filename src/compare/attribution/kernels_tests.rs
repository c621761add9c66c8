//! Differences planted in traces must be found in their row, with their amount.

use super::test_traces::{GAP_NS, LAYERS, Op, Shown, assert_sums, changed, compared, decoder, trace};
use crate::compare::result::{Attribution, ChangeKind};
use crate::trace::activity::CopyKind;
use crate::trace::builder::TimelineBuilder;
use crate::trace::timeline::Timeline;

const STEPS: usize = 10;

fn plain(shown: Shown) -> Timeline {
    trace(STEPS, shown, |_| decoder())
}

fn edited(shown: Shown, edit: impl Fn(&mut Vec<Op>)) -> Timeline {
    trace(STEPS, shown, |_| {
        let mut step = decoder();
        edit(&mut step);
        step
    })
}

/// Compares in both directions: what is found one way must be found with the other sign the other way.
fn both_ways(a: &Timeline, b: &Timeline) -> Attribution {
    let there = compared(a, b);
    let back = compared(b, a);
    assert_sums(&there);
    assert_sums(&back);
    let deltas = |attribution: &Attribution, sign: f64| {
        let mut deltas: Vec<(String, f64)> =
            attribution.rows.iter().map(|row| (row.phase.clone(), sign * row.delta_ns)).collect();
        deltas.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        deltas
    };
    for ((phase, delta), (_, reversed)) in deltas(&there, 1.0).iter().zip(deltas(&back, -1.0)) {
        assert!((delta - reversed).abs() < 1e-6, "{phase}: {delta} {reversed}");
    }
    let count = |attribution: &Attribution, kind| attribution.rows.iter().filter(|row| row.change == kind).count();
    assert_eq!(count(&there, ChangeKind::New), count(&back, ChangeKind::Gone));
    assert_eq!(count(&there, ChangeKind::Gone), count(&back, ChangeKind::New));
    there
}

#[test]
fn a_trace_against_itself_differs_in_nothing() {
    for shown in [Shown::Modules, Shown::Steps, Shown::GraphNodes, Shown::WholeGraph] {
        let found = both_ways(&plain(shown), &plain(shown));
        assert!(changed(&found).is_empty(), "{shown:?}");
        let decode = found.phases.iter().find(|phase| phase.phase == "decode").unwrap();
        assert_eq!(decode.units, [STEPS as u64; 2], "{shown:?}");
        assert!(decode.baseline_ns > 400_000.0);
        assert!(found.sentences.iter().any(|text| text.contains("decode takes")), "{:?}", found.sentences);
    }
}

#[test]
fn a_slower_kernel_is_found_in_its_module_with_its_time() {
    let slow = edited(Shown::Modules, |step| {
        step.iter_mut().filter(|op| op.module == "down_proj").for_each(|op| op.ns += 3_000);
    });
    let found = both_ways(&plain(Shown::Modules), &slow);
    let rows = changed(&found);
    assert_eq!(rows.len(), 1, "{rows:?}");
    let row = rows[0];
    assert_eq!((row.module.as_deref(), row.kernel.as_deref()), (Some("layers.*.down_proj"), Some("gemv_q4")));
    assert_eq!((row.change, row.baseline_calls, row.count_delta), (ChangeKind::Changed, f64::from(LAYERS), 0.0));
    assert!((row.delta_ns - 8.0 * 3_000.0).abs() < 1e-6 && (row.per_call_delta_ns.unwrap() - 3_000.0).abs() < 1e-6);
    assert_eq!((row.baseline_kernel.as_deref(), row.matched_by.as_str()), (None, "same kernel"));
    assert_eq!(row.share, 1.0);
    let [low, high] = row.delta_ci95_ns.unwrap();
    assert!(low <= row.delta_ns && row.delta_ns <= high && high - low < 1.0);
    assert_eq!(found.accounted_share, Some(1.0));
    let text = found.sentences.join("\n");
    assert!(
        text.contains("24.0 µs of it (100 %) is gemv_q4 in layers.*.down_proj: same count (8), 3.00 µs more per call"),
        "{text}"
    );
}

#[test]
fn without_modules_the_grid_tells_kernels_of_one_name_apart() {
    let slow = edited(Shown::Steps, |step| {
        step.iter_mut().filter(|op| op.module == "o_proj").for_each(|op| op.ns += 500);
    });
    let found = both_ways(&plain(Shown::Steps), &slow);
    // Five gemv_q4 with five grids are more than are told apart: one row, the whole change in it.
    let rows = changed(&found);
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].kernel.as_deref(), Some("gemv_q4"));
    assert!((rows[0].delta_ns - 4_000.0).abs() < 1e-6);

    let fewer = |step: &mut Vec<Op>| step.retain(|op| op.module != "k_proj" && op.module != "v_proj");
    let before = edited(Shown::Steps, fewer);
    let slow = edited(Shown::Steps, |step| {
        fewer(step);
        step.iter_mut().filter(|op| op.module == "o_proj").for_each(|op| op.ns += 500);
    });
    let found = both_ways(&before, &slow);
    let rows = changed(&found);
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].kernel.as_deref(), Some("gemv_q4 [grid 48×1×1]"));
    assert_eq!(rows[0].baseline_calls, f64::from(LAYERS));
    assert!((rows[0].delta_ns - 4_000.0).abs() < 1e-6);
}

#[test]
fn a_dropped_kernel_is_gone_and_an_added_one_new() {
    let without = edited(Shown::Modules, |step| step.retain(|op| op.module != "input_layernorm"));
    let found = both_ways(&plain(Shown::Modules), &without);
    let gone: Vec<_> = found.rows.iter().filter(|row| row.change == ChangeKind::Gone).collect();
    assert_eq!(gone.len(), 1);
    assert_eq!(gone[0].kernel.as_deref(), Some("rms_norm_f16"));
    assert!((gone[0].delta_ns + 16_000.0).abs() < 1e-6 && gone[0].count_ns == gone[0].delta_ns);
    // Its idle gaps went with it.
    let idle: f64 = found.rows.iter().filter(|row| row.change == ChangeKind::Idle).map(|row| row.delta_ns).sum();
    assert!((idle + (i64::from(LAYERS) * GAP_NS) as f64).abs() < 1e-6);

    let added = Op { layer: None, module: "sampler", name: "argmax_f32", ns: 5_000, gap_ns: GAP_NS, grid: 1 };
    let with = edited(Shown::Modules, |step| step.push(added.clone()));
    let found = both_ways(&plain(Shown::Modules), &with);
    let new: Vec<_> = found.rows.iter().filter(|row| row.change == ChangeKind::New).collect();
    assert_eq!((new.len(), new[0].kernel.as_deref(), new[0].delta_ns), (1, Some("argmax_f32"), 5_000.0));
}

#[test]
fn another_kernel_in_the_same_module_or_at_the_same_place_is_one_row() {
    for (shown, words) in
        [(Shown::Modules, "same module, other kernel"), (Shown::Steps, "same place in the step, other kernel")]
    {
        let before = edited(shown, |step| {
            step.iter_mut()
                .filter(|op| op.module == "down_proj")
                .for_each(|op| op.name = "Cijk_Alik_Bljk_HHS_BH_MT64x64x64");
        });
        let after = edited(shown, |step| {
            step.iter_mut().filter(|op| op.module == "down_proj").for_each(|op| {
                op.name = "sm90_xmma_gemm_f16f16_f16f32_f32_tn_n_tilesize128x128x64_cublas";
                op.ns -= 1_000;
            });
        });
        let found = both_ways(&before, &after);
        let rows = changed(&found);
        assert_eq!(rows.len(), 1, "{shown:?} {rows:?}");
        assert_eq!((rows[0].matched_by.as_str(), rows[0].change), (words, ChangeKind::Changed));
        assert!(
            rows[0].baseline_kernel.as_deref().unwrap().starts_with("Cijk_")
                && rows[0].kernel.as_deref().unwrap().starts_with("sm90_")
        );
        assert!((rows[0].delta_ns + 8_000.0).abs() < 1e-6);
    }
}

#[test]
fn another_tile_of_the_same_kernel_is_the_same_kernel() {
    let named = |name: &'static str| {
        edited(Shown::Steps, move |step| {
            step.iter_mut().filter(|op| op.module == "lm_head").for_each(|op| op.name = name);
        })
    };
    let found = both_ways(
        &named("ampere_h16816gemm_128x64_ldg8_stages_32x6_tn"),
        &named("ampere_h16816gemm_256x128_ldg8_stages_32x3_tn"),
    );
    assert!(changed(&found).is_empty());
    let row = found.rows.iter().find(|row| row.class == "gemm" && row.baseline_kernel.is_some()).unwrap();
    assert_eq!(row.matched_by, "same kernel, other tile or template arguments");
}

#[test]
fn fused_projections_stand_against_their_parts() {
    let fused = edited(Shown::Modules, |step| {
        step.retain(|op| op.module != "k_proj" && op.module != "v_proj");
        step.iter_mut().filter(|op| op.module == "q_proj").for_each(|op| (op.module, op.ns) = ("qkv_proj", 13_000));
    });
    let found = both_ways(&plain(Shown::Modules), &fused);
    let kernels: Vec<_> = changed(&found).into_iter().filter(|row| row.change != ChangeKind::Idle).collect();
    assert_eq!(kernels.len(), 1, "{kernels:?}");
    let row = kernels[0];
    assert_eq!(row.module.as_deref(), Some("layers.*.q_proj + layers.*.k_proj + layers.*.v_proj → layers.*.qkv_proj"));
    assert_eq!((row.baseline_calls, row.candidate_calls), (24.0, 8.0));
    assert!((row.delta_ns + 8.0 * 2_100.0).abs() < 1e-6);
}

#[test]
fn a_gap_before_a_kernel_is_idle_time_and_nothing_else() {
    let later = edited(Shown::Modules, |step| {
        step.iter_mut().filter(|op| op.module == "attn").for_each(|op| op.gap_ns += 20_000);
    });
    let found = both_ways(&plain(Shown::Modules), &later);
    let rows = changed(&found);
    assert!(!rows.is_empty() && rows.iter().all(|row| row.change == ChangeKind::Idle), "{rows:?}");
    let idle: f64 = rows.iter().map(|row| row.delta_ns).sum();
    assert!((idle - 160_000.0).abs() < 1e-6);
    // The short gaps that grew long are fewer, the long ones more.
    let short = rows.iter().find(|row| row.class == "below_1us").unwrap();
    assert_eq!(short.count_delta, -8.0);
}

#[test]
fn one_slow_layer_stands_out() {
    let slow = edited(Shown::Modules, |step| {
        step.iter_mut().filter(|op| op.module == "attn" && op.layer == Some(5)).for_each(|op| op.ns += 7_000);
    });
    let found = both_ways(&plain(Shown::Modules), &slow);
    let rows = changed(&found);
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(
        (rows[0].layer, rows[0].module.as_deref(), rows[0].baseline_calls),
        (Some(5), Some("layers.5.attn"), 1.0)
    );
    assert!((rows[0].delta_ns - 7_000.0).abs() < 1e-6);
    let rest = found.rows.iter().find(|row| row.module.as_deref() == Some("layers.*.attn")).unwrap();
    assert_eq!((rest.baseline_calls, rest.matched_by.as_str()), (7.0, "same kernel, without layer 5"));
}

#[test]
fn more_calls_are_a_change_of_count() {
    let twice = edited(Shown::Modules, |step| {
        let again = |op: &Op| if op.module == "o_proj" { 2 } else { 1 };
        *step = step.iter().flat_map(|op| vec![op.clone(); again(op)]).collect();
    });
    let found = both_ways(&plain(Shown::Modules), &twice);
    let row = found.rows.iter().find(|row| row.module.as_deref() == Some("layers.*.o_proj")).unwrap();
    assert_eq!((row.change, row.count_delta), (ChangeKind::Changed, 8.0));
    assert!((row.count_ns - 64_000.0).abs() < 1e-6 && row.per_call_ns.abs() < 1e-6);
}

#[test]
fn graph_nodes_match_the_kernels_of_eager_steps() {
    let found = both_ways(&plain(Shown::Modules), &plain(Shown::GraphNodes));
    let kernels: Vec<_> = found.rows.iter().filter(|row| row.kernel.is_some()).collect();
    assert!(kernels.iter().all(|row| row.change == ChangeKind::Changed && row.delta_ns.abs() < 1e-6), "{kernels:?}");
    // The side that knows the modules names them.
    assert!(kernels.iter().any(|row| row.module.as_deref() == Some("layers.*.attn")));
}

#[test]
fn a_graph_recorded_as_a_whole_says_what_it_hides() {
    let found = both_ways(&plain(Shown::Modules), &plain(Shown::WholeGraph));
    assert!(found.diagnostics.iter().any(|diagnostic| diagnostic.code == "graph_hides_kernels"));
    let graph = found.rows.iter().find(|row| row.class == "graph").unwrap();
    assert_eq!((graph.change, graph.candidate_calls), (ChangeKind::New, 1.0));
    let text = found.sentences.join("\n");
    assert!(text.contains("1 records of whole graphs per step") && text.contains("57 operations"), "{text}");
}

#[test]
fn traces_of_different_length_compare_by_step() {
    let found = both_ways(&trace(10, Shown::Modules, |_| decoder()), &trace(30, Shown::Modules, |_| decoder()));
    let decode = found.phases.iter().find(|phase| phase.phase == "decode").unwrap();
    assert_eq!(decode.units, [10, 30]);
    let kernels = found.rows.iter().filter(|row| row.kernel.is_some());
    assert!(kernels.into_iter().all(|row| row.delta_ns.abs() < 1e-6));
}

#[test]
fn noise_of_the_steps_is_not_named_as_a_finding() {
    let noisy = |seed: usize| {
        trace(40, Shown::Modules, move |step| {
            let mut ops = decoder();
            for (row, op) in ops.iter_mut().enumerate() {
                op.ns += ((step * 7919 + row * 104_729 + seed * 31) % 997) as i64;
            }
            ops
        })
    };
    let found = both_ways(&noisy(1), &noisy(2));
    let text = found.sentences.join("\n");
    assert!(text.contains("within the noise of the steps") && text.contains("No part of decode changed"), "{text}");
}

#[test]
fn a_trace_that_lost_kernels_has_its_busy_time_attributed_only() {
    let mut b = TimelineBuilder::new();
    let process = b.process(1);
    let thread = b.thread(process, 1);
    let device = b.device(0);
    let stream = b.stream(process, device, 7);
    for step in 0..200_i64 {
        let at = step * 100_000;
        b.call(thread, "cudaLaunchKernel_v7000", at, at + 3_000, step as u32 + 1);
        // Every other launch left no kernel.
        if step % 2 == 0 {
            b.kernel(stream, "gemm_f16", at + 5_000, at + 50_000, step as u32 + 1);
        }
    }
    let lossy = b.finish();
    let found = both_ways(&lossy, &lossy);
    assert!(found.diagnostics.iter().any(|diagnostic| diagnostic.code == "idle_refused"), "{:?}", found.diagnostics);
    assert!(found.rows.iter().all(|row| row.change != ChangeKind::Idle));
    // What is missing may have been anything.
    assert!(found.diagnostics.iter().any(|diagnostic| diagnostic.code == "kernels_lost"));
    assert_eq!(found.accounted_share, None);
    assert!(found.sentences.iter().all(|text| text.contains("not in its trace")), "{:?}", found.sentences);
}

#[test]
fn work_side_by_side_is_taken_off_once() {
    let build = |beside: bool| {
        let mut b = TimelineBuilder::new();
        let process = b.process(1);
        let thread = b.thread(process, 1);
        let device = b.device(0);
        let (one, two) = (b.stream(process, device, 7), b.stream(process, device, 8));
        for step in 0..8_i64 {
            let at = step * 1_000_000;
            let id = step as u32 * 2 + 1;
            b.range(thread, "decode", at, Some(at + 900));
            b.call(thread, "cudaLaunchKernel_v7000", at + 10, at + 60, id);
            b.kernel(one, "gemm_f16", at + 10_000, at + 410_000, id);
            b.call(thread, "cudaMemcpyAsync_v3020", at + 70, at + 90, id + 1);
            let copy = if beside { at + 100_000 } else { at + 410_000 };
            b.copy(two, CopyKind::DEVICE_TO_HOST, copy, copy + 200_000, id + 1, 4096);
        }
        b.finish()
    };
    let found = both_ways(&build(false), &build(true));
    let overlap = found.rows.iter().find(|row| row.change == ChangeKind::Overlap).unwrap();
    assert_eq!((overlap.baseline_ns, overlap.candidate_ns), (0.0, -200_000.0));
}

#[test]
fn a_trace_without_work_is_refused_in_words() {
    let found = compared(&Timeline::default(), &plain(Shown::Steps));
    assert!(found.rows.is_empty() && found.phases.is_empty());
    assert!(found.diagnostics[0].first.contains("before"), "{:?}", found.diagnostics);
}

#[test]
fn rows_beyond_the_limit_are_summed_up() {
    use super::{TraceSettings, TraceSide, attribute_traces};
    let (classifier, patterns) =
        (crate::analysis::classify::Classifier::builtin(), crate::analysis::steps::PhasePatterns::default());
    let settings = TraceSettings { classifier: &classifier, patterns: &patterns, max_rows: 2 };
    let (a, b) = (plain(Shown::Modules), edited(Shown::Modules, |step| step.iter_mut().for_each(|op| op.ns += 100)));
    let sides = [TraceSide { label: "a", timeline: &a }, TraceSide { label: "b", timeline: &b }];
    let found = attribute_traces(&sides[0], &sides[1], &settings).unwrap().remove(0);
    assert_sums(&found);
    let decode: Vec<_> = found.rows.iter().filter(|row| row.phase == "decode").collect();
    assert_eq!((decode.len(), decode[2].class.as_str()), (3, "(other)"));
    assert!(found.rows_omitted >= 6);
}
