//! The Chrome trace reader, its writer and the merge: against `serde_json` on the same files, and against damaged ones.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests are tests, too")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use perfprof::diagnostics::Severity;
use perfprof::trace::chrome::writer::{self, WriteOptions};
use perfprof::trace::chrome::{read, read_bytes};
use perfprof::trace::import::{Import, ReadError, ReadErrorKind, ReadOptions};
use perfprof::trace::merge::merge;
use perfprof::trace::timeline::Timeline;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use serde_json::Value;

const NO_ROW: u32 = u32::MAX;

fn parse(text: &str) -> Result<Import, ReadError> {
    read_bytes(Path::new("trace.json"), text.as_bytes(), &ReadOptions::default())
}

fn events(list: &[&str]) -> Import {
    parse(&format!("{{\"traceEvents\":[{}]}}", list.join(","))).unwrap()
}

/// Real traces, if they are there.
fn real_traces() -> Vec<PathBuf> {
    let shared = std::env::var_os("PERFPROF_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let Ok(entries) = std::fs::read_dir(shared.join("traces/kineto")) else {
        eprintln!("no traces in `{}`: the test does nothing", shared.display());
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn unpacked(path: &Path) -> Vec<u8> {
    let mut text = Vec::new();
    let file = std::fs::File::open(path).unwrap();
    std::io::copy(&mut flate2::read::MultiGzDecoder::new(file), &mut text).unwrap();
    text
}

fn ns(value: &Value) -> i64 {
    (value.as_f64().unwrap() * 1000.0).round() as i64
}

fn whole(args: &Value, keys: &[&str]) -> i64 {
    keys.iter().find_map(|key| args[*key].as_i64()).unwrap_or(0)
}

/// One kernel as text: everything that is known of it but its begin.
fn kernel_lines_of(events: &[Value]) -> Vec<String> {
    let is = |event: &Value, names: &[&str]| names.iter().any(|name| event["cat"] == *name) && event["ph"] == "X";
    let mut operators: BTreeMap<i64, &str> = BTreeMap::new();
    let mut calls: BTreeMap<i64, Vec<&str>> = BTreeMap::new();
    for event in events {
        if is(event, &["cpu_op", "Operator", "user_annotation"]) {
            operators
                .entry(whole(&event["args"], &["External id", "external id"]))
                .or_insert(event["name"].as_str().unwrap());
        }
        if is(event, &["cuda_runtime", "Runtime", "cuda_driver"]) {
            calls.entry(whole(&event["args"], &["correlation"])).or_default().push(event["name"].as_str().unwrap());
        }
    }
    let mut lines: Vec<String> = events
        .iter()
        .filter(|event| is(event, &["kernel", "Kernel"]))
        .map(|event| {
            let args = &event["args"];
            let correlation = whole(args, &["correlation"]);
            let call = calls.get(&correlation).map(|names| {
                *names.iter().find(|name| name.contains("Launch")).unwrap_or(&names[0])
            });
            let external = whole(args, &["External id", "external id"]);
            let operator = if external == 0 { None } else { operators.get(&external) };
            format!(
                "{} | {} ns | device {} stream {} | correlation {correlation} call {call:?} | operator {operator:?} | {} {} {} {}",
                event["name"].as_str().unwrap(),
                ns(&event["dur"]),
                args["device"],
                args["stream"],
                args["grid"],
                args["block"],
                args["registers per thread"],
                args["shared memory"],
            )
        })
        .collect();
    lines.sort();
    lines
}

fn kernel_lines(t: &Timeline) -> Vec<String> {
    let k = &t.kernels;
    let triple = |v: [u32; 3]| if v[0] == 0 { String::from("null") } else { format!("[{},{},{}]", v[0], v[1], v[2]) };
    let option = |v: Option<u32>| v.map_or_else(|| String::from("null"), |v| v.to_string());
    let mut lines: Vec<String> = (0..k.len())
        .map(|row| {
            let stream = t.streams[k.stream[row] as usize];
            let call = (k.call[row] != NO_ROW).then(|| t.text(t.api.name[k.call[row] as usize]));
            let operator = k.operator_range(row).map(|range| t.text(t.ranges.name[range]));
            let config = t.launch_configs[k.config[row] as usize];
            format!(
                "{} | {} ns | device {} stream {} | correlation {} call {call:?} | operator {operator:?} | {} {} {} {}",
                t.text(t.kernel_names[k.name[row] as usize].demangled),
                k.duration_ns(row),
                stream.ordinal,
                stream.stream,
                k.correlation[row],
                triple(config.grid),
                triple(config.block),
                option(config.registers),
                option(config.dynamic_shared_bytes),
            )
        })
        .collect();
    lines.sort();
    lines
}

#[test]
fn real_traces_are_read_as_serde_json_reads_them() {
    for path in real_traces() {
        let import = read(&path, &ReadOptions::default()).unwrap();
        let t = &import.timeline;
        let document: Value = serde_json::from_slice(&unpacked(&path)).unwrap();
        let all = document["traceEvents"].as_array().unwrap();
        let of = |names: &[&str]| {
            all.iter().filter(|e| e["ph"] == "X" && names.iter().any(|name| e["cat"] == *name)).collect::<Vec<_>>()
        };
        let name = path.display();
        assert_eq!(kernel_lines(t), kernel_lines_of(all), "{name}");
        let copies = of(&["gpu_memcpy", "Memcpy"]);
        assert_eq!(t.copies.len(), copies.len(), "{name}");
        assert_eq!(
            t.copies.bytes.iter().sum::<u64>() as i64,
            copies.iter().map(|e| whole(&e["args"], &["bytes"])).sum::<i64>(),
            "{name}"
        );
        assert_eq!(t.memsets.len(), of(&["gpu_memset", "Memset"]).len(), "{name}");
        assert_eq!(t.api.len(), of(&["cuda_runtime", "Runtime", "cuda_driver"]).len(), "{name}");
        let ranges = of(&["cpu_op", "Operator", "python_function", "user_annotation"]);
        assert_eq!(t.ranges.len(), ranges.len(), "{name}");
        // Sums of durations are exact: what is rounded is rounded for each event alike.
        let sum = |start: &[i64], end: &[i64]| start.iter().zip(end).map(|(start, end)| end - start).sum::<i64>();
        assert_eq!(
            sum(&t.ranges.start_ns, &t.ranges.end_ns),
            ranges.iter().map(|e| ns(&e["dur"])).sum::<i64>(),
            "{name}"
        );
        let allocations = all.iter().filter(|e| e["name"] == "[memory]" && e["args"]["Device Type"] == 1);
        assert_eq!(
            t.allocations.bytes.iter().sum::<i64>(),
            allocations.map(|e| whole(&e["args"], &["Bytes"])).sum::<i64>()
        );
        assert_eq!(t.processes.len(), 1, "{name}: {:?}", t.processes);
        assert_eq!(t.processes[0].rank.map(i64::from), document["distributedInfo"]["rank"].as_i64(), "{name}");
        // Every event is a row, is left out for a stated reason, or is an arrow, a name or an end of the profiler's window.
        let told: u64 = import.diagnostics.iter().map(|d| d.count).sum();
        let quiet = all.iter().filter(|e| ["M", "s", "t", "f"].iter().any(|phase| e["ph"] == *phase)).count();
        let rows = t.op_count() + t.api.len() + t.ranges.len() + t.allocations.len();
        assert_eq!(rows + told as usize + quiet, all.len(), "{name}: {:?}", import.diagnostics);
        assert!(import.diagnostics.iter().all(|d| d.severity == Severity::Info), "{name}: {:?}", import.diagnostics);
    }
}

#[test]
fn begins_are_exact_to_the_nanosecond_where_floating_point_is_not() {
    let mut checked = 0;
    let pattern =
        r#""cat": "kernel",\s*"name": "(?:[^"\\]|\\.)*",\s*"pid": \d+,\s*"tid": \d+,\s*"ts": (\d+)\.(\d{1,3})\b"#;
    let kernel = regex::Regex::new(pattern).unwrap();
    let base = regex::Regex::new(r#""baseTimeNanoseconds": (\d+)"#).unwrap();
    for path in real_traces() {
        let text = String::from_utf8(unpacked(&path)).unwrap();
        let mut expected: Vec<i64> = kernel
            .captures_iter(&text)
            .map(|found| format!("{}{:0<3}", &found[1], &found[2]).parse().unwrap())
            .collect();
        let t = read(&path, &ReadOptions::default()).unwrap().timeline;
        if expected.len() < t.kernels.len() {
            continue;
        }
        expected.sort_unstable();
        let base = base.captures(&text).map_or(0, |found| found[1].parse::<i64>().unwrap());
        let epoch = t.sources[0].epoch_ns.unwrap();
        let read: Vec<i64> = t.kernels.start_ns.iter().map(|start| start + epoch - base).collect();
        assert_eq!(read, expected, "{}", path.display());
        checked += t.kernels.len();
    }
    // All three recent files with kernels have it.
    assert!(checked >= 6000 || real_traces().is_empty(), "no trace has the form this test looks for");
}

#[test]
fn real_traces_survive_export_and_import() {
    for path in real_traces() {
        let first = read(&path, &ReadOptions::default()).unwrap().timeline;
        let again = parse(&export(&first)).unwrap().timeline;
        assert_eq!(kernel_lines(&again), kernel_lines(&first), "{}", path.display());
        assert_eq!(again.kernels.start_ns, first.kernels.start_ns);
        assert_eq!(again.copies.bytes, first.copies.bytes);
        assert_eq!(again.copies.kind, first.copies.kind);
        assert_eq!(again.copies.source, first.copies.source);
        assert_eq!(again.memsets.bytes, first.memsets.bytes);
        assert_eq!(again.api.len(), first.api.len());
        assert_eq!(again.ranges.len(), first.ranges.len());
        assert_eq!(again.sources[0].epoch_ns, first.sources[0].epoch_ns);
        // How many lanes a warp of AMD has is not kept, so the number of its warps cannot be written.
        let devices = |t: &Timeline| {
            let mut devices = t.devices.clone();
            devices.retain_mut(|device| device.compute_capability.is_some());
            devices
        };
        assert_eq!(devices(&again), devices(&first));
    }
}

fn export(timeline: &Timeline) -> String {
    let mut text = Vec::new();
    writer::write(timeline, &mut text, &WriteOptions::default()).unwrap();
    String::from_utf8(text).unwrap()
}

/// Process and thread of the export.
type Track = (i64, i64);

/// No two complete events of one track cross; for device tracks none overlap, but for one without length at an end of another.
fn assert_tracks_nest(text: &str) -> Value {
    let document: Value = serde_json::from_str(text).unwrap();
    let mut tracks: BTreeMap<Track, Vec<(i64, i64, bool)>> = BTreeMap::new();
    for event in document["traceEvents"].as_array().unwrap().iter().filter(|event| event["ph"] == "X") {
        let device = event["cat"].as_str().unwrap().starts_with("gpu_") || event["cat"] == "kernel";
        let (start, duration) = (ns(&event["ts"]), ns(&event["dur"]));
        let track = (event["pid"].as_i64().unwrap(), event["tid"].as_i64().unwrap());
        tracks.entry(track).or_default().push((start, -(start + duration), device));
    }
    for (track, mut spans) in tracks {
        spans.sort_unstable();
        let mut open: Vec<i64> = Vec::new();
        for (start, end, device) in spans {
            let end = -end;
            while open.last().is_some_and(|last| *last <= start) {
                open.pop();
            }
            assert!(
                open.last().is_none_or(|last| (!device || start == end) && *last >= end),
                "{track:?}: {start}..{end} in {open:?}"
            );
            open.push(end);
        }
    }
    document
}

#[test]
fn an_export_loses_nothing_where_work_overlaps_and_ranges_cross() {
    use perfprof::trace::activity::CopyKind;
    use perfprof::trace::builder::TimelineBuilder;
    let mut b = TimelineBuilder::new();
    let (p, q) = (b.process(10), b.process(10));
    let (tp, tq) = (b.thread(p, 11), b.thread(q, 11));
    let device = b.device(0);
    let (s, other) = (b.stream(p, device, 7), b.stream(q, device, 7));
    for (thread, stream, shift) in [(tp, s, 0), (tq, other, 5)] {
        b.range(thread, "outer", shift, Some(100 + shift));
        b.range(thread, "crosses \"outer\"", 50 + shift, Some(150 + shift));
        b.range(thread, "open", 60 + shift, None);
        b.call(thread, "cudaGraphLaunch", 10 + shift, 20 + shift, 1);
        b.call(thread, "cudaMemcpyAsync", 95 + shift, 120 + shift, 2);
        for node in 0..4 {
            b.kernel(stream, "node", 30 + node * 10 + shift, 45 + node * 10 + shift, 1);
        }
        b.kernel(stream, "empty", 31 + shift, 31 + shift, 0);
        b.copy(stream, CopyKind::DEVICE_TO_HOST, 40 + shift, 400 + shift, 2, 12);
    }
    b.overhead(None, "buffers", 1, 2);
    let t = b.finish();
    let document = assert_tracks_nest(&export(&t));
    let all = document["traceEvents"].as_array().unwrap();
    let count = |phase: &str, category: &str| all.iter().filter(|e| e["ph"] == phase && e["cat"] == category).count();
    assert_eq!((count("X", "kernel"), count("X", "gpu_memcpy"), count("X", "nvtx")), (10, 2, 6));
    assert_eq!((count("X", "cuda_runtime"), count("X", "overhead")), (4, 1));
    // One arrow for each call, from its begin to that of its first operation.
    assert_eq!((count("s", "ac2g"), count("f", "ac2g")), (4, 4));
    for arrow in all.iter().filter(|e| e["cat"] == "ac2g") {
        let category = if arrow["ph"] == "s" { "cuda_runtime" } else { "" };
        let ends_at = all.iter().filter(|e| e["ph"] == "X" && e["ts"] == arrow["ts"]);
        let mut same_track = ends_at.filter(|e| e["pid"] == arrow["pid"] && e["tid"] == arrow["tid"]);
        assert!(same_track.any(|e| category.is_empty() || e["cat"] == category), "{arrow}");
    }
    // Both processes have the id 10 and stay apart.
    let again = parse(&export(&t)).unwrap().timeline;
    assert_eq!((again.processes.len(), again.kernels.len()), (2, 10));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_timeline_is_exported_on_tracks_that_nest(
        ops in prop::collection::vec((0_i64..1000, 0_i64..200, 0_u32..3, 0_u32..4), 0..60),
    ) {
        use perfprof::trace::builder::TimelineBuilder;
        let mut b = TimelineBuilder::new();
        let process = b.process(1);
        let threads = [b.thread(process, 1), b.thread(process, 2), b.thread(process, 3)];
        let device = b.device(0);
        let streams = [b.stream(process, device, 0), b.stream(process, device, 7), b.stream(process, device, 8)];
        for (number, (start, length, lane, kind)) in ops.iter().enumerate() {
            let (end, lane) = (start + length, *lane as usize);
            match kind {
                0 => { b.range(threads[lane], "r", *start, Some(end)); }
                1 => { b.call(threads[lane], "cudaLaunchKernel", *start, end, number as u32 + 1); }
                2 => { b.kernel(streams[lane], "k", *start, end, number as u32); }
                _ => { b.memset(streams[lane], *start, end, number as u32, 4); }
            }
        }
        let t = b.finish();
        let document = assert_tracks_nest(&export(&t));
        let spans = document["traceEvents"].as_array().unwrap().iter().filter(|e| e["ph"] == "X").count();
        prop_assert_eq!(spans, ops.len());
    }
}

/// JSON that can be written in many ways.
#[derive(Debug, Clone)]
enum Json {
    Text(String),
    Whole(i64),
    /// A number that is kept as text, and so has one form.
    Plain(i64),
    /// Nanoseconds, written as microseconds.
    Time(i64),
    List(Vec<Self>),
    Object(Vec<(&'static str, Self)>),
    Null,
}

impl Json {
    fn write(&self, out: &mut String, style: &mut Option<StdRng>) {
        let space = |out: &mut String, style: &mut Option<StdRng>| {
            if let Some(random) = style {
                for _ in 0..random.random_range(0..3) {
                    out.push([' ', '\n', '\t', '\r'][random.random_range(0..4)]);
                }
            }
        };
        match self {
            Self::Null => out.push_str("null"),
            Self::Plain(number) => out.push_str(&number.to_string()),
            Self::Text(text) => match style {
                Some(random) => {
                    out.push('"');
                    for c in text.chars() {
                        let plain = c != '"' && c != '\\' && c >= ' ';
                        if plain && random.random_bool(0.7) {
                            out.push(c);
                        } else {
                            for unit in c.encode_utf16(&mut [0; 2]) {
                                out.push_str(&format!("\\u{unit:04X}"));
                            }
                        }
                    }
                    out.push('"');
                }
                None => out.push_str(&serde_json::to_string(text).unwrap()),
            },
            Self::Whole(number) => match style.as_mut().map_or(0, |random| random.random_range(0..4)) {
                1 => out.push_str(&format!("{number}.0")),
                2 => out.push_str(&format!("{number}e0")),
                3 => out.push_str(&format!("\"{number}\"")),
                _ => out.push_str(&number.to_string()),
            },
            Self::Time(time) => {
                let (whole, rest) = (time / 1000, time % 1000);
                match style.as_mut().map_or(0, |random| random.random_range(0..4)) {
                    1 => out.push_str(&format!("{time}e-3")),
                    2 => out.push_str(&format!("{whole}.{rest:03}000")),
                    3 if rest == 0 => out.push_str(&whole.to_string()),
                    _ => out.push_str(&format!("{whole}.{rest:03}")),
                }
            }
            Self::List(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    space(out, style);
                    item.write(out, style);
                    space(out, style);
                }
                out.push(']');
            }
            Self::Object(members) => {
                let mut order: Vec<usize> = (0..members.len()).collect();
                if let Some(random) = style {
                    order.shuffle(random);
                }
                out.push('{');
                for (at, member) in order.into_iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    space(out, style);
                    Self::Text(members[member].0.to_owned()).write(out, style);
                    space(out, style);
                    out.push(':');
                    space(out, style);
                    members[member].1.write(out, style);
                    space(out, style);
                }
                out.push('}');
            }
        }
    }
}

/// An event, of a random kind.
fn random_event(random: &mut StdRng) -> Json {
    use Json::{List, Null, Object, Plain, Text, Time, Whole};
    let start = Time(1_700_000_000_000_000_000 + random.random_range(0..1_000_000));
    let duration = Time(random.random_range(0..5000));
    let names = ["k", "void f<int>(\"x\", {a})", "päth\\n", "]}", "\u{1f680}\u{7}", "aten::mm", ""];
    let name = Text(names[random.random_range(0..names.len())].to_owned());
    let correlation = Whole(random.random_range(0..20));
    let external = Whole(random.random_range(0..10));
    let stream = random.random_range(0..3);
    let triple = |random: &mut StdRng| List((0..3).map(|_| Whole(random.random_range(1..9))).collect());
    let noise = List(vec![Object(vec![("a", Text(String::from("}\"]")))]), Null, List(vec![])]);
    let text = |text: &str| Text(text.to_owned());
    match random.random_range(0..9) {
        0 | 1 => Object(vec![
            ("ph", text("X")),
            ("cat", text("kernel")),
            ("name", name),
            ("pid", Whole(random.random_range(0..2))),
            ("tid", if random.random_bool(0.5) { Whole(stream) } else { Text(format!("stream {stream}")) }),
            ("ts", start),
            ("dur", duration),
            (
                "args",
                Object(vec![
                    ("correlation", correlation),
                    ("External id", external),
                    ("grid", triple(random)),
                    ("block", triple(random)),
                    ("registers per thread", Whole(random.random_range(1..255))),
                    ("noise", noise),
                ]),
            ),
        ]),
        2 | 3 => Object(vec![
            ("ph", text("X")),
            ("cat", text(["cuda_runtime", "cuda_driver", "Runtime"][random.random_range(0..3)])),
            ("name", text(["cudaLaunchKernel", "cudaGraphLaunch", "cudaMalloc"][random.random_range(0..3)])),
            ("pid", Whole(100)),
            ("tid", Whole(random.random_range(100..103))),
            ("ts", start),
            ("dur", duration),
            ("args", Object(vec![("noise", noise), ("correlation", correlation), ("cbid", Whole(7))])),
        ]),
        4 => Object(vec![
            ("ph", text("X")),
            ("cat", text("cpu_op")),
            ("name", name),
            ("pid", Whole(100)),
            ("tid", Whole(random.random_range(100..103))),
            ("ts", start),
            ("dur", duration),
            (
                "args",
                Object(vec![
                    ("External id", external),
                    ("Input Dims", List(vec![List(vec![Plain(16), Plain(4096)]), List(vec![])])),
                ]),
            ),
        ]),
        5 => Object(vec![
            ("ph", text("X")),
            ("cat", text("gpu_memcpy")),
            ("name", text("Memcpy DtoH (Device -> Pinned)")),
            ("pid", Whole(0)),
            ("tid", Whole(stream)),
            ("ts", start),
            ("dur", duration),
            ("args", Object(vec![("bytes", Whole(random.random_range(0..1 << 40))), ("correlation", correlation)])),
        ]),
        6 => Object(vec![
            ("ph", text(["B", "E"][random.random_range(0..2)])),
            ("name", name),
            ("pid", Whole(100)),
            ("tid", Whole(100)),
            ("ts", start),
        ]),
        7 => Object(vec![("ph", text("C")), ("name", name), ("ts", start), ("args", Object(vec![("x", Whole(3))]))]),
        _ => Object(vec![
            ("ph", text("i")),
            ("cat", text("cpu_instant_event")),
            ("name", name),
            ("pid", Whole(100)),
            ("tid", Whole(100)),
            ("ts", start),
        ]),
    }
}

fn written(list: &[Json], style: &mut Option<StdRng>) -> String {
    let mut text = String::new();
    let document = Json::Object(vec![("traceEvents", Json::List(list.to_vec())), ("x", Json::List(vec![Json::Null]))]);
    document.write(&mut text, style);
    text
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn the_same_events_make_the_same_timeline_however_they_are_written(
        seeds in prop::collection::vec(any::<u64>(), 0..40),
        style in any::<u64>(),
    ) {
        let list: Vec<Json> = seeds.iter().map(|seed| random_event(&mut StdRng::seed_from_u64(*seed))).collect();
        let plain = written(&list, &mut None);
        let expected = parse(&plain).unwrap();
        let expected_text = format!("{:?}", expected.timeline);
        let wild = written(&list, &mut Some(StdRng::seed_from_u64(style)));
        prop_assert!(serde_json::from_str::<Value>(&wild).is_ok());
        prop_assert_eq!(&format!("{:?}", parse(&wild).unwrap().timeline), &expected_text);
        for packed in [gzip(wild.as_bytes()), zstd::encode_all(wild.as_bytes(), 1).unwrap()] {
            let import = read_bytes(Path::new("trace.json"), &packed, &ReadOptions::default()).unwrap();
            prop_assert_eq!(&format!("{:?}", import.timeline), &expected_text);
        }
        // And the kernels are those serde_json finds.
        let document: Value = serde_json::from_str(&plain).unwrap();
        let all = document["traceEvents"].as_array().unwrap();
        let count = |category: &str| all.iter().filter(|e| e["cat"] == category).count();
        let t = &expected.timeline;
        prop_assert_eq!(t.kernels.len(), count("kernel"));
        prop_assert_eq!(t.api.len(), count("cuda_runtime") + count("cuda_driver") + count("Runtime"));
        let called: Vec<i64> = all
            .iter()
            .filter(|e| ["cuda_runtime", "cuda_driver", "Runtime"].iter().any(|cat| e["cat"] == *cat))
            .map(|e| whole(&e["args"], &["correlation"]))
            .collect();
        let linked = |e: &&Value| {
            let id = whole(&e["args"], &["correlation"]);
            e["cat"] == "kernel" && id != 0 && called.contains(&id)
        };
        prop_assert_eq!(t.kernels.call.iter().filter(|call| **call != NO_ROW).count(), all.iter().filter(linked).count());
    }
}

#[test]
fn damaged_traces_neither_panic_nor_hang() {
    let mut random = StdRng::seed_from_u64(7);
    let list: Vec<Json> = (0..60).map(|_| random_event(&mut random)).collect();
    let text = written(&list, &mut Some(StdRng::seed_from_u64(8)));
    let packed = gzip(text.as_bytes());
    let begin = std::time::Instant::now();
    let mut refused = 0;
    for round in 0..1500 {
        let mut bytes = if round % 5 == 4 { packed.clone() } else { text.clone().into_bytes() };
        for _ in 0..random.random_range(1..6) {
            let at = random.random_range(0..bytes.len());
            match random.random_range(0..5) {
                0 => bytes[at] = random.random(),
                1 => bytes[at] = b"{}[]\",:\\0-e.N"[random.random_range(0..13)],
                2 => bytes.truncate(at.max(1)),
                3 => drop(bytes.drain(at..(at + random.random_range(1..30)).min(bytes.len()).max(at + 1))),
                _ => {
                    let piece = bytes[at..(at + 40).min(bytes.len())].to_vec();
                    bytes.splice(at..at, piece);
                }
            }
            if bytes.is_empty() {
                bytes.push(b' ');
            }
        }
        match read_bytes(Path::new("t"), &bytes, &ReadOptions::default()) {
            Ok(import) => {
                // Whatever was read can be exported and read again.
                let again = parse(&export(&import.timeline)).unwrap();
                assert_eq!(again.timeline.kernels.len(), import.timeline.kernels.len());
            }
            Err(error) => {
                refused += 1;
                assert!(!error.detail.is_empty() && !error.detail.ends_with('.'), "{}", error.detail);
            }
        }
    }
    assert!((300..1500).contains(&refused), "{refused} of 1500 were refused");
    assert!(begin.elapsed().as_secs() < 60, "a damaged file holds the reader up");
}

#[test]
fn what_is_wrong_is_said_with_its_byte() {
    let cases: [(String, ReadErrorKind, &str); 12] = [
        (String::new(), ReadErrorKind::NotATrace, "empty"),
        (String::from("  \n "), ReadErrorKind::NotATrace, "empty"),
        (String::from("SQLite format 3\0"), ReadErrorKind::NotATrace, "does not begin like JSON"),
        (String::from("{\"a\": 1}"), ReadErrorKind::NotATrace, "without `traceEvents`"),
        (String::from("{\"traceEvents\": {}}"), ReadErrorKind::Malformed, "not an array, at byte 16"),
        (String::from("{\"traceEvents\": [{\"ts\": NaN}]}"), ReadErrorKind::Malformed, "not a number, at byte 24"),
        (String::from("{\"traceEvents\": [{\"ts\": 1, }]}"), ReadErrorKind::NotATrace, "never reached"),
        (
            String::from("{\"traceEvents\": [{\"name\" 1}]}"),
            ReadErrorKind::Malformed,
            "colon is expected after a key, at byte 25",
        ),
        (
            String::from("{\"traceEvents\": []} x"),
            ReadErrorKind::Malformed,
            "more after the end of the trace, at byte 20",
        ),
        (
            String::from("{\"traceEvents\": [{\"name\": \"x"),
            ReadErrorKind::Malformed,
            "ends at byte 28 within an event, which begins at byte 17",
        ),
        (
            format!("{{\"traceEvents\": [{{\"args\": {}", "[".repeat(200)),
            ReadErrorKind::Malformed,
            "deeper than 128 levels, at byte 154",
        ),
        (
            format!("{{\"x\": {}", "{\"a\":".repeat(200)),
            ReadErrorKind::Malformed,
            "deeper than 128 levels, at byte 646",
        ),
    ];
    for (text, kind, detail) in cases {
        match parse(&text) {
            Err(error) => {
                assert_eq!(error.kind, kind, "{text}: {}", error.detail);
                assert!(error.detail.contains(detail), "{text}: {}", error.detail);
            }
            // A comma before a closing bracket is let pass.
            Ok(_) => assert_eq!(detail, "never reached", "{text}"),
        }
    }
    let cut = &gzip(b"{\"traceEvents\": [{\"name\": \"x\"}]}")[..20];
    let error = read_bytes(Path::new("t.json.gz"), cut, &ReadOptions::default()).unwrap_err();
    assert_eq!(error.kind, ReadErrorKind::Malformed);
    assert!(error.detail.contains("compressed data is damaged or cut off"), "{}", error.detail);
    let missing = read(Path::new("/nowhere/t.json"), &ReadOptions::default()).unwrap_err();
    assert_eq!(missing.kind, ReadErrorKind::Io);
}

#[test]
fn a_bare_array_may_lack_its_bracket_and_says_so() {
    let whole = parse("[{\"ph\":\"X\",\"name\":\"a\",\"ts\":1,\"dur\":2,\"pid\":1,\"tid\":1}]").unwrap();
    assert_eq!((whole.timeline.ranges.len(), whole.diagnostics.len()), (1, 0));
    for end in [",", "", " ,\n", "\n"] {
        let open =
            parse(&format!("[{{\"ph\":\"X\",\"name\":\"a\",\"ts\":1,\"dur\":2,\"pid\":1,\"tid\":1}}{end}")).unwrap();
        assert_eq!(open.timeline.ranges.len(), 1);
        assert_eq!(open.diagnostics[0].code, "trace_not_closed");
    }
    assert_eq!(parse("[{\"ph\":\"X\",\"name\":\"a\"").unwrap_err().kind, ReadErrorKind::Malformed);
    assert_eq!(parse("[").unwrap_err().kind, ReadErrorKind::Malformed);
}

#[test]
fn rows_that_make_no_sense_are_left_out_and_counted() {
    let kernel = |rest: &str| format!("{{\"ph\":\"X\",\"cat\":\"kernel\",\"name\":\"k\",\"pid\":0,\"tid\":7{rest}}}");
    let list = [
        kernel(",\"ts\":1,\"dur\":0"),
        kernel(",\"ts\":2"),
        kernel(",\"ts\":2,\"dur\":-1"),
        kernel(",\"ts\":null,\"dur\":1"),
        kernel(",\"ts\":\"x\",\"dur\":1"),
        kernel(",\"ts\":9223372036854775,\"dur\":9223372036854775"),
        String::from("7"),
        String::from("{\"ph\":\"Z\"}"),
    ];
    let import = events(&list.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(import.timeline.kernels.len(), 1);
    assert_eq!(import.timeline.kernels.duration_ns(0), 0);
    let told: Vec<(&str, u64, Severity)> =
        import.diagnostics.iter().map(|d| (d.code.as_str(), d.count, d.severity)).collect();
    assert_eq!(
        told,
        [
            ("event_without_time", 3, Severity::DataLoss),
            ("event_without_duration", 1, Severity::DataLoss),
            ("event_negative_duration", 1, Severity::DataLoss),
            ("event_not_an_object", 1, Severity::Warn),
            ("event_phase_not_read", 1, Severity::Info),
        ]
    );
}

#[test]
fn of_a_repeated_key_the_last_counts_and_a_repeated_kernel_is_pointed_out() {
    let kernel = r#"{"ph":"B","ph":"X","cat":"x","cat":"kernel","name":"a","name":"k","pid":0,"tid":7,"ts":9,"ts":1,"dur":2,
        "args":{"correlation":3,"bytes":1},"args":{"correlation":4,"correlation":5}}"#;
    let import = events(&[kernel, kernel]);
    let t = &import.timeline;
    assert_eq!((t.kernels.len(), t.kernels.correlation[0], t.text(t.kernel_names[0].short)), (2, 5, "k"));
    assert_eq!((import.diagnostics[0].code.as_str(), import.diagnostics[0].count), ("duplicate_kernels", 1));
}

#[test]
fn begins_meet_their_ends_in_any_order_of_the_file() {
    let import = events(&[
        r#"{"ph":"E","pid":1,"tid":1,"ts":10}"#,
        r#"{"ph":"E","pid":1,"tid":1,"ts":8}"#,
        r#"{"ph":"B","pid":1,"tid":1,"ts":2,"name":"outer"}"#,
        r#"{"ph":"B","pid":1,"tid":1,"ts":3,"name":"inner"}"#,
        r#"{"ph":"B","pid":1,"tid":2,"ts":4,"name":"other thread, never ended"}"#,
        r#"{"ph":"E","pid":1,"tid":1,"ts":11}"#,
    ]);
    let t = &import.timeline;
    let ranges: Vec<(&str, i64, i64, bool)> = (0..t.ranges.len())
        .map(|row| (t.text(t.ranges.name[row]), t.ranges.start_ns[row], t.ranges.end_ns[row], t.ranges.is_open(row)))
        .collect();
    assert_eq!(
        ranges,
        [("outer", 0, 8000, false), ("inner", 1000, 6000, false), ("other thread, never ended", 2000, 8000, true)]
    );
    assert_eq!(import.diagnostics[0].code, "event_end_without_begin");
}

#[test]
fn arrows_link_work_without_correlation_ids() {
    let import = events(&[
        r#"{"ph":"X","cat":"kernel","name":"k","pid":0,"tid":"stream 7","ts":20,"dur":1}"#,
        r#"{"ph":"X","cat":"kernel","name":"unlinked","pid":0,"tid":"stream 8","ts":20,"dur":1}"#,
        r#"{"ph":"f","cat":"async","id":"0x1","pid":0,"tid":"stream 7","ts":20,"bp":"e"}"#,
        r#"{"ph":"s","cat":"async","id":"0x1","pid":3,"tid":4,"ts":2}"#,
        r#"{"ph":"X","cat":"Runtime","name":"cudaLaunchKernel","pid":3,"tid":4,"ts":2,"dur":1}"#,
        r#"{"ph":"X","cat":"Runtime","name":"cudaMalloc","pid":3,"tid":4,"ts":5,"dur":1}"#,
    ]);
    let t = import.timeline;
    let call = t.kernels.call.iter().map(|call| (*call != NO_ROW).then(|| t.text(t.api.name[*call as usize])));
    assert_eq!(call.collect::<Vec<_>>(), [Some("cudaLaunchKernel"), None]);
}

#[test]
fn work_of_several_processes_in_one_file_goes_to_the_caller() {
    // Both processes use correlation 1 on stream 7 of what they call GPU 0.
    let import = events(&[
        r#"{"ph":"X","cat":"cuda_runtime","name":"a","pid":10,"tid":1,"ts":1,"dur":1,"args":{"correlation":1}}"#,
        r#"{"ph":"X","cat":"cuda_runtime","name":"b","pid":20,"tid":1,"ts":100,"dur":1,"args":{"correlation":1}}"#,
        r#"{"ph":"X","cat":"cuda_runtime","name":"c","pid":20,"tid":1,"ts":150,"dur":1,"args":{"correlation":2}}"#,
        r#"{"ph":"X","cat":"kernel","name":"ka","pid":0,"tid":7,"ts":5,"dur":1,"args":{"correlation":1}}"#,
        r#"{"ph":"X","cat":"kernel","name":"kb","pid":0,"tid":7,"ts":105,"dur":1,"args":{"correlation":1}}"#,
        r#"{"ph":"X","cat":"kernel","name":"kc","pid":0,"tid":7,"ts":155,"dur":1,"args":{"correlation":2}}"#,
        r#"{"ph":"X","cat":"kernel","name":"lost","pid":0,"tid":7,"ts":200,"dur":1,"args":{"correlation":9}}"#,
    ]);
    let t = import.timeline;
    let who: Vec<(u32, Option<&str>)> = (0..t.kernels.len())
        .map(|row| {
            let pid = t.processes[t.streams[t.kernels.stream[row] as usize].process as usize].pid;
            let call = t.kernels.call[row];
            (pid, (call != NO_ROW).then(|| t.text(t.api.name[call as usize])))
        })
        .collect();
    assert_eq!(who, [(10, Some("a")), (20, Some("b")), (20, Some("c")), (20, None)]);
    assert_eq!(t.devices.len(), 1);
}

#[test]
fn annotations_of_the_device_are_no_work_and_synchronisations_keep_their_kind() {
    let import = events(&[
        r#"{"ph":"X","cat":"gpu_user_annotation","name":"step","pid":0,"tid":7,"ts":0,"dur":1000}"#,
        r#"{"ph":"X","cat":"kernel","name":"k","pid":0,"tid":7,"ts":5,"dur":1,"args":{"stream":7,"device":0,"graph node id":3}}"#,
        r#"{"ph":"X","cat":"cuda_sync","name":"Context Sync","pid":0,"tid":-1,"ts":5,"dur":9,"args":{"cuda_sync_kind":"Context Sync","stream":-1,"device":0}}"#,
        r#"{"ph":"X","cat":"cuda_event","name":"cudaEvent","pid":0,"tid":7,"ts":0,"dur":0.001,"args":{"event_id":4,"stream":7,"device":0}}"#,
        r#"{"ph":"X","cat":"overhead","name":"Buffer Flush","pid":-1,"tid":0,"ts":6,"dur":2}"#,
    ]);
    let t = import.timeline;
    assert_eq!(t.device_span_ns(), Some((0, 1000)));
    assert_eq!((t.op_count(), t.ranges.len(), t.syncs.len(), t.overheads.len()), (1, 0, 1, 1));
    assert_eq!(t.syncs.kind[0], perfprof::trace::activity::SyncKind::CONTEXT);
    assert_eq!(t.streams[t.syncs.stream[0] as usize].stream, u64::MAX);
    assert_eq!(t.kernels.node(0), Some(3));
    // Before CUDA 12.8 the time of an event is 0, which is none.
    assert_eq!((t.events.time_ns[0], t.events.event[0]), (i64::MIN, 4));
    assert_eq!(import.diagnostics[0].code, "device_annotations_left_out");
}

#[test]
fn ranks_are_merged_on_one_clock_and_stay_apart() {
    let rank = |number: i64, base: i64, start: i64| {
        let text = format!(
            r#"{{"baseTimeNanoseconds":{base},"distributedInfo":{{"rank":{number}}},"traceEvents":[
            {{"ph":"X","cat":"cpu_op","name":"op {number}","pid":9,"tid":1,"ts":{start},"dur":3,"args":{{"External id":1,"Input Dims":[[{number}]]}}}},
            {{"ph":"X","cat":"cuda_runtime","name":"cudaLaunchKernel","pid":9,"tid":1,"ts":{start},"dur":1,"args":{{"correlation":1}}}},
            {{"ph":"X","cat":"kernel","name":"shared name","pid":0,"tid":7,"ts":{start}.5,"dur":10,"args":{{"correlation":1,"External id":1}}}},
            {{"ph":"X","cat":"kernel","name":"only {number}","pid":0,"tid":7,"ts":{start}.25,"dur":10,"args":{{"correlation":0}}}}]}}"#
        );
        read_bytes(Path::new(&format!("rank{number}.json")), text.as_bytes(), &ReadOptions::default()).unwrap()
    };
    // Rank 1 begins 7 µs later: its base is 5 µs later and its first event 2 µs more.
    let merged = merge(vec![rank(0, 1_000_000, 100), rank(1, 1_005_000, 102)]);
    assert!(merged.diagnostics.is_empty(), "{:?}", merged.diagnostics);
    let t = merged.timeline;
    let rows: Vec<_> = (0..t.kernels.len())
        .map(|row| {
            let process = &t.processes[t.streams[t.kernels.stream[row] as usize].process as usize];
            let call = t.kernels.call[row];
            (
                t.kernels.start_ns[row],
                t.text(t.kernel_names[t.kernels.name[row] as usize].short),
                process.rank,
                process.file,
                (call != NO_ROW).then(|| t.api.start_ns[call as usize]),
                t.kernels.operator_range(row).map(|range| t.text(t.ranges.name[range])),
            )
        })
        .collect();
    assert_eq!(
        rows,
        [
            (250, "only 0", Some(0), 0, None, None),
            (500, "shared name", Some(0), 0, Some(0), Some("op 0")),
            (7250, "only 1", Some(1), 1, None, None),
            (7500, "shared name", Some(1), 1, Some(7000), Some("op 1")),
        ]
    );
    assert_eq!(t.kernel_names.len(), 3);
    assert_eq!(t.devices.iter().map(|device| (device.ordinal, device.file)).collect::<Vec<_>>(), [(0, 0), (0, 1)]);
    let shapes: Vec<&str> = t.ranges.shape.iter().map(|shape| t.text(*shape)).collect();
    assert_eq!(shapes, ["[[0]]", "[[1]]"]);
}

