//! Reads Nsight Compute CSV files, real and made, summarises them and joins them with timelines.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests are tests, too")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use perfprof::analysis::ncu::{Bound, BoundBasis, NameMatch, bound, join, summarise};
use perfprof::diagnostics::Severity;
use perfprof::trace::builder::TimelineBuilder;
use perfprof::trace::import::{ReadError, ReadErrorKind, ReadOptions};
use perfprof::trace::ncu::{self, NcuImport, NcuKernel};
use perfprof::trace::nsys;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

fn shared(path: &str) -> Option<PathBuf> {
    let shared = std::env::var_os("PERFPROF_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let path = shared.join("traces").join(path);
    if !path.exists() {
        eprintln!("skipped: there is no `{}`", path.display());
        return None;
    }
    Some(path)
}

fn read(path: &Path) -> NcuImport {
    ncu::read(path, &ReadOptions::default()).unwrap()
}

fn try_bytes(bytes: &[u8]) -> Result<NcuImport, ReadError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report.csv");
    std::fs::write(&path, bytes).unwrap();
    ncu::read(&path, &ReadOptions::default())
}

fn made(text: &str) -> NcuImport {
    try_bytes(text.as_bytes()).unwrap()
}

fn codes(import: &NcuImport) -> Vec<&str> {
    import.diagnostics.iter().map(|diagnostic| diagnostic.code.as_str()).collect()
}

fn value(kernel: &NcuKernel, name: &str) -> (Option<f64>, String) {
    let metric = kernel.metrics.iter().find(|metric| &*metric.name == name).unwrap_or_else(|| panic!("no {name}"));
    (metric.value.value, metric.value.unit.to_string())
}

const HEADER: &str = r#""ID","Process ID","Process Name","Host Name","Kernel Name","Context","Stream","Block Size","Grid Size","Device","CC","Section Name","Metric Name","Metric Unit","Metric Value""#;

/// A row of the long form.
fn row(id: u32, kernel: &str, metric: &str, unit: &str, value: &str) -> String {
    format!(
        r#""{id}","42","app","127.0.0.1","{kernel}","1","7","(128, 1, 1)","(16, 2, 1)","0","9.0","Section","{metric}","{unit}","{value}""#
    )
}

fn table(rows: &[String]) -> String {
    format!("{HEADER}\n{}\n", rows.join("\n"))
}

/// Units of the real files with what one of them is in base units; written down apart from the reader.
const UNITS: [(&str, f64, &str); 16] = [
    ("", 1.0, ""),
    ("%", 1.0, "%"),
    ("ns", 1.0, "ns"),
    ("us", 1e3, "ns"),
    ("byte", 1.0, "byte"),
    ("Mbyte", 1e6, "byte"),
    ("Gbyte/s", 1e9, "byte/s"),
    ("Ghz", 1e9, "hz"),
    ("byte/block", 1.0, "byte/block"),
    ("register/thread", 1.0, "register/thread"),
    ("SM", 1.0, "SM"),
    ("thread", 1.0, "thread"),
    ("block", 1.0, "block"),
    ("cycle", 1.0, "cycle"),
    ("warp", 1.0, "warp"),
    ("cluster", 1.0, "cluster"),
];

