//! The operator summary of real exports against NVIDIA's own reports and against SQL on the same file.
#![expect(clippy::print_stderr, reason = "a test that is skipped says so")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use perfprof::analysis::classify::{Classifier, KernelClass};
use perfprof::analysis::kernel_summary::{Activity, KernelSummary, SummaryKeys, classify_names, kernel_summary};
use perfprof::trace::import::ReadOptions;
use perfprof::trace::nsys;
use rusqlite::{Connection, OpenFlags};

fn traces() -> Option<PathBuf> {
    let shared = std::env::var_os("PERFPROF_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let traces = shared.join("traces");
    if traces.join("nsys").is_dir() {
        return Some(traces);
    }
    eprintln!("skipped: no traces in `{}`", shared.display());
    None
}

fn summary_of(path: &Path, keys: &SummaryKeys<'_>) -> KernelSummary {
    let timeline = nsys::read(path, &ReadOptions::default()).unwrap().timeline;
    kernel_summary(&timeline, &classify_names(&timeline, &Classifier::builtin()), keys)
}

/// Rows of a report of `nsys stats`, by the column that names them.
fn report(path: &Path, name: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_path(path).unwrap();
    let columns: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
    reader
        .records()
        .map(|record| {
            let row: BTreeMap<_, _> = columns.iter().cloned().zip(record.unwrap().iter().map(str::to_owned)).collect();
            (row[name].clone(), row)
        })
        .collect()
}

/// The decimals a report prints differ by half of the last one at most, or by its rounding of a tie.
fn near(printed: &str, value: f64, decimals: i32) {
    let printed: f64 = printed.parse().unwrap();
    assert!((printed - value).abs() <= 0.5001 * 10_f64.powi(-decimals), "{printed} and {value}");
}

#[test]
fn kernel_rows_are_those_of_nsys_stats() {
    let Some(traces) = traces() else { return };
    let mut compared = 0;
    for stem in ["llamacpp_graph_nodes", "candle_graph_nodes", "candle_graph_node_events"] {
        let summary = summary_of(&traces.join(format!("nsys/{stem}.sqlite")), &SummaryKeys::default());
        let report = report(&traces.join(format!("nsys_stats/{stem}.cuda_gpu_kern_sum.csv")), "Name");
        let rows: Vec<_> = summary.rows.iter().filter(|row| row.activity == Activity::Kernel).collect();
        assert_eq!(rows.len(), report.len(), "{stem}");
        for row in rows {
            let theirs = &report[&row.full_name];
            assert_eq!(theirs["Total Time (ns)"], row.total_ns.to_string(), "{}", row.full_name);
            assert_eq!(theirs["Instances"], row.calls.to_string());
            assert_eq!((&theirs["Min (ns)"], &theirs["Max (ns)"]), (&row.min_ns.to_string(), &row.max_ns.to_string()));
            near(&theirs["Avg (ns)"], row.mean_ns, 1);
            near(&theirs["Med (ns)"], row.p50_ns, 1);
            near(&theirs["StdDev (ns)"], row.std_ns.unwrap_or(0.0), 1);
            near(&theirs["Time (%)"], 100.0 * row.share.unwrap(), 1);
            compared += 1;
        }
    }
    assert!(compared >= 40, "{compared}");
}

#[test]
fn copy_rows_are_those_of_nsys_stats() {
    let Some(traces) = traces() else { return };
    for stem in ["llamacpp_graph_nodes", "llamacpp_graph_mode_no_kernels"] {
        let summary = summary_of(&traces.join(format!("nsys/{stem}.sqlite")), &SummaryKeys::default());
        let report = report(&traces.join(format!("nsys_stats/{stem}.cuda_gpu_mem_time_sum.csv")), "Operation");
        let rows: Vec<_> = summary.rows.iter().filter(|row| row.activity != Activity::Kernel).collect();
        assert_eq!(rows.len(), report.len(), "{stem}");
        for row in rows {
            let theirs = &report[&row.name];
            assert_eq!(theirs["Total Time (ns)"], row.total_ns.to_string(), "{}", row.name);
            assert_eq!(theirs["Count"], row.calls.to_string());
            near(&theirs["Med (ns)"], row.p50_ns, 1);
            near(&theirs["StdDev (ns)"], row.std_ns.unwrap_or(0.0), 1);
        }
    }
}

#[test]
fn rows_by_stream_are_those_of_sql() {
    let Some(traces) = traces() else { return };
    let mut compared = 0;
    for entry in std::fs::read_dir(traces.join("nsys")).unwrap() {
        let path = entry.unwrap().path();
        let uri = format!("file:{}?mode=ro&immutable=1", path.display());
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        let database = Connection::open_with_flags(uri, flags).unwrap();
        // Processes and devices set streams apart, as in the timeline. Exports before 2022 have no `globalPid` in this table.
        let query = "SELECT d.value, count(*), sum(k.end - k.start), min(k.end - k.start), max(k.end - k.start)
            FROM CUPTI_ACTIVITY_KIND_KERNEL k JOIN StringIds d ON d.id = k.demangledName
            GROUP BY d.value, k.globalPid, k.deviceId, k.contextId, k.streamId";
        let Ok(mut statement) = database.prepare(query) else {
            eprintln!("not compared: `{}` has no such table", path.display());
            continue;
        };
        let mut theirs: Vec<(String, i64, i64, i64, i64)> = statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let summary = summary_of(&path, &SummaryKeys { by_stream: true, ..SummaryKeys::default() });
        let kernels = summary.rows.iter().filter(|row| row.activity == Activity::Kernel);
        let mut ours: Vec<_> = kernels
            .map(|row| (row.full_name.clone(), row.calls as i64, row.total_ns, row.min_ns, row.max_ns))
            .collect();
        theirs.sort();
        ours.sort();
        assert_eq!(ours, theirs, "{}", path.display());
        compared += ours.len();
    }
    assert!(compared > 200, "{compared}");
}

#[test]
fn every_kernel_of_the_inference_traces_is_classified() {
    let Some(traces) = traces() else { return };
    for stem in ["llamacpp_graph_nodes", "candle_graph_nodes", "two_process_two_gpu"] {
        let summary = summary_of(&traces.join(format!("nsys/{stem}.sqlite")), &SummaryKeys::default());
        assert_eq!(summary.coverage.unclassified_names, 0, "{stem}: {:?}", summary.coverage.top_unclassified);
        assert_eq!(summary.coverage.classified_ns, summary.coverage.kernel_ns);
    }
    // The largest of a quantised prefill is its product, and the attention is named.
    let summary = summary_of(&traces.join("nsys/llamacpp_graph_nodes.sqlite"), &SummaryKeys::default());
    let kernels = summary.classes.iter().find(|total| total.activity == Activity::Kernel).unwrap();
    assert_eq!(kernels.class, KernelClass::Gemm);
    assert!(summary.classes.iter().any(|total| total.class == KernelClass::Attention));
}
