//! Ranges projected onto device work, and steps, on real traces: against SQL on the same file and against figures by NVIDIA's definition.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]
#![allow(clippy::print_stderr, reason = "a test that cannot run says why")]

use std::collections::HashMap;
use std::path::PathBuf;

use perfprof::analysis::coverage::{GraphState, Verdict, coverage};
use perfprof::analysis::projection::{modules, project, summary};
use perfprof::analysis::steps::{PhasePatterns, StepSource, Steps, Workload, steps};
use perfprof::trace::import::ReadOptions;
use perfprof::trace::timeline::Timeline;
use rusqlite::{Connection, OpenFlags};

fn shared(path: &str) -> Option<PathBuf> {
    let shared = std::env::var_os("PERFPROF_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let path = shared.join("traces").join(path);
    if !path.exists() {
        eprintln!("skipped: {} is absent", path.display());
        return None;
    }
    Some(path)
}

fn nsys(name: &str) -> Option<(PathBuf, Timeline)> {
    let path = shared(&format!("nsys/{name}"))?;
    let timeline = perfprof::trace::nsys::read(&path, &ReadOptions::default()).unwrap().timeline;
    Some((path, timeline))
}

fn kineto(name: &str) -> Option<Timeline> {
    let path = shared(&format!("kineto/{name}"))?;
    Some(perfprof::trace::chrome::read(&path, &ReadOptions::default()).unwrap().timeline)
}

fn detect(timeline: &Timeline) -> Steps {
    steps(timeline, &project(timeline), &PhasePatterns::default()).unwrap()
}

/// NVIDIA's definition in SQL: by name, projected time, operations, and kernel time of ranges that contain the launch call.
const PROJECTION: &str = "
    WITH names AS (
        SELECT n.rowid AS id, coalesce(s.value, n.text) AS name, n.start AS start, n.end AS end, n.globalTid AS tid
        FROM NVTX_EVENTS n LEFT JOIN StringIds s ON s.id = n.textId
        WHERE n.eventType IN (59, 60, 70, 71) AND n.end IS NOT NULL),
    ops AS (
        SELECT start, end, correlationId, globalPid, 1 AS kernel FROM CUPTI_ACTIVITY_KIND_KERNEL
        UNION ALL SELECT start, end, correlationId, globalPid, 0 FROM CUPTI_ACTIVITY_KIND_MEMCPY),
    launched AS (
        SELECT o.start AS start, o.end AS end, o.kernel AS kernel, r.start AS call, r.end AS back, r.globalTid AS tid
        FROM ops o JOIN temp.calls r
        ON r.correlationId = o.correlationId AND o.globalPid = (r.globalTid & ~16777215) AND r.eventClass IN (0, 1)),
    ranges AS (
        SELECT n.name AS name, max(l.end) - min(l.start) AS projected, count(*) AS ops, sum(l.kernel * (l.end - l.start)) AS kernel_ns
        FROM names n JOIN launched l ON l.tid = n.tid AND n.start <= l.call AND n.end >= l.back
        GROUP BY n.id)
    SELECT name, sum(projected), sum(ops), sum(kernel_ns) FROM ranges GROUP BY name";

#[test]
fn every_range_of_a_real_trace_projects_as_sql_says() {
    let Some((path, timeline)) = nsys("nvtx_pushpop_t4.sqlite") else { return };
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    db.execute_batch(
        "PRAGMA temp_store = MEMORY;
         CREATE TEMP TABLE calls AS SELECT * FROM CUPTI_ACTIVITY_KIND_RUNTIME;
         CREATE INDEX temp.by_correlation ON calls (correlationId);",
    )
    .unwrap();
    let mut statement = db.prepare(PROJECTION).unwrap();
    let expected: HashMap<String, (i64, u64, i64)> = statement
        .query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get::<_, i64>(2)? as u64, row.get(3)?))))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert!(expected.len() > 100, "the file has many names: {}", expected.len());
    let summary = summary(&timeline, &project(&timeline), usize::MAX);
    let mut met = 0;
    for total in &summary.by_name {
        let name = total.name.rsplit_once("CCCL:").map_or(total.name.as_str(), |(_, name)| name);
        match expected.get(name) {
            Some(sql) => {
                assert_eq!((total.projected_sum_ns, total.ops, total.gpu_inclusive_sum_ns), *sql, "{name}");
                met += 1;
            }
            None => assert_eq!(total.ops, 0, "{name}"),
        }
    }
    assert_eq!(met, expected.len());
    // By NVIDIA's definition, computed when the file was collected.
    let whole = summary.by_name.iter().find(|total| total.name == "Loop").unwrap();
    assert_eq!((whole.projected_sum_ns, whole.ops), (1_773_703_924, 3765));
}

