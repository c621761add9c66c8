//! Which columns each file has.

use super::super::activity::CopyKind;
use super::super::host::{ApiClass, RangeKind};
use super::super::places::NO_ROW;
use super::super::strings::StringId;
use super::super::timeline::Timeline;
use super::{Cells, Column, Table};

pub(super) fn of(timeline: &Timeline) -> Vec<Table<'_>> {
    let mut tables = vec![kernels(timeline), api(timeline), ranges(timeline), copies(timeline)];
    if !timeline.graphs.is_empty() {
        tables.push(graphs(timeline));
    }
    tables
}

fn time<'a>(name: &'static str, cell: impl Fn(usize) -> i64 + 'a) -> Column<'a> {
    Column { name, cells: Cells::Time(Box::new(cell)) }
}
fn number<'a>(name: &'static str, cell: impl Fn(usize) -> Option<i64> + 'a) -> Column<'a> {
    Column { name, cells: Cells::Number(Box::new(cell)) }
}
fn name<'a>(name: &'static str, cell: impl Fn(usize) -> Option<StringId> + 'a) -> Column<'a> {
    Column { name, cells: Cells::Name(Box::new(cell)) }
}
fn label<'a>(name: &'static str, cell: impl Fn(usize) -> &'a str + 'a) -> Column<'a> {
    Column { name, cells: Cells::Label(Box::new(cell)) }
}

/// 0 stands for "none" in a timeline.
fn known(value: impl Into<i64>) -> Option<i64> {
    Some(value.into()).filter(|value| *value != 0)
}

/// Begin, end and duration.
fn times<'a>(start_ns: &'a [i64], end_ns: &'a [i64]) -> [Column<'a>; 3] {
    [
        time("start_ns", |row| start_ns[row]),
        time("end_ns", |row| end_ns[row]),
        time("duration_ns", |row| end_ns[row].saturating_sub(start_ns[row])),
    ]
}

/// Where device work ran; `stream` gives the row of the stream.
fn place<'a>(timeline: &'a Timeline, stream: impl Fn(usize) -> u32 + Copy + 'a) -> [Column<'a>; 5] {
    let of = move |row: usize| &timeline.streams[stream(row) as usize];
    let process = |row: u32| timeline.processes.get(row as usize);
    [
        number("pid", move |row| process(of(row).process).map(|process| i64::from(process.pid))),
        // Two processes may call different GPUs 0: `gpu` numbers the GPUs of the whole trace.
        number("gpu", move |row| (of(row).device != NO_ROW).then_some(i64::from(of(row).device))),
        number("device", move |row| Some(i64::from(of(row).ordinal))),
        number("context", move |row| Some(i64::from(of(row).context))),
        number("stream", move |row| Some(of(row).stream.cast_signed())),
    ]
}

/// The call that launched device work; `call` gives its row.
fn launch<'a>(timeline: &'a Timeline, call: &'a [u32]) -> [Column<'a>; 4] {
    let of = move |row: usize| call.get(row).filter(|call| **call != NO_ROW).map(|call| *call as usize);
    let api = &timeline.api;
    [
        name("api_name", move |row| of(row).map(|call| api.name[call])),
        number("api_start_ns", move |row| of(row).map(|call| api.start_ns[call])),
        number("api_end_ns", move |row| of(row).map(|call| api.end_ns[call])),
        number("api_tid", move |row| of(row).and_then(|call| tid(timeline, api.thread[call]))),
    ]
}

fn tid(timeline: &Timeline, thread: u32) -> Option<i64> {
    timeline.threads.get(thread as usize).map(|thread| thread.tid.cast_signed())
}

fn pid(timeline: &Timeline, thread: u32) -> Option<i64> {
    let process = timeline.threads.get(thread as usize)?.process;
    timeline.processes.get(process as usize).map(|process| i64::from(process.pid))
}

fn kernels(timeline: &Timeline) -> Table<'_> {
    let kernels = &timeline.kernels;
    let names = move |row: usize| &timeline.kernel_names[kernels.name[row] as usize];
    let config = move |row: usize| &timeline.launch_configs[kernels.config[row] as usize];
    let mut columns = Vec::new();
    columns.extend(times(&kernels.start_ns, &kernels.end_ns));
    columns.push(name("name", move |row| Some(names(row).demangled)));
    columns.push(name("short_name", move |row| Some(names(row).short)));
    columns.push(name("mangled_name", move |row| names(row).mangled));
    columns.extend(place(timeline, |row| kernels.stream[row]));
    columns.push(number("correlation", |row| known(kernels.correlation[row])));
    // A grid and a block of zeros are unknown ones.
    columns.extend([
        number("grid_x", move |row| known(config(row).grid[0])),
        number("grid_y", move |row| known(config(row).grid[1])),
        number("grid_z", move |row| known(config(row).grid[2])),
        number("block_x", move |row| known(config(row).block[0])),
        number("block_y", move |row| known(config(row).block[1])),
        number("block_z", move |row| known(config(row).block[2])),
        number("registers_per_thread", move |row| config(row).registers.map(i64::from)),
        number("static_shared_bytes", move |row| config(row).static_shared_bytes.map(i64::from)),
        number("dynamic_shared_bytes", move |row| config(row).dynamic_shared_bytes.map(i64::from)),
        number("local_bytes_per_thread", move |row| config(row).local_bytes_per_thread.map(i64::from)),
        number("graph_node", |row| kernels.node(row).map(u64::cast_signed)),
    ]);
    columns.extend(launch(timeline, &kernels.call));
    Table { name: "kernels", rows: kernels.len(), columns }
}