#[test]
fn every_value_of_the_real_files_is_what_a_plain_csv_reader_finds() {
    let Some(folder) = shared("ncu") else { return };
    let mut checked = 0;
    for name in [
        "candle_mmq",
        "candle_smoke",
        "dsocr_kernel.details",
        "dsocr_kernel.metrics",
        "dsocr_kernel.section_SpeedOfLight",
    ] {
        let path = folder.join(format!("{name}.csv"));
        let import = read(&path);
        let text = std::fs::read_to_string(&path).unwrap();
        let begin = text.find("\"ID\"").unwrap();
        let mut plain = csv::ReaderBuilder::new().flexible(true).from_reader(&text.as_bytes()[begin..]);
        let headers = plain.headers().unwrap().clone();
        let at = |record: &csv::StringRecord, column: &str| {
            let position = headers.iter().position(|header| header == column);
            position.and_then(|position| record.get(position)).unwrap_or("").to_owned()
        };
        let mut metrics: BTreeMap<u64, usize> = BTreeMap::new();
        let mut rules = 0;
        for record in plain.records() {
            let record = record.unwrap();
            let id: u64 = at(&record, "ID").parse().unwrap();
            let kernel = import.report.kernels.iter().find(|kernel| kernel.launch_id == id).unwrap();
            assert_eq!(*kernel.name, at(&record, "Kernel Name"));
            assert_eq!(
                format!("{:?}", kernel.grid.unwrap()),
                at(&record, "Grid Size").replace('(', "[").replace(')', "]")
            );
            assert_eq!(
                format!("{:?}", kernel.block.unwrap()),
                at(&record, "Block Size").replace('(', "[").replace(')', "]")
            );
            assert_eq!(kernel.process.unwrap().to_string(), at(&record, "Process ID"));
            let (major, minor) = kernel.compute_capability.unwrap();
            assert_eq!(format!("{major}.{minor}"), at(&record, "CC"));
            if at(&record, "Metric Name").is_empty() {
                rules += 1;
                continue;
            }
            let found = kernel.metric_in(&at(&record, "Section Name"), &at(&record, "Metric Name")).unwrap();
            let (_, factor, base) = UNITS.into_iter().find(|unit| unit.0 == at(&record, "Metric Unit")).unwrap();
            let text = at(&record, "Metric Value");
            let expected = text.replace(',', "").parse::<f64>().ok().map(|value| value * factor);
            assert_eq!((found.value, &*found.unit), (expected, base), "{name}: {text}");
            if expected.is_none() && text != "n/a" {
                assert_eq!(found.text.as_deref(), Some(text.as_str()));
            }
            *metrics.entry(id).or_default() += 1;
            checked += 1;
        }
        for kernel in &import.report.kernels {
            assert_eq!(kernel.metrics.len(), metrics[&kernel.launch_id], "{name}");
        }
        assert_eq!(import.report.kernels.iter().map(|kernel| kernel.rules.len()).sum::<usize>(), rules, "{name}");
        assert!(import.diagnostics.is_empty(), "{name}: {:?}", import.diagnostics);
    }
    assert_eq!(checked, 216 + 80 + 44 + 11 + 10);
}

#[test]
fn a_details_page_says_what_a_person_reads_in_it() {
    let Some(path) = shared("ncu/dsocr_kernel.details.csv") else { return };
    let import = read(&path);
    let [kernel] = import.report.kernels.as_slice() else { panic!("one launch") };
    assert_eq!(kernel.metric("Duration", "ns"), Some(6750.0));
    assert_eq!(kernel.metric("dram__bytes_read.sum", "byte"), Some(2.33e6));
    assert_eq!(kernel.metric("Elapsed Cycles", "cycle"), Some(13485.0));
    assert_eq!(kernel.metric("SM Active Cycles", "cycle"), Some(9495.42));
    // One name, two meanings.
    assert_eq!(kernel.metric("Memory Throughput", "%"), Some(19.66));
    assert_eq!(kernel.metric("Memory Throughput", "byte/s"), Some(345.14e9));
    assert_eq!(value(kernel, "flop_count_hp.sum"), (None, String::new()));
    let occupancy = kernel.rules.iter().find(|rule| &*rule.name == "TheoreticalOccupancy").unwrap();
    assert_eq!((occupancy.speedup_kind.as_deref(), occupancy.speedup_percent), (Some("global"), Some(80.34)));
    assert!(occupancy.description.contains("limited by the number of required registers"));

    let summary = summarise(&import.report, 10);
    let row = &summary.kernels[0];
    assert_eq!(row.duration.as_ref().map(|duration| duration.sum_ns), Some(6750.0));
    assert_eq!((row.sm_percent, row.memory_percent, row.dram_percent), (Some(9.15), Some(19.66), Some(19.66)));
    assert_eq!((row.l1_hit_percent, row.l2_hit_percent), (Some(40.73), Some(27.66)));
    assert_eq!((row.achieved_occupancy_percent, row.theoretical_occupancy_percent), (Some(11.32), Some(16.67)));
    // Bytes over time agree with the bandwidth the tool prints: its prefixes are decimal.
    assert!((row.dram_bytes_per_s.unwrap() / 345.14e9 - 1.0).abs() < 1e-3, "{:?}", row.dram_bytes_per_s);
    assert_eq!((row.bound, row.bound_basis), (Some(Bound::Latency), Some(BoundBasis::AllMemory)));
    // The only operations collected are zero, and others were not collected: that is no measurement of 0.
    assert_eq!((row.flops, row.flops_per_dram_byte), (None, None));
    assert_eq!(row.rules[0].name, "TheoreticalOccupancy");
    assert_eq!((row.rules[0].speedup_percent, row.rules.len()), (Some(80.34), 4));
}

