//! Where the difference between two traces comes from, on generated traces with a planted difference and on real ones.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]
#![allow(clippy::print_stderr, reason = "a test that cannot run says why")]

use std::path::{Path, PathBuf};
use std::process::Command;

use perfprof::analysis::classify::Classifier;
use perfprof::analysis::steps::PhasePatterns;
use perfprof::compare::attribution::{TraceSettings, TraceSide, attribute_traces};
use perfprof::compare::result::{Attribution, AttributionRow, ChangeKind};
use perfprof::trace::import::ReadOptions;
use perfprof::trace::timeline::Timeline;
use perfprof::trace::{chrome, nsys};
use rusqlite::{Connection, OpenFlags};

fn shared() -> PathBuf {
    std::env::var_os("PERFPROF_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from)
}

fn read(path: &Path) -> Timeline {
    if path.extension().is_some_and(|extension| extension == "sqlite") {
        nsys::read(path, &ReadOptions::default()).unwrap().timeline
    } else {
        chrome::read(path, &ReadOptions::default()).unwrap().timeline
    }
}

/// A real trace, where the shared data is at hand.
fn real(name: &str) -> Option<Timeline> {
    let path = shared().join("traces").join(name);
    if path.exists() {
        return Some(read(&path));
    }
    eprintln!("skipped: {} is absent", path.display());
    None
}

/// A generated trace; `None` where the generator does not run.
fn generated(folder: &Path, name: &str, options: &[&str]) -> Option<PathBuf> {
    let script = shared().join("bench/gen_nsys_sqlite.py");
    let file = folder.join(format!("{name}.sqlite"));
    let made = Command::new("python3").arg(&script).arg(&file).args(options).output();
    if made.is_ok_and(|made| made.status.success()) {
        return Some(file);
    }
    eprintln!("skipped: `{}` does not run", script.display());
    None
}

fn compared(a: &Timeline, b: &Timeline) -> Attribution {
    let (classifier, patterns) = (Classifier::builtin(), PhasePatterns::default());
    let settings = TraceSettings { classifier: &classifier, patterns: &patterns, max_rows: 0 };
    let (a, b) = (TraceSide { label: "before", timeline: a }, TraceSide { label: "after", timeline: b });
    let found = attribute_traces(&a, &b, &settings).unwrap().remove(0);
    for phase in &found.phases {
        let sum = |of: fn(&AttributionRow) -> f64| {
            found.rows.iter().filter(|row| row.phase == phase.phase).map(of).sum::<f64>()
        };
        let tolerance = 1e-9 * (phase.baseline_ns + phase.candidate_ns + 1.0);
        assert!((sum(|row| row.baseline_ns) - phase.baseline_ns).abs() <= tolerance, "{phase:?}");
        assert!((sum(|row| row.candidate_ns) - phase.candidate_ns).abs() <= tolerance, "{phase:?}");
        assert!((sum(|row| row.delta_ns) - phase.delta_ns).abs() <= tolerance, "{phase:?}");
    }
    found
}

/// Mean time of the attention kernels of a decode step, by SQL: they are in no prefill range, and the trace has as many steps as ranges.
fn attention_per_decode_step(file: &Path) -> f64 {
    let db = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let sql = "
        WITH steps AS (
            SELECT n.start AS start, n.end AS end FROM NVTX_EVENTS n JOIN StringIds s ON s.id = n.textId WHERE s.value = 'decode'),
        calls AS (SELECT correlationId, start FROM CUPTI_ACTIVITY_KIND_RUNTIME)
        SELECT sum(k.end - k.start) * 1.0 / (SELECT count(*) FROM steps)
        FROM CUPTI_ACTIVITY_KIND_KERNEL k JOIN StringIds s ON s.id = k.shortName
        JOIN calls c ON c.correlationId = k.correlationId
        JOIN steps ON c.start BETWEEN steps.start AND steps.end
        WHERE s.value = 'flash_fwd_kernel'";
    db.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn the_kernel_that_the_generator_slowed_is_found_with_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let base = ["--kernels", "20000", "--schema"];
    // Two exports of different versions of the tool.
    let Some(before) = generated(folder.path(), "before", &[&base[..], &["2025"]].concat()) else { return };
    let Some(after) = generated(folder.path(), "after", &[&base[..], &["2024", "--slow", "1.2"]].concat()) else {
        return;
    };
    let expected = attention_per_decode_step(&after) - attention_per_decode_step(&before);
    let found = compared(&read(&before), &read(&after));
    let decode = found.phases.iter().find(|phase| phase.phase == "decode").unwrap();
    let row = found.rows.iter().find(|row| row.phase == "decode").unwrap();
    assert!(row.kernel.as_deref().unwrap().starts_with("flash_fwd_splitkv_kernel"), "{row:?}");
    assert_eq!((row.module.as_deref(), row.class.as_str()), (Some("layers.*.attn"), "attention"));
    assert_eq!((row.baseline_calls, row.count_delta), (32.0, 0.0));
    assert!((row.delta_ns - expected).abs() < 1e-6 * expected, "{} {expected}", row.delta_ns);
    // Nearly all of the change, and next to nothing without a name.
    assert!(row.delta_ns >= 0.99 * decode.delta_ns && row.delta_ns <= 1.01 * decode.delta_ns);
    assert!(found.accounted_share.unwrap() >= 0.99, "{:?}", found.accounted_share);
    let [low, high] = row.delta_ci95_ns.unwrap();
    assert!(0.0 < low && low < expected && expected < high);
    let text = found.sentences.join("\n");
    assert!(text.contains("decode is ") && text.contains("flash_fwd_splitkv_kernel"), "{text}");
}

#[test]
fn a_trace_of_another_seed_has_no_finding_in_decode() {
    let folder = tempfile::tempdir().unwrap();
    let Some(before) = generated(folder.path(), "one", &["--kernels", "20000", "--seed", "1"]) else { return };
    let Some(after) = generated(folder.path(), "two", &["--kernels", "20000", "--seed", "2"]) else { return };
    let found = compared(&read(&before), &read(&after));
    let text = found.sentences.join("\n");
    assert!(text.contains("in decode is within the noise of the steps"), "{text}");
    assert!(text.contains("No part of decode changed by more than its noise."), "{text}");
}

#[test]
fn graphs_and_eager_launches_of_one_engine_are_held_against_each_other_by_place() {
    let folder = tempfile::tempdir().unwrap();
    let Some(eager) = generated(folder.path(), "eager", &["--kernels", "20000"]) else { return };
    let Some(graph) = generated(folder.path(), "graph", &["--kernels", "20000", "--graph-frac", "1"]) else { return };
    let found = compared(&read(&eager), &read(&graph));
    let kernels: Vec<_> = found.rows.iter().filter(|row| row.phase == "decode" && row.kernel.is_some()).collect();
    assert!(kernels.iter().all(|row| row.change == ChangeKind::Changed), "{kernels:?}");
    assert!(kernels.iter().all(|row| (row.count_delta).abs() < 0.5), "{kernels:?}");
    assert!(kernels.iter().any(|row| row.module.as_deref() == Some("layers.*.down_proj")));
}

#[test]
fn one_trace_in_two_formats_differs_in_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let Some(file) = generated(folder.path(), "nsys", &["--kernels", "8000"]) else { return };
    let from_nsys = read(&file);
    let json = folder.path().join("kineto.json");
    let mut out = std::io::BufWriter::new(std::fs::File::create(&json).unwrap());
    chrome::writer::write(&from_nsys, &mut out, &chrome::writer::WriteOptions::default()).unwrap();
    drop(out);
    let from_kineto = read(&json);
    let found = compared(&from_nsys, &from_kineto);
    for row in found.rows.iter().filter(|row| row.kernel.is_some()) {
        // The JSON format has microseconds with three digits.
        let per_call = row.per_call_delta_ns.unwrap_or(f64::MAX);
        assert!(row.change == ChangeKind::Changed && row.count_delta.abs() < 1e-9 && per_call.abs() < 1.0, "{row:?}");
    }
}