#[test]
fn a_file_without_an_epoch_is_merged_with_a_warning() {
    let dated = parse(
        r#"{"baseTimeNanoseconds":5000000,"traceEvents":[{"ph":"X","cat":"kernel","name":"k","pid":0,"tid":7,"ts":1,"dur":1}]}"#,
    );
    let undated = events(&[
        r#"{"ph":"X","name":"a","pid":1,"tid":1,"ts":5,"dur":1}"#,
        r#"{"ph":"B","name":"b","pid":1,"tid":1,"ts":7}"#,
    ]);
    let merged = merge(vec![dated.unwrap(), undated]);
    assert_eq!(merged.diagnostics.iter().map(|d| d.code.as_str()).collect::<Vec<_>>(), ["clocks_not_aligned"]);
    let t = merged.timeline;
    assert_eq!((t.processes.len(), t.threads.len(), t.ranges.start_ns.as_slice()), (2, 1, &[0, 2000][..]));
    assert!(t.ranges.is_open(1));
    assert_eq!(merge(Vec::new()).timeline.op_count(), 0);
}

#[test]
fn merging_real_traces_keeps_the_sums_of_each() {
    let parts: Vec<Import> = real_traces().iter().map(|path| read(path, &ReadOptions::default()).unwrap()).collect();
    let mut expected: Vec<String> = parts.iter().flat_map(|part| kernel_lines(&part.timeline)).collect();
    expected.sort();
    let counts = |t: &Timeline| {
        [t.copies.len(), t.memsets.len(), t.api.len(), t.ranges.len(), t.allocations.len(), t.threads.len()]
    };
    let sums = parts.iter().map(|part| counts(&part.timeline)).fold([0; 6], |mut sum, part| {
        sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
        sum
    });
    let t = merge(parts).timeline;
    assert_eq!(kernel_lines(&t), expected);
    assert_eq!(counts(&t), sums);
}

