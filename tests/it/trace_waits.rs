//! Idle time, launches, overlap, transfers and the critical path of real and generated exports, against SQL on the same file.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests are tests, too")]

use std::path::{Path, PathBuf};
use std::process::Command;

use perfprof::analysis::critical_path::{KernelClasses, critical_path};
use perfprof::analysis::idle::{DeviceIdle, IdleCause, IdleOptions, idle};
use perfprof::analysis::intervals::Phases;
use perfprof::analysis::launch::{LaunchVerdict, launch};
use perfprof::analysis::overlap::overlap;
use perfprof::analysis::transfers::transfers;
use perfprof::trace::chrome;
use perfprof::trace::import::ReadOptions;
use perfprof::trace::nsys;
use perfprof::trace::timeline::Timeline;
use rusqlite::{Connection, OpenFlags};

fn shared() -> PathBuf {
    std::env::var_os("PERFPROF_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from)
}

fn real_files() -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(shared().join("traces/nsys")) else {
        eprintln!("skipped: no traces in `{}`", shared().display());
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "sqlite"));
    files.sort();
    files
}

fn real_file(name: &str) -> Option<PathBuf> {
    real_files().into_iter().find(|file| file.file_stem().is_some_and(|stem| stem == name))
}

fn read(path: &Path) -> Timeline {
    nsys::read(path, &ReadOptions::default()).unwrap().timeline
}

fn open(path: &Path) -> Connection {
    let uri = format!("file:{}?mode=ro&immutable=1", path.display());
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(uri, flags).unwrap()
}