#[test]
fn every_real_trace_against_itself_differs_in_nothing() {
    for name in [
        "kineto/h100_qwen_0_5b.json.gz",
        "kineto/vllm_decode_graph_replay.json.gz",
        "kineto/ns_resolution.json.gz",
        "kineto/old_categories_2021.json.gz",
        "nsys/candle_graph_node_events.sqlite",
        "nsys/candle_graph_nodes.sqlite",
        "nsys/cuda_graph_mode.sqlite",
        "nsys/cudabacktrace_2022.sqlite",
        "nsys/four_a100_swapped_ids.sqlite",
        "nsys/llamacpp_graph_mode_no_kernels.sqlite",
        "nsys/llamacpp_graph_nodes.sqlite",
        "nsys/nvtx_pushpop_t4.sqlite",
        "nsys/pre2022_schema.sqlite",
        "nsys/two_process_two_gpu.sqlite",
    ] {
        let Some(timeline) = real(name) else { continue };
        let found = compared(&timeline, &timeline);
        assert!(found.rows.iter().all(|row| row.delta_ns == 0.0 && row.count_delta == 0.0), "{name}");
        assert!(found.phases.iter().all(|phase| phase.delta_ns == 0.0), "{name}");
        assert!(!found.phases.is_empty() && !found.rows.is_empty(), "{name}");
    }
}

#[test]
fn a_trace_whose_graphs_hide_their_kernels_names_no_cause() {
    let Some(hidden) = real("nsys/llamacpp_graph_mode_no_kernels.sqlite") else { return };
    let Some(nodes) = real("nsys/llamacpp_graph_nodes.sqlite") else { return };
    let found = compared(&hidden, &nodes);
    let codes: Vec<&str> = found.diagnostics.iter().map(|diagnostic| diagnostic.code.as_str()).collect();
    assert!(codes.contains(&"idle_refused") && codes.contains(&"kernels_lost"), "{codes:?}");
    assert!(found.rows.iter().all(|row| row.change != ChangeKind::Idle));
    assert_eq!(found.accounted_share, None);
    assert!(found.sentences.iter().all(|text| text.contains("not in its trace")), "{:?}", found.sentences);
}

#[test]
fn unlike_real_traces_add_up_both_ways() {
    let names = [
        "kineto/h100_qwen_0_5b.json.gz",
        "kineto/vllm_decode_graph_replay.json.gz",
        "nsys/two_process_two_gpu.sqlite",
        "nsys/cuda_graph_mode.sqlite",
    ];
    let traces: Vec<Timeline> = names.iter().filter_map(|name| real(name)).collect();
    for a in &traces {
        for b in &traces {
            let (there, back) = (compared(a, b), compared(b, a));
            let total = |found: &Attribution| found.rows.iter().map(|row| row.delta_ns).sum::<f64>();
            assert!((total(&there) + total(&back)).abs() < 1e-3 * (1.0 + total(&there).abs()));
            assert_eq!(there.rows.len(), back.rows.len());
        }
    }
}
