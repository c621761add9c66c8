//! Writes timelines as nsys exports and compares what is read back, by our reader, by SQL and by NVIDIA's own figures.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests are tests, too")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use perfprof::trace::activity::{CopyKind, LaunchConfig, MemoryKind, SyncKind};
use perfprof::trace::builder::TimelineBuilder;
use perfprof::trace::host::{ApiClass, OverheadOrigin, RangeKind};
use perfprof::trace::import::ReadOptions;
use perfprof::trace::nsys;
use perfprof::trace::places::{GraphMode, NO_ROW, Source, Stream, ToolMessage};
use perfprof::trace::timeline::Timeline;
use proptest::prelude::*;
use rusqlite::{Connection, OpenFlags};

fn shared(folder: &str) -> Option<PathBuf> {
    let shared = std::env::var_os("PERFPROF_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let folder = shared.join("traces").join(folder);
    if !folder.is_dir() {
        eprintln!("skipped: there is no `{}`", folder.display());
        return None;
    }
    Some(folder)
}

/// The real exports; none, with a message, where they are absent.
pub(crate) fn real_files() -> Vec<PathBuf> {
    let Some(folder) = shared("nsys") else { return Vec::new() };
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "sqlite"));
    files.sort();
    assert!(files.len() >= 10, "{files:?}");
    files
}

pub(crate) fn read(path: &Path) -> Timeline {
    nsys::read(path, &ReadOptions::default()).unwrap().timeline
}

fn round_trip(timeline: &Timeline, directory: &Path) -> (Timeline, PathBuf) {
    let path = directory.join("written.sqlite");
    let report = nsys::writer::write(timeline, &path).unwrap();
    assert_eq!(report.bytes, std::fs::metadata(&path).unwrap().len());
    (read(&path), path)
}

