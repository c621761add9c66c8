//! The reports of nsys against NVIDIA's own output, against SQL on the same files, and against brute force on small random timelines.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests are tests, too")]

mod brute_force;
mod sql;

use std::path::{Path, PathBuf};

use perfprof::analysis::nsys_reports::{NsysReport, render};
use perfprof::trace::activity::{CopyKind, KernelName, KernelRow, LaunchConfig};
use perfprof::trace::builder::TimelineBuilder;
use perfprof::trace::host::{ApiClass, RangeKind};
use perfprof::trace::import::ReadOptions;
use perfprof::trace::nsys;
use perfprof::trace::timeline::Timeline;

/// The folder of real traces, or `None` with a message where it is absent.
fn traces() -> Option<PathBuf> {
    let shared = std::env::var_os("PERFPROF_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let traces = shared.join("traces");
    if traces.join("nsys_stats").is_dir() {
        return Some(traces);
    }
    eprintln!("skipped: no traces in `{}`", shared.display());
    None
}

fn read(path: &Path) -> Timeline {
    nsys::read(path, &ReadOptions::default()).unwrap().timeline
}

fn report(name: &str, timeline: &Timeline) -> String {
    render(name.parse::<NsysReport>().unwrap(), timeline)
}

/// The rows of a report without its header, cell by cell; no cell of these tests has a comma.
fn cells(text: &str) -> Vec<Vec<&str>> {
    text.lines().skip(1).map(|line| line.split(',').collect()).collect()
}

#[test]
fn every_output_of_nsys_stats_is_reproduced_byte_for_byte() {
    let Some(traces) = traces() else { return };
    let mut outputs: Vec<PathBuf> =
        std::fs::read_dir(traces.join("nsys_stats")).unwrap().map(|entry| entry.unwrap().path()).collect();
    outputs.sort();
    assert!(outputs.len() >= 9, "{outputs:?}");
    for output in outputs {
        let name = output.file_name().unwrap().to_str().unwrap().to_owned();
        let (stem, rest) = name.split_once('.').unwrap();
        let timeline = read(&traces.join("nsys").join(format!("{stem}.sqlite")));
        let ours = report(rest.strip_suffix(".csv").unwrap(), &timeline);
        assert_eq!(ours, std::fs::read_to_string(&output).unwrap(), "{name}");
    }
}

#[test]
fn a_trace_with_nothing_in_it_gives_no_text_in_any_report() {
    for (name, _, _) in perfprof::analysis::nsys_reports::REPORTS {
        assert_eq!(report(name, &TimelineBuilder::new().finish()), "", "{name}");
    }
}

#[test]
fn kernels_are_grouped_by_the_name_asked_for_and_a_missing_mangled_name_is_replaced() {
    let mut b = TimelineBuilder::new();
    let p = b.process(1);
    let device = b.device(0);
    let stream = b.stream(p, device, 7);
    let t = b.timeline();
    let texts = ["void f<int>(int)", "void f<float>(float)", "f", "_Z1f"].map(|text| t.strings.intern(text));
    let names = [
        t.kernel_name(KernelName { demangled: texts[0], short: texts[2], mangled: Some(texts[3]) }),
        t.kernel_name(KernelName { demangled: texts[1], short: texts[2], mangled: None }),
    ];
    let config = t.launch_config(LaunchConfig { grid: [1, 20, 3], block: [1024, 1, 1], ..LaunchConfig::default() });
    for (start, name) in [(0, names[0]), (100, names[1]), (200, names[1])] {
        t.push_kernel(KernelRow { start_ns: start, end_ns: start + 10, name, stream, config, ..KernelRow::default() });
    }
    let t = b.finish();
    let header = "Time (%),Total Time (ns),Instances,Avg (ns),Med (ns),Min (ns),Max (ns),StdDev (ns),";
    assert_eq!(
        report("cuda_gpu_kern_sum", &t),
        format!(
            "{header}Name\n66.7,20,2,10.0,10.0,10,10,0.0,void f<float>(float)\n33.3,10,1,10.0,10.0,10,10,0.0,void f<int>(int)\n"
        )
    );
    assert_eq!(report("cuda_gpu_kern_sum:base", &t), format!("{header}Name\n100.0,30,3,10.0,10.0,10,10,0.0,f\n"));
    assert_eq!(
        report("cuda_gpu_kern_sum:mangled", &t),
        format!(
            "{header}Name\n66.7,20,2,10.0,10.0,10,10,0.0,void f<float>(float)\n33.3,10,1,10.0,10.0,10,10,0.0,_Z1f\n"
        )
    );
    assert_eq!(
        report("cuda_gpu_kern_gb_sum:base", &t),
        format!("{header}GridXYZ,BlockXYZ,Name\n100.0,30,3,10.0,10.0,10,10,0.0,   1   20    3,1024    1    1,f\n")
    );
}

#[test]
fn kernels_of_equal_time_come_by_count_and_then_by_name() {
    let mut b = TimelineBuilder::new();
    let p = b.process(1);
    let device = b.device(0);
    let stream = b.stream(p, device, 7);
    for (name, start, duration) in [("b", 0, 10), ("twice", 20, 5), ("a", 30, 10), ("twice", 50, 5)] {
        b.kernel(stream, name, start, start + duration, 0);
    }
    let text = report("cuda_gpu_kern_sum", &b.finish());
    let names: Vec<&str> = cells(&text).iter().map(|row| row[8]).collect();
    assert_eq!(names, ["a", "b", "twice"]);
}

#[test]
fn memory_operations_are_named_as_the_file_names_them_and_sizes_are_in_millions_of_bytes() {
    let mut b = TimelineBuilder::new();
    let p = b.process(1);
    let device = b.device(0);
    let stream = b.stream(p, device, 7);
    b.copy(stream, CopyKind::HOST_TO_DEVICE, 0, 10, 0, 1_500_000);
    b.copy(stream, CopyKind::HOST_TO_DEVICE, 20, 25, 0, 500_000);
    b.copy(stream, CopyKind::PEER_TO_PEER, 30, 31, 0, 4);
    b.memset(stream, 40, 41, 0, 8);
    b.timeline().copy_labels = vec![(1, "HtoD".to_owned()), (10, String::new())];
    let t = b.finish();
    assert_eq!(
        report("cuda_gpu_mem_size_sum", &t),
        "Total (MB),Count,Avg (MB),Med (MB),Min (MB),Max (MB),StdDev (MB),Operation\n\
         2.000,2,1.000,1.000,0.500,1.500,0.707,[CUDA memcpy HtoD]\n\
         0.000,1,0.000,0.000,0.000,0.000,0.000,[CUDA memset]\n\
         0.000,1,0.000,0.000,0.000,0.000,0.000,[CUDA memcpy Peer-to-Peer]\n"
    );
    let text = report("cuda_gpu_mem_time_sum", &t);
    let rows: Vec<(&str, &str)> = cells(&text).iter().map(|row| (row[1], row[8])).collect();
    assert_eq!(rows, [("15", "[CUDA memcpy HtoD]"), ("1", "[CUDA memcpy Peer-to-Peer]"), ("1", "[CUDA memset]")]);
}

#[test]
fn functions_of_equal_time_come_in_the_order_of_their_numbers_in_the_file() {
    let mut b = TimelineBuilder::new();
    let p = b.process(1);
    let thread = b.thread(p, 1);
    b.call(thread, "late_v1000", 10, 20, 1);
    b.call(thread, "early_v1000", 5, 15, 2);
    b.call(thread, "early_v2000", 30, 32, 3);
    let names = |t: &Timeline| -> Vec<String> {
        cells(&report("cuda_api_sum", t)).iter().map(|row| format!("{} {}", row[1], row[8])).collect()
    };
    let mut t = b.finish();
    // Without numbers by the first call; versions of one function stay apart.
    assert_eq!(names(&t), ["10 early", "10 late", "2 early"]);
    t.string_ids = t.api.name.iter().map(|name| (*name, if t.text(*name) == "late_v1000" { 3 } else { 8 })).collect();
    assert_eq!(names(&t), ["10 late", "10 early", "2 early"]);
    // In the table with the work of the GPU they are one.
    let text = report("cuda_api_gpu_sum", &t);
    let rows: Vec<(&str, &str)> = cells(&text).iter().map(|row| (row[1], row[9])).collect();
    assert_eq!(rows, [("12", "early"), ("10", "late")]);
}

#[test]
fn a_kernel_that_starts_before_its_call_returns_has_no_wait() {
    let mut b = TimelineBuilder::new();
    let p = b.process(42);
    let thread = b.thread(p, 43);
    let device = b.device(3);
    let stream = b.stream(p, device, 7);
    b.call(thread, "cudaLaunchKernel_v7000", 100, 200, 1);
    b.call(thread, "cudaLaunchKernel_v7000", 300, 400, 2);
    b.call(thread, "cudaLaunchKernel_v7000", 500, 600, 3);
    b.kernel(stream, "k", 150, 190, 1);
    b.kernel(stream, "k", 430, 470, 2);
    b.kernel(stream, "early", 550, 650, 3);
    b.kernel(stream, "not launched here", 700, 800, 9);
    let text = report("cuda_kern_exec_sum", &b.finish());
    let rows: Vec<&str> = text.lines().skip(1).collect();
    assert_eq!(
        rows,
        [
            "42,43,3,1,0,150.0,150.0,150,150,0.0,100.0,100.0,100,100,0.0,,,,,0.0,100.0,100.0,100,100,0.0,cudaLaunchKernel,early",
            "42,43,3,2,1,135.0,135.0,100,170,49.5,100.0,100.0,100,100,0.0,30.0,30.0,30,30,0.0,40.0,40.0,40,40,0.0,cudaLaunchKernel,k",
        ]
    );
}

#[test]
fn a_second_record_of_a_call_counts_as_nsys_counts_it() {
    let mut b = TimelineBuilder::new();
    let p = b.process(1);
    let thread = b.thread(p, 1);
    let device = b.device(0);
    let stream = b.stream(p, device, 7);
    b.range(thread, "r", 0, Some(100));
    b.call(thread, "launch", 10, 20, 1);
    b.call(thread, "launch", 8, 22, 1);
    *b.timeline().api.class.last_mut().unwrap() = ApiClass::BACKTRACE;
    b.kernel(stream, "k", 30, 40, 1);
    let t = b.finish();
    let first = |name: &str, column: usize| cells(&report(name, &t))[0][column].to_owned();
    assert_eq!(first("cuda_api_sum", 2), "2");
    // Joined twice: twice the time, but one kernel, and one operation in the projection.
    assert_eq!((first("nvtx_kern_sum", 5), first("nvtx_kern_sum", 6)), ("1".to_owned(), "20".to_owned()));
    assert_eq!(first("nvtx_gpu_proj_sum", 10), "1");
}

#[test]
fn an_open_range_lasts_to_the_last_record_and_an_empty_total_has_no_share() {
    let mut b = TimelineBuilder::new();
    let p = b.process(1);
    let thread = b.thread(p, 1);
    b.range(thread, "open", 10, None);
    b.range(thread, "closed", 20, Some(30));
    let name = b.timeline().strings.intern("mark");
    let marks = &mut b.timeline().marks;
    marks.time_ns.push(50);
    marks.thread.push(thread);
    marks.name.push(name);
    marks.domain.push(name);
    b.range_of(RangeKind::StartEnd, thread, "lib", "started", 5, Some(6));
    assert_eq!(
        report("nvtx_sum", &b.finish()),
        "Time (%),Total Time (ns),Instances,Avg (ns),Med (ns),Min (ns),Max (ns),StdDev (ns),Style,Range\n\
         78.4,40,1,40.0,40.0,40,40,0.0,PushPop,:open\n\
         19.6,10,1,10.0,10.0,10,10,0.0,PushPop,:closed\n\
         2.0,1,1,1.0,1.0,1,1,0.0,StartEnd,lib:started\n"
    );
    let mut b = TimelineBuilder::new();
    let p = b.process(1);
    let thread = b.thread(p, 1);
    b.range(thread, "mistralrs.bench.decode", 7, Some(7));
    // As nsys 2025.6.3 printed it.
    assert_eq!(
        report("nvtx_sum", &b.finish()),
        "Time (%),Total Time (ns),Instances,Avg (ns),Med (ns),Min (ns),Max (ns),StdDev (ns),Style,Range\n\
         ,0,1,0.0,0.0,0,0,0.0,PushPop,:mistralrs.bench.decode\n"
    );
}

#[test]
fn the_name_of_a_kernel_can_begin_with_its_innermost_range() {
    let mut b = TimelineBuilder::new();
    let p = b.process(1);
    let thread = b.thread(p, 1);
    let device = b.device(0);
    let stream = b.stream(p, device, 7);
    b.range(thread, "outer", 0, Some(100));
    b.range(thread, "inner", 10, Some(50));
    b.range_of(RangeKind::StartEnd, thread, "lib", "crossing", 40, Some(300));
    for (correlation, start) in [(1, 20), (2, 60), (3, 150), (4, 400)] {
        b.call(thread, "launch", start, start + 5, correlation);
        b.kernel(stream, "k", start + 1000, start + 1000 + i64::from(correlation), correlation);
    }
    let text = report("cuda_gpu_kern_sum:nvtx-name", &b.finish());
    let rows: Vec<(&str, &str)> = cells(&text).iter().map(|row| (row[1], row[8])).collect();
    // The second call is in the outer range (100 ns) and the crossing one (260 ns): the shorter is the inner.
    assert_eq!(rows, [("4", "k"), ("3", "lib:crossing/k"), ("2", "outer/k"), ("1", "inner/k")]);
}

#[test]
fn the_first_gaps_in_time_are_shown_by_length_and_the_profiler_ends_a_gap() {
    let mut b = TimelineBuilder::new();
    let p = b.process(9);
    let thread = b.thread(p, 9);
    let device = b.device(2);
    let stream = b.stream(p, device, 7);
    let ms = 1_000_000;
    for (start, end) in [(1, 2), (4, 5), (10, 11), (20, 21), (22, 23)] {
        b.kernel(stream, "k", start * ms, end * ms, 0);
    }
    b.overhead(Some(thread), "CUDA profiling stop overhead", 14 * ms, 15 * ms);
    b.overhead(Some(thread), "Buffer flush", 17 * ms, 18 * ms);
    let t = b.finish();
    let rows = |name: &str| report(name, &t).lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    // The gaps of 2, 5, 3, 5 and 1 ms; one as long as the threshold is none.
    assert_eq!(
        rows("gpu_gaps:gap=1"),
        ["1,5000000,5000000,9,2,1", "2,5000000,15000000,9,2,1", "3,3000000,11000000,9,2,1", "4,2000000,2000000,9,2,1",]
    );
    assert_eq!(
        rows("gpu_gaps:gap=1:rows=3"),
        ["1,5000000,5000000,9,2,1", "2,3000000,11000000,9,2,1", "3,2000000,2000000,9,2,1"]
    );
    // Only what touches the time from 10 ms on.
    assert_eq!(rows("gpu_gaps:gap=4:start=10000000"), ["1,5000000,15000000,9,2,1"]);
    assert_eq!(rows("gpu_gaps"), [""; 0]);
}

#[test]
fn work_on_two_streams_is_added_up_and_stretches_of_little_use_are_joined() {
    let mut b = TimelineBuilder::new();
    let p = b.process(9);
    let device = b.device(0);
    let (one, two) = (b.stream(p, device, 1), b.stream(p, device, 2));
    // Of ten parts of 100 ns: 150 %, then 0 %, 40 %, then 100 % to the end.
    b.kernel(one, "k", 1, 101, 0);
    b.kernel(two, "k", 1, 51, 0);
    b.kernel(one, "k", 201, 241, 0);
    b.kernel(one, "k", 301, 1001, 0);
    assert_eq!(
        report("gpu_time_util:chunks=10", &b.finish()),
        "Row#,In-Use (%),Duration (ns),Start (ns),PID,Device ID,Context ID\n1,20.0,200,101,9,0,1\n"
    );
}
