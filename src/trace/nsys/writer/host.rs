//! Tables of what ran on the host.

use rusqlite::params;
use rustc_hash::FxHashMap;

use super::super::super::host::{OverheadOrigin, RangeKind};
use super::super::super::places::NO_ROW;
use super::super::super::strings::StringId;
use super::{Sink, known, known_wide, schema};

const MARK: i64 = 34;
const DOMAIN_CREATED: i64 = 75;
/// Event classes (`ENUM_NSYS_EVENT_CLASS`).
const NODE_CREATION: i64 = 77;
const GRAPH_CREATION: i64 = 95;
const EXECUTABLE_CREATION: i64 = 94;
const CUDA_OVERHEAD: i64 = 103;
/// `ENUM_CUDA_MEM_KIND` of device memory.
const DEVICE_MEMORY: i64 = 2;

pub(super) fn write(sink: &Sink<'_>) -> rusqlite::Result<()> {
    api(sink)?;
    nvtx(sink)?;
    os_calls(sink)?;
    overheads(sink)?;
    graphs(sink)?;
    allocations(sink)?;
    metric_samples(sink)
}

fn api(sink: &Sink<'_>) -> rusqlite::Result<()> {
    let api = &sink.timeline.api;
    sink.table(&schema::RUNTIME, api.len(), |statement, row| {
        statement.execute(params![
            api.start_ns[row],
            api.end_ns[row],
            api.class[row].0,
            sink.ids.thread(api.thread[row]),
            known(api.correlation[row]),
            sink.text(api.name[row]),
            api.result[row],
        ])
    })
}

/// What a domain is called: as in the trace, or after the kind of range that is not NVTX.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum DomainName {
    Own(StringId),
    Kind(&'static str),
}

struct Domain {
    id: i64,
    name: DomainName,
    thread: u32,
    first_ns: i64,
}

/// Domains are numbered within a process; 0 is the default one, which has no name and no row.
struct Domains<'a> {
    sink: &'a Sink<'a>,
    known: FxHashMap<(u32, DomainName), usize>,
    counts: FxHashMap<u32, i64>,
    all: Vec<Domain>,
}

impl Domains<'_> {
    fn id(&mut self, thread: u32, name: DomainName, time_ns: i64) -> i64 {
        if let DomainName::Own(name) = name
            && self.sink.timeline.text(name).is_empty()
        {
            return 0;
        }
        let process = self.sink.timeline.threads.get(thread as usize).map_or(NO_ROW, |thread| thread.process);
        let index = *self.known.entry((process, name)).or_insert_with(|| {
            let count = self.counts.entry(process).or_insert(0);
            *count += 1;
            self.all.push(Domain { id: *count, name, thread, first_ns: time_ns });
            self.all.len() - 1
        });
        let domain = &mut self.all[index];
        domain.first_ns = domain.first_ns.min(time_ns);
        domain.id
    }
}

/// Event type (`ENUM_NSYS_EVENT_TYPE`), and the domain of ranges that are not NVTX, which keeps them apart from a user's own.
fn range_kind(kind: RangeKind) -> (i64, Option<&'static str>) {
    match kind {
        RangeKind::PushPop | RangeKind::Annotation => (59, None),
        RangeKind::StartEnd => (60, None),
        RangeKind::ImportedPushPop => (70, None),
        RangeKind::ImportedStartEnd => (71, None),
        RangeKind::Operator => (59, Some("operator")),
        RangeKind::Python => (59, Some("python")),
    }
}

fn nvtx(sink: &Sink<'_>) -> rusqlite::Result<()> {
    let (ranges, marks) = (&sink.timeline.ranges, &sink.timeline.marks);
    let mut domains = Domains { sink, known: FxHashMap::default(), counts: FxHashMap::default(), all: Vec::new() };
    let mut domain_ids = Vec::with_capacity(ranges.len() + marks.len());
    for row in 0..ranges.len() {
        let name = match range_kind(ranges.kind[row]).1 {
            Some(kind) => DomainName::Kind(kind),
            None => DomainName::Own(ranges.domain[row]),
        };
        domain_ids.push(domains.id(ranges.thread[row], name, ranges.start_ns[row]));
    }
    for row in 0..marks.len() {
        domain_ids.push(domains.id(marks.thread[row], DomainName::Own(marks.domain[row]), marks.time_ns[row]));
    }
    let created = domains.all;
    sink.table(&schema::NVTX_EVENTS, ranges.len() + marks.len() + created.len(), |statement, row| {
        let none: Option<i64> = None;
        if row < ranges.len() {
            let kind = range_kind(ranges.kind[row]).0;
            let range_id = (kind == 60 || kind == 71).then_some(row as i64 + 1);
            return statement.execute(params![
                ranges.start_ns[row],
                (!ranges.is_open(row)).then_some(ranges.end_ns[row]),
                kind,
                range_id,
                none,
                sink.ids.thread(ranges.thread[row]),
                ranges.other_end_thread(row).and_then(|thread| sink.ids.thread(thread)),
                sink.text(ranges.name[row]),
                domain_ids[row],
            ]);
        }
        let mark = row - ranges.len();
        if mark < marks.len() {
            return statement.execute(params![
                marks.time_ns[mark],
                none,
                MARK,
                none,
                none,
                sink.ids.thread(marks.thread[mark]),
                none,
                sink.text(marks.name[mark]),
                domain_ids[row],
            ]);
        }
        let domain = &created[mark - marks.len()];
        let text = match domain.name {
            DomainName::Own(name) => sink.timeline.text(name),
            DomainName::Kind(name) => name,
        };
        let thread = sink.ids.thread(domain.thread);
        statement.execute(params![domain.first_ns, none, DOMAIN_CREATED, none, text, thread, none, none, domain.id])
    })
}