/// Every row of every table in words, with names, processes and calls instead of row numbers, sorted: what must survive a round trip.
fn rows(t: &Timeline, memory: bool) -> BTreeMap<&'static str, Vec<String>> {
    let mut all: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    let mut put = |table: &'static str, row: String| all.entry(table).or_default().push(row);
    let pid =
        |process: u32| t.processes.get(process as usize).map_or("-".to_owned(), |process| process.pid.to_string());
    let thread = |row: u32| match t.threads.get(row as usize) {
        Some(thread) => {
            format!("{}/{}/{:?}", pid(thread.process), thread.tid, thread.name.map(|name| t.text(name)))
        }
        None => "-".to_owned(),
    };
    let stream = |row: u32| {
        let stream = &t.streams[row as usize];
        let device = &t.devices[stream.device as usize];
        let identity = (&device.name, &device.identity, device.sm_count, device.clock_hz, device.bandwidth_bytes_per_s);
        let more = (device.memory_bytes, device.l2_bytes, device.compute_capability, device.max_warps_per_sm);
        format!(
            "{} d{} c{} s{} {identity:?} {more:?}",
            pid(stream.process),
            stream.ordinal,
            stream.context,
            stream.stream
        )
    };
    let call = |row: Option<&u32>| match row {
        Some(row) if *row != NO_ROW => {
            let row = *row as usize;
            format!("{} {} {}", t.text(t.api.name[row]), t.api.start_ns[row], thread(t.api.thread[row]))
        }
        _ => "unlinked".to_owned(),
    };
    for row in 0..t.kernels.len() {
        let (k, name) = (&t.kernels, &t.kernel_names[t.kernels.name[row] as usize]);
        let names = (t.text(name.demangled), t.text(name.short), name.mangled.map(|name| t.text(name)));
        let config = &t.launch_configs[k.config[row] as usize];
        put(
            "kernel",
            format!(
                "{} {} {names:?} {} {} {config:?} {:?} {}",
                k.start_ns[row],
                k.end_ns[row],
                stream(k.stream[row]),
                k.correlation[row],
                k.node(row),
                call(k.call.get(row))
            ),
        );
    }
    for row in 0..t.copies.len() {
        let c = &t.copies;
        let node = c.graph_node.get(row).copied().filter(|node| *node != 0);
        let kinds = memory.then(|| (c.source[row], c.destination[row]));
        put(
            "copy",
            format!(
                "{} {} {} {} {} {:?} {kinds:?} {node:?} {}",
                c.start_ns[row],
                c.end_ns[row],
                stream(c.stream[row]),
                c.correlation[row],
                c.bytes[row],
                c.kind[row],
                call(c.call.get(row))
            ),
        );
    }
    for row in 0..t.memsets.len() {
        let m = &t.memsets;
        let node = m.graph_node.get(row).copied().filter(|node| *node != 0);
        let kind = memory.then(|| m.memory[row]);
        put(
            "memset",
            format!(
                "{} {} {} {} {} {} {kind:?} {node:?} {}",
                m.start_ns[row],
                m.end_ns[row],
                stream(m.stream[row]),
                m.correlation[row],
                m.bytes[row],
                m.value[row],
                call(m.call.get(row))
            ),
        );
    }
    for row in 0..t.graphs.len() {
        let g = &t.graphs;
        let ids = (g.correlation[row], g.graph[row], g.executable[row]);
        let place = stream(g.stream[row]);
        put("graph", format!("{} {} {place} {ids:?} {}", g.start_ns[row], g.end_ns[row], call(g.call.get(row))));
    }
    for row in 0..t.syncs.len() {
        let s = &t.syncs;
        let ids = (s.correlation[row], s.kind[row], s.event[row]);
        let place = stream(s.stream[row]);
        put("sync", format!("{} {} {place} {ids:?} {}", s.start_ns[row], s.end_ns[row], call(s.call.get(row))));
    }
    for row in 0..t.events.len() {
        let e = &t.events;
        put("event", format!("{} {} {} {}", e.time_ns[row], stream(e.stream[row]), e.correlation[row], e.event[row]));
    }
    for row in 0..t.api.len() {
        let a = &t.api;
        let ids = (a.correlation[row], a.class[row], a.result[row]);
        let name = t.text(a.name[row]);
        put("api", format!("{} {} {} {name} {ids:?}", a.start_ns[row], a.end_ns[row], thread(a.thread[row])));
    }
    for row in 0..t.ranges.len() {
        let r = &t.ranges;
        let text = (t.text(r.name[row]), t.text(r.domain[row]), r.kind[row], r.is_open(row));
        let ended = r.other_end_thread(row).map(thread);
        put("range", format!("{} {} {} {text:?} {ended:?}", r.start_ns[row], r.end_ns[row], thread(r.thread[row])));
    }
    for row in 0..t.marks.len() {
        let m = &t.marks;
        let text = (t.text(m.name[row]), t.text(m.domain[row]));
        put("mark", format!("{} {} {text:?}", m.time_ns[row], thread(m.thread[row])));
    }
    for row in 0..t.os_calls.len() {
        let o = &t.os_calls;
        let name = t.text(o.name[row]);
        let place = thread(o.thread[row]);
        put("os_call", format!("{} {} {place} {name} {}", o.start_ns[row], o.end_ns[row], o.class[row]));
    }
    for row in 0..t.overheads.len() {
        let o = &t.overheads;
        let name = t.text(o.name[row]);
        let place = thread(o.thread[row]);
        put("overhead", format!("{} {} {place} {name} {:?}", o.start_ns[row], o.end_ns[row], o.origin[row]));
    }
    for row in 0..t.graph_nodes.len() {
        let n = &t.graph_nodes;
        let text = (thread(n.thread[row]), t.text(n.name[row]), n.node[row], n.original[row]);
        put("graph_node", format!("{} {} {text:?}", n.start_ns[row], n.end_ns[row]));
    }
    for row in 0..t.graph_events.len() {
        let g = &t.graph_events;
        let ids = (g.graph[row], g.original[row], g.executable[row]);
        let text = (thread(g.thread[row]), t.text(g.name[row]));
        put("graph_event", format!("{} {} {text:?} {ids:?}", g.start_ns[row], g.end_ns[row]));
    }
    for row in 0..t.allocations.len() {
        let a = &t.allocations;
        let device = t.devices.get(a.device[row] as usize).map(|device| device.ordinal);
        put("allocation", format!("{} {device:?} {}", a.time_ns[row], a.bytes[row]));
    }
    for row in 0..t.metric_samples.len() {
        let m = &t.metric_samples;
        put("sample", format!("{} {} {} {}", m.time_ns[row], m.gpu[row], t.text(m.metric[row]), m.value[row]));
    }
    for message in &t.messages {
        let ToolMessage { time_ns, severity, text, process } = message;
        put("message", format!("{time_ns:?} {severity} {text} {}", pid(*process)));
    }
    for process in &t.processes {
        put("process", format!("{} {:?}", process.pid, process.name.map(|name| t.text(name))));
    }
    for source in &t.sources {
        let facts = (source.epoch_ns, source.graph_mode, source.skipped_api_calls);
        put("source", format!("{facts:?}"));
    }
    for table in all.values_mut() {
        table.sort();
    }
    all
}

