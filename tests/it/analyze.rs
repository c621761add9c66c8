//! `perfprof analyze` as a user runs it: real files, generated ones, bad ones, and what it leaves behind.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests fail as tests do, and say what they skip"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use perfprof::trace::activity::{CopyKind, SyncKind};
use perfprof::trace::builder::TimelineBuilder;
use perfprof::trace::nsys::writer;
use perfprof::trace::timeline::Timeline;
use serde_json::Value;

use crate::sandbox::{Outcome, Sandbox};

fn shared(below: &str) -> Option<PathBuf> {
    let root = std::env::var_os("PERFPROF_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let path = root.join(below);
    if !path.exists() {
        eprintln!("skipped: no `{}`", path.display());
        return None;
    }
    Some(path.canonicalize().unwrap())
}

fn files_in(below: &str) -> Vec<PathBuf> {
    let Some(folder) = shared(below) else { return Vec::new() };
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Requests of one prefill and `steps` decode steps of `layers` layers; `wait_ns` of host work before each decode launch.
fn inference(requests: u32, steps: u32, layers: u32, wait_ns: i64) -> Timeline {
    let mut b = TimelineBuilder::new();
    let process = b.process(4242);
    let thread = b.thread(process, 4242);
    let device = b.device(0);
    b.timeline().devices[0].name = Some("NVIDIA H100 80GB HBM3".to_owned());
    b.timeline().devices[0].memory_bytes = Some(85_520_809_984);
    let stream = b.stream(process, device, 7);
    let (mut host, mut gpu, mut id) = (1_000_000_i64, 1_000_000_i64, 1_u32);
    let names = [
        "void rmsnorm<__half>(const __half *)",
        "ampere_fp16_s16816gemm_fp16_64x64_tn",
        "void flash_fwd_kernel<Traits>(Params)",
    ];
    for _ in 0..requests {
        for step in 0..=steps {
            let (begin, long) = (host, step == 0);
            for layer in 0..layers {
                let layer_begin = host;
                for name in names {
                    host += if long { 1_000 } else { wait_ns };
                    b.call(thread, "cudaLaunchKernel_v7000", host, host + 3_000, id);
                    host += 3_000;
                    gpu = gpu.max(host) + 1_200;
                    let length = if long { 200_000 } else { 9_000 };
                    b.kernel(stream, name, gpu, gpu + length, id);
                    gpu += length;
                    id += 1;
                }
                host += 500;
                b.range(thread, &format!("layers.{layer}"), layer_begin, Some(host));
            }
            b.call(thread, "cudaMemcpyAsync_v3020", host, host + 3_000, id);
            gpu = gpu.max(host + 3_000) + 1_000;
            b.copy(stream, CopyKind::DEVICE_TO_HOST, gpu, gpu + 1_500, id, 4);
            gpu += 1_500;
            id += 1;
            let back = gpu.max(host + 4_000) + 3_000;
            b.call(thread, "cudaStreamSynchronize_v3020", host + 4_000, back, id);
            b.sync(stream, SyncKind::STREAM, host + 4_000, back, id);
            id += 1;
            host = back + 5_000;
            b.range(thread, if long { "prefill" } else { "decode" }, begin, Some(host));
        }
        host += 50_000;
    }
    b.finish()
}

fn export(sandbox: &Sandbox, name: &str, timeline: &Timeline) -> String {
    let path = sandbox.path().join(name);
    writer::write(timeline, &path).unwrap();
    path.display().to_string()
}

fn directory_of(sandbox: &Sandbox, answer: &Outcome) -> PathBuf {
    sandbox.path().join(answer.json()["run_dir"].as_str().unwrap())
}

/// busy + causes = window on every device that states its idle time.
#[track_caller]
fn idle_adds_up(metrics: &Value) {
    for device in metrics["devices"].as_array().unwrap() {
        if device["idle_ns"].is_null() {
            assert_eq!(device["idle_by_cause"].as_object().unwrap().len(), 0);
            continue;
        }
        let causes: i64 = device["idle_by_cause"].as_object().unwrap().values().map(|ns| ns.as_i64().unwrap()).sum();
        assert_eq!(device["busy_ns"].as_i64().unwrap() + causes, device["window_ns"].as_i64().unwrap(), "{device}");
        assert_eq!(device["idle_ns"].as_i64().unwrap(), causes);
    }
}

#[test]
fn a_trace_becomes_a_run_directory_whose_parts_add_up() {
    let sandbox = Sandbox::new();
    let timeline = inference(3, 20, 4, 4_000);
    let file = export(&sandbox, "run.sqlite", &timeline);
    let answer = sandbox.run(&["analyze", &file, "--json"]).exits(0);
    let metrics = answer.json();
    idle_adds_up(&metrics);
    fits_the_schema(&metrics);
    assert_eq!(metrics["coverage"]["kernels"], timeline.kernels.len());
    assert_eq!(metrics["coverage"]["linked_kernels"], timeline.kernels.len());
    let phases: Vec<(&str, u64)> = metrics["phases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|phase| (phase["name"].as_str().unwrap(), phase["steps"].as_u64().unwrap()))
        .filter(|(_, steps)| *steps > 0)
        .collect();
    assert_eq!(phases.len(), 2);
    assert!(phases.contains(&("prefill", 3)) && phases.contains(&("decode", 60)), "{phases:?}");
    // By hand: 3 prefills of 12 kernels of 200 us, 60 decode steps of 12 kernels of 9 us.
    let sum = |phase: &str, class: &str| -> i64 {
        let rows = metrics["operators"].as_array().unwrap().iter();
        rows.filter(|row| row["layer"].is_null() && row["module"].is_null())
            .filter(|row| row["phase"] == phase && row["class"] == class)
            .map(|row| row["total_ns"].as_i64().unwrap())
            .sum()
    };
    assert_eq!(sum("prefill", "gemm"), 3 * 4 * 200_000);
    assert_eq!(sum("decode", "norm"), 60 * 4 * 9_000);
    assert_eq!(sum("decode", "memcpy"), 60 * 1_500);
    let layers: i64 = metrics["operators"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["layer"].is_u64())
        .map(|row| row["total_ns"].as_i64().unwrap())
        .sum();
    assert_eq!(layers, 3 * 12 * 200_000 + 60 * 12 * 9_000);
    let directory = directory_of(&sandbox, &answer);
    for name in [
        "run.json",
        "config.yaml",
        "env.json",
        "inputs.yaml",
        "assumptions.md",
        "metrics.json",
        "report.md",
        "report.html",
        "operators.md",
        "operators.csv",
        "kernels.csv",
        "gaps.csv",
        "steps.csv",
        "MANIFEST.json",
    ] {
        assert!(directory.join(name).metadata().unwrap().len() > 0, "{name}");
    }
    sandbox.run(&["runs", "verify", &directory.display().to_string()]).exits(0);
    let text = sandbox.run(&["analyze", &file]).exits(0).stdout;
    assert!(text.contains("report.html") && text.contains("GPU busy"), "{text}");
}

/// The published schema holds for what was written.
#[track_caller]
fn fits_the_schema(metrics: &Value) {
    let schema: Value = serde_json::from_str(include_str!("../../docs/schema/metrics.analyze.schema.json")).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let mut metrics = metrics.clone();
    // What `--json` adds to the file.
    metrics.as_object_mut().unwrap().remove("run_dir");
    let errors: Vec<String> =
        validator.iter_errors(&metrics).take(5).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

#[test]
fn a_host_that_launches_late_is_named_and_one_that_is_ahead_is_not() {
    let sandbox = Sandbox::new();
    let late = export(&sandbox, "late.sqlite", &inference(2, 30, 4, 40_000));
    let metrics = sandbox.run(&["analyze", &late, "--json"]).exits(0).json();
    let codes: Vec<&str> =
        metrics["findings"].as_array().unwrap().iter().map(|f| f["code"].as_str().unwrap()).collect();
    assert!(codes.contains(&"launch_bound"), "{codes:?}");
    let device = &metrics["devices"][0];
    let host = device["idle_by_cause"]["host_busy"].as_i64().unwrap();
    assert!(host > device["idle_ns"].as_i64().unwrap() / 2, "{device}");
    for finding in metrics["findings"].as_array().unwrap() {
        let gain = finding["gain_high_ns"].as_i64().unwrap_or(0);
        assert!(gain <= device["window_ns"].as_i64().unwrap(), "{finding}");
        assert!(!finding["evidence"].as_array().unwrap().is_empty(), "{finding}");
    }
    let ahead = export(&sandbox, "ahead.sqlite", &inference(2, 30, 4, 100));
    let metrics = sandbox.run(&["analyze", &ahead, "--json"]).exits(0).json();
    let codes: Vec<&str> =
        metrics["findings"].as_array().unwrap().iter().map(|f| f["code"].as_str().unwrap()).collect();
    assert!(!codes.contains(&"launch_bound"), "{codes:?}");
}

#[test]
fn with_a_model_the_trace_is_held_against_the_roofline() {
    let sandbox = Sandbox::new();
    let file = export(&sandbox, "run.sqlite", &inference(2, 10, 4, 4_000));
    let said = ["model=synthetic-smollm2-135m", "model.dtype=bf16", "batch=1", "prompt_tokens=64"];
    let mut arguments = vec!["analyze", &file, "--json"];
    arguments.extend(said);
    let metrics = sandbox.run(&arguments).exits(0).json();
    let phases = metrics["modelled"]["phases"].as_array().unwrap();
    let decode = phases.iter().find(|phase| phase["phase"] == "decode").unwrap();
    assert_eq!(decode["steps"], 20);
    // The weights of SmolLM2-135M but the embedding's rows are read once a step: 134,515,008 parameters, tied, in two bytes.
    let bytes = decode["model_bytes"].as_f64().unwrap() / 20.0;
    assert!((bytes / (134_515_008.0 * 2.0) - 1.0).abs() < 0.05, "{bytes}");
    let wall = metrics["phases"].as_array().unwrap().iter().find(|phase| phase["name"] == "decode").unwrap()["wall_ns"]
        .as_f64()
        .unwrap();
    let mbu = decode["model_bytes"].as_f64().unwrap() / 3.35e12 / (wall / 1e9);
    assert!((decode["mbu"].as_f64().unwrap() / mbu - 1.0).abs() < 0.01, "{decode}");
    // One kernel name is all of attention in a phase: the model's work of the class is its row's.
    let class = |key: &str| {
        let classes = metrics["modelled"]["classes"].as_array().unwrap();
        classes.iter().find(|row| row["phase"] == "decode" && row["class"] == "attention").unwrap()[key].clone()
    };
    let rows = metrics["operators"].as_array().unwrap();
    let row = rows
        .iter()
        .find(|row| row["phase"] == "decode" && row["class"] == "attention" && row["layer"].is_null())
        .unwrap();
    assert!(row["flops"].as_u64().unwrap() > 0);
    assert_eq!(
        (&row["flops"], &row["bytes"], &row["roofline_ns"]),
        (&class("flops"), &class("bytes"), &class("roofline_ns"))
    );
    let without = sandbox.run(&["analyze", &file, "--json"]).exits(0).json();
    assert!(without["modelled"].is_null());
    let no_length = sandbox.run(&["analyze", &file, "--json", "model=synthetic-smollm2-135m"]).exits(0).json();
    assert_eq!(no_length["modelled"]["phases"].as_array().unwrap().len(), 0);
}

#[test]
fn every_real_file_is_analysed_and_its_parts_add_up() {
    let files: Vec<PathBuf> =
        ["traces/nsys", "traces/kineto", "traces/ncu"].iter().flat_map(|folder| files_in(folder)).collect();
    let sandbox = Sandbox::new();
    for file in &files {
        let before = fs::metadata(file).unwrap().modified().unwrap();
        let answer = sandbox.run(&["analyze", &file.display().to_string(), "--json"]);
        assert!(!answer.stderr.contains("panicked"), "{}: {}", file.display(), answer.stderr);
        assert!(matches!(answer.code, Some(0 | 3)), "{}: {answer:?}", file.display());
        let metrics = answer.json();
        idle_adds_up(&metrics);
        fits_the_schema(&metrics);
        assert_eq!(answer.code == Some(0), metrics["validity"]["status"] == "VALID", "{}", file.display());
        for device in metrics["devices"].as_array().unwrap() {
            assert!(device["busy_ns"].as_i64().unwrap() <= device["window_ns"].as_i64().unwrap());
        }
        let kernels = metrics["coverage"]["kernels"].as_u64().unwrap();
        assert!(metrics["coverage"]["linked_kernels"].as_u64().unwrap() <= kernels);
        let listed: u64 = metrics["operators"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|row| row["layer"].is_null() && row["module"].is_null())
            .filter(|row| row["class"] != "memcpy" && row["class"] != "memset")
            .map(|row| row["calls"].as_u64().unwrap())
            .sum();
        assert!(listed <= kernels, "{}", file.display());
        let html = fs::read_to_string(directory_of(&sandbox, &answer).join("report.html")).unwrap();
        assert!(html.len() < 6 << 20, "{}: {} bytes", file.display(), html.len());
        // Read-only: neither the file nor its folder changes.
        assert_eq!(fs::metadata(file).unwrap().modified().unwrap(), before);
        for ending in ["-wal", "-shm", "-journal"] {
            assert!(!PathBuf::from(format!("{}{ending}", file.display())).exists());
        }
    }
}

#[test]
fn the_reports_of_nsys_are_printed_byte_for_byte() {
    let sandbox = Sandbox::new();
    for csv in files_in("traces/nsys_stats") {
        let name = csv.file_name().unwrap().to_string_lossy().into_owned();
        let (stem, rest) = name.split_once('.').unwrap();
        let report = rest.strip_suffix(".csv").unwrap();
        let trace = shared(&format!("traces/nsys/{stem}.sqlite")).unwrap();
        let answer = sandbox.run(&["analyze", "--nsys-report", report, &trace.display().to_string()]).exits(0);
        assert_eq!(answer.stdout, fs::read_to_string(&csv).unwrap(), "{name}");
    }
    let file = export(&sandbox, "run.sqlite", &inference(1, 3, 2, 4_000));
    sandbox.run(&["analyze", "--nsys-report", "no_such_report", &file]).exits(1).hints("cuda_gpu_kern_sum");
}

#[test]
fn what_is_no_trace_is_refused_with_a_reason_and_leaves_nothing() {
    let sandbox = Sandbox::new();
    let make = |name: &str, bytes: &[u8]| {
        let path = sandbox.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let good = fs::read(export(&sandbox, "good.sqlite", &inference(1, 5, 2, 4_000))).unwrap();
    let cases: Vec<(String, &str)> = vec![
        (make("empty.sqlite", b""), "empty"),
        (make("text.sqlite", b"hello"), "sqlite"),
        (make("cut.sqlite", &good[..good.len() / 2]), "export the report again"),
        (make("lfs.sqlite", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"), "git lfs"),
        (make("cut.json", b"{\"traceEvents\": [{\"ph\": \"X\", \"cat\": \"kernel\""), ""),
        (make("report.nsys-rep", b"NVIDIA Tegra Profiler Report"), "nsys export"),
        (make("notes.txt", b"these are notes"), "nsys SQLite"),
        (sandbox.path().join("none.sqlite").display().to_string(), "path"),
    ];
    for (path, hint) in &cases {
        let answer = sandbox.run(&["analyze", path]).exits(2);
        let said = answer.stderr.to_lowercase();
        assert!(said.contains(Path::new(path).file_name().unwrap().to_str().unwrap()), "{said}");
        assert!(said.contains("hint:") && said.contains(&hint.to_lowercase()), "`{hint}` in {said}");
    }
    sandbox.run(&["analyze"]).exits(1).hints("perfprof analyze");
    sandbox.run(&["analyze", "x.sqlite", "modle=x"]).exits(1);
    sandbox.run(&["analyze", "x.sqlite", "repeats=3"]).exits(1).hints("prompt_tokens");
    sandbox.run(&["analyze", "x.sqlite", "batch=8"]).exits(1).hints("model=");
    sandbox.run(&["analyze", "x.sqlite", "--export", "xlsx"]).exits(1).hints("parquet");
    sandbox.run(&["analyze", "x.sqlite", "--window", "5..1"]).exits(1).hints("BEGIN..END");
    assert!(!sandbox.path().join("tmp/analyze").exists(), "nothing was analysed, so no run is left");
}

#[test]
fn a_trace_without_gpu_work_says_so_and_exits_3() {
    let sandbox = Sandbox::new();
    let mut b = TimelineBuilder::new();
    let process = b.process(1);
    let thread = b.thread(process, 1);
    b.call(thread, "cudaGetDeviceCount", 10, 20, 1);
    b.range(thread, "prefill", 0, Some(100));
    let file = export(&sandbox, "host.sqlite", &b.finish());
    let answer = sandbox.run(&["analyze", &file, "--json"]).exits(3);
    let metrics = answer.json();
    assert_eq!(metrics["validity"]["status"], "INVALID");
    assert_eq!(metrics["findings"][0]["code"], "no_gpu_work");
    let text = sandbox.run(&["analyze", &file]).exits(3).stdout;
    assert!(text.to_lowercase().contains("no gpu work"), "{text}");
}

#[test]
fn hostile_names_are_shown_as_text_everywhere() {
    let sandbox = Sandbox::new();
    let hostile =
        "</script><script>alert(1)</script>|`<img src=x onerror=alert(1)>`\u{1b}]0;x\u{7}=HYPERLINK(1)\n\u{2028}";
    let mut b = TimelineBuilder::new();
    let process = b.process(1);
    let thread = b.thread(process, 1);
    let device = b.device(0);
    let stream = b.stream(process, device, 7);
    let huge = "k".repeat(100_000);
    for (row, name) in [hostile, huge.as_str(), "=1+1"].iter().cycle().take(60).enumerate() {
        let at = 10_000 * row as i64;
        b.call(thread, "cudaLaunchKernel", at, at + 2_000, row as u32 + 1);
        b.kernel(stream, name, at + 3_000, at + 8_000, row as u32 + 1);
        b.range(thread, name, at, Some(at + 2_500));
    }
    let file = export(&sandbox, "hostile.sqlite", &b.finish());
    let answer = sandbox.run(&["analyze", &file, "--json"]).exits(0);
    let directory = directory_of(&sandbox, &answer);
    for name in ["report.html", "report.md", "operators.md"] {
        let text = fs::read_to_string(directory.join(name)).unwrap();
        assert!(!text.contains("<script>alert") && !text.contains("<img src=x"), "{name}");
        assert!(!text.contains('\u{1b}'), "{name}");
    }
    let csv = fs::read_to_string(directory.join("operators.csv")).unwrap();
    assert!(!csv.lines().any(|line| line.split(',').any(|cell| cell.trim_matches('"').starts_with("=1"))), "{csv}");
    let console = sandbox.run(&["analyze", &file]).exits(0).stdout;
    assert!(!console.contains('\u{1b}') && console.lines().all(|line| line.chars().count() < 400), "{console}");
}

#[test]
fn exports_are_written_and_never_overwrite() {
    let sandbox = Sandbox::new();
    let timeline = inference(2, 5, 3, 4_000);
    let file = export(&sandbox, "run.sqlite", &timeline);
    let folded = sandbox.path().join("out.folded").display().to_string();
    let answer = sandbox
        .run(&[
            "analyze",
            &file,
            "--json",
            "--export",
            &format!("folded={folded}"),
            "--export",
            "chrome",
            "--export",
            "nsys",
            "--export",
            "parquet",
        ])
        .exits(0);
    let directory = directory_of(&sandbox, &answer);
    let kernels: i64 = (0..timeline.kernels.len()).map(|row| timeline.kernels.duration_ns(row)).sum();
    let weights: i64 = fs::read_to_string(&folded)
        .unwrap()
        .lines()
        .map(|line| line.rsplit_once(' ').unwrap().1.parse::<i64>().unwrap())
        .sum();
    assert_eq!(weights, kernels, "the flame graph holds all kernel time");
    for name in ["trace.json", "trace.sqlite"] {
        let again = sandbox.run(&["analyze", &directory.join(name).display().to_string(), "--json"]).exits(0).json();
        assert_eq!(again["coverage"]["kernels"], timeline.kernels.len(), "{name}");
        idle_adds_up(&again);
    }
    assert!(directory.join("parquet/kernels.parquet").exists());
    sandbox.run(&["analyze", &file, "--export", &format!("folded={folded}")]).exits(1).hints("another name");
}

#[test]
fn rules_of_the_user_name_kernels_and_phases() {
    let sandbox = Sandbox::new();
    let mut b = TimelineBuilder::new();
    let process = b.process(1);
    let thread = b.thread(process, 1);
    let device = b.device(0);
    let stream = b.stream(process, device, 7);
    for row in 0..40_i64 {
        let at = 100_000 * row;
        b.call(thread, "cudaLaunchKernel", at, at + 2_000, row as u32 + 1);
        b.kernel(stream, "zz_secret_sauce_v3", at + 3_000, at + 80_000, row as u32 + 1);
        b.range(thread, if row < 4 { "einlesen" } else { "weiterschreiben" }, at, Some(at + 90_000));
    }
    let file = export(&sandbox, "own.sqlite", &b.finish());
    let rules = sandbox.path().join("rules.yaml");
    fs::write(
        &rules,
        "classes:\n  - pattern: secret_sauce\n    class: moe_gemm\nphases:\n  prefill: [einlesen]\n  decode: [weiterschreiben]\n",
    )
    .unwrap();
    let plain = sandbox.run(&["analyze", &file, "--json"]).exits(0).json();
    assert_eq!(plain["coverage"]["classified_share"], 0.0);
    let named = sandbox.run(&["analyze", &file, "--json", "--rules", &rules.display().to_string()]).exits(0).json();
    assert_eq!(named["coverage"]["classified_share"], 1.0);
    let decode = named["phases"].as_array().unwrap().iter().find(|phase| phase["name"] == "decode").unwrap();
    assert_eq!(decode["steps"], 36);
    fs::write(&rules, "classes:\n  - pattern: '('\n    class: gemm\n").unwrap();
    sandbox.run(&["analyze", &file, "--rules", &rules.display().to_string()]).exits(1).says(&["rule 1"]);
    fs::write(&rules, "classes:\n  - pattern: x\n    class: gemmm\n").unwrap();
    sandbox.run(&["analyze", &file, "--rules", &rules.display().to_string()]).exits(1).says(&["gemmm"]);
}

#[test]
fn scrub_leaves_the_activity_and_takes_the_secrets() {
    let Some(source) = shared("traces/nsys/nvtx_pushpop_t4.sqlite") else { return };
    let sandbox = Sandbox::new();
    let target = sandbox.path().join("clean.sqlite").display().to_string();
    sandbox.run(&["analyze", "scrub", &source.display().to_string(), &target]).exits(0);
    sandbox.run(&["analyze", "scrub", &source.display().to_string(), &target]).exits(2);
    for report in ["cuda_gpu_kern_sum", "cuda_api_sum", "nvtx_sum", "nvtx_gpu_proj_sum"] {
        let of = |path: &str| sandbox.run(&["analyze", "--nsys-report", report, path]).exits(0).stdout;
        assert_eq!(of(&target), of(&source.display().to_string()), "{report}");
    }
}

#[test]
fn an_interrupt_ends_an_analysis_within_a_second() {
    let sandbox = Sandbox::new();
    // Large enough to be under way for a while in a debug build.
    let file = export(&sandbox, "large.sqlite", &inference(20, 200, 32, 4_000));
    let child = crate::sandbox::start(sandbox.command(&["analyze", &file]));
    std::thread::sleep(Duration::from_millis(300));
    let asked = Instant::now();
    // SAFETY: the child is ours and has not been waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    let ended = crate::sandbox::outcome(child.wait_with_output().unwrap());
    let took = asked.elapsed();
    if ended.code == Some(0) {
        eprintln!("the analysis was over before the signal came");
        return;
    }
    ended.exits(130);
    assert!(took < Duration::from_secs(5), "{took:?}, on a machine that may be busy");
}

/// What an analysis says in a few lines: enough to see that a change changed it.
fn digest(metrics: &Value) -> String {
    let mut text = String::new();
    let coverage = &metrics["coverage"];
    text.push_str(&format!(
        "{} {} launches, {} kernels, {} linked, graphs {}, verdict {}\n",
        metrics["validity"]["status"].as_str().unwrap(),
        coverage["launches"],
        coverage["kernels"],
        coverage["linked_kernels"],
        coverage["graph_state"].as_str().unwrap(),
        coverage["detail"]["verdict"].as_str().unwrap(),
    ));
    for device in metrics["devices"].as_array().unwrap() {
        text.push_str(&format!(
            "  device {} window {} busy {} idle {}\n",
            device["id"], device["window_ns"], device["busy_ns"], device["idle_by_cause"]
        ));
    }
    for phase in metrics["phases"].as_array().unwrap() {
        text.push_str(&format!(
            "  phase {} steps {} kernels {} gpu_ns {}\n",
            phase["name"].as_str().unwrap(),
            phase["steps"],
            phase["kernels"],
            phase["gpu_ns"]
        ));
    }
    for total in metrics["classes"]["totals"].as_array().unwrap().iter().take(12) {
        text.push_str(&format!(
            "  class {} {} calls {} ns {}\n",
            total["class"].as_str().unwrap(),
            total["phase"].as_str().unwrap_or("-"),
            total["calls"],
            total["total_ns"]
        ));
    }
    let codes = |key: &str| -> Vec<String> {
        metrics[key].as_array().unwrap().iter().map(|row| row["code"].as_str().unwrap().to_owned()).collect()
    };
    text.push_str(&format!("  findings {:?}\n  diagnostics {:?}\n", codes("findings"), codes("diagnostics")));
    for block in metrics["ncu"].as_array().unwrap() {
        text.push_str(&format!(
            "  ncu launches {} names {}\n",
            block["summary"]["launches"], block["summary"]["names"]
        ));
    }
    text
}

#[test]
fn what_is_said_of_every_real_file_stays_as_it_is() {
    let files: Vec<PathBuf> =
        ["traces/nsys", "traces/kineto", "traces/ncu"].iter().flat_map(|folder| files_in(folder)).collect();
    if files.is_empty() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut text = String::new();
    for file in &files {
        let metrics = sandbox.run(&["analyze", &file.display().to_string(), "--json"]).json();
        text.push_str(&format!("{}: {}", file.file_name().unwrap().to_string_lossy(), digest(&metrics)));
    }
    insta::assert_snapshot!("real_traces", text);
}

#[test]
fn a_stage1_run_says_which_model_a_trace_is_of() {
    let sandbox = Sandbox::new();
    let mut arguments = vec!["stage1", "--json", "repeats=1", "warmup=0", "prompt_tokens=16", "infer.max_new_tokens=4"];
    arguments.extend(crate::sandbox::TINY);
    sandbox.run(&arguments).exits(0);
    let file = export(&sandbox, "run.sqlite", &inference(1, 3, 2, 4_000));
    let metrics = sandbox.run(&["analyze", &file, "--json", "--run", "latest:stage1"]).exits(0).json();
    let decode =
        metrics["modelled"]["phases"].as_array().unwrap().iter().find(|phase| phase["phase"] == "decode").unwrap();
    // Two layers of 64: products of one token are far below a megaflop, and steps see 17 to 19 positions.
    assert_eq!(decode["steps"], 3);
    assert!(decode["model_flops"].as_u64().unwrap() < 3_000_000, "{decode}");
    let notes = metrics["modelled"]["notes"].to_string();
    assert!(notes.contains("17 to 19"), "{notes}");
    sandbox.run(&["analyze", &file, "--run", "latest:stage1", "model=synthetic"]).exits(1).hints("leave one");
    sandbox.run(&["analyze", &file, "--run", "no-such-run"]).exits(1);
}