#[test]
fn reading_tells_how_far_it_is_and_stops_when_asked() {
    use std::sync::atomic::{AtomicU64, Ordering};
    let kernel = r#"{"ph":"X","cat":"kernel","name":"k","pid":0,"tid":7,"ts":1,"dur":2}"#;
    let text = format!("[{}]", vec![kernel; 100_000].join(","));
    let (last, calls) = (AtomicU64::new(0), AtomicU64::new(0));
    let progress = |progress: perfprof::trace::import::Progress| {
        assert_eq!(progress.total, text.len() as u64);
        assert!(last.swap(progress.done, Ordering::Relaxed) <= progress.done && progress.done <= progress.total);
        calls.fetch_add(1, Ordering::Relaxed);
    };
    let options = ReadOptions { file: 3, progress: &progress, ..ReadOptions::default() };
    let import = read_bytes(Path::new("t.json"), text.as_bytes(), &options).unwrap();
    assert_eq!((import.timeline.devices[0].file, import.timeline.processes[0].file), (3, 3));
    assert_eq!(last.into_inner(), text.len() as u64);
    assert!(calls.into_inner() >= 3);
    let options = ReadOptions { cancelled: &|| true, ..ReadOptions::default() };
    let error = read_bytes(Path::new("t.json"), text.as_bytes(), &options).unwrap_err();
    assert_eq!(error.kind, ReadErrorKind::Interrupted);
}

