//! Reads real exports of nsys and compares the timeline with SQL on the same file.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]
#![expect(clippy::print_stderr, reason = "a test that is skipped says so")]

use std::path::{Path, PathBuf};

use perfprof::trace::activity::OpKind;
use perfprof::trace::import::ReadOptions;
use perfprof::trace::nsys;
use perfprof::trace::places::NO_ROW;
use perfprof::trace::timeline::Timeline;
use rusqlite::{Connection, OpenFlags};

/// The real exports, or `None` with a message where they are absent.
fn real_files() -> Option<Vec<PathBuf>> {
    let shared = std::env::var_os("PERFPROF_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let Ok(entries) = std::fs::read_dir(shared.join("traces/nsys")) else {
        eprintln!("skipped: no traces in `{}`", shared.display());
        return None;
    };
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "sqlite"));
    files.sort();
    assert!(files.len() >= 10, "{files:?}");
    Some(files)
}

fn real_file(name: &str) -> Option<PathBuf> {
    real_files()?.into_iter().find(|file| file.file_stem().is_some_and(|stem| stem == name))
}

fn read(path: &Path) -> Timeline {
    nsys::read(path, &ReadOptions::default()).unwrap().timeline
}

struct Sql(Connection);

impl Sql {
    fn open(path: &Path) -> Self {
        let uri = format!("file:{}?mode=ro&immutable=1", path.display());
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        Self(Connection::open_with_flags(uri, flags).unwrap())
    }
    fn has(&self, table: &str) -> bool {
        self.0
            .query_row("SELECT count(*) FROM sqlite_schema WHERE name = ?1", [table], |row| row.get::<_, i64>(0))
            .unwrap()
            > 0
    }
    /// A number, 0 for NULL and where the file has not got the table.
    fn number(&self, table: &str, query: &str) -> i64 {
        if !self.has(table) {
            return 0;
        }
        self.0.query_row(query, [], |row| row.get::<_, Option<i64>>(0)).unwrap().unwrap_or(0)
    }
    /// Count, sum of begins and sum of durations of a table.
    fn totals(&self, table: &str, condition: &str) -> (i64, i64, i64) {
        let number = |what: &str| self.number(table, &format!("SELECT {what} FROM {table} WHERE {condition}"));
        (number("count(*)"), number("sum(start)"), number("sum(\"end\" - start)"))
    }
}

fn totals(start: &[i64], end: &[i64]) -> (i64, i64, i64) {
    (start.len() as i64, start.iter().sum(), start.iter().zip(end).map(|(start, end)| end - start).sum())
}

const KERNEL: &str = "CUPTI_ACTIVITY_KIND_KERNEL";
const MEMCPY: &str = "CUPTI_ACTIVITY_KIND_MEMCPY";
const MEMSET: &str = "CUPTI_ACTIVITY_KIND_MEMSET";
const RUNTIME: &str = "CUPTI_ACTIVITY_KIND_RUNTIME";
const SYNC: &str = "CUPTI_ACTIVITY_KIND_SYNCHRONIZATION";