#[test]
fn lost_kernels_and_graphs_of_real_captures_are_seen() {
    // (file, launches that should have a kernel and have none, verdict, graphs), counted in SQL.
    let cases = [
        ("llamacpp_graph_nodes.sqlite", 16_173, Verdict::Partial, GraphState::Absent),
        ("llamacpp_graph_mode_no_kernels.sqlite", 23_684, Verdict::Partial, GraphState::Absent),
        ("cuda_graph_mode.sqlite", 0, Verdict::Partial, GraphState::Hidden),
        ("four_a100_swapped_ids.sqlite", 0, Verdict::Complete, GraphState::Absent),
        ("cudabacktrace_2022.sqlite", 0, Verdict::Complete, GraphState::Absent),
        ("candle_graph_nodes.sqlite", 2_447, Verdict::Partial, GraphState::Absent),
    ];
    for (file, lost, verdict, graphs) in cases {
        let Some((_, timeline)) = nsys(file) else { return };
        let coverage = coverage(&timeline);
        assert_eq!(coverage.launches.launches_without_kernel, lost, "{file}");
        assert_eq!((coverage.verdict, coverage.graphs.state), (verdict, graphs), "{file}: {:?}", coverage.reasons);
        assert_eq!(coverage.trust.idle_shares, verdict == Verdict::Complete, "{file}");
    }
}

#[test]
fn captured_launches_of_a_real_capture_are_told_from_lost_ones() {
    let Some((_, timeline)) = nsys("candle_graph_node_events.sqlite") else { return };
    let coverage = coverage(&timeline);
    // SQL: 552 + 453 + 30 launch calls have a graph node created inside them; 14 cuGraphLaunch; 5875 launch calls, 31 kernels.
    assert_eq!((coverage.graphs.launches_in_capture, coverage.graphs.launch_calls), (1035, 14));
    assert_eq!(coverage.launches.kernel_launch_calls, 5875);
    assert_eq!(coverage.launches.launches_without_kernel, 5875 - 1035 - 31);
    assert_eq!(coverage.graphs.state, GraphState::Unknown);
}

#[test]
fn what_is_no_token_is_not_taken_for_one() {
    for file in ["two_process_two_gpu.sqlite", "candle_graph_node_events.sqlite", "nvtx_pushpop_t4.sqlite"] {
        let Some((_, timeline)) = nsys(file) else { return };
        let found = detect(&timeline);
        assert!(
            found.phases.iter().all(|phase| phase.name != "prefill" && phase.name != "decode"),
            "{file}: {:?}",
            found.evidence
        );
    }
    let Some((_, timeline)) = nsys("nvtx_pushpop_t4.sqlite") else { return };
    let found = detect(&timeline);
    assert_eq!((found.source, found.columns.steps.len()), (StepSource::StepRanges, 44));
}

#[test]
fn a_server_says_its_phase_and_its_batch() {
    let Some(timeline) = kineto("vllm_decode_graph_replay.json.gz") else { return };
    let found = detect(&timeline);
    assert_eq!((found.workload, found.source), (Workload::Inference, StepSource::PhaseRanges));
    let decode = &found.phases[0];
    assert_eq!((decode.name.as_str(), decode.steps, decode.kernels), ("decode", 1, 425));
    assert!(found.hints[0].contains("32 in decode (32 new tokens, 55086 with their context)"), "{:?}", found.hints);
}

#[test]
fn training_is_known_for_what_it_is() {
    let Some(timeline) = kineto("ns_resolution.json.gz") else { return };
    let found = detect(&timeline);
    assert_eq!(
        (found.workload, found.source, found.columns.steps.len()),
        (Workload::Training, StepSource::StepRanges, 5)
    );
    // The backward pass runs on a thread of its own.
    assert!(found.confidence.unwrap() > 0.9, "{:?} {:?}", found.confidence, found.evidence);
    let Some(timeline) = kineto("old_categories_2021.json.gz") else { return };
    assert_eq!(detect(&timeline).workload, Workload::Training);
}

#[test]
fn one_forward_pass_of_pytorch_has_its_layers_and_no_steps() {
    let Some(timeline) = kineto("h100_qwen_0_5b.json.gz") else { return };
    let projection = project(&timeline);
    let modules = modules(&timeline, &projection);
    let mut layers: Vec<u32> =
        (0..timeline.kernels.len()).filter_map(|row| modules.layer_of_kernel(&timeline, &projection, row)).collect();
    layers.sort_unstable();
    layers.dedup();
    assert_eq!(layers, (0..24).collect::<Vec<u32>>(), "Qwen1.5-0.5B has 24 layers");
    for name in ["Qwen2Attention.Linear.0", "Qwen2Attention.Linear.3", "Qwen2MLP.Linear.2"] {
        assert!(modules.names.iter().any(|known| known == name), "{name}: {:?}", modules.names);
    }
    let found = detect(&timeline);
    assert!(found.columns.steps.len() <= 1, "{:?}", found.evidence);
}