#[test]
fn with_requested_metrics_only_the_bound_says_that_it_saw_dram_alone() {
    let Some(path) = shared("ncu/dsocr_kernel.metrics.csv") else { return };
    let row = &summarise(&read(&path).report, 10).kernels[0];
    assert_eq!((row.sm_percent, row.memory_percent, row.dram_percent), (Some(9.15), None, Some(19.66)));
    assert_eq!((row.bound, row.bound_basis), (Some(Bound::Latency), Some(BoundBasis::DramOnly)));
    assert_eq!((row.dram_read_bytes, row.dram_write_bytes), (Some(2.33e6), Some(0.0)));
}

#[test]
fn durations_of_many_launches_add_up() {
    let Some(path) = shared("ncu/candle_smoke.csv") else { return };
    let summary = summarise(&read(&path).report, 3);
    assert_eq!((summary.launches, summary.names, summary.kernels.len(), summary.names_left_out), (80, 23, 3, 20));
    let top: Vec<(&str, u64, f64)> = summary
        .kernels
        .iter()
        .map(|kernel| {
            let name = kernel.name.split('(').next().unwrap();
            (name, kernel.launches, kernel.duration.as_ref().unwrap().sum_ns)
        })
        .collect();
    // Counted with a spreadsheet's worth of Python on the same file.
    assert_eq!(
        top,
        [
            ("void mul_mat_q<8, 32, 0>", 8, 807_712.0),
            ("void mul_mat_q_stream_k_fixup<8, 32, 0>", 8, 87_168.0),
            ("is_u32_bf16", 2, 70_080.0)
        ]
    );
    let listed: f64 = top.iter().map(|row| row.2).sum();
    assert_eq!(summary.duration_sum_ns.unwrap() - summary.left_out_duration_sum_ns, listed);
}

#[test]
fn kernels_of_ncu_are_found_in_a_trace_of_nsys_though_the_tools_print_them_differently() {
    let (Some(ncu), Some(trace)) = (shared("ncu/candle_mmq.csv"), shared("nsys/llamacpp_graph_nodes.sqlite")) else {
        return;
    };
    let timeline = nsys::read(&trace, &ReadOptions::default()).unwrap().timeline;
    let joined = join(&read(&ncu).report, &timeline, 5);
    let found: Vec<_> = joined
        .matched
        .iter()
        .map(|row| {
            let name = row.ncu_name.split('(').next().unwrap();
            (name, row.matched_by, row.ncu_launches, row.timeline_launches, row.timeline_sum_ns)
        })
        .collect();
    // The figures of the trace are those of `SELECT count(*), sum(end - start) … GROUP BY demangledName`.
    assert_eq!(
        found,
        [
            ("void mul_mat_q<8, 128, 0>", NameMatch::Normalised, 9, 1293, 369_940_960),
            ("void mul_mat_q_stream_k_fixup<8, 128, 0>", NameMatch::Normalised, 3, 879, 10_025_344)
        ]
    );
    assert!(joined.only_in_ncu.is_empty());
    assert_eq!(joined.only_in_timeline.len(), 5);
    assert_eq!(joined.matched_sum_ns, 369_940_960 + 10_025_344);
    assert_eq!(
        joined.timeline_sum_ns,
        (0..timeline.kernels.len()).map(|row| timeline.kernels.duration_ns(row)).sum::<i64>()
    );
}

