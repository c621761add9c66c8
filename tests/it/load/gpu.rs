//! The GPUs of this machine beside a server on it, with a `libnvidia-ml.so.1` whose devices do what a test tells them.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::mock::Mock;
use super::{Load, command, read};
use crate::gpu_telemetry::library;
use crate::sandbox::{Outcome, Sandbox, finish, json_of, text_of};

/// Requests of about a third of a second, one after the other, so that a stage is longer than the meter needs.
const MOCK: [&str; 4] = ["--ttft-ms", "20", "--itl-ms", "10"];
const SETTINGS: [&str; 8] = [
    "model=mock",
    "telemetry.gpu=auto",
    "telemetry.gpu_interval_ms=10",
    "telemetry.price_usd_per_hour=3.6",
    "max_tokens=32",
    "concurrency=1,2",
    "requests_per_stage=6",
    "output.summary_csv=benchmark_summary.csv",
];

fn beside(sandbox: &Sandbox, library: &Path, url: &str, script: &[(&str, &str)], settings: &[&str]) -> Command {
    let mut command = command(sandbox, url, &[&SETTINGS, settings].concat());
    command.env("LD_LIBRARY_PATH", library).env_remove("CUDA_VISIBLE_DEVICES").envs(script.iter().copied());
    command
}

fn run(script: &[(&str, &str)], settings: &[&str], code: i32) -> Option<(Sandbox, Load)> {
    let sandbox = Sandbox::new();
    let library = library(&sandbox)?;
    let mock = Mock::start(&sandbox, &MOCK);
    let outcome: Outcome = finish(beside(&sandbox, &library, &mock.url, script, settings)).exits(code);
    let load = read(&sandbox, outcome);
    Some((sandbox, load))
}

#[track_caller]
fn close(value: &Value, expected: f64, part: f64) {
    let found = value.as_f64().unwrap_or_else(|| panic!("{value} is no number"));
    assert!((found - expected).abs() <= part * expected.abs(), "{found} is not {expected} within {part}");
}

fn column(csv: &str, name: &str) -> Vec<String> {
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let place = reader.headers().unwrap().iter().position(|header| header == name).unwrap();
    reader.records().map(|record| record.unwrap()[place].to_owned()).collect()
}

#[test]
fn energy_and_cost_of_a_token_and_the_device_in_every_report() {
    let script = [
        ("NVML_UTIL", "70"),
        ("NVML_POWER_MW", "300000"),
        ("NVML_ENERGY_MW", "250000"),
        ("NVML_TEMP", "61"),
        ("NVML_MEM_MIB", "512"),
        ("NVML_PROCS", "4242:512"),
    ];
    let Some((sandbox, load)) = run(&script, &["output.layout=infra_bench"], 0) else { return };
    let gpus = load.metrics["gpus"].as_array().unwrap();
    assert_eq!(gpus.len(), 1);
    let gpu = &gpus[0];
    assert_eq!(
        (&gpu["name"], &gpu["ran_here"], &gpu["repeats_missed"]),
        (&json!("Scripted GPU"), &json!(true), &json!(0))
    );
    for (name, mean) in
        [("utilisation", 0.7), ("power_w", 300.0), ("temperature_c", 61.0), ("memory_used_bytes", 512.0 * 1_048_576.0)]
    {
        close(&gpu["metrics"][name]["mean"], mean, 1e-9);
    }
    // The server's own process is no finding.
    for code in ["gpu_shared", "gpu_other_processes", "gpu_busy_before", "gpu_repeats_missed"] {
        assert!(load.finding(code).is_none(), "{code}");
    }
    // The counter runs at 250 W whatever the power meter shows, and wins.
    for stage in load.metrics["stages"].as_array().unwrap() {
        let (elapsed, tokens) = (stage["elapsed_s"].as_f64().unwrap(), stage["output_tokens"].as_f64().unwrap());
        assert_eq!(tokens, 6.0 * 32.0);
        let cost = &stage["cost"];
        close(&cost["energy_j"], 250.0 * elapsed, 0.05);
        close(&cost["j_per_output_token"], 250.0 * elapsed / tokens, 0.05);
        close(&cost["usd_per_million_output_tokens"], 3.6 / 3600.0 * elapsed / tokens * 1e6, 1e-9);
    }
    // The looks are on the clock of the stages; the last may be an interval before the end.
    let telemetry = json_of(&load.run, "gpu_telemetry.json");
    assert_eq!(telemetry["complete"], true);
    let context = json_of(&load.run, "load.json");
    let stages = context["stages"].as_array().unwrap();
    let (first, last) = (stages[0]["begin_ns"].as_f64().unwrap() / 1e9, stages[1]["end_ns"].as_f64().unwrap() / 1e9);
    let looks: Vec<f64> =
        telemetry["samples"]["t_s"].as_array().unwrap().iter().map(|at| at.as_f64().unwrap()).collect();
    assert!(looks[0] <= first && looks[looks.len() - 1] >= last - 0.1, "{first} to {last}, looks of {looks:?}");
    for (index, mark) in telemetry["repeats"].as_array().unwrap().iter().enumerate() {
        close(&mark["start_s"], stages[index]["begin_ns"].as_f64().unwrap() / 1e9, 1e-9);
    }

    assert!(load.outcome.stdout.contains("GPU METRICS (Scripted GPU)"), "{}", load.outcome.stdout);
    let html = text_of(&load.run, "report.html");
    assert!(html.contains("gpu-series") && html.contains("GPU Scripted GPU"));
    let csv = text_of(sandbox.path(), "benchmark_summary.csv");
    assert_eq!(column(&csv, "gpu_name"), ["Scripted GPU"; 2]);
    for (name, value) in
        [("gpu_util_mean", "70"), ("power_mean_w", "300"), ("temp_max_c", "61"), ("mem_used_max_mb", "512")]
    {
        for cell in column(&csv, name) {
            assert_eq!(cell.parse::<f64>().unwrap().round().to_string(), value, "{name}");
        }
    }
    // Rebuilt from the files alone, the same.
    let before = load.metrics["gpus"].clone();
    sandbox.run(&["report", load.run.to_str().unwrap()]).exits(0);
    assert_eq!(json_of(&load.run, "metrics.json")["gpus"], before);
    sandbox.run(&["runs", "verify", load.run.to_str().unwrap()]).exits(0);
}