#[test]
fn an_export_of_a_window_holds_what_touches_it() {
    use perfprof::trace::builder::TimelineBuilder;
    let mut b = TimelineBuilder::new();
    let process = b.process(1);
    let (thread, device) = (b.thread(process, 1), b.device(0));
    let stream = b.stream(process, device, 7);
    for at in 0..10 {
        b.call(thread, "cudaLaunchKernel", at * 100, at * 100 + 10, at as u32 + 1);
        b.kernel(stream, &format!("k{at}"), at * 100 + 20, at * 100 + 90, at as u32 + 1);
    }
    let mut text = Vec::new();
    writer::write(&b.finish(), &mut text, &WriteOptions { window_ns: Some((350, 520)) }).unwrap();
    let document: Value = serde_json::from_slice(&text).unwrap();
    let named = |category: &str| -> Vec<String> {
        let all = document["traceEvents"].as_array().unwrap().iter();
        all.filter(|e| e["cat"] == category).map(|e| e["name"].to_string()).collect()
    };
    assert_eq!(named("kernel"), ["\"k3\"", "\"k4\""]);
    assert_eq!(named("cuda_runtime").len(), 2);
    // The call of k3 lies before the window, so that only k4 has an arrow.
    assert_eq!(named("ac2g").len(), 2);
}