#[test]
fn an_instance_of_a_template_is_never_taken_for_another() {
    let mut b = TimelineBuilder::new();
    let process = b.process(1);
    let device = b.device(0);
    let stream = b.stream(process, device, 7);
    for (name, start) in
        [("void k<(int)64>(float *)", 0), ("void k<(int)128>(float *)", 100), ("plain", 200), ("bare", 300)]
    {
        b.kernel(stream, name, start, start + 10, 0);
    }
    let timeline = b.finish();
    let time = |id, name| row(id, name, "gpu__time_duration.sum", "ns", "20");
    let import = made(&table(&[
        time(0, "k"),
        time(1, "k<128>"),
        time(2, "void k<32>(float *)"),
        time(3, "plain"),
        time(4, "void bare<4>(int)"),
        time(5, "nowhere"),
    ]));
    let joined = join(&import.report, &timeline, 10);
    let by: BTreeMap<&str, (NameMatch, u64)> =
        joined.matched.iter().map(|row| (row.ncu_name.as_str(), (row.matched_by, row.timeline_name_count))).collect();
    assert_eq!(
        by,
        BTreeMap::from([
            ("k", (NameMatch::Base, 2)),
            ("k<128>", (NameMatch::TemplateArguments, 1)),
            ("plain", (NameMatch::Exact, 1)),
            ("void bare<4>(int)", (NameMatch::Base, 1)),
        ])
    );
    let missing: Vec<(&str, u64)> = joined.only_in_ncu.iter().map(|row| (row.name.as_str(), row.same_base)).collect();
    assert_eq!(missing, [("nowhere", 0), ("void k<32>(float *)", 2)]);
    let exact = joined.matched.iter().find(|row| row.ncu_name == "plain").unwrap();
    assert_eq!((exact.ncu_mean_ns, exact.timeline_mean_ns, exact.ncu_to_timeline), (Some(20.0), Some(10.0), Some(2.0)));
    let short = join(&import.report, &timeline, 1);
    assert_eq!((short.matched.len(), short.matched_left_out), (1, 3));
    assert_eq!((short.only_in_ncu.len(), short.only_in_ncu_left_out), (1, 1));
    assert_eq!((short.matched_sum_ns, short.matched[0].ncu_name.as_str()), (joined.matched_sum_ns, "k"));
    // Each kernel of the timeline counts once, though two names of the report match one.
    assert_eq!((joined.matched_sum_ns, joined.timeline_sum_ns), (40, 40));
}