fn tables(sql: &Connection) -> Vec<String> {
    let mut query = sql.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").unwrap();
    query.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

/// (window, idle time, idle time in gaps of 1 us and more, number of those) of each device, by window functions over the file.
fn idle_by_sql(sql: &Connection) -> Vec<(u64, u64, u64, u64)> {
    let tables = tables(sql);
    let work: Vec<String> = ["KERNEL", "MEMCPY", "MEMSET", "GRAPH_TRACE"]
        .iter()
        .map(|kind| format!("CUPTI_ACTIVITY_KIND_{kind}"))
        .filter(|table| tables.contains(table))
        .map(|table| format!("SELECT deviceId, start, \"end\" FROM {table}"))
        .collect();
    if work.is_empty() {
        return Vec::new();
    }
    let query = format!(
        "WITH work AS ({}), swept AS (SELECT deviceId, start, \"end\", \
         max(\"end\") OVER (PARTITION BY deviceId ORDER BY start ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS reached FROM work) \
         SELECT max(\"end\") - min(start), sum(max(0, start - coalesce(reached, start))), \
         sum(CASE WHEN start - reached >= 1000 THEN start - reached ELSE 0 END), \
         sum(CASE WHEN start - reached >= 1000 THEN 1 ELSE 0 END) FROM swept GROUP BY deviceId",
        work.join(" UNION ALL ")
    );
    let mut query = sql.prepare(&query).unwrap();
    let number = |row: &rusqlite::Row<'_>, column| row.get::<_, i64>(column).unwrap() as u64;
    let rows = query.query_map([], |row| Ok((number(row, 0), number(row, 1), number(row, 2), number(row, 3))));
    rows.unwrap().map(Result::unwrap).collect()
}

fn as_sql_says(device: &DeviceIdle) -> (u64, u64, u64, u64) {
    let long: u64 = device.idle_by_cause.iter().map(|row| row.spread.total_ns).sum();
    let gaps = device.idle_by_cause.iter().map(|row| row.spread.count).sum();
    assert_eq!(device.busy_ns + long + device.below_1us_ns, device.window_ns);
    (device.window_ns, device.idle_ns, long, gaps)
}

#[test]
fn idle_time_of_every_real_file_is_what_sql_finds() {
    for file in real_files() {
        let t = read(&file);
        let devices = idle(&t, &IdleOptions::default());
        let mut got: Vec<_> = devices.iter().filter(|device| device.operations > 0).map(as_sql_says).collect();
        let mut expected = idle_by_sql(&open(&file));
        got.sort_unstable();
        expected.sort_unstable();
        assert_eq!(got, expected, "{}", file.display());
        for (device, row) in devices.iter().filter(|device| device.operations > 0).zip(overlap(&t, &[], None).devices) {
            assert_eq!((device.busy_ns, device.idle_ns), (row.busy_ns, row.idle_ns), "{}", file.display());
        }
        for device in &devices {
            eprintln!(
                "{}: device {} busy {} of {} ns; {:?}",
                file.file_stem().unwrap().display(),
                device.device,
                device.busy_ns,
                device.window_ns,
                device
                    .idle_by_cause
                    .iter()
                    .map(|row| (row.cause.name(), row.spread.count, row.spread.total_ns))
                    .collect::<Vec<_>>()
            );
        }
    }
}

#[test]
fn launch_latency_and_queue_time_of_a_real_file_are_what_sql_finds() {
    let Some(file) = real_file("nvtx_pushpop_t4") else { return };
    let t = read(&file);
    let join = "FROM CUPTI_ACTIVITY_KIND_KERNEL k JOIN CUPTI_ACTIVITY_KIND_RUNTIME r USING (correlationId) \
                JOIN StringIds s ON s.id = r.nameId WHERE s.value LIKE '%Launch%' AND k.start >= r.start";
    let sql = open(&file);
    let number =
        |what: &str| sql.query_row(&format!("SELECT {what} {join}"), [], |row| row.get::<_, i64>(0)).unwrap() as u64;
    let analysis = launch(&t, &idle(&t, &IdleOptions::default()), Phases::default());
    let device = &analysis.devices[0];
    assert_eq!((device.latency.count, device.tklqt_ns), (number("count(*)"), Some(number("sum(k.start - r.start)"))));
    assert_eq!(device.queue.count, number("sum(k.start >= r.\"end\")"));
    assert_eq!(device.queue.total_ns, number("sum(max(0, k.start - r.\"end\"))"));
    assert_eq!(device.started_before_return, number("sum(k.start < r.\"end\")"));
    let launches: u64 =
        analysis.calls.iter().filter(|row| row.call.contains("LaunchKernel")).map(|row| row.duration.total_ns).sum();
    let calls = "SELECT sum(r.\"end\" - r.start) FROM CUPTI_ACTIVITY_KIND_RUNTIME r JOIN StringIds s ON s.id = r.nameId \
                 WHERE s.value LIKE '%LaunchKernel%'";
    assert_eq!(launches, sql.query_row(calls, [], |row| row.get::<_, i64>(0)).unwrap() as u64);
}

#[test]
fn copies_of_every_real_file_have_the_bytes_and_times_sql_finds() {
    for file in real_files() {
        let sql = open(&file);
        if !tables(&sql).iter().any(|table| table == "CUPTI_ACTIVITY_KIND_MEMCPY") {
            continue;
        }
        let query = "SELECT count(*), sum(bytes), sum(\"end\" - start), max(\"end\" - start), \
                     sum(CASE WHEN bytes < 65536 THEN 1 ELSE 0 END) FROM CUPTI_ACTIVITY_KIND_MEMCPY";
        let expected: [i64; 5] = sql
            .query_row(query, [], |row| {
                let number = |column| row.get::<_, i64>(column).unwrap();
                Ok([number(0), number(1), number(2), number(3), number(4)])
            })
            .unwrap();
        let analysis = transfers(&read(&file), Phases::default());
        let sum = |of: &dyn Fn(&perfprof::analysis::transfers::CopyGroup) -> u64| {
            analysis.copies.iter().map(of).sum::<u64>() as i64
        };
        let got = [
            sum(&|row| row.duration.count),
            sum(&|row| row.bytes),
            sum(&|row| row.duration.total_ns),
            analysis.copies.iter().filter_map(|row| row.duration.max_ns).max().unwrap_or(0) as i64,
            sum(&|row| row.tiny),
        ];
        assert_eq!(got, expected, "{}", file.display());
    }
}

#[test]
fn the_critical_path_of_every_real_file_adds_up_to_its_window() {
    for file in real_files() {
        let t = read(&file);
        let names = ["all".to_owned(), "none".to_owned()];
        let all = vec![0; t.kernel_names.len()];
        let path = critical_path(&t, KernelClasses { names: &names, of_kernel_name: &all }, 5);
        assert_eq!(path.is_some(), t.op_count() > 0);
        let Some(path) = path else { continue };
        assert_eq!(path.by_kind.iter().map(|row| row.time_ns).sum::<u64>(), path.length_ns, "{}", file.display());
        assert_eq!(path.what_if[1].length_ns, path.length_ns, "{}", file.display());
        let on_path: u64 = path.by_class.iter().map(|row| row.time_ns).sum();
        eprintln!(
            "{}: {:?} gain {} of {on_path}",
            file.file_stem().unwrap().display(),
            path.by_kind,
            path.what_if[0].gain_ns
        );
    }
}

#[test]
fn a_generated_decode_with_short_kernels_is_launch_bound_as_known() {
    let script = shared().join("bench/gen_nsys_sqlite.py");
    if !script.exists() {
        eprintln!("skipped: no `{}`", script.display());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("launch.sqlite");
    let made = Command::new("python3").arg(&script).arg(&file).args(["--kernels", "50000", "--scale", "0.15"]).output();
    if !made.is_ok_and(|made| made.status.success()) {
        eprintln!("skipped: `{}` does not run", script.display());
        return;
    }
    let t = read(&file);
    let devices = idle(&t, &IdleOptions::default());
    let device = &devices[0];
    assert_eq!(vec![as_sql_says(device)], idle_by_sql(&open(&file)));
    // Two other tools say 69.5 % idle of 236.8 ms and no gap of 1 ms.
    assert!((device.window_ns as f64 / 1e6 - 236.8).abs() < 0.05, "{device:?}");
    // They look at kernels alone; the copies at the ends of the steps take the difference.
    let copies: i64 = t.copies.start_ns.iter().zip(&t.copies.end_ns).map(|(start, end)| end - start).sum();
    assert!(((device.idle_ns as i64 + copies) as f64 / 1e6 - 164.6).abs() < 0.05, "{} {copies}", device.idle_ns);
    assert!(device.longest[0].length_ns < 1_000_000);
    assert_eq!(device.cause_ns(IdleCause::Unknown), 0, "{:?}", device.idle_by_cause);
    let analysis = launch(&t, &devices, Phases::default());
    assert_eq!(analysis.devices[0].verdict, LaunchVerdict::LaunchBound, "{:?}", analysis.devices[0].evidence);
    eprintln!("{:?} {:?}", device.idle_by_cause, analysis.devices[0]);
}

#[test]
fn in_captures_of_the_torch_profiler_parts_add_up_and_a_replay_is_one_launch() {
    let Ok(entries) = std::fs::read_dir(shared().join("traces/kineto")) else {
        eprintln!("skipped: no traces in `{}`", shared().display());
        return;
    };
    for file in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let Ok(import) = chrome::read(&file, &ReadOptions::default()) else { continue };
        let t = import.timeline;
        let devices = idle(&t, &IdleOptions::default());
        for device in devices.iter().filter(|device| device.operations > 0) {
            as_sql_says(device);
            let causes: Vec<_> = device
                .idle_by_cause
                .iter()
                .map(|row| (row.cause.name(), row.spread.count, row.spread.total_ns))
                .collect();
            eprintln!("{}: {} of {} ns busy, {causes:?}", file.display(), device.busy_ns, device.window_ns);
        }
        if let Some(path) = critical_path(&t, KernelClasses { names: &[], of_kernel_name: &[] }, 5) {
            assert_eq!(path.by_kind.iter().map(|row| row.time_ns).sum::<u64>(), path.length_ns, "{}", file.display());
            eprintln!("{:?}", path.by_kind.iter().map(|row| (row.kind, row.share)).collect::<Vec<_>>());
        }
        if file.ends_with("vllm_decode_graph_replay.json.gz") {
            // Each replay is one launch of hundreds of kernels.
            let analysis = launch(&t, &devices, Phases::default());
            let device = analysis.devices.iter().max_by_key(|device| device.kernels).unwrap();
            assert!(device.launches * 10 < device.kernels, "{} {}", device.launches, device.kernels);
        }
    }
}