#[test]
fn of_two_devices_only_those_that_worked_are_in_the_energy() {
    let two = [("NVML_COUNT", "2"), ("NVML_UTIL", "90"), ("NVML_ENERGY_MW", "250000"), ("NVML_ENERGY_MW_1", "100000")];
    let per_s = |load: &Load| {
        let stage = load.stage();
        stage["cost"]["energy_j"].as_f64().unwrap() / stage["elapsed_s"].as_f64().unwrap()
    };
    // The second idles.
    let Some((_sandbox, load)) = run(&[&two[..], &[("NVML_UTIL_1", "0")]].concat(), &[], 0) else { return };
    let ran: Vec<&Value> = load.metrics["gpus"].as_array().unwrap().iter().map(|gpu| &gpu["ran_here"]).collect();
    assert_eq!(ran, [&json!(true), &json!(false)]);
    close(&json!(per_s(&load)), 250.0, 0.05);
    assert!(load.run.join("gpu_telemetry_1.json").is_file());
    assert!(text_of(&load.run, "report.html").contains("idle during the stages: not in the energy"));
    assert_eq!(load.outcome.stdout.matches("GPU METRICS").count(), 1);
    // Both work, as of a model that is split over them.
    let Some((sandbox, load)) = run(&two, &[], 0) else { return };
    close(&json!(per_s(&load)), 350.0, 0.05);
    assert_eq!(load.outcome.stdout.matches("GPU METRICS").count(), 2);
    let csv = text_of(sandbox.path(), "benchmark_summary.csv");
    assert_eq!(column(&csv, "gpu_name")[0], "Scripted GPU (first of 2)");
}

#[test]
fn a_device_that_was_slowed_down_makes_the_run_invalid_and_one_that_idled_does_not() {
    // HW thermal slowdown.
    let hot = [("NVML_REASONS", "0x40"), ("NVML_UTIL", "90")];
    let Some((_sandbox, load)) = run(&hot, &[], 3) else { return };
    assert!(load.reasons().contains("was slowed down"), "{}", load.reasons());
    let Some((_sandbox, load)) = run(&[hot[0], ("NVML_UTIL", "0")], &[], 0) else { return };
    assert_eq!(load.finding("gpu_throttled").unwrap()["severity"], "info");
    assert_eq!(load.stage()["cost"]["energy_j"], Value::Null, "a device that idled made no tokens");
}

#[test]
fn what_the_device_does_not_tell_is_null_and_without_one_nothing_is_written() {
    let without = [("NVML_WITHOUT", "energy,power,temp"), ("NVML_UTIL", "50")];
    let Some((sandbox, load)) = run(&without, &[], 0) else { return };
    let cost = &load.stage()["cost"];
    assert_eq!((&cost["energy_j"], &cost["j_per_output_token"]), (&Value::Null, &Value::Null));
    assert!(cost["usd_per_million_output_tokens"].is_number());
    assert!(load.metrics["gpus"][0]["metrics"].get("temperature_c").is_none());
    let csv = text_of(sandbox.path(), "benchmark_summary.csv");
    assert_eq!((column(&csv, "temp_mean_c")[0].as_str(), column(&csv, "power_mean_w")[0].as_str()), ("", ""));
    // The driver cannot be loaded: a load test goes on without.
    let Some((_sandbox, load)) = run(&[("NVML_INIT", "9")], &[], 0) else { return };
    assert_eq!(load.metrics["gpus"], json!([]));
    assert!(!load.run.join("gpu_telemetry.json").exists());
    let why = load.finding("gpu_unavailable").unwrap();
    assert!(why["severity"] == "info" && why["first"].as_str().unwrap().contains("driver"), "{why}");
    let Some((_sandbox, load)) = run(&without, &["telemetry.gpu=off"], 0) else { return };
    assert_eq!(load.metrics["gpus"], json!([]));
}