#[test]
fn every_real_file_has_the_rows_and_sums_sql_finds() {
    for file in real_files().unwrap_or_default() {
        let (t, sql) = (read(&file), Sql::open(&file));
        let name = file.display();
        assert_eq!(totals(&t.kernels.start_ns, &t.kernels.end_ns), sql.totals(KERNEL, "1"), "{name}");
        assert_eq!(totals(&t.copies.start_ns, &t.copies.end_ns), sql.totals(MEMCPY, "1"), "{name}");
        assert_eq!(totals(&t.memsets.start_ns, &t.memsets.end_ns), sql.totals(MEMSET, "1"), "{name}");
        assert_eq!(totals(&t.api.start_ns, &t.api.end_ns), sql.totals(RUNTIME, "1"), "{name}");
        assert_eq!(totals(&t.syncs.start_ns, &t.syncs.end_ns), sql.totals(SYNC, "1"), "{name}");
        assert_eq!(totals(&t.os_calls.start_ns, &t.os_calls.end_ns), sql.totals("OSRT_API", "1"), "{name}");
        assert_eq!(
            totals(&t.graphs.start_ns, &t.graphs.end_ns),
            sql.totals("CUPTI_ACTIVITY_KIND_GRAPH_TRACE", "1"),
            "{name}"
        );
        assert_eq!(
            totals(&t.ranges.start_ns, &t.ranges.end_ns),
            sql.totals("NVTX_EVENTS", "eventType IN (59, 60, 70, 71)"),
            "{name}"
        );
        let overheads = ["PROFILER_OVERHEAD", "CUPTI_ACTIVITY_KIND_OVERHEAD"].map(|table| sql.totals(table, "1"));
        assert_eq!(
            totals(&t.overheads.start_ns, &t.overheads.end_ns),
            (overheads[0].0 + overheads[1].0, overheads[0].1 + overheads[1].1, overheads[0].2 + overheads[1].2),
            "{name}"
        );
        let count = |table: &str| sql.number(table, &format!("SELECT count(*) FROM {table}")) as usize;
        assert_eq!(t.events.len(), count("CUPTI_ACTIVITY_KIND_CUDA_EVENT"), "{name}");
        assert_eq!(t.graph_nodes.len(), count("CUDA_GRAPH_NODE_EVENTS"), "{name}");
        assert_eq!(t.graph_events.len(), count("CUDA_GRAPH_EVENTS"), "{name}");
        assert_eq!(t.messages.len(), count("DIAGNOSTIC_EVENT"), "{name}");
        for (ours, column, table) in [
            (t.copies.bytes.iter().sum::<u64>(), "bytes", MEMCPY),
            (t.memsets.bytes.iter().sum::<u64>(), "bytes", MEMSET),
            (t.copies.kind.iter().map(|kind| u64::from(kind.0)).sum::<u64>(), "copyKind", MEMCPY),
            (t.kernels.correlation.iter().map(|id| u64::from(*id)).sum::<u64>(), "correlationId", KERNEL),
            (t.memsets.value.iter().map(|value| u64::from(*value)).sum::<u64>(), "value", MEMSET),
        ] {
            assert_eq!(
                ours as i64,
                sql.number(table, &format!("SELECT sum({column}) FROM {table}")),
                "{name} {column}"
            );
        }
    }
}

#[test]
fn device_work_is_joined_to_calls_as_sql_joins_it() {
    for file in real_files().unwrap_or_default() {
        let (t, sql) = (read(&file), Sql::open(&file));
        for (kind, table) in [(OpKind::Kernel, KERNEL), (OpKind::Copy, MEMCPY), (OpKind::Memset, MEMSET)] {
            if !sql.has(RUNTIME) {
                continue;
            }
            let joined = format!(
                "SELECT count(DISTINCT op.rowid) FROM {table} op JOIN {RUNTIME} call ON op.correlationId = call.correlationId
                 AND op.globalPid = (call.globalTid & -16777216) AND call.eventClass IN (0, 1)"
            );
            let ops = t.ops_by_start().into_iter().filter(|op| op.kind() == kind);
            let linked: Vec<_> = ops.filter_map(|op| Some((op, t.op_call(op)?))).collect();
            assert_eq!(linked.len() as i64, sql.number(table, &joined), "{} {table}", file.display());
            for (op, call) in linked {
                assert_eq!(t.op_correlation(op), t.api.correlation[call]);
                assert!(t.api.class[call].is_call());
                let process = t.streams[t.op_stream(op)].process;
                assert_eq!(process, t.threads[t.api.thread[call] as usize].process);
            }
        }
    }
}

#[test]
fn names_and_launches_are_those_of_the_file() {
    for file in real_files().unwrap_or_default() {
        let (t, sql) = (read(&file), Sql::open(&file));
        if !sql.has(KERNEL) {
            assert!(t.kernels.is_empty());
            continue;
        }
        let mut statement = sql
            .0
            .prepare(
                "SELECT k.start, k.streamId, d.value, s.value, gridX, gridY, gridZ, blockX, blockY, blockZ, registersPerThread,
                 staticSharedMemory, dynamicSharedMemory, contextId, deviceId, globalPid, graphNodeId
                 FROM CUPTI_ACTIVITY_KIND_KERNEL k LEFT JOIN StringIds d ON d.id = k.demangledName
                 LEFT JOIN StringIds s ON s.id = k.shortName ORDER BY k.start, k.rowid",
            )
            .unwrap();
        let mut rows = statement.query([]).unwrap();
        let mut row_number = 0;
        while let Some(row) = rows.next().unwrap() {
            let int = |column: usize| row.get::<_, i64>(column).unwrap();
            let text = |column: usize| row.get::<_, String>(column).unwrap();
            let name = t.kernel_names[t.kernels.name[row_number] as usize];
            assert_eq!(t.kernels.start_ns[row_number], int(0));
            assert_eq!((t.text(name.demangled), t.text(name.short)), (text(2).as_str(), text(3).as_str()));
            let config = t.launch_configs[t.kernels.config[row_number] as usize];
            let ours = [config.grid, config.block].concat();
            assert_eq!(ours.iter().map(|n| i64::from(*n)).collect::<Vec<_>>(), (4..10).map(int).collect::<Vec<_>>());
            assert_eq!(config.registers.map(i64::from), Some(int(10)));
            assert_eq!(config.static_shared_bytes.map(i64::from), Some(int(11)));
            assert_eq!(config.dynamic_shared_bytes.map(i64::from), Some(int(12)));
            let stream = t.streams[t.kernels.stream[row_number] as usize];
            assert_eq!(
                (stream.stream as i64, i64::from(stream.context), i64::from(stream.ordinal)),
                (int(1), int(13), int(14))
            );
            assert_eq!(t.processes[stream.process as usize].global_id, int(15));
            assert_eq!(t.kernels.node(row_number), row.get::<_, Option<i64>>(16).unwrap().map(|node| node as u64));
            row_number += 1;
        }
        assert_eq!(row_number, t.kernels.len());
    }
}