#[test]
fn the_wide_form_has_its_units_in_a_row_of_their_own() {
    let import = made(concat!(
        "==PROF== Connected to process 42 (/usr/bin/app)\n",
        "loss: 0.25, step \"one\n",
        r#""ID","Process ID","Process Name","Host Name","Kernel Name","Context","Stream","Block Size","Grid Size","Device","CC","dram__bytes_read.sum","gpu__time_duration.sum","launch__registers_per_thread","launch__shared_mem_per_block_static","launch__func_cache_config","odd""#,
        "\n",
        r#""","","","","","","","","","","","Gbyte","msecond","register/thread","Kbyte/block","","furlong""#,
        "\n",
        r#""0","42","app","host","k<int, 2>(float *)","1","7","(128, 1, 1)","(64, 18, 1)","0","9.0","1.5","0.244544","158","4.096","CachePreferNone","3""#,
        "\n",
        r#""1","42","app","host","k<int, 2>(float *)","1","7","(128, 1, 1)","(64, 18, 1)","0","9.0","n/a","2","158","4.096","CachePreferNone","""#,
        "\n==PROF== Disconnected from process 42\n",
    ));
    let [first, second] = import.report.kernels.as_slice() else { panic!("{:?}", import.report.kernels) };
    assert_eq!(
        (first.launch_id, first.process, first.grid, first.block),
        (0, Some(42), Some([64, 18, 1]), Some([128, 1, 1]))
    );
    assert_eq!(value(first, "dram__bytes_read.sum"), (Some(1.5e9), "byte".to_owned()));
    assert_eq!(value(first, "gpu__time_duration.sum"), (Some(244_544.0), "ns".to_owned()));
    assert_eq!(value(first, "launch__shared_mem_per_block_static"), (Some(4096.0), "byte/block".to_owned()));
    assert_eq!(value(first, "odd"), (Some(3.0), "furlong".to_owned()));
    assert_eq!(value(second, "dram__bytes_read.sum").0, None);
    assert_eq!(value(second, "gpu__time_duration.sum").0, Some(2e6));
    assert_eq!(codes(&import), ["ncu_unknown_unit"]);
}

#[test]
fn a_wide_form_of_chosen_columns_needs_no_index() {
    let import = made(concat!(
        "\"Kernel Name\",\"Grid Size\",\"gpu__time_duration.sum\"\n\"\",\"\",\"us\"\n",
        "\"a\",\"(1, 1, 1)\",\"2\"\n\"a\",\"(1, 1, 1)\",\"3\"\n",
    ));
    let times: Vec<_> = import.report.kernels.iter().map(|kernel| value(kernel, "gpu__time_duration.sum").0).collect();
    assert_eq!(times, [Some(2000.0), Some(3000.0)]);
}

#[test]
fn units_of_old_and_new_versions_mean_the_same() {
    let import = made(&table(&[
        row(0, "k", "a", "usecond", "6.75"),
        row(0, "k", "b", "us", "6.75"),
        row(0, "k", "c", "ms", "6.75"),
        row(0, "k", "d", "ns", "6.75"),
        row(0, "k", "e", "second", "1.5"),
        row(0, "k", "f", "cycle/nsecond", "1.98"),
        row(0, "k", "g", "Ghz", "1.98"),
        row(0, "k", "h", "Gbyte/second", "2"),
    ]));
    let kernel = &import.report.kernels[0];
    for (name, expected, unit) in [
        ("a", 6750.0, "ns"),
        ("b", 6750.0, "ns"),
        ("c", 6_750_000.0, "ns"),
        ("d", 6.75, "ns"),
        ("e", 1.5e9, "ns"),
        ("f", 1.98e9, "hz"),
        ("g", 1.98e9, "hz"),
        ("h", 2e9, "byte/s"),
    ] {
        assert_eq!(value(kernel, name), (Some(expected), unit.to_owned()), "{name}");
    }
    assert!(import.diagnostics.is_empty(), "{:?}", import.diagnostics);
}

#[test]
fn separators_are_read_as_the_file_uses_them() {
    let read = |values: &[&str]| -> (Vec<Option<f64>>, Vec<String>) {
        let rows: Vec<String> =
            values.iter().enumerate().map(|(at, value)| row(0, "k", &format!("m{at}"), "", value)).collect();
        let import = made(&table(&rows));
        let found = import.report.kernels[0].metrics.iter().map(|metric| metric.value.value).collect();
        (found, codes(&import).iter().map(|code| (*code).to_owned()).collect())
    };
    // English, and English where nothing says otherwise.
    assert_eq!(read(&["13,485", "9,495.42", "1.234"]).0, [Some(13485.0), Some(9495.42), Some(1.234)]);
    assert_eq!(read(&["13,485", "1.234"]).0, [Some(13485.0), Some(1.234)]);
    // Continental: one certain number decides for all, also for those before it.
    assert_eq!(
        read(&["13,485", "1.234", "27.595.520", "65,77"]).0,
        [Some(13.485), Some(1234.0), Some(27_595_520.0), Some(65.77)]
    );
    // Both: what allows two readings has none.
    let (found, codes) = read(&["13,485", "27.595.520", "6.75"]);
    assert_eq!(found, [None, Some(27_595_520.0), Some(6.75)]);
    assert_eq!(codes, ["ncu_ambiguous_number"]);
}

