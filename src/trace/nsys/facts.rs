//! Small tables: what was captured and how, which GPUs there are, names of processes and threads, messages of the tool.

use std::path::Path;

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use rustc_hash::FxHashMap;

use super::assembly::{Assembly, pid_of};
use super::cells::{Cells, integer, values_of};
use super::local::Name;
use super::open::sqlite_error;
use super::schema::{Column, Schema};
use crate::diagnostics::Severity;
use crate::trace::import::ReadError;
use crate::trace::places::{Device, GraphMode, NO_ROW, Source, ToolMessage};

/// Small tables have at most this many rows that count: a file made to be hostile may have more.
const MOST_ROWS: usize = 1_000_000;

/// Calls `each` with every row of a table, if the file has it; false if it has not.
fn each_row(
    path: &Path,
    connection: &Connection,
    schema: &Schema,
    name: &str,
    columns: &[Column],
    mut each: impl FnMut(Cells<'_>),
) -> Result<bool, ReadError> {
    let Some(table) = schema.table(path, connection, name)? else { return Ok(false) };
    let fail = |error| sqlite_error(path, &format!("`{}`", table.name), None, error);
    let mut statement = connection.prepare(&table.select(columns)).map_err(fail)?;
    let mut rows = statement.query([]).map_err(fail)?;
    let mut left = MOST_ROWS;
    while let Some(row) = rows.next().map_err(fail)? {
        if left == 0 {
            break;
        }
        left -= 1;
        let (_, values) = values_of(row, columns.len());
        each(Cells(&values));
    }
    Ok(true)
}

/// A GPU of `TARGET_INFO_GPU`.
#[derive(Debug, Clone, Default)]
struct Gpu {
    id: i64,
    vm: i64,
    cuda_ordinal: Option<u32>,
    device: Device,
}

/// Which GPU a process means by a CUDA ordinal, and what the metrics of GPUs are called.
#[derive(Debug, Clone, Default)]
pub(super) struct DeviceFacts {
    gpus: Vec<Gpu>,
    /// GPU id by process id and CUDA ordinal.
    by_process: FxHashMap<(u32, u32), i64>,
    metrics: FxHashMap<(i64, i64), String>,
}

fn positive(cells: Cells<'_>, column: usize) -> Option<u64> {
    cells.int(column).ok().flatten().and_then(|value| u64::try_from(value).ok()).filter(|value| *value > 0)
}

fn some_text(cells: Cells<'_>, column: usize) -> Option<String> {
    cells.text(column).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

impl DeviceFacts {
    /// Reads `TARGET_INFO_GPU`, `TARGET_INFO_CUDA_DEVICE` and `TARGET_INFO_GPU_METRICS`.
    pub(super) fn load(path: &Path, connection: &Connection, schema: &Schema) -> Result<Self, ReadError> {
        let mut facts = Self::default();
        const GPU: &[Column] = &[
            &["id"],
            &["vmId"],
            &["cuDevice"],
            &["name"],
            &["uuid"],
            &["busLocation"],
            &["smCount"],
            &["clockRate"],
            &["memoryBandwidth"],
            &["totalMemory"],
            &["l2CacheSize"],
            &["computeMajor"],
            &["computeMinor"],
            &["maxWarpsPerSm"],
        ];
        each_row(path, connection, schema, "TARGET_INFO_GPU", GPU, |cells| {
            let Ok(Some(id)) = cells.int(0) else { return };
            facts.gpus.push(Gpu {
                id,
                vm: cells.int(1).ok().flatten().unwrap_or(0),
                cuda_ordinal: cells.u32_lenient(2),
                device: Device {
                    name: some_text(cells, 3),
                    identity: some_text(cells, 4).or_else(|| some_text(cells, 5)),
                    sm_count: cells.u32_lenient(6).filter(|count| *count > 0),
                    clock_hz: positive(cells, 7).map(|clock| clock as f64),
                    bandwidth_bytes_per_s: positive(cells, 8).map(|bandwidth| bandwidth as f64),
                    memory_bytes: positive(cells, 9),
                    l2_bytes: positive(cells, 10),
                    compute_capability: cells.u32_lenient(11).filter(|major| *major > 0).zip(cells.u32_lenient(12)),
                    max_warps_per_sm: cells.u32_lenient(13).filter(|warps| *warps > 0),
                    ..Device::default()
                },
            });
        })?;
        const CUDA_DEVICE: &[Column] = &[&["gpuId"], &["cudaId"], &["pid"]];
        each_row(path, connection, schema, "TARGET_INFO_CUDA_DEVICE", CUDA_DEVICE, |cells| {
            if let (Ok(Some(gpu)), Some(ordinal), Some(pid)) =
                (cells.int(0), cells.u32_lenient(1), cells.u32_lenient(2))
            {
                facts.by_process.entry((pid & 0xFF_FFFF, ordinal)).or_insert(gpu);
            }
        })?;
        const METRICS: &[Column] = &[&["typeId"], &["metricId"], &["metricName"]];
        each_row(path, connection, schema, "TARGET_INFO_GPU_METRICS", METRICS, |cells| {
            if let (Ok(Some(kind)), Ok(Some(metric)), Some(name)) = (cells.int(0), cells.int(1), cells.text(2)) {
                facts.metrics.entry((kind, metric)).or_insert(name);
            }
        })?;
        Ok(facts)
    }
    /// Index of the GPU that the process of `global_pid` calls `ordinal`.
    ///
    /// `TARGET_INFO_CUDA_DEVICE` knows it by process. Without it `TARGET_INFO_GPU.cuDevice` is the ordinal; `id` is the tool's own number
    /// and differs from it on hosts with several GPUs, so it comes last.
    pub(super) fn gpu_of(&self, global_pid: i64, ordinal: u32) -> Option<usize> {
        // Hardware id and virtual machine: reports of several hosts may be in one file.
        const HOST: i64 = 0xFFFF << 48;
        let on_host = |gpu: &&Gpu| gpu.vm & HOST == global_pid & HOST;
        let known_host = self.gpus.iter().any(|gpu| on_host(&gpu));
        let find = |wanted: &dyn Fn(&Gpu) -> bool| {
            self.gpus.iter().position(|gpu| (!known_host || on_host(&gpu)) && wanted(gpu))
        };
        let mut ids = self.by_process.iter().filter(|((_, known), _)| *known == ordinal).map(|(_, id)| *id);
        let by_process = self.by_process.get(&(pid_of(global_pid), ordinal)).copied().or_else(|| {
            // The process is not listed (another name space): take what all that are listed agree on.
            let first = ids.next()?;
            ids.all(|id| id == first).then_some(first)
        });
        by_process
            .and_then(|id| find(&|gpu| gpu.id == id))
            .or_else(|| find(&|gpu| gpu.cuda_ordinal == Some(ordinal)))
            .or_else(|| find(&|gpu| gpu.cuda_ordinal.is_none() && gpu.id == i64::from(ordinal)))
    }
    /// The device of `gpu`, first called `ordinal`.
    pub(super) fn device(&self, gpu: Option<usize>, ordinal: u32, file: u16) -> Device {
        let device = gpu.map(|gpu| self.gpus[gpu].device.clone()).unwrap_or_default();
        Device { ordinal, file, ..device }
    }
    /// Name of a metric.
    pub(super) fn metric(&self, kind: i64, metric: i64) -> String {
        self.metrics.get(&(kind, metric)).cloned().unwrap_or_else(|| format!("<metric {metric}>"))
    }
}

/// Reads what the file says about itself: versions, how graphs were traced, whether calls were left out, the instant of time zero.
///
/// Of the captured settings only these are looked at: the table holds command lines and environments as well.
pub(super) fn source(path: &Path, connection: &Connection, schema: &Schema) -> Result<Source, ReadError> {
    let mut source = Source {
        file: path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        tool: "nsys".to_owned(),
        ..Source::default()
    };
    const PAIR: &[Column] = &[&["name"], &["value"]];
    let is =
        |cells: Cells<'_>, wanted: &str| matches!(cells.value(0), ValueRef::Text(name) if name == wanted.as_bytes());
    let ends = |cells: Cells<'_>, wanted: &str| matches!(cells.value(0), ValueRef::Text(name) if name == wanted.as_bytes() || name.ends_with(format!(":{wanted}").as_bytes()));
    // The older table of the two goes by the other name.
    for table in ["META_DATA_EXPORT", "EXPORT_META_DATA"] {
        each_row(path, connection, schema, table, PAIR, |cells| {
            if is(cells, "EXPORT_PRODUCT_VERSION") {
                source.version = some_text(cells, 1);
            } else if is(cells, "EXPORT_SCHEMA_VERSION") {
                source.schema = some_text(cells, 1);
            }
        })?;
    }
    let (mut modes, mut skips) = (Vec::new(), Vec::new());
    each_row(path, connection, schema, "META_DATA_CAPTURE", PAIR, |cells| {
        if ends(cells, "CUDA_GRAPH_TRACE_OPTIONS:MODE") || is(cells, "MODE") {
            modes.extend(cells.text(1));
        } else if ends(cells, "CUDA_SKIP_SOME_API_CALLS") {
            skips.extend(cells.text(1));
        }
    })?;
    let all = |wanted: &str| !modes.is_empty() && modes.iter().all(|mode| mode.eq_ignore_ascii_case(wanted));
    source.graph_mode = if all("Graph") {
        GraphMode::Graph
    } else if all("Node") {
        GraphMode::Node
    } else {
        GraphMode::Unknown
    };
    // The setting may stand for the whole capture and again for each process: calls are missing if any says so.
    if !skips.is_empty() {
        source.skipped_api_calls = Some(skips.iter().any(|skip| skip.eq_ignore_ascii_case("true") || skip == "1"));
    }
    each_row(path, connection, schema, "TARGET_INFO_SESSION_START_TIME", &[&["utcEpochNs"]], |cells| {
        if let Ok(Some(epoch)) = cells.int(0)
            && epoch > 0
        {
            source.epoch_ns.get_or_insert(epoch);
        }
    })?;
    Ok(source)
}

/// Labels of copy kinds as the file has them.
pub(super) fn copy_labels(
    path: &Path,
    connection: &Connection,
    schema: &Schema,
) -> Result<Vec<(u8, String)>, ReadError> {
    let mut labels = Vec::new();
    each_row(path, connection, schema, "ENUM_CUDA_MEMCPY_OPER", &[&["id"], &["label", "name"]], |cells| {
        if let (Ok(Some(id)), Some(label)) = (cells.int(0), cells.text(1))
            && let Ok(id) = u8::try_from(id)
        {
            labels.push((id, label));
        }
    })?;
    labels.sort_by_key(|(id, _)| *id);
    labels.dedup_by_key(|(id, _)| *id);
    Ok(labels)
}

/// Names processes and threads that have activity; the file lists every process of the host.
pub(super) fn names(assembly: &mut Assembly<'_>, connection: &Connection, schema: &Schema) -> Result<(), ReadError> {
    let path = assembly.path;
    let mut processes = Vec::new();
    each_row(path, connection, schema, "PROCESSES", &[&["globalPid"], &["name"]], |cells| {
        if let Ok(Some(global_pid)) = cells.int(0)
            && let Some(row) = assembly.known_process(global_pid)
            && let Some(name) = some_text(cells, 1)
        {
            processes.push((row, name));
        }
    })?;
    for (row, name) in processes {
        // The name of a program may stand at the end of a path, and never has arguments.
        let name = assembly.timeline.strings.intern(&name);
        assembly.timeline.processes[row as usize].name.get_or_insert(name);
    }
    let mut threads = Vec::new();
    each_row(path, connection, schema, "ThreadNames", &[&["globalTid"], &["nameId", "name"]], |cells| {
        if let Ok(Some(global_tid)) = cells.int(0)
            && let Some(row) = assembly.known_thread(global_tid)
        {
            let name = match cells.value(1) {
                ValueRef::Text(text) => Some(Name::Text(String::from_utf8_lossy(text).into())),
                value => integer(value).ok().flatten().map(Name::Id),
            };
            threads.extend(name.map(|name| (row, name)));
        }
    })?;
    for (row, name) in threads {
        let name = assembly.name(&name, "")?;
        assembly.timeline.threads[row as usize].name.get_or_insert(name);
    }
    Ok(())
}

/// Messages of nsys about the capture.
pub(super) fn messages(
    assembly: &mut Assembly<'_>,
    connection: &Connection,
    schema: &Schema,
) -> Result<bool, ReadError> {
    /// `timestampType` of a time on the clock of the trace.
    const TARGET_CLOCK: i64 = 1;
    const COLUMNS: &[Column] = &[&["text"], &["severity"], &["timestamp"], &["timestampType"], &["globalPid"]];
    let path = assembly.path;
    let mut messages = Vec::new();
    let found = each_row(path, connection, schema, "DIAGNOSTIC_EVENT", COLUMNS, |cells| {
        let Some(text) = some_text(cells, 0) else { return };
        let process = cells.int(4).ok().flatten().and_then(|global_pid| assembly.known_process(global_pid));
        let on_clock = cells.int(3).ok().flatten().is_none_or(|kind| kind == TARGET_CLOCK);
        messages.push(ToolMessage {
            time_ns: cells.time(2).ok().filter(|_| on_clock),
            severity: cells.u8_lenient(1),
            text,
            process: process.unwrap_or(NO_ROW),
        });
    })?;
    for message in &messages {
        let (code, severity) = match message.severity {
            2 => ("tool_warning", Severity::Warn),
            3 => ("tool_error", Severity::Error),
            _ => continue,
        };
        assembly.diagnostics.note(code, severity, format!("nsys says: {}", message.text));
    }
    assembly.timeline.messages = messages;
    Ok(found)
}