#[test]
fn a_cuda_ordinal_is_mapped_to_the_gpu_and_not_to_the_tools_own_number() {
    let Some(file) = real_file("four_a100_swapped_ids") else { return };
    let (t, sql) = (read(&file), Sql::open(&file));
    assert!(!t.devices.is_empty());
    for device in &t.devices {
        let uuid: String = sql
            .0
            .query_row("SELECT uuid FROM TARGET_INFO_GPU WHERE cuDevice = ?1", [device.ordinal], |row| row.get(0))
            .unwrap();
        assert_eq!(device.identity.as_deref(), Some(uuid.as_str()));
        assert_eq!(device.sm_count, Some(108));
        assert_eq!(device.bandwidth_bytes_per_s, Some(2_039_040_000_000.0));
        assert_eq!(device.clock_hz, Some(1_410_000_000.0));
    }
}

#[test]
fn two_processes_with_equal_correlation_ids_stay_apart() {
    let Some(file) = real_file("two_process_two_gpu") else { return };
    let t = read(&file);
    let pids: Vec<u32> = t.processes.iter().map(|process| process.pid).collect();
    assert_eq!((pids.len(), pids.contains(&144), pids.contains(&145)), (2, true, true));
    assert!(t.processes.iter().all(|process| t.text(process.name.unwrap()) == "python3"));
    // 24 kernels were cut from their calls when the file was made.
    assert_eq!(t.kernels.call.iter().filter(|call| **call == NO_ROW).count(), 24);
}

#[test]
fn a_scrubbed_copy_of_every_real_file_reads_the_same() {
    let directory = tempfile::tempdir().unwrap();
    for file in real_files().unwrap_or_default() {
        let copy = directory.path().join(file.file_name().unwrap());
        let report = nsys::scrub(&file, &copy).unwrap();
        assert_eq!(report.bytes, std::fs::metadata(&copy).unwrap().len());
        let (ours, theirs) = (read(&copy), read(&file));
        let names = |t: &Timeline| -> Vec<String> {
            let kernels = t.kernels.name.iter().map(|row| t.kernel_names[*row as usize].demangled);
            let names = kernels.chain(t.api.name.iter().copied()).chain(t.ranges.name.iter().copied());
            let names = names.chain(t.os_calls.name.iter().copied()).chain(t.overheads.name.iter().copied());
            names.map(|name| t.text(name).to_owned()).collect()
        };
        assert_eq!(names(&ours), names(&theirs), "{}", file.display());
        assert_eq!((&ours.kernels.start_ns, &ours.kernels.call), (&theirs.kernels.start_ns, &theirs.kernels.call));
        assert_eq!((&ours.api.start_ns, &ours.ranges.end_ns), (&theirs.api.start_ns, &theirs.ranges.end_ns));
        assert_eq!((&ours.devices, ours.processes.len()), (&theirs.devices, theirs.processes.len()));
        // Call stacks keep their symbols: every id that is used has a text as before.
        let (ours, theirs) = (Sql::open(&copy), Sql::open(&file));
        for table in ["OSRT_CALLCHAINS", "SAMPLING_CALLCHAINS", "CUDA_CALLCHAINS"] {
            let query = format!(
                "SELECT sum(length(s.value)) FROM {table} c JOIN StringIds s ON s.id = c.symbol OR s.id = c.module"
            );
            assert_eq!(ours.number(table, &query), theirs.number(table, &query), "{} {table}", file.display());
        }
        for private in ["ProcessStreams", "META_DATA_CAPTURE"] {
            let rows = format!("SELECT count(*) FROM {private}");
            assert!(ours.number(private, &rows) <= theirs.number(private, &rows));
        }
        let left = "SELECT count(*) FROM META_DATA_CAPTURE WHERE name LIKE '%COMMAND%' OR name LIKE '%USER_NAME%'";
        assert_eq!(ours.number("META_DATA_CAPTURE", left), 0);
    }
}
