//! Reads the SQLite exports of Nsight Systems, of every schema from before 2022 on, without ever writing to them; [`writer`] makes new ones.
//!
//! Tables are looked up by name and columns by name: exports are lazy (an absent table means that nothing of its kind was recorded) and
//! gain and lose columns from release to release. What a capture holds about its user (environments, command lines, other processes of
//! the host, captured output) is never read into the timeline.

mod assembly;
mod cells;
#[cfg(test)]
mod content_tests;
mod device_tables;
mod export;
mod facts;
#[cfg(test)]
mod faults_tests;
#[cfg(test)]
mod fixture;
mod host_tables;
mod local;
mod open;
mod pages;
#[cfg(test)]
mod pages_tests;
mod remains;
mod scan;
mod schema;
mod scrub;
#[cfg(test)]
mod scrub_tests;
pub mod writer;

use std::path::Path;

pub use open::{export_command, is_sqlite};
pub use scrub::{ScrubReport, ScrubbedTable, scrub};

use assembly::Assembly;
use device_tables::{CopyChunk, EventChunk, GraphChunk, KernelChunk, MemsetChunk, SyncChunk};
use facts::DeviceFacts;
use host_tables::{
    AllocationChunk, ApiChunk, CuptiOverheadChunk, GraphEventChunk, GraphNodeChunk, MetricChunk, NvtxChunk,
    OsCallChunk, ProfilerOverheadChunk,
};
use open::{Database, FileKind};
use scan::Plan;
use schema::Schema;

use super::import::{Import, ReadError, ReadErrorKind, ReadOptions};
use super::timeline::Timeline;
use crate::diagnostics::Severity;

/// The newest export schema that real files were tested of.
const NEWEST_SCHEMA: (u32, u32) = (3, 25);

/// Reads an export of nsys, or a report (`.nsys-rep`) where `nsys` is installed to export it.
///
/// The file and its directory are left as they are.
///
/// # Errors
/// If the file is no export of nsys, is damaged, is being written, or the user asked to stop. Nothing of a damaged file is returned.
pub fn read(path: &Path, options: &ReadOptions<'_>) -> Result<Import, ReadError> {
    match open::kind_of(path)? {
        FileKind::Sqlite => read_sqlite(path, path, options),
        FileKind::Report => {
            let exported = export::export(path, options)?;
            read_sqlite(&exported.path(), path, options)
        }
    }
}

/// Reads the database at `path`; `named` is the file the user gave.
fn read_sqlite(path: &Path, named: &Path, options: &ReadOptions<'_>) -> Result<Import, ReadError> {
    let database = Database::find(path)?;
    // Declared before the connection and so closed after it: closing the file earlier would release its locks.
    let pages;
    let connection = database.connect()?;
    let schema = Schema::load(path, &connection)?;
    pages = database.pages();
    check_origin(path, &connection, &schema)?;
    let facts = DeviceFacts::load(path, &connection, &schema)?;
    let mut assembly = Assembly::new(path, options.file, &connection, &schema, facts)?;
    let mut source = facts::source(path, &connection, &schema)?;
    source.file = named.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();

    let mut plan = Plan::default();
    let length = database.length;
    // Calls come first: they say which processes there are, which device work without a process is then given to.
    let host = !options.device_only;
    let runtime = !host || plan.add::<ApiChunk>(&mut assembly, &connection, &schema, length)?;
    let kernels = plan.add::<KernelChunk>(&mut assembly, &connection, &schema, length)?;
    let nvtx = !host || plan.add::<NvtxChunk>(&mut assembly, &connection, &schema, length)?;
    plan.add::<CopyChunk>(&mut assembly, &connection, &schema, length)?;
    plan.add::<MemsetChunk>(&mut assembly, &connection, &schema, length)?;
    let graphs = plan.add::<GraphChunk>(&mut assembly, &connection, &schema, length)?;
    if host {
        plan.add::<SyncChunk>(&mut assembly, &connection, &schema, length)?;
        plan.add::<EventChunk>(&mut assembly, &connection, &schema, length)?;
        plan.add::<OsCallChunk>(&mut assembly, &connection, &schema, length)?;
        plan.add::<ProfilerOverheadChunk>(&mut assembly, &connection, &schema, length)?;
        plan.add::<CuptiOverheadChunk>(&mut assembly, &connection, &schema, length)?;
        plan.add::<GraphEventChunk>(&mut assembly, &connection, &schema, length)?;
        plan.add::<GraphNodeChunk>(&mut assembly, &connection, &schema, length)?;
        plan.add::<AllocationChunk>(&mut assembly, &connection, &schema, length)?;
        plan.add::<MetricChunk>(&mut assembly, &connection, &schema, length)?;
    }
    plan.run(&mut assembly, &connection, &database, pages.as_ref(), options)?;

    facts::names(&mut assembly, &connection, &schema)?;
    source.tables = plan.kinds;
    if facts::messages(&mut assembly, &connection, &schema)? {
        source.tables.push("diagnostic".to_owned());
    }
    assembly.timeline.copy_labels = facts::copy_labels(path, &connection, &schema)?;
    database.check_unchanged()?;
    for (there, table, means) in [
        (
            kernels || graphs,
            "CUPTI_ACTIVITY_KIND_KERNEL",
            "captured without CUDA trace, or every kernel record was lost",
        ),
        (runtime, "CUPTI_ACTIVITY_KIND_RUNTIME", "captured without CUDA trace"),
        (nvtx, "NVTX_EVENTS", "captured without NVTX trace, or the program has no NVTX ranges"),
    ] {
        if !there {
            assembly.diagnostics.note("table_missing", Severity::Info, format!("there is no table `{table}`: {means}"));
        }
    }
    if let Some(schema) = &source.schema
        && major_minor(schema).is_some_and(|version| version > NEWEST_SCHEMA)
    {
        let (major, minor) = NEWEST_SCHEMA;
        assembly.diagnostics.note(
            "schema_newer",
            Severity::Info,
            format!("the export has schema {schema}; the newest perfprof was tested with is {major}.{minor}"),
        );
    }
    if let Some(text) = clocks_apart(&assembly.timeline) {
        assembly.diagnostics.note("clocks_apart", Severity::Warn, text);
    }
    let (mut timeline, diagnostics) = assembly.finish();
    timeline.sources.push(source);
    Ok(Import { timeline, diagnostics })
}