#[test]
fn output_of_the_program_between_the_rows_is_passed_over() {
    let text = format!(
        "hello\n\"quoted\n{HEADER}\n{}\nprogress, 50%, \"half\n==WARNING== Found 2 invalid metrics\n{}\n\"a\",\"b\"\n",
        row(0, "k", "m", "", "1"),
        row(1, "k", "m", "", "2")
    );
    let import = made(&text);
    assert_eq!(import.report.kernels.len(), 2);
    assert_eq!(codes(&import), ["ncu_lines_ignored", "ncu_warning"]);
    assert_eq!(import.diagnostics[0].count, 2);
    assert!(import.diagnostics[1].first.contains("Found 2 invalid metrics"));
}

#[test]
fn launch_indices_begin_anew_after_another_header() {
    let one = table(&[row(0, "k", "m", "", "1")]);
    let import = made(&format!("{one}{one}"));
    assert_eq!(import.report.kernels.len(), 2);
}

#[test]
fn a_file_of_windows_is_read_like_any_other() {
    let text =
        table(&[row(0, "größe<int>", "m", "us", "1.5"), row(0, "größe<int>", "n", "", "2")]).replace('\n', "\r\n");
    let expected = made(&text).report.kernels;
    assert_eq!(&*expected[0].name, "größe<int>");
    assert_eq!(try_bytes(&[b"\xEF\xBB\xBF", text.as_bytes()].concat()).unwrap().report.kernels, expected);
    for (mark, order) in [([0xFF, 0xFE], u16::to_le_bytes as fn(u16) -> [u8; 2]), ([0xFE, 0xFF], u16::to_be_bytes)] {
        let mut bytes = mark.to_vec();
        bytes.extend(text.encode_utf16().flat_map(order));
        assert_eq!(try_bytes(&bytes).unwrap().report.kernels, expected);
    }
}

#[test]
fn a_refused_profile_says_how_to_allow_it() {
    let text = "==PROF== Connected to process 42 (app)\n==ERROR== ERR_NVGPUCTRPERM - The user does not have permission to access NVIDIA GPU Performance Counters on the target device 0.\n==PROF== Disconnected from process 42\n==WARNING== No kernels were profiled.\n";
    let error = try_bytes(text.as_bytes()).unwrap_err();
    assert_eq!(error.kind, ReadErrorKind::Tool);
    assert!(error.detail.contains("ERR_NVGPUCTRPERM"), "{}", error.detail);
    assert!(error.hints.iter().any(|hint| hint.contains("NVreg_RestrictProfilingToAdminUsers=0")), "{:?}", error.hints);
    // What was profiled before counts all the same.
    let import = made(&format!("{}{text}", table(&[row(0, "k", "m", "", "1")])));
    assert_eq!((import.report.kernels.len(), codes(&import)), (1, vec!["ncu_error"]));
}

#[test]
fn a_profile_without_kernels_is_no_damaged_file() {
    let text = "==PROF== Connected to process 42 (app)\n==WARNING== No kernels were profiled.\n==WARNING== Profiling kernels launched by child processes requires the --target-processes all option.\n";
    let mut imports = vec![made(text), made(&format!("{HEADER}\n"))];
    imports.extend(shared("ncu/no_header_only_warnings.csv").map(|path| read(&path)));
    for import in imports {
        assert!(import.report.kernels.is_empty());
        let note = import.diagnostics.iter().find(|note| note.code == "ncu_no_kernels").unwrap();
        assert_eq!(note.severity, Severity::Error);
        assert_eq!(summarise(&import.report, 5).kernels, []);
    }
}