/// Compares table by table and row by row, so that a failure names the row.
fn assert_same(before: &Timeline, after: &Timeline, memory: bool, what: &str) {
    let (before, after) = (rows(before, memory), rows(after, memory));
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>(), "{what}");
    for (table, rows) in &before {
        assert_eq!(rows.len(), after[table].len(), "{what}: rows of {table}");
        for (row, (old, new)) in rows.iter().zip(&after[table]).enumerate() {
            assert_eq!(old, new, "{what}: {table} {row}");
        }
    }
}

/// Whether the reader numbers memory kinds as the timeline does, and not as the file.
fn reader_maps_memory_kinds(directory: &Path) -> bool {
    let mut b = TimelineBuilder::new();
    let process = b.process(1);
    let device = b.device(0);
    let stream = b.stream(process, device, 7);
    b.copy(stream, CopyKind::HOST_TO_DEVICE, 1, 2, 0, 8);
    let maps = round_trip(&b.finish(), directory).0.copies.destination == [MemoryKind::DEVICE];
    if !maps {
        eprintln!(
            "memory kinds are not compared: the reader keeps the numbers of the file, which are not those of a timeline"
        );
    }
    maps
}

#[test]
fn every_real_file_survives_being_read_written_and_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let memory = reader_maps_memory_kinds(directory.path());
    for file in real_files() {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let before = read(&file);
        let (after, _) = round_trip(&before, directory.path());
        assert_same(&before, &after, memory, &name);
        // Rows of one begin keep their order too.
        assert_eq!(before.kernels.end_ns, after.kernels.end_ns, "{name}");
        assert_eq!(before.copies.bytes, after.copies.bytes, "{name}");
    }
}

/// A trace file, asked without our reader.
pub(crate) struct Sql(pub(crate) Connection);

impl Sql {
    pub(crate) fn open(path: &Path) -> Self {
        let uri = format!("file:{}?mode=ro&immutable=1", path.display());
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        Self(Connection::open_with_flags(uri, flags).unwrap())
    }
    pub(crate) fn has(&self, table: &str) -> bool {
        self.0.prepare(&format!("SELECT 1 FROM {table}")).is_ok()
    }
    /// All rows of a query, in words.
    fn rows(&self, query: &str) -> Vec<String> {
        let mut statement = self.0.prepare(query).unwrap_or_else(|error| panic!("{query}: {error}"));
        let width = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        let mut all = Vec::new();
        while let Some(row) = rows.next().unwrap() {
            let cells: Vec<String> = (0..width).map(|column| format!("{:?}", row.get_ref(column).unwrap())).collect();
            all.push(cells.join(" | "));
        }
        all
    }
}