fn os_calls(sink: &Sink<'_>) -> rusqlite::Result<()> {
    let calls = &sink.timeline.os_calls;
    sink.table(&schema::OSRT_API, calls.len(), |statement, row| {
        statement.execute(params![
            calls.start_ns[row],
            calls.end_ns[row],
            calls.class[row],
            sink.ids.thread(calls.thread[row]),
            sink.text(calls.name[row]),
        ])
    })
}

fn overheads(sink: &Sink<'_>) -> rusqlite::Result<()> {
    let overheads = &sink.timeline.overheads;
    let of = |origin: OverheadOrigin| -> Vec<usize> {
        (0..overheads.len()).filter(|row| overheads.origin[*row] == origin).collect()
    };
    // A timeline does not keep the type of overhead: 0 is "undefined".
    let rows = of(OverheadOrigin::Profiler);
    sink.table(&schema::PROFILER_OVERHEAD, rows.len(), |statement, row| {
        let row = rows[row];
        let thread = sink.ids.thread(overheads.thread[row]);
        let name = sink.text(overheads.name[row]);
        statement.execute(params![overheads.start_ns[row], overheads.end_ns[row], thread, name, 0])
    })?;
    let rows = of(OverheadOrigin::Cupti);
    sink.table(&schema::OVERHEAD, rows.len(), |statement, row| {
        let row = rows[row];
        let thread = sink.ids.thread(overheads.thread[row]);
        let name = sink.text(overheads.name[row]);
        statement.execute(params![overheads.start_ns[row], overheads.end_ns[row], CUDA_OVERHEAD, thread, name, 0])
    })
}

fn graphs(sink: &Sink<'_>) -> rusqlite::Result<()> {
    let nodes = &sink.timeline.graph_nodes;
    sink.table(&schema::GRAPH_NODE_EVENTS, nodes.len(), |statement, row| {
        statement.execute(params![
            nodes.start_ns[row],
            nodes.end_ns[row],
            NODE_CREATION,
            sink.ids.thread(nodes.thread[row]),
            sink.text(nodes.name[row]),
            nodes.node[row].cast_signed(),
            known_wide(nodes.original[row]),
        ])
    })?;
    let events = &sink.timeline.graph_events;
    sink.table(&schema::GRAPH_EVENTS, events.len(), |statement, row| {
        statement.execute(params![
            events.start_ns[row],
            events.end_ns[row],
            if events.executable[row] == 0 { GRAPH_CREATION } else { EXECUTABLE_CREATION },
            sink.ids.thread(events.thread[row]),
            sink.text(events.name[row]),
            known(events.graph[row]),
            known(events.original[row]),
            known(events.executable[row]),
        ])
    })
}

fn allocations(sink: &Sink<'_>) -> rusqlite::Result<()> {
    let timeline = sink.timeline;
    let allocations = &timeline.allocations;
    // The process is known only where one alone uses the device.
    let mut users: FxHashMap<u32, Option<u32>> = FxHashMap::default();
    for stream in &timeline.streams {
        let user = users.entry(stream.device).or_insert(Some(stream.process));
        *user = user.filter(|process| *process == stream.process);
    }
    sink.table(&schema::MEMORY_USAGE, allocations.len(), |statement, row| {
        let device = allocations.device[row];
        let ordinal = timeline.devices.get(device as usize).map(|device| device.ordinal);
        let process = users.get(&device).copied().flatten();
        statement.execute(params![
            allocations.time_ns[row],
            process.and_then(|process| sink.ids.process(process)),
            ordinal,
            allocations.bytes[row].unsigned_abs().cast_signed(),
            DEVICE_MEMORY,
            i64::from(allocations.bytes[row] < 0),
        ])
    })
}

fn metric_samples(sink: &Sink<'_>) -> rusqlite::Result<()> {
    let samples = &sink.timeline.metric_samples;
    let mut numbers: FxHashMap<(u16, StringId), i64> = FxHashMap::default();
    let mut names = Vec::new();
    let metrics: Vec<i64> = (0..samples.len())
        .map(|row| {
            let key = (samples.gpu[row], samples.metric[row]);
            *numbers.entry(key).or_insert_with(|| {
                names.push(key);
                names.len() as i64
            })
        })
        .collect();
    sink.table(&schema::GPU_METRICS, samples.len(), |statement, row| {
        statement.execute(params![samples.time_ns[row], samples.gpu[row], metrics[row], samples.value[row]])
    })?;
    sink.table(&schema::GPU_METRIC_NAMES, names.len(), |statement, row| {
        let (gpu, metric) = names[row];
        statement.execute(params![gpu, row as i64 + 1, sink.timeline.text(metric)])
    })
}