/// Says so if ranges and CUDA calls lie so far apart that they cannot be on one clock, which is seen in real files.
fn clocks_apart(timeline: &Timeline) -> Option<String> {
    const HOUR_NS: i64 = 3_600_000_000_000;
    let span = |starts: &[i64], ends: &[i64]| Some((*starts.iter().min()?, *ends.iter().max()?));
    let calls = span(&timeline.api.start_ns, &timeline.api.end_ns)?;
    let ranges = span(&timeline.ranges.start_ns, &timeline.ranges.end_ns)?;
    let apart = (ranges.0 - calls.1).max(calls.0 - ranges.1);
    (apart > HOUR_NS).then(|| {
        format!(
            "NVTX ranges ({} to {} ns) and CUDA calls ({} to {} ns) are hours apart: their clocks differ, so no range contains a call",
            ranges.0, ranges.1, calls.0, calls.1
        )
    })
}

/// The first two numbers of a version.
fn major_minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.trim().split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

/// An error if a database is not an export of nsys, that says what it is.
fn check_origin(path: &Path, connection: &rusqlite::Connection, schema: &Schema) -> Result<(), ReadError> {
    let other = |detail: &str, hint: &str| Err(ReadError::new(path, ReadErrorKind::NotATrace, detail).hint(hint));
    if schema.table(path, connection, "StringIds")?.is_some_and(|table| table.has(&["id"]) && table.has(&["value"])) {
        return Ok(());
    }
    if schema.tables().next().is_none() {
        return other(
            "is a SQLite database without tables",
            "an export that was broken off leaves such a file: export the report again",
        );
    }
    if schema.tables().any(|table| table.starts_with("rocpd_")) {
        return other("is a database of rocprof", "perfprof reads exports of nsys; convert the trace to Chrome JSON");
    }
    if schema.has("StringTable") {
        return other("is a profile of nvprof, which NVIDIA replaced by nsys", "profile again with `nsys profile`");
    }
    if schema.has("STRING_IDS") {
        return other("is a database of msprof (Ascend)", "perfprof reads exports of nsys");
    }
    if path.file_name().is_some_and(|name| name.to_string_lossy().to_ascii_lowercase().contains("dlprof")) {
        return other("is a database of DLProf, which is made from a profile", "give the export of nsys itself");
    }
    other(
        "is a SQLite database, but not an export of nsys: it has no table `StringIds`",
        "export the report with `nsys export --type sqlite`",
    )
}