/// What report scripts ask, in the order the tables must then have rows.
const QUERIES: [(&str, &str); 12] = [
    (
        "CUPTI_ACTIVITY_KIND_KERNEL",
        "SELECT d.value, s.value, count(*), sum(end - start), min(end - start), max(end - start), sum(start), sum(registersPerThread),
            sum(gridX * gridY * gridZ), sum(blockX), sum(staticSharedMemory + dynamicSharedMemory), count(graphNodeId), sum(deviceId), sum(streamId),
            sum(contextId), sum(correlationId), sum(globalPid / 16777216)
         FROM CUPTI_ACTIVITY_KIND_KERNEL LEFT JOIN StringIds AS d ON d.id = demangledName LEFT JOIN StringIds AS s ON s.id = shortName
         GROUP BY 1, 2 ORDER BY 1, 2",
    ),
    (
        "CUPTI_ACTIVITY_KIND_RUNTIME",
        "SELECT value, eventClass, globalTid, count(*), sum(start), sum(end - start), sum(correlationId), sum(returnValue)
         FROM CUPTI_ACTIVITY_KIND_RUNTIME LEFT JOIN StringIds ON id = nameId GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
    ),
    (
        "CUPTI_ACTIVITY_KIND_KERNEL",
        "SELECT count(*), sum(k.start - r.end), sum(r.start) FROM CUPTI_ACTIVITY_KIND_KERNEL AS k JOIN CUPTI_ACTIVITY_KIND_RUNTIME AS r
         ON k.correlationId = r.correlationId AND k.globalPid = (r.globalTid & 0xFFFFFFFFFF000000)",
    ),
    (
        "CUPTI_ACTIVITY_KIND_MEMCPY",
        "SELECT copyKind, count(*), sum(start), sum(end - start), sum(bytes), sum(correlationId), sum(streamId)
         FROM CUPTI_ACTIVITY_KIND_MEMCPY GROUP BY 1 ORDER BY 1",
    ),
    (
        "CUPTI_ACTIVITY_KIND_MEMSET",
        "SELECT value, count(*), sum(start), sum(end - start), sum(bytes), count(graphNodeId), sum(graphNodeId & 1048575)
         FROM CUPTI_ACTIVITY_KIND_MEMSET GROUP BY 1 ORDER BY 1",
    ),
    (
        "CUPTI_ACTIVITY_KIND_SYNCHRONIZATION",
        "SELECT syncType, count(*), sum(start), sum(end - start), sum(streamId), sum(eventId) FROM CUPTI_ACTIVITY_KIND_SYNCHRONIZATION
         GROUP BY 1 ORDER BY 1",
    ),
    ("CUPTI_ACTIVITY_KIND_GRAPH_TRACE", "SELECT start, end, graphId, graphExecId FROM CUPTI_ACTIVITY_KIND_GRAPH_TRACE ORDER BY 1"),
    ("CUPTI_ACTIVITY_KIND_CUDA_EVENT", "SELECT count(*), sum(eventId), sum(streamId) FROM CUPTI_ACTIVITY_KIND_CUDA_EVENT"),
    (
        "NVTX_EVENTS",
        "SELECT coalesce(value, text), eventType, globalTid, count(*), sum(start), sum(end), count(end)
         FROM NVTX_EVENTS LEFT JOIN StringIds ON id = textId WHERE eventType IN (34, 59, 60, 70, 71) GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
    ),
    (
        "OSRT_API",
        "SELECT value, eventClass, count(*), sum(start), sum(end - start) FROM OSRT_API LEFT JOIN StringIds ON id = nameId
         GROUP BY 1, 2 ORDER BY 1, 2",
    ),
    (
        "PROFILER_OVERHEAD",
        "SELECT value, globalTid, count(*), sum(start), sum(end - start) FROM PROFILER_OVERHEAD LEFT JOIN StringIds ON id = nameId
         GROUP BY 1, 2 ORDER BY 1, 2",
    ),
    (
        "CUDA_GRAPH_NODE_EVENTS",
        "SELECT value, count(*), sum(start), sum(graphNodeId & 1048575), sum(originalGraphNodeId & 1048575), count(originalGraphNodeId)
         FROM CUDA_GRAPH_NODE_EVENTS LEFT JOIN StringIds ON id = nameId GROUP BY 1 ORDER BY 1",
    ),
];

#[test]
fn sql_finds_the_same_in_what_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let mut asked = 0;
    for file in real_files() {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let (_, path) = round_trip(&read(&file), directory.path());
        let (before, after) = (Sql::open(&file), Sql::open(&path));
        for (table, query) in QUERIES {
            // Tables are lazy; the oldest files lack columns that a query names.
            if !before.has(table) || before.0.prepare(query).is_err() {
                continue;
            }
            let rows = before.rows(query);
            if rows.is_empty() || before.rows(&format!("SELECT count(*) FROM {table}")) == ["Integer(0)"] {
                assert!(!after.has(table), "{name}: {table}");
                continue;
            }
            assert_eq!(rows, after.rows(query), "{name}: {query}");
            asked += 1;
        }
    }
    assert!(asked == 0 || asked >= 60, "only {asked} queries could be asked");
}