fn api(timeline: &Timeline) -> Table<'_> {
    let api = &timeline.api;
    let mut columns = Vec::new();
    columns.extend(times(&api.start_ns, &api.end_ns));
    columns.push(name("name", |row| Some(api.name[row])));
    columns.push(label("class", |row| match api.class[row] {
        ApiClass::RUNTIME => "runtime",
        ApiClass::DRIVER => "driver",
        ApiClass::BACKTRACE => "backtrace",
        _ => "other",
    }));
    columns.extend([
        number("pid", |row| pid(timeline, api.thread[row])),
        number("tid", |row| tid(timeline, api.thread[row])),
        number("correlation", |row| known(api.correlation[row])),
        number("result", |row| Some(i64::from(api.result[row]))),
    ]);
    Table { name: "api", rows: api.len(), columns }
}

fn ranges(timeline: &Timeline) -> Table<'_> {
    let ranges = &timeline.ranges;
    let mut columns = Vec::new();
    columns.extend(times(&ranges.start_ns, &ranges.end_ns));
    columns.push(Column { name: "open", cells: Cells::Flag(Box::new(|row| ranges.is_open(row))) });
    columns.push(name("name", |row| Some(ranges.name[row])));
    columns.push(name("domain", |row| Some(ranges.domain[row])));
    columns.push(label("kind", |row| match ranges.kind[row] {
        RangeKind::PushPop => "push_pop",
        RangeKind::StartEnd => "start_end",
        RangeKind::ImportedPushPop => "imported_push_pop",
        RangeKind::ImportedStartEnd => "imported_start_end",
        RangeKind::Operator => "operator",
        RangeKind::Python => "python",
        RangeKind::Annotation => "annotation",
    }));
    columns.extend([
        number("pid", |row| pid(timeline, ranges.thread[row])),
        number("tid", |row| tid(timeline, ranges.thread[row])),
        number("end_tid", |row| ranges.other_end_thread(row).and_then(|thread| tid(timeline, thread))),
        name("shape", |row| ranges.shape.get(row).copied().filter(|shape| !timeline.text(*shape).is_empty())),
    ]);
    Table { name: "ranges", rows: ranges.len(), columns }
}

/// Copies, then memory sets.
fn copies(timeline: &Timeline) -> Table<'_> {
    let (copies, memsets) = (&timeline.copies, &timeline.memsets);
    let both = move |row: usize| match row.checked_sub(copies.len()) {
        None => (true, row),
        Some(row) => (false, row),
    };
    let start = move |row: usize| match both(row) {
        (true, row) => copies.start_ns[row],
        (false, row) => memsets.start_ns[row],
    };
    let end = move |row: usize| match both(row) {
        (true, row) => copies.end_ns[row],
        (false, row) => memsets.end_ns[row],
    };
    let stream = move |row: usize| match both(row) {
        (true, row) => copies.stream[row],
        (false, row) => memsets.stream[row],
    };
    let call = move |row: usize| {
        let call = match both(row) {
            (true, row) => copies.call.get(row),
            (false, row) => memsets.call.get(row),
        };
        call.filter(|call| **call != NO_ROW).map(|call| *call as usize)
    };
    let api = &timeline.api;
    let own_label = move |kind: CopyKind| {
        let own = timeline.copy_labels.iter().find(|(known, label)| *known == kind.0 && !label.is_empty());
        own.map_or(kind.label(), |(_, label)| label.as_str())
    };
    let mut columns = vec![
        time("start_ns", start),
        time("end_ns", end),
        time("duration_ns", move |row| end(row).saturating_sub(start(row))),
        label("operation", move |row| if both(row).0 { "copy" } else { "memset" }),
        label("kind", move |row| match both(row) {
            (true, row) => own_label(copies.kind[row]),
            (false, _) => "Memset",
        }),
        number("bytes", move |row| match both(row) {
            (true, row) => i64::try_from(copies.bytes[row]).ok(),
            (false, row) => i64::try_from(memsets.bytes[row]).ok(),
        }),
    ];
    columns.extend(place(timeline, stream));
    columns.push(number("correlation", move |row| match both(row) {
        (true, row) => known(copies.correlation[row]),
        (false, row) => known(memsets.correlation[row]),
    }));
    columns.push(number("graph_node", move |row| {
        let node = match both(row) {
            (true, row) => copies.graph_node.get(row),
            (false, row) => memsets.graph_node.get(row),
        };
        node.filter(|node| **node != 0).map(|node| node.cast_signed())
    }));
    columns.extend([
        name("api_name", move |row| call(row).map(|call| api.name[call])),
        number("api_start_ns", move |row| call(row).map(|call| api.start_ns[call])),
        number("api_end_ns", move |row| call(row).map(|call| api.end_ns[call])),
        number("api_tid", move |row| call(row).and_then(|call| tid(timeline, api.thread[call]))),
    ]);
    Table { name: "copies", rows: copies.len() + memsets.len(), columns }
}

fn graphs(timeline: &Timeline) -> Table<'_> {
    let graphs = &timeline.graphs;
    let mut columns = Vec::new();
    columns.extend(times(&graphs.start_ns, &graphs.end_ns));
    columns.extend(place(timeline, |row| graphs.stream[row]));
    columns.extend([
        number("correlation", |row| known(graphs.correlation[row])),
        number("graph", |row| known(graphs.graph[row])),
        number("executable", |row| known(graphs.executable[row])),
    ]);
    columns.extend(launch(timeline, &graphs.call));
    Table { name: "graphs", rows: graphs.len(), columns }
}