#[test]
fn what_is_no_output_of_ncu_is_said_to_be_none() {
    let kinds = |bytes: &[u8]| try_bytes(bytes).unwrap_err().kind;
    for bytes in [
        &b""[..],
        b"\n\n",
        b"{\"traceEvents\": []}",
        b"version https://git-lfs.github.com/spec/v1\n",
        b"a,b,c\n1,2,3\n",
        b"SQLite format 3\0\0\xFF",
        b"\xFF\xFE",
        b"Kernel Name",
    ] {
        assert_eq!(kinds(bytes), ReadErrorKind::NotATrace, "{}", String::from_utf8_lossy(bytes));
    }
    let missing = ncu::read(Path::new("/no/such/file.csv"), &ReadOptions::default()).unwrap_err();
    assert_eq!(missing.kind, ReadErrorKind::Io);
    let stop = ReadOptions { cancelled: &|| true, ..ReadOptions::default() };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report.csv");
    std::fs::write(&path, table(&[row(0, "k", "m", "", "1")])).unwrap();
    assert_eq!(ncu::read(&path, &stop).unwrap_err().kind, ReadErrorKind::Interrupted);
}

#[test]
fn bounds_follow_the_rule_of_the_tool() {
    for (sm, memory, expected) in [
        (59.9, 59.9, Bound::Latency),
        (0.0, 0.0, Bound::Latency),
        (60.0, 10.0, Bound::Compute),
        (10.0, 60.0, Bound::Memory),
        (70.0, 61.0, Bound::Balanced),
        (70.0, 60.0, Bound::Compute),
        (60.0, 70.0, Bound::Memory),
        (79.9, 79.9, Bound::Balanced),
        // At 80 the larger is the limit, however near the other is.
        (80.0, 79.0, Bound::Compute),
        (79.0, 80.0, Bound::Memory),
        (95.0, 95.0, Bound::Compute),
    ] {
        assert_eq!(bound(sm, memory), expected, "{sm} {memory}");
    }
}

#[test]
fn launches_of_a_kernel_weigh_by_their_duration() {
    let op = |kind: &str| format!("smsp__sass_thread_inst_executed_op_f{kind}_pred_on.sum");
    let import = made(&table(&[
        row(0, "k", "gpu__time_duration.sum", "us", "1"),
        row(0, "k", "sm__throughput.avg.pct_of_peak_sustained_elapsed", "%", "90"),
        row(0, "k", "gpu__compute_memory_throughput.avg.pct_of_peak_sustained_elapsed", "%", "20"),
        row(0, "k", "dram__bytes_read.sum", "Kbyte", "2"),
        row(0, "k", "dram__bytes_write.sum", "byte", "0"),
        row(0, "k", &op("add"), "inst", "100"),
        row(0, "k", &op("mul"), "inst", "200"),
        row(0, "k", &op("fma"), "inst", "350"),
        row(0, "k", "sm__ops_path_tensor_src_bf16_dst_fp32_sparsity_off.sum", "", "5,000"),
        row(0, "k", "sm__ops_path_tensor_src_bf16_dst_fp32_sparsity_on.sum", "", "1,000"),
        row(0, "k", "sm__ops_path_tensor_src_int8.sum", "", "9,999"),
        row(0, "k", "Registers Per Thread", "register/thread", "64"),
        row(1, "k", "gpu__time_duration.sum", "us", "3"),
        row(1, "k", "sm__throughput.avg.pct_of_peak_sustained_elapsed", "%", "50"),
        row(1, "k", "gpu__compute_memory_throughput.avg.pct_of_peak_sustained_elapsed", "%", "20"),
        row(1, "k", "dram__bytes_read.sum", "Kbyte", "4"),
        row(1, "k", "dram__bytes_write.sum", "Kbyte", "2"),
        row(1, "k", "Registers Per Thread", "register/thread", "96"),
    ]));
    let summary = summarise(&import.report, 10);
    let kernel = &summary.kernels[0];
    let duration = kernel.duration.as_ref().unwrap();
    assert_eq!((duration.sum_ns, duration.mean_ns, duration.min_ns, duration.max_ns), (4000.0, 2000.0, 1000.0, 3000.0));
    // (90 · 1 + 50 · 3) / 4
    assert_eq!((kernel.sm_percent, kernel.memory_percent), (Some(60.0), Some(20.0)));
    assert_eq!((kernel.bound, kernel.registers_per_thread), (Some(Bound::Compute), Some(96)));
    // 8 kB in 4 us
    assert!((kernel.dram_bytes_per_s.unwrap() - 2e9).abs() < 1.0);
    // 100 + 200 + 2 · 350 and 6000 of the tensor cores; integers are no floating point.
    assert_eq!(kernel.flops, Some(7000.0));
    assert_eq!(kernel.flop_parts, ["fp32", "tensor bf16 to fp32"]);
    // Of the one launch that has both: 7000 over 2000.
    assert_eq!(kernel.flops_per_dram_byte, Some(3.5));
    assert!((kernel.flops_per_s.unwrap() - 7e9).abs() < 1.0);
}