#[test]
fn kernel_sums_of_a_written_file_are_those_nvidia_prints() {
    let (Some(traces), Some(stats)) = (shared("nsys"), shared("nsys_stats")) else { return };
    let directory = tempfile::tempdir().unwrap();
    for name in ["candle_graph_nodes", "llamacpp_graph_nodes", "candle_graph_node_events"] {
        let (_, path) = round_trip(&read(&traces.join(format!("{name}.sqlite"))), directory.path());
        let found = Sql::open(&path).rows(
            "SELECT value, count(*), sum(end - start) FROM CUPTI_ACTIVITY_KIND_KERNEL JOIN StringIds ON id = demangledName GROUP BY 1",
        );
        let mut printed = csv::Reader::from_path(stats.join(format!("{name}.cuda_gpu_kern_sum.csv"))).unwrap();
        let headers = printed.headers().unwrap().clone();
        let column = |wanted: &str| headers.iter().position(|header| header == wanted).unwrap();
        let (kernel, count, total) = (column("Name"), column("Instances"), column("Total Time (ns)"));
        let mut expected: Vec<String> = printed
            .records()
            .map(|record| {
                let record = record.unwrap();
                format!(
                    "Text({:?}) | Integer({}) | Integer({})",
                    record[kernel].as_bytes(),
                    &record[count],
                    &record[total]
                )
            })
            .collect();
        expected.sort();
        let mut found = found;
        found.sort();
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn copies_are_named_by_the_enumerations_of_the_file() {
    let mut b = TimelineBuilder::new();
    let process = b.process(9);
    let device = b.device(0);
    let stream = b.stream(process, device, 7);
    b.copy(stream, CopyKind::HOST_TO_DEVICE, 10, 20, 0, 64);
    b.copy(stream, CopyKind::DEVICE_TO_HOST, 30, 40, 0, 32);
    *b.timeline().copies.destination.last_mut().unwrap() = MemoryKind::PINNED;
    b.sync(stream, SyncKind::STREAM, 40, 50, 0);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t.sqlite");
    nsys::writer::write(&b.finish(), &path).unwrap();
    let sql = Sql::open(&path);
    let text = |text: &str| format!("Text({:?})", text.as_bytes());
    let found = sql.rows(
        "SELECT o.label, s.label, d.label, bytes FROM CUPTI_ACTIVITY_KIND_MEMCPY JOIN ENUM_CUDA_MEMCPY_OPER AS o ON o.id = copyKind
         JOIN ENUM_CUDA_MEM_KIND AS s ON s.id = srcKind JOIN ENUM_CUDA_MEM_KIND AS d ON d.id = dstKind ORDER BY start",
    );
    let row = |words: [&str; 3], bytes: u32| format!("{} | Integer({bytes})", words.map(text).join(" | "));
    assert_eq!(
        found,
        [row(["Host-to-Device", "Pageable", "Device"], 64), row(["Device-to-Host", "Device", "Pinned"], 32)]
    );
    let kind =
        sql.rows("SELECT label FROM CUPTI_ACTIVITY_KIND_SYNCHRONIZATION JOIN ENUM_CUPTI_SYNC_TYPE ON id = syncType");
    assert_eq!(kind, [text("Stream sync")]);
    for table in ["CUPTI_ACTIVITY_KIND_KERNEL", "NVTX_EVENTS", "OSRT_API", "DIAGNOSTIC_EVENT"] {
        assert!(!sql.has(table), "{table} has no rows and is not written");
    }
    assert_eq!(sql.rows("PRAGMA integrity_check"), [text("ok")]);
}

#[test]
fn a_domain_is_created_in_its_process_before_it_is_used() {
    let mut b = TimelineBuilder::new();
    for pid in [5, 6] {
        let process = b.process(pid);
        let thread = b.thread(process, 1);
        b.range_of(RangeKind::PushPop, thread, "cub", "late", 30, Some(40));
        b.range_of(RangeKind::PushPop, thread, "cub", "early", -10, Some(0));
        b.range(thread, "own", 1, Some(2));
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t.sqlite");
    nsys::writer::write(&b.finish(), &path).unwrap();
    let found = Sql::open(&path).rows(
        "SELECT globalTid >> 24, domainId, start, count(*) FROM NVTX_EVENTS WHERE eventType = 75 AND text = 'cub' GROUP BY 1 ORDER BY 1",
    );
    assert_eq!(found, [5, 6].map(|pid| format!("Integer({pid}) | Integer(1) | Integer(-10) | Integer(1)")));
}

#[test]
fn threads_and_processes_that_do_not_fit_are_kept_apart() {
    let mut b = TimelineBuilder::new();
    let (first, second) = (b.process(7), b.process(7));
    for (process, tid) in [(first, 1_u64 << 40), (first, 3), (first, (1 << 40) + 1), (second, 3)] {
        let thread = b.thread(process, tid);
        b.call(thread, &format!("call {tid} {process}"), 10, 20, 5);
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t.sqlite");
    let report = nsys::writer::write(&b.finish(), &path).unwrap();
    assert_eq!(report.rows("CUPTI_ACTIVITY_KIND_RUNTIME"), 4);
    let note = report.diagnostics.iter().find(|note| note.code == "nsys_threads_renumbered").unwrap();
    assert_eq!(note.count, 2);
    let sql = Sql::open(&path);
    assert_eq!(sql.rows("SELECT count(DISTINCT globalTid) FROM CUPTI_ACTIVITY_KIND_RUNTIME"), ["Integer(4)"]);
    assert_eq!(
        sql.rows("SELECT DISTINCT (globalTid >> 24) & 0xFFFFFF FROM CUPTI_ACTIVITY_KIND_RUNTIME"),
        ["Integer(7)"]
    );
    assert_eq!(sql.rows("SELECT count(DISTINCT globalTid >> 24) FROM CUPTI_ACTIVITY_KIND_RUNTIME"), ["Integer(2)"]);
}

#[test]
fn a_file_that_cannot_be_written_leaves_everything_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let timeline = TimelineBuilder::new().finish();
    let missing = directory.path().join("no/such/place.sqlite");
    let error = nsys::writer::write(&timeline, &missing).unwrap_err();
    assert!(error.to_string().contains("place.sqlite"), "{error}");
    let occupied = directory.path().join("occupied");
    std::fs::create_dir_all(occupied.join("child")).unwrap();
    nsys::writer::write(&timeline, &occupied).unwrap_err();
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "a temporary file was left behind");

    let path = directory.path().join("t.sqlite");
    std::fs::write(&path, "something else").unwrap();
    nsys::writer::write(&timeline, &path).unwrap();
    assert!(nsys::read(&path, &ReadOptions::default()).is_ok());
}

/// Begin and duration of something; device work that begins and ends at 0 would be "not collected".
fn interval() -> impl Strategy<Value = (i64, i64)> {
    (1_i64..200, 0_i64..50)
}

#[derive(Debug, Clone)]
enum Item {
    Kernel { at: (i64, i64), stream: u32, name: u8, correlation: u32, config: (u32, u32, bool), node: u64 },
    Copy { at: (i64, i64), stream: u32, kind: u8, memory: (u8, u8), correlation: u32, bytes: u64 },
    Memset { at: (i64, i64), stream: u32, correlation: u32, value: u32, bytes: u64 },
    Graph { at: (i64, i64), stream: u32, correlation: u32 },
    Sync { at: (i64, i64), stream: u32, correlation: u32, whole: bool },
    Call { at: (i64, i64), thread: u32, name: u8, correlation: u32, class: u8, result: i32 },
    Range { at: (i64, i64), thread: u32, name: u8, domain: u8, kind: u8, open: bool, end_thread: Option<u32> },
    Mark { at: i64, thread: u32, name: u8, domain: u8 },
    Overhead { at: (i64, i64), thread: Option<u32>, cupti: bool },
    OsCall { at: (i64, i64), thread: u32, name: u8 },
    Event { at: i64, stream: u32, event: u32 },
    Node { at: (i64, i64), thread: u32, node: u64, original: u64 },
    Message { at: Option<i64>, severity: u8 },
}

fn item() -> impl Strategy<Value = Item> {
    let (stream, thread) = (0..6_u32, 0..4_u32);
    prop_oneof![
        (interval(), stream.clone(), 0..4_u8, 0..9_u32, (1..99_u32, 1..99_u32, any::<bool>()), 0..3_u64).prop_map(
            |(at, stream, name, correlation, config, node)| Item::Kernel {
                at,
                stream,
                name,
                correlation,
                config,
                node: node << 33
            }
        ),
        (interval(), stream.clone(), 0..14_u8, (0..8_u8, 0..8_u8), 0..9_u32, 0..1_u64 << 40).prop_map(
            |(at, stream, kind, memory, correlation, bytes)| Item::Copy {
                at,
                stream,
                kind,
                memory,
                correlation,
                bytes
            }
        ),
        (interval(), stream.clone(), 0..9_u32, any::<u32>(), 0..1_u64 << 40)
            .prop_map(|(at, stream, correlation, value, bytes)| Item::Memset { at, stream, correlation, value, bytes }),
        (interval(), stream.clone(), 0..9_u32).prop_map(|(at, stream, correlation)| Item::Graph {
            at,
            stream,
            correlation
        }),
        (interval(), stream.clone(), 0..9_u32, any::<bool>()).prop_map(|(at, stream, correlation, whole)| Item::Sync {
            at,
            stream,
            correlation,
            whole
        }),
        (interval(), thread.clone(), 0..4_u8, 0..9_u32, prop_oneof![Just(0_u8), Just(1), Just(67)], -3..3_i32)
            .prop_map(|(at, thread, name, correlation, class, result)| Item::Call {
                at,
                thread,
                name,
                correlation,
                class,
                result
            }),
        (
            (-50_i64..200, 0_i64..50),
            thread.clone(),
            0..4_u8,
            0..3_u8,
            0..4_u8,
            any::<bool>(),
            prop::option::of(thread.clone())
        )
            .prop_map(|(at, thread, name, domain, kind, open, end_thread)| Item::Range {
                at,
                thread,
                name,
                domain,
                kind,
                open,
                end_thread
            }),
        (-50_i64..200, thread.clone(), 0..4_u8, 0..3_u8).prop_map(|(at, thread, name, domain)| Item::Mark {
            at,
            thread,
            name,
            domain
        }),
        (interval(), prop::option::of(thread.clone()), any::<bool>()).prop_map(|(at, thread, cupti)| Item::Overhead {
            at,
            thread,
            cupti
        }),
        (interval(), thread.clone(), 0..4_u8).prop_map(|(at, thread, name)| Item::OsCall { at, thread, name }),
        (prop_oneof![Just(i64::MIN), 1_i64..99], stream, 0..9_u32).prop_map(|(at, stream, event)| Item::Event {
            at,
            stream,
            event
        }),
        (interval(), thread, 1..99_u64, 0..99_u64).prop_map(|(at, thread, node, original)| Item::Node {
            at,
            thread,
            node,
            original
        }),
        (prop::option::of(1_i64..99), 0..4_u8).prop_map(|(at, severity)| Item::Message { at, severity }),
    ]
}

fn build(items: &[Item]) -> Timeline {
    let mut b = TimelineBuilder::new();
    let processes = [b.process(100), b.process(200)];
    let mut threads = Vec::new();
    let mut streams = Vec::new();
    for process in processes {
        for tid in [100, 101] {
            threads.push(b.thread(process, tid));
        }
    }
    // The second process calls the GPUs the other way round than the first, and neither counts them as the file does.
    let devices = [b.device(1), b.device(0)];
    for (process, device, stream) in [(0, 0, 7), (0, 0, 13), (0, 1, 7), (1, 0, 7), (1, 1, 9), (1, 1, 1 << 33)] {
        let ordinal = if process == 0 { 1 - device as u32 } else { device as u32 };
        let (process, device) = (processes[process], devices[device]);
        streams.push(b.timeline().stream(Stream { process, device, ordinal, context: 1, stream }));
    }
    let name =
        |which: u8| ["cudaLaunchKernel_v7000", "ns::k<int, (int)4>(float *)", "größe \"x\" 'y'", ""][which as usize];
    let domain = |which: u8| ["", "cub", "größe"][which as usize];
    b.timeline().devices[0].name = Some("NVIDIA H200".to_owned());
    b.timeline().devices[0].identity = Some("0000:01:00.0".to_owned());
    b.timeline().devices[0].compute_capability = Some((9, 0));
    b.timeline().devices[1].identity = Some("0341400a-e8b8-eae5-b907-6b7ce08225b5".to_owned());
    b.timeline().devices[1].clock_hz = Some(1.98e9);
    let named = b.timeline().strings.intern("worker");
    b.timeline().threads[0].name = Some(named);
    b.timeline().processes[1].name = Some(named);
    b.timeline().sources.push(Source {
        epoch_ns: Some(1_779_976_879_845_823_060),
        graph_mode: GraphMode::Node,
        skipped_api_calls: Some(true),
        ..Source::default()
    });
    for item in items {
        match *item {
            Item::Kernel { at, stream, name: which, correlation, config: (grid, block, known), node } => {
                let config = LaunchConfig {
                    grid: [grid, 1, 2],
                    block: [block, 1, 1],
                    registers: known.then_some(grid),
                    static_shared_bytes: Some(block),
                    dynamic_shared_bytes: known.then_some(0),
                    local_bytes_per_thread: None,
                    cluster: known.then_some([2, 1, 1]),
                };
                // A kernel without a name is another matter.
                let text = if which == 3 { "k" } else { name(which) };
                b.kernel_with(streams[stream as usize], text, at.0, at.0 + at.1, correlation, config, node);
            }
            Item::Copy { at, stream, kind, memory, correlation, bytes } => {
                b.copy(streams[stream as usize], CopyKind(kind), at.0, at.0 + at.1, correlation, bytes);
                *b.timeline().copies.source.last_mut().unwrap() = MemoryKind(memory.0);
                *b.timeline().copies.destination.last_mut().unwrap() = MemoryKind(memory.1);
            }
            Item::Memset { at, stream, correlation, value, bytes } => {
                b.memset(streams[stream as usize], at.0, at.0 + at.1, correlation, bytes);
                *b.timeline().memsets.value.last_mut().unwrap() = value;
            }
            Item::Graph { at, stream, correlation } => {
                b.graph(streams[stream as usize], at.0, at.0 + at.1, correlation, 4);
            }
            Item::Sync { at, stream, correlation, whole } => {
                let mut row = streams[stream as usize];
                if whole {
                    let mut of = b.timeline().streams[row as usize];
                    of.stream = u64::MAX;
                    row = b.timeline().stream(of);
                }
                b.sync(row, if whole { SyncKind::CONTEXT } else { SyncKind::EVENT }, at.0, at.0 + at.1, correlation);
            }
            Item::Call { at, thread, name: which, correlation, class, result } => {
                b.call(
                    threads[thread as usize],
                    if which == 3 { "call" } else { name(which) },
                    at.0,
                    at.0 + at.1,
                    correlation,
                );
                *b.timeline().api.class.last_mut().unwrap() = ApiClass(class);
                *b.timeline().api.result.last_mut().unwrap() = result;
            }
            Item::Range { at, thread, name: which, domain: of, kind, open, end_thread } => {
                let kinds =
                    [RangeKind::PushPop, RangeKind::StartEnd, RangeKind::ImportedPushPop, RangeKind::ImportedStartEnd];
                let end = (!open).then_some(at.0 + at.1);
                let row = b.range_of(kinds[kind as usize], threads[thread as usize], domain(of), name(which), at.0, end)
                    as usize;
                let other =
                    end_thread.map(|other| threads[other as usize]).filter(|other| *other != threads[thread as usize]);
                let ranges = &mut b.timeline().ranges;
                ranges.end_thread.resize(row + 1, NO_ROW);
                ranges.end_thread[row] = other.unwrap_or(NO_ROW);
            }
            Item::Mark { at, thread, name: which, domain: of } => {
                let (text, of) = (b.timeline().strings.intern(name(which)), b.timeline().strings.intern(domain(of)));
                let marks = &mut b.timeline().marks;
                marks.time_ns.push(at);
                marks.thread.push(threads[thread as usize]);
                marks.name.push(text);
                marks.domain.push(of);
            }
            Item::Overhead { at, thread, cupti } => {
                b.overhead(thread.map(|thread| threads[thread as usize]), "Buffer flush", at.0, at.0 + at.1);
                if cupti {
                    *b.timeline().overheads.origin.last_mut().unwrap() = OverheadOrigin::Cupti;
                }
            }
            Item::OsCall { at, thread, name: which } => {
                let text = b.timeline().strings.intern(if which == 3 { "poll" } else { name(which) });
                let calls = &mut b.timeline().os_calls;
                calls.start_ns.push(at.0);
                calls.end_ns.push(at.0 + at.1);
                calls.thread.push(threads[thread as usize]);
                calls.name.push(text);
                calls.class.push(27);
            }
            Item::Event { at, stream, event } => {
                let events = &mut b.timeline().events;
                events.time_ns.push(at);
                events.stream.push(streams[stream as usize]);
                events.correlation.push(3);
                events.event.push(event);
            }
            Item::Node { at, thread, node, original } => {
                let text = b.timeline().strings.intern("cuGraphAddKernelNode");
                let nodes = &mut b.timeline().graph_nodes;
                nodes.start_ns.push(at.0);
                nodes.end_ns.push(at.0 + at.1);
                nodes.thread.push(threads[thread as usize]);
                nodes.name.push(text);
                nodes.node.push(node);
                nodes.original.push(original);
            }
            Item::Message { at, severity } => {
                let text = "Not all CUDA events might have been collected".to_owned();
                b.timeline().messages.push(ToolMessage { time_ns: at, severity, text, process: NO_ROW });
            }
        }
    }
    b.finish()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_timeline_survives_a_round_trip(items in prop::collection::vec(item(), 0..40)) {
        let directory = tempfile::tempdir().unwrap();
        let before = build(&items);
        let memory = reader_maps_memory_kinds(directory.path());
        let (after, _) = round_trip(&before, directory.path());
        let (mut old, mut new) = (rows(&before, memory), rows(&after, memory));
        // Processes without anything are not in the file.
        old.remove("process");
        new.remove("process");
        prop_assert_eq!(old, new);
    }
}