/// Damages bytes: flips, cuts, repeats and moves.
fn damage(bytes: &[u8], random: &mut StdRng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..random.random_range(1..6) {
        if bytes.is_empty() {
            break;
        }
        let at = random.random_range(0..bytes.len());
        let end = (at + random.random_range(1..200)).min(bytes.len());
        match random.random_range(0..6) {
            0 => bytes[at] = random.random(),
            1 => bytes.truncate(at),
            2 => drop(bytes.drain(at..end)),
            3 => {
                let piece = bytes[at..end].to_vec();
                let to = random.random_range(0..=bytes.len());
                bytes.splice(to..to, piece);
            }
            4 => bytes[at] = b"\",\n\r.-(x"[random.random_range(0..8)],
            _ => {
                let piece = [
                    &b"1e308"[..],
                    b"-",
                    b"99999999999999999999",
                    b"\"ID\",\"Kernel Name\"",
                    b"\xFF",
                    b"(4294967296, 1, 1)",
                ];
                bytes.splice(at..at, piece[random.random_range(0..piece.len())].iter().copied());
            }
        }
    }
    bytes
}

#[test]
fn damaged_files_never_panic_and_never_give_a_number_that_is_none() {
    let wide = "\"ID\",\"Kernel Name\",\"a\",\"b\"\n\"\",\"\",\"us\",\"Mbyte\"\n\"0\",\"k<1>(int)\",\"1,234\",\"2.5\"\n\"1\",\"k\",\"1\",\"n/a\"\n";
    let mut originals = vec![
        wide.as_bytes().to_vec(),
        table(&[row(0, "k", "m", "us", "1,5"), row(1, "k", "m", "us", "1.500")]).into_bytes(),
    ];
    if let Some(folder) = shared("ncu") {
        for name in ["dsocr_kernel.details.csv", "candle_smoke.csv"] {
            originals.push(std::fs::read(folder.join(name)).unwrap());
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report.csv");
    let seed = 20_261_125;
    let mut random = StdRng::seed_from_u64(seed);
    let mut read_whole = 0;
    for round in 0..1200 {
        let original = &originals[round % originals.len()];
        std::fs::write(&path, damage(original, &mut random)).unwrap();
        let Ok(import) = ncu::read(&path, &ReadOptions::default()) else { continue };
        for metric in import.report.kernels.iter().flat_map(|kernel| &kernel.metrics) {
            assert!(metric.value.value.is_none_or(f64::is_finite), "seed {seed} round {round}: {metric:?}");
        }
        let summary = summarise(&import.report, 10);
        assert_eq!(summary.launches, import.report.kernels.len() as u64, "seed {seed} round {round}");
        join(&import.report, &TimelineBuilder::new().finish(), 3);
        read_whole += 1;
    }
    assert!(read_whole > 600, "only {read_whole} damaged files could be read at all");
}
